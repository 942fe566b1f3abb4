"""Tries a case once, within the limits of the whole run: how long a reply may take, and when no case is tried."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from kvss_gevent.conformance.case import Case
from kvss_gevent.conformance.case_plan import Plan
from kvss_gevent.conformance.process.kernel import busyness
from kvss_gevent.conformance.process.shell_command import Death
from kvss_gevent.conformance.running.case_runner import run_case
from kvss_gevent.conformance.running.server_under_test import ServerUnderTest
from kvss_gevent.conformance.score import Verdict

WORKERS: Final = 8
"""Cases at a time. Most wait in their own pauses, so that this many use half of one core of a small machine."""

_MOST_STRETCH: Final = 4.0
"""The factor by which a run may exceed its budget on a busy machine."""

_MUTE_CASES: Final = 2 * WORKERS
"""After so many cases no further one is run, if at most the share _HEARD_BY_CHANCE of them got any bytes."""
_HEARD_BY_CHANCE: Final = 0.25
_HANGS: Final = 4
"""After so many cases without a reply in time, each further case waits only the share _PART of its timeout."""
_PART: Final = 0.1


class Trials:
    """The tries of one run. keys: the key of each case. verdicts: those so far, which the run adds to.

    patience: the factor of every timeout on a busy machine. part_s: the shorter timeout after many cases without a
    reply; 0.0 until it is used.
    """

    def __init__(
        self,
        server: ServerUnderTest,
        plan: Plan,
        keys: Mapping[str, bytes],
        verdicts: Mapping[str, Verdict],
        started: float,
    ) -> None:
        self.patience = 1.0
        self.part_s = 0.0
        self._server, self._plan, self._keys, self._verdicts = server, plan, keys, verdicts
        self._started = started
        self._suffix = b""
        self._hangs = 0
        self._was_hurried = False
        self._unheard = 0

    def once(self, case: Case) -> Verdict:
        """Try a case once. Raises KeyboardInterrupt if the submission was asked to end."""
        if self._server.stopping:
            raise KeyboardInterrupt
        if (verdict := self._not_tried(case)) is not None:
            return verdict
        # A patient case does not get the extra time for a busy machine in addition.
        timeout_s = self._timeout_s() * max(1.0, self.patience / case.patience)
        verdict = run_case(case, self._server.target, self._keys[case.id] + self._suffix, timeout_s)
        self._hangs += verdict.silent
        self._was_hurried = self._was_hurried or self.is_hurried()
        self._unheard = self._unheard + 1 if verdict.silent and not verdict.heard else 0
        if self._unheard >= _HANGS and not self._server.is_ours and self._server.target.marker is not None:
            self._server.ask_whether_it_lives(self._plan.timeout_s)
            self._unheard = 0
        return verdict

    def watched(self, case: Case) -> Verdict:
        """Try a case once on a server that runs; the verdict says if the server died of it."""
        starts = self._server.ensure()
        verdict = self.once(case)
        death = None if verdict.skipped else self.death(starts)
        if death is None:
            return verdict
        return replace(verdict, passed=False, death=str(death), tail=death.stderr)

    def first_stats(self, case: Case, line: bytes) -> Verdict:
        """Judge a reply line to STATS that was the server's first request."""
        target = replace(self._server.target, first_stats=line)
        return run_case(case, target, self._keys[case.id], self._plan.timeout_s)

    def death(self, starts: int) -> Death | None:
        """Return how a submission's start with this number ended; None if it still answers."""
        return self._server.death(starts, self._timeout_s())

    def forget_hangs(self) -> None:
        """Wait for the whole timeout again."""
        self._hangs = 0

    def begin_again(self) -> None:
        """Begin the round of failed cases, with new keys, and with more patience if the machine is busy."""
        self.patience, self._suffix = busyness(), b"-again"
        self._hangs = _HANGS // 2 if self._was_hurried else 0

    def is_hurried(self) -> bool:
        """Tell whether so many replies are missing that a case waits less, so that the run ends in time."""
        return self._hangs >= _HANGS

    def late(self) -> bool:
        """Tell whether the time of the whole run is over; a busy machine has more."""
        spent_s = time.monotonic() - self._started
        return spent_s > self._plan.budget_s and spent_s > self._plan.budget_s * min(busyness(), _MOST_STRETCH)

    def mute(self) -> bool:
        """Tell whether the server has answered hardly anything."""
        verdicts = list(self._verdicts.values())
        return (
            self._server.target.marker is None
            and len(verdicts) >= _MUTE_CASES
            and sum(verdict.heard for verdict in verdicts) <= len(verdicts) * _HEARD_BY_CHANCE
        )

    def _not_tried(self, case: Case) -> Verdict | None:
        """Return the verdict of a case that is not tried; None if it can be tried."""
        heard = True
        if self.mute():
            wanted, why, heard = "an answer", "the server has not answered anything before", False
        elif self._server.lost:
            wanted, why, heard = "a server", self._server.lost, False
        elif self._server.target.one_at_a_time and case.needs_two:
            wanted, why = "two clients at once", "the server serves one client at a time"
        elif self.late():
            wanted, why = "an answer in time", f"the {self._plan.budget_s:g} s of the whole run are over"
        else:
            return None
        return Verdict(case, False, 0.0, (), wanted, f"not tried: {why}", heard=heard, silent=True, skipped=True)

    def _timeout_s(self) -> float:
        """Return how long a reply may take."""
        if not self.is_hurried():
            return self._plan.timeout_s
        if not self.part_s:  # the same in the whole run, because equal messages are shown once
            self.part_s = min(self._plan.timeout_s, self._plan.timeout_s * _PART * busyness())
        return self.part_s
