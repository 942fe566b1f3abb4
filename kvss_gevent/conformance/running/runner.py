"""Runs the cases of a plan against a server, several at a time where that is fair, and failed cases once more.

If a server hangs, closes or dies, only the current case fails; a submission that dies is started again. The whole run
is bounded: see longest_s.
"""

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from kvss_gevent.conformance.case import Case, Race, Step
from kvss_gevent.conformance.case_plan import DEFAULT_PLAN, Plan, form_to_grade, planned
from kvss_gevent.conformance.causes import find
from kvss_gevent.conformance.process.kernel import busyness
from kvss_gevent.conformance.process.submission import NotStarted, Submission
from kvss_gevent.conformance.running.case_runner import run_case
from kvss_gevent.conformance.running.probe import Unreachable, first_stats, probe
from kvss_gevent.conformance.running.server_under_test import ServerUnderTest
from kvss_gevent.conformance.score import Scorecard, Verdict
from kvss_gevent.protocol.errors import server_name

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
_LONG_PAUSE_S: Final = 1.0
"""A case with such a long pause runs while all other cases run, except those that compare counters."""

Progress = Callable[[int, int], None]
"""Called with the number of finished cases and the number of all cases."""


def _ignore(_done: int, _all: int) -> None:
    pass


def grade(host: str, port: int, plan: Plan = DEFAULT_PLAN, progress: Progress = _ignore) -> Scorecard:
    """Run the planned cases against the server at host and port.

    Raises Unreachable if the first connection cannot be made. Takes at most longest_s seconds. If Ctrl-C interrupts
    it, the scorecard has the verdicts so far.
    """
    return _Run(host, port, plan, progress, None).card()


def grade_submission(submission: Submission, plan: Plan = DEFAULT_PLAN, progress: Progress = _ignore) -> Scorecard:
    """Start a submission, run the planned cases against it, and end it. Raises Unreachable if it does not start."""
    try:
        submission.ensure()
        return _run_here(submission, plan, progress).card()
    except NotStarted as failed:
        raise Unreachable(str(failed), failed.tail) from None
    finally:
        submission.end()


def _run_here(submission: Submission, plan: Plan, progress: Progress) -> "_Run":
    """Return a run against the submission's address: 127.0.0.1, or ::1, which is `localhost` on some machines."""
    try:
        return _Run("127.0.0.1", submission.port, plan, progress, submission)
    except Unreachable as refused:
        try:
            return _Run("::1", submission.port, plan, progress, submission)
        except Unreachable:
            raise refused from None


