"""Drives users of the load tester in this process, without Locust."""

from collections.abc import Iterator
from contextlib import contextmanager

import gevent
import pytest
from load_servers import Answer, right, serving

from kvss_gevent.loadtest.engine import load_run, loops
from kvss_gevent.loadtest.engine.clock import clock
from kvss_gevent.loadtest.engine.load_run import Run
from kvss_gevent.loadtest.engine.messages import RunPlan, Update
from kvss_gevent.loadtest.engine.recorder import Tally
from kvss_gevent.loadtest.engine.request_stream import RequestStream
from kvss_gevent.loadtest.engine.virtual_user import VirtualUser
from kvss_gevent.loadtest.load_options import read_options
from kvss_gevent.loadtest.workload.mix import Mix, Workload, parse_mix


class Bench:
    """One user with a run of its own, counting from now on."""

    def __init__(self, port: int, mix: str, **texts: str) -> None:
        self.updates: list[Update] = []
        options = read_options({"keys": "20", **texts})
        now = clock()
        with pytest.MonkeyPatch.context() as patch:  # the schedule and the window begin at the same moment
            patch.setattr(load_run, "clock", lambda: now)
            self.run = Run(options, RunPlan("0a1b2c3d"), "local", self.updates.append)
            self.run.open_window(now, 60)
        self.user = VirtualUser(self.run, ("127.0.0.1", port))
        self.user.depth = options.depth
        shares: Mix = parse_mix(mix)
        workload = Workload(shares, options.key_dist)
        self.stream = RequestStream(workload, options.value_size, options.keys, self.user.rng, self.run.ledger)
        self.user.start()

    def work(self, bursts: int = 1) -> None:
        """Let the user send and receive so many bursts."""
        with gevent.Timeout(20):
            for _ in range(bursts):
                loops.work(self.user, self.stream)

    def finish(self) -> Tally:
        """Stop the user; return what was counted."""
        self.user.stop()
        return self.close()

    def close(self) -> Tally:
        """Close the run, twice as Locust may; return what was counted since the last reset."""
        self.run.close()
        self.run.close()
        part = Tally()
        for update in self.updates:
            if update.reset == self.run.resets:
                part.merge(update.tally)
        return part


@contextmanager
def bench(mix: str, answer: Answer = right, **texts: str) -> Iterator[Bench]:
    """Serve, and yield a user of that server."""
    with serving(answer) as port:
        one = Bench(port, mix, **texts)
        try:
            yield one
        finally:
            one.user.stop()
