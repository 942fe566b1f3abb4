"""The master's side of its worker processes: which take part in a run, their shares of the rate, their last counts."""

from typing import Any

import gevent
from locust.runners import STATE_MISSING, MasterRunner

from kvss_gevent.loadtest.engine.clock import clock
from kvss_gevent.loadtest.locust_plugin.worker_admission import WorkerAdmission

SLACK_S = 10.0
"""How long after the planned end the master waits for its workers' last counts; a busy machine takes seconds."""


class Workers:
    """The worker processes of each run."""

    def __init__(self, runner: MasterRunner, forks: bool, one_run: bool) -> None:
        """See WorkerAdmission."""
        self._runner = runner
        self._admission = WorkerAdmission(runner, forks, one_run)
        self.present: tuple[str, ...] = ()
        """The workers that take part in the run."""
        self.done: dict[str, dict[str, float]] = {}
        """What each worker reported at its end: Run.summary() and drain_s."""
        runner.register_message("kvss_done", self.on_done)

    def begin(self) -> tuple[str, ...]:
        """Begin a run with the workers that are ready; later ones are late."""
        self._admission.begin()
        self.done = {}
        self.present = tuple(node.id for node in self._runner.clients.ready)
        return self.present

    def share_rate(self) -> None:
        """Send each worker its share of the rate, which is its share of the users."""
        users = {node.id: sum(node.user_classes_count.values()) for node in self._runner.clients.all}
        total = sum(users.values())
        if total:
            self._send("kvss_shares", {client_id: count / total for client_id, count in users.items()})

    def open_window(self, window: dict[str, Any]) -> None:
        """Tell the workers when to measure."""
        self._send("kvss_window", window)

    def reset(self, resets: int) -> None:
        """Tell the workers that the statistics restart."""
        self._send("kvss_reset", resets)

    def on_done(self, msg: Any, **_: Any) -> None:
        """Note that a worker has sent its last counts."""
        self.done[msg.node_id] = msg.data

    def gather(self) -> None:
        """Get the last counts of workers that have not sent them yet, and admit those that were late."""
        if self.owing:
            self._send("kvss_stop", None)
        ends = clock() + SLACK_S
        while clock() < ends and self.owing:
            gevent.sleep(0.02)
        self._admission.end()

    @property
    def lost(self) -> int:
        """How many workers have not sent their last counts."""
        return len(self.present) - len(self.done)

    @property
    def owing(self) -> bool:
        """Whether a worker that is still connected has not sent its last counts yet."""
        nodes = [self._runner.clients.get(worker) for worker in self.present if worker not in self.done]
        return any(node is not None and node.state != STATE_MISSING for node in nodes)

    def _send(self, kind: str, data: Any) -> None:
        self._runner.send_message(kind, data)
