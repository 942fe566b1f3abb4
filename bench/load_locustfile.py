"""What load_tester.py lets locust run: a user that is by turns the load tester and a bare loop, 0.1 s each.

Both turns are in one process, under one Locust, over the same connections, so that whatever the machine does in a
second happens to both. The bare loop sends request lines built beforehand and looks at no reply.
"""

import json
from time import process_time
from typing import Any

from locust import events

from kvss_gevent.loadtest.engine import loops
from kvss_gevent.loadtest.engine.clock import clock
from kvss_gevent.loadtest.locust_plugin.load_users import WorkloadUser
from kvss_gevent.loadtest.workload.mix import Op

TURN_S = 0.1
_FORMS = {
    Op.GET: b"KV/1.0 GET bare%d\n",
    Op.PUT: b"KV/1.0 PUT bare%d " + b"x" * 100 + b"\n",
    Op.DEL: b"KV/1.0 DEL bare%d\n",
}
_BURST = 64

Turn = tuple[str, int, float, float]
"""Whose turn it was, how many requests it sent, and its CPU and wall-clock time in seconds."""


class Turns:
    """Who has had the turn, and what each turn came to."""

    def __init__(self) -> None:
        self.past: list[Turn] = []
        self._name = ""
        self._requests = 0
        self._cpu_s = self._at_s = 0.0

    def count(self, name: str, requests: int) -> None:
        """Count requests of whose turn it is; a change of turns ends the one before."""
        if name != self._name:
            cpu_s, at_s = process_time(), clock()
            self.past.append((self._name, self._requests, cpu_s - self._cpu_s, at_s - self._at_s))
            self._name, self._requests, self._cpu_s, self._at_s = name, 0, cpu_s, at_s
        self._requests += requests


turns = Turns()


class Alternating(WorkloadUser):
    """The mix with everything on, and the same mix bare, by turns."""

    def on_start(self) -> None:
        """Store this user's share of the bare keys and build the bare lines."""
        options = self.run_state.options
        connection = self.virtual_user.connect()
        assert connection is not None
        share = range(self.virtual_user.number, options.keys, self.run_state.plan.users)
        connection.send(b"".join(_FORMS[Op.PUT] % key for key in share), len(share))
        for _ in share:
            connection.reply()
        self.lines = [_FORMS[Op(op)] % key for op, key in self.stream.steps(_BURST * 50)]
        self.first = 0

    def burst(self) -> None:
        """Do one burst of whatever turn it is."""
        recorder = self.run_state.recorder
        counted = recorder.begin <= clock() < recorder.end
        name = "full" if int(clock() / TURN_S) % 2 else "bare"
        if counted:
            turns.count(name, _BURST)
        if name == "full":
            loops.work(self.virtual_user, self.stream)
        else:
            self._bare()

    def _bare(self) -> None:
        connection = self.virtual_user.connect()
        if connection is None:
            return
        exchange = connection.exchange
        connection.hold()
        for line in self.lines[self.first : self.first + _BURST]:
            exchange(line)
        connection.release()
        self.first = (self.first + _BURST) % len(self.lines)


@events.quit.add_listener  # type: ignore[untyped-decorator]
def tell(**_: Any) -> None:
    """Print the whole turns for load_tester.py: the first is none, the second and the last are cut by the window."""
    print("turns " + json.dumps(turns.past[2:]), flush=True)