class _Run:
    """One run of the planned cases."""

    def __init__(self, host: str, port: int, plan: Plan, progress: Progress, submission: Submission | None) -> None:
        self._started = time.monotonic()
        self._host, self._port, self._plan, self._progress = host, port, plan, progress
        self._prefix = b"conform-" + secrets.token_hex(3).encode()
        first = first_stats(host, port, plan) if submission is not None else b""
        target, self._one_at_a_time = probe(host, port, self._prefix + b"-end", plan)
        self._server = ServerUnderTest(target, submission)
        self._first_stats = first.removesuffix(b"\n") if first.count(b"\n") == 1 and first.endswith(b"\n") else None
        asked = form_to_grade(plan, target.stats_form)
        self._cases = [
            case for case in planned(plan, target.stats_form, asked) if submission is not None or not case.fresh
        ]
        self._keys = {case.id: b"%b-%03d" % (self._prefix, number) for number, case in enumerate(self._cases)}
        self._verdicts: dict[str, Verdict] = {}
        self._again: dict[str, Case] = {}
        self._passed: deque[tuple[int, Case]] = deque(maxlen=WORKERS)
        self._accident = ""
        self._running: set[str] = set()
        self._suspects: set[str] = set()
        self._lock = threading.Lock()
        self._stopped = False
        self._patience = 1.0
        self._suffix = b""
        self._hangs = 0
        self._hurried = False
        self._part_s = 0.0
        self._unheard = 0

    def card(self) -> Scorecard:
        """Run all cases; return the scorecard."""
        complete = True
        try:
            self._run_all()
        except KeyboardInterrupt:
            complete = False
        verdicts = tuple(self._verdicts[case.id] for case in self._cases if case.id in self._verdicts)
        where = server_name(self._host, self._port)
        spent_s = time.monotonic() - self._started
        notes = tuple(self._notes())
        card = Scorecard(where, self._server.target.stats_form, verdicts, notes, spent_s, self._plan.profile, complete)
        return replace(card, causes=find(card))

    def _run_all(self) -> None:
        ordinary = [case for case in self._cases if not case.fresh]
        long = [case for case in ordinary if case.pauses_s >= _LONG_PAUSE_S and not case.alone]
        together = [case for case in ordinary if not case.alone and case not in long]
        with self._beside_others(long):
            if self._one_at_a_time and self._server.is_ours:
                for case in together:  # there is never more than one suspect
                    self._alone(case)
            else:
                self._run_pool(self._first, together)
                self._try_suspects()
            for case in ordinary:
                if case.alone and not case.counts:
                    self._alone(case)
        for case in ordinary:
            if case.id not in self._verdicts:  # it compares counters, or did not pass while others ran
                self._alone(case)
        for case in self._cases:
            if case.fresh:
                self._fresh(case)
        self._run_failed_again()

    @contextmanager
    def _beside_others(self, cases: list[Case]) -> Iterator[None]:
        """Run these cases while the block runs. A case that does not pass gets no verdict yet."""

        def run(case: Case) -> None:
            verdict = self._verdict(case)
            if verdict.passed:
                self._note(verdict)

        with ThreadPoolExecutor(len(cases) or 1) as pool:
            for case in cases:
                pool.submit(run, case)
            try:
                yield
            finally:
                pool.shutdown(cancel_futures=True)

    def _try_suspects(self) -> None:
        """Run each case alone that ran when the server died, to find the one that kills it."""
        starts = self._server.starts
        if self._server.death(starts, self._timeout_s()) is not None:  # after the last case
            self._suspect(starts)
        suspects = [case for case in self._cases if case.id in self._again]
        unharmed, self._hangs = False, 0  # the server that hung has ended; blame needs the whole timeout
        for case in suspects:
            if not unharmed:
                self._server.restart()
            self._alone(case, fresh=not unharmed)
            unharmed = self._verdicts[case.id].passed
        if suspects and not any(self._verdicts[case.id].death for case in suspects):
            names = ", ".join(case.id for case in suspects)
            self._accident = (
                f"The server died once while these cases ran together, but not when each ran alone: {names}."
            )

    def _run_pool(self, run: Callable[[Case], None], cases: list[Case], workers: int = WORKERS) -> None:
        pool = ThreadPoolExecutor(1 if self._one_at_a_time else workers)
        try:
            list(pool.map(run, cases))
        except BaseException:
            self._stopped = True
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _run_failed_again(self) -> None:
        """Run each failed case again: neither a busy machine nor cases that ran at the same time may cost points.

        A case with a wrong reply runs alone. Cases without a reply in time run together, because they wait long.
        """
        failed = [verdict for verdict in self._verdicts.values() if not verdict.passed]
        if self._mute() or any(verdict.gone for verdict in failed):
            return
        # Wrong replies in a contest are a proof; a contest that ran out of time is not. The case in a verdict has the
        # key of its first run, under which a value may be stored by now, so the case of the table is run.
        worth = {
            verdict.case.id
            for verdict in failed
            if not verdict.death and not verdict.skipped
            if verdict.silent or not any(map(_is_race, verdict.case.steps))
        }
        cases = [case for case in self._cases if case.id in worth]
        if not cases:
            return
        self._patience, self._suffix = busyness(), b"-again"
        self._hangs = _HANGS // 2 if self._hurried else 0
        self._server.restart()
        self._again.clear()
        waiting = [case for case in cases if self._verdicts[case.id].silent and not case.alone]
        self._run_pool(self._second, waiting, WORKERS if self._patience == 1 else 2)
        for case in cases:
            if case.fresh:
                self._server.restart()
            if case not in waiting or case.fresh or case.id in self._again:
                self._second(case)

    def _first(self, case: Case) -> None:
        if self._stopped:
            return
        starts = self._server.ensure()
        with self._lock:
            self._running.add(case.id)
        verdict = self._verdict(case)
        failed = not verdict.passed and not verdict.skipped
        died = self._server.ended(starts) or (failed and self._server.death(starts, self._timeout_s()) is not None)
        with self._lock:
            if died or self._server.ended(starts):
                self._again[case.id] = case
                self._suspect(starts)
                return
            if verdict.gone and not self._suspects:
                self._suspects = set(self._running)
            if verdict.passed:
                self._passed.append((starts, case))
            self._running.discard(case.id)
        self._note(verdict)

    def _suspect(self, starts: int) -> None:
        """Add the cases that passed last before the server's process with this number ended."""
        self._again |= {case.id: case for start, case in self._passed if start == starts}

    def _second(self, case: Case) -> None:
        first = self._verdicts[case.id]
        # If the cases before it got no reply a second time either, a case that failed in the same way is not repeated.
        if self._stopped or self._late() or (first.silent and self._hangs >= _HANGS):
            return
        starts = self._server.ensure()
        verdict = self._verdict(case)
        if verdict.passed:
            self._verdicts[case.id] = _on_second_try(verdict, first)
        elif self._server.death(starts, self._timeout_s()) is not None:
            self._again[case.id] = case

    def _alone(self, case: Case, *, fresh: bool = False) -> None:
        """Run a case alone. If a server dies that has served other cases, run the case again on a new one."""
        verdict = self._watched(case)
        if verdict.death and not fresh and not (again := self._watched(case)).death:
            verdict = _on_second_try(again, verdict) if again.passed else again
        self._note(verdict)

    def _watched(self, case: Case) -> Verdict:
        starts = self._server.ensure()
        verdict = self._verdict(case)
        death = None if verdict.skipped else self._server.death(starts, self._timeout_s())
        if death is None:
            return verdict
        return replace(verdict, passed=False, death=str(death), tail=death.stderr)

    def _fresh(self, case: Case) -> None:
        """Judge the server's reply to its first request; if that does not pass, restart the server and ask again."""
        if self._first_stats is not None:
            target = replace(self._server.target, first_stats=self._first_stats)
            verdict = run_case(case, target, self._keys[case.id], self._plan.timeout_s)
            if verdict.passed:
                self._note(verdict)
                return
        if not self._mute():
            self._server.restart()
        self._alone(case, fresh=True)

    def _verdict(self, case: Case) -> Verdict:
        if self._server.stopping:
            raise KeyboardInterrupt
        if self._mute():
            cause = "not tried: the server has not answered anything before"
            return Verdict(case, False, 0.0, (), "an answer", cause, heard=False, silent=True, skipped=True)
        if self._server.lost:
            cause = f"not tried: {self._server.lost}"
            return Verdict(case, False, 0.0, (), "a server", cause, heard=False, silent=True, skipped=True)
        if self._one_at_a_time and case.needs_two:
            cause = "not tried: the server serves one client at a time"
            return Verdict(case, False, 0.0, (), "two clients at once", cause, silent=True, skipped=True)
        if self._late():
            cause = f"not tried: the {self._plan.budget_s:g} s of the whole run are over"
            return Verdict(case, False, 0.0, (), "an answer in time", cause, silent=True, skipped=True)
        # A patient case does not get the extra time for a busy machine in addition.
        timeout_s = self._timeout_s() * max(1.0, self._patience / case.patience)
        verdict = run_case(case, self._server.target, self._keys[case.id] + self._suffix, timeout_s)
        self._hangs += verdict.silent
        self._hurried = self._hurried or self._hangs >= _HANGS
        self._unheard = self._unheard + 1 if verdict.silent and not verdict.heard else 0
        if self._unheard >= _HANGS and not self._server.is_ours and self._server.target.marker is not None:
            self._server.ask_whether_it_lives(self._plan.timeout_s)
            self._unheard = 0
        return verdict

    def _timeout_s(self) -> float:
        """Return how long a reply may take: less after many missing replies, so that the run ends in time."""
        if self._hangs < _HANGS:
            return self._plan.timeout_s
        if not self._part_s:  # the same in the whole run, because equal messages are shown once
            self._part_s = min(self._plan.timeout_s, self._plan.timeout_s * _PART * busyness())
        return self._part_s

    def _late(self) -> bool:
        spent_s = time.monotonic() - self._started
        return spent_s > self._plan.budget_s and spent_s > self._plan.budget_s * min(busyness(), _MOST_STRETCH)

    def _mute(self) -> bool:
        verdicts = list(self._verdicts.values())
        return (
            self._server.target.marker is None
            and len(verdicts) >= _MUTE_CASES
            and sum(verdict.heard for verdict in verdicts) <= len(verdicts) * _HEARD_BY_CHANCE
        )

    def _note(self, verdict: Verdict) -> None:
        self._verdicts[verdict.case.id] = verdict
        self._progress(len(self._verdicts), len(self._cases))

    def _notes(self) -> Iterable[str]:
        if self._one_at_a_time:
            yield "The server serves one client at a time: the cases were run one after the other."
        verdicts = list(self._verdicts.values())
        died = [verdict for verdict in verdicts if verdict.death]
        if died:
            names = ", ".join(verdict.case.id for verdict in died)
            yield f"The server died and was started again, at: {names}."
        if self._accident:
            yield self._accident
        if self._server.lost:
            yield f"At some point no further case could be run: {self._server.lost}."
        if verdicts and verdicts[-1].gone and not self._server.is_ours:
            order = sorted(self._suspects, key=[case.id for case in self._cases].index)
            where = f"; it was busy with: {', '.join(order)}" if order else ""
            yield f"The server died during the run{where}. With --command it is started again after a crash."
        if self._part_s:
            yield f"Many cases got no answer in time: from then on a case waits only {self._part_s:.2g} s."
        late = sum("of the whole run are over" in verdict.received for verdict in verdicts if verdict.skipped)
        if late:
            yield f"The time limit of {self._plan.budget_s:g} s was over: {late} cases were not tried."
        flaky = [verdict.case.id for verdict in verdicts if verdict.flaky]
        if flaky:
            yield f"Failed at first and passed when run again: {', '.join(flaky)}."


def _on_second_try(verdict: Verdict, first: Verdict) -> Verdict:
    return replace(verdict, tries=2, sent=first.sent, expected=first.expected, received=first.received)


def _is_race(step: Step) -> bool:
    return isinstance(step, Race)
