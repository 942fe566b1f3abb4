"""What bench_load.py lets locust run: a user that is by turns the load tester and a bare loop, 0.25 s each.

Both turns are in one process, under one Locust, over the same connections, so that whatever the machine does in a
second happens to both. The bare loop sends request lines built beforehand and looks at no reply.
"""

import json
from time import process_time
from typing import Any

from locust import events

from loadtest.timer import clock
from loadtest.users import WorkloadUser
from loadtest.workload import Op

TURN_S = 0.25
_FORMS = {
    Op.GET: b"KV/1.0 GET bare%d\n",
    Op.PUT: b"KV/1.0 PUT bare%d " + b"x" * 100 + b"\n",
    Op.DEL: b"KV/1.0 DEL bare%d\n",
}
_BURST = 64

counts = {"bare": 0, "full": 0}
cpu_s = {"bare": 0.0, "full": 0.0}
_turn: dict[str, str | float] = {"name": "", "begun_s": 0.0}


def take_turn(name: str) -> None:
    """Note whose turn it is, and charge the CPU time since the last change to who had it."""
    if _turn["name"] != name:
        used_s = process_time()
        if _turn["name"]:
            cpu_s[str(_turn["name"])] += used_s - float(_turn["begun_s"])
        _turn.update(name=name, begun_s=used_s)


class Alternating(WorkloadUser):
    """The mix with everything on, and the same mix bare, by turns."""

    def on_start(self) -> None:
        """Connect, store this user's share of the bare keys and build the bare lines."""
        super().on_start()
        options = self.run_state.options
        connection = self.driver.connect()
        assert connection is not None
        share = range(self.number, options.keys, self.run_state.plan.users)
        connection.send(b"".join(_FORMS[Op.PUT] % key for key in share), len(share))
        for _ in share:
            connection.reply()
        self.lines = [_FORMS[Op(op)] % key for op, key in self.traffic.steps(_BURST * 50)]
        self.first = 0

    def burst(self) -> None:
        """Do one burst of whatever turn it is."""
        recorder = self.run_state.recorder
        counted = recorder.begin <= clock() < recorder.end
        name = "full" if int(clock() / TURN_S) % 2 else "bare"
        if counted:
            take_turn(name)
            counts[name] += _BURST
        if name == "full":
            self.driver.work(self.traffic)
        else:
            self._bare()

    def _bare(self) -> None:
        connection = self.driver.connect()
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
    """Print the counts for bench_load.py."""
    take_turn("")  # Charges the last turn; nothing has run since it but the end of the window.
    print("turns " + json.dumps({"requests": counts, "cpu_s": cpu_s}), flush=True)
