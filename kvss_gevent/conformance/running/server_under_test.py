"""The server under test over a whole run; if it is a submission, it is restarted after its death."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Final

from kvss_gevent.conformance.deadline import Deadline
from kvss_gevent.conformance.peer import Gone, NoReply
from kvss_gevent.conformance.process.kernel import busyness, listens
from kvss_gevent.conformance.process.shell_command import Death
from kvss_gevent.conformance.process.submission import NotStarted, Submission
from kvss_gevent.conformance.running.opening import open_peer
from kvss_gevent.conformance.running.probe import Target, ask_anew

_DEATH_S: Final = 3.0
"""How long to wait for the end of a server that no longer listens."""


class ServerUnderTest:
    """One server over a whole run. Without a submission it was started by someone else and cannot be restarted."""

    def __init__(self, target: Target, submission: Submission | None) -> None:
        self.target = target
        self.lost = ""
        """Why no further case can be run; "" while one can."""
        self._submission = submission

    @property
    def is_ours(self) -> bool:
        """Whether it is a submission, which can be restarted."""
        return self._submission is not None

    @property
    def starts(self) -> int:
        """How often it has been started."""
        return 0 if self._submission is None else self._submission.starts

    @property
    def stopping(self) -> bool:
        """Whether the submission has been asked to end."""
        return self._submission is not None and self._submission.stopping.is_set()

    def ensure(self) -> int:
        """Start a submission if it does not run; return how often it has been started."""
        return self._started_by(Submission.ensure)

    def restart(self) -> None:
        """Restart a submission."""
        self._started_by(Submission.restart)

    def _started_by(self, start: Callable[[Submission], None]) -> int:
        """Start a submission, note its new port, and return how often it has been started."""
        if self._submission is None or self.lost:
            return 0
        try:
            start(self._submission)
        except NotStarted as failed:
            self.lost = f"the server does not start again: {failed}"
        address = self.target.address
        self.target = replace(self.target, address=(address[0], self._submission.port, *address[2:]))
        return self._submission.starts

    def ended(self, starts: int) -> bool:
        """Tell whether the process of a submission's start with this number is known to have ended."""
        return self._submission is not None and (self._submission.starts != starts or self._submission.died)

    def death(self, starts: int, timeout_s: float) -> Death | None:
        """Return how a submission ended after a case; None if it still answers.

        The end of a connection proves nothing: a server's last connection can end long before its process does.
        """
        if self._submission is None or self.lost:
            return None
        if self.target.marker is None:  # it has never answered
            return self._submission.death(0.0 if listens(self._submission.port) else _DEATH_S)
        within_s = _DEATH_S
        try:
            deadline = Deadline(timeout_s * busyness())
            with closing(open_peer(self.target.address, deadline, self.target.dialect)) as peer:
                peer.send(b"KV/1.0 GET " + self.target.end_key + b"\n")
                if peer.rest():
                    return None
        except NoReply:
            within_s = 0.0
        except Gone:
            pass
        return self._submission.death(within_s) or self._submission.give_up(starts)

    def ask_whether_it_lives(self, timeout_s: float) -> None:
        """Note in `lost` if the server answers no client any more."""
        question = b"KV/1.0 GET " + self.target.end_key
        if ask_anew(self.target.address, question, timeout_s * busyness(), self.target.dialect) is None:
            self.lost = self.lost or "the server answers no client any more"
