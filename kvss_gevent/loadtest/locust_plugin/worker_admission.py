"""Decides which worker processes take part in a run. Locust lets any worker join at any time; its counts would be lost.

A worker asks the master to admit it. It sends the token of the command that started it; workers that `--processes`
forks inherit this token. The master refuses a worker of another command if one of the two commands has forked workers
of its own, because then the worker belongs to another run. If a run has begun, a worker waits for the next run; without
a web page there is no next run, and the worker is refused. All others are admitted.

A forked worker ends with its command.
"""

import logging
import os
import signal
import sys
from typing import Any

import gevent
from locust.rpc import Message
from locust.runners import MasterRunner

from kvss_gevent.settings.fail import Exit

FAMILY = os.urandom(8).hex()
"""The token of this command; processes that it forks have the same token."""
_FIRST_PID = os.getpid()

logger = logging.getLogger(__name__)


def application() -> dict[str, Any]:
    """Return what this worker sends when it asks to be admitted."""
    forked = _is_forked()
    alone = "--worker" in sys.argv or os.environ.get("LOCUST_MODE_WORKER", "").lower() in ("1", "true", "yes")
    return {"family": FAMILY, "has_own_master": forked and not alone}


def end_without_parent() -> None:
    """Wait until the parent of this forked process has ended, then end the process, even if it has no master yet.

    This begins before Locust forks, and goes on in all its processes. The first process waits for ever.
    """
    while True:
        gevent.sleep(1)
        if _is_forked() and os.getppid() != _FIRST_PID:
            print("kvss load: the command of this worker has ended: the worker ends, too", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGTERM)  # Locust ends the run first, if there is one
            return


def _is_forked() -> bool:
    return os.getpid() != _FIRST_PID


def leave(runner: Any, reason: str) -> None:
    """Worker: print the reason in one line, and end this process."""
    print(f"kvss load: the master at {runner.master_host}:{runner.master_port} {reason}", file=sys.stderr, flush=True)
    runner.environment.process_exit_code = int(Exit.FAILED)
    runner.quit()


class WorkerAdmission:
    """The master's side: Locust does not see a worker before it is admitted."""

    def __init__(self, runner: MasterRunner, forks: bool, one_run: bool) -> None:
        """forks: this command forks its own workers. one_run: there is no second run."""
        self._runner = runner
        self._forks = forks
        self._one_run = one_run
        self._running = False
        self._ready: dict[str, Any] = {}
        self._waiting: list[str] = []
        self._let_in: set[str] = set()
        self._handle = runner.handle_message
        runner.handle_message = self._filter  # type: ignore[method-assign]
        runner.register_message("kvss_join", self._on_join)

    def begin(self) -> None:
        """Note that a run begins; workers that come now are late."""
        self._running = True

    def end(self) -> None:
        """Note that the run has ended; admit the workers that were late to the next one."""
        self._running = False
        waiting, self._waiting = self._waiting, []
        for client_id in waiting:
            self._admit(client_id)

    def _filter(self, client_id: str, msg: Any) -> None:
        if msg.type == "client_ready" and client_id not in self._let_in:
            # Without this answer the worker does not get to the point where it asks.
            self._send("ack", {"index": -1}, client_id)
            self._ready[client_id] = msg
        elif client_id in self._let_in or msg.type == "kvss_join":
            self._handle(client_id, msg)

    def _on_join(self, msg: Any, **_: Any) -> None:
        client_id, data = msg.node_id, msg.data
        stranger = data["family"] != FAMILY and (data["has_own_master"] or self._forks)
        if stranger:
            self._refuse(client_id, "refused this worker: it belongs to another run")
        elif self._running and self._one_run:
            self._refuse(client_id, "refused this worker: it came too late, the run has begun")
        elif self._running:
            logger.info("Worker %s came during a run: it waits for the next run", client_id)
            self._waiting.append(client_id)
        else:
            self._admit(client_id)

    def _admit(self, client_id: str) -> None:
        self._let_in.add(client_id)
        self._handle(client_id, self._ready.pop(client_id))

    def _refuse(self, client_id: str, reason: str) -> None:
        self._ready.pop(client_id, None)
        logger.warning("Worker %s was refused: %s", client_id, reason.partition(": ")[2])
        self._send("kvss_refused", reason, client_id)

    def _send(self, kind: str, data: Any, client_id: str) -> None:
        # Locust's own send_message reaches only workers that it knows, and it does not know these yet.
        self._runner.server.send_to_client(Message(kind, data, client_id))  # type: ignore[no-untyped-call]
