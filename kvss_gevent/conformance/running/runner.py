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
from kvss_gevent.conformance.process.submission import NotStarted, Submission
from kvss_gevent.conformance.running.probe import Unreachable, first_stats, probe
from kvss_gevent.conformance.running.server_under_test import ServerUnderTest
from kvss_gevent.conformance.running.trials import WORKERS, Trials
from kvss_gevent.conformance.score import Scorecard, Verdict
from kvss_gevent.protocol.errors import server_name

_LONG_PAUSE_S: Final = 1.0
"""A case with such a long pause runs while all other cases run, except those that compare counters."""

Progress = Callable[[int, int], None]
"""Called with the number of finished cases and the number of all cases."""


def _ignore(_done: int, _all: int) -> None:
    pass


def grade(host: str, port: int, plan: Plan = DEFAULT_PLAN, progress: Progress = _ignore) -> Scorecard:
    """Run the planned cases against the server at host and port.

    Raises Unreachable if the first connection cannot be made, ClientRefused if TLS or the login fails. Takes at most
    longest_s seconds, besides logins. If Ctrl-C interrupts it, the scorecard has the verdicts so far.
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
        prefix = b"conform-" + secrets.token_hex(3).encode()
        first = first_stats(host, port, plan) if submission is not None else b""
        target = probe(host, port, prefix + b"-end", plan)
        self._server = ServerUnderTest(target, submission)
        self._first_stats = first.removesuffix(b"\n") if first.count(b"\n") == 1 and first.endswith(b"\n") else None
        asked = form_to_grade(plan, target.stats_form)
        chosen = [case for case in planned(plan, target.stats_form, asked) if submission is not None or not case.fresh]
        self._cases = [case for case in chosen if plan.secure is None or not case.half_closes]
        self._left_out = [case.id for case in chosen if case not in self._cases]
        keys = {case.id: b"%b-%03d" % (prefix, number) for number, case in enumerate(self._cases)}
        self._verdicts: dict[str, Verdict] = {}
        self._trials = Trials(self._server, plan, keys, self._verdicts, self._started)
        self._again: dict[str, Case] = {}
        self._passed: deque[tuple[int, Case]] = deque(maxlen=WORKERS)
        self._accident = ""
        self._running: set[str] = set()
        self._suspects: set[str] = set()
        self._lock = threading.Lock()
        self._stopped = False

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
            if self._server.target.one_at_a_time and self._server.is_ours:
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
            verdict = self._trials.once(case)
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
        if self._trials.death(starts) is not None:  # after the last case
            self._suspect(starts)
        suspects = [case for case in self._cases if case.id in self._again]
        unharmed = False
        self._trials.forget_hangs()  # the server that hung has ended; blame needs the whole timeout
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
        pool = ThreadPoolExecutor(1 if self._server.target.one_at_a_time else workers)
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
        if self._trials.mute() or any(verdict.gone for verdict in failed):
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
        self._trials.begin_again()
        self._server.restart()
        self._again.clear()
        waiting = [case for case in cases if self._verdicts[case.id].silent and not case.alone]
        self._run_pool(self._second, waiting, WORKERS if self._trials.patience == 1 else 2)
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
        verdict = self._trials.once(case)
        failed = not verdict.passed and not verdict.skipped
        died = self._server.ended(starts) or (failed and self._trials.death(starts) is not None)
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
        if self._stopped or self._trials.late() or (first.silent and self._trials.is_hurried()):
            return
        starts = self._server.ensure()
        verdict = self._trials.once(case)
        if verdict.passed:
            self._verdicts[case.id] = _on_second_try(verdict, first)
        elif self._trials.death(starts) is not None:
            self._again[case.id] = case

    def _alone(self, case: Case, *, fresh: bool = False) -> None:
        """Run a case alone. If a server dies that has served other cases, run the case again on a new one."""
        verdict = self._trials.watched(case)
        if verdict.death and not fresh and not (again := self._trials.watched(case)).death:
            verdict = _on_second_try(again, verdict) if again.passed else again
        self._note(verdict)

    def _fresh(self, case: Case) -> None:
        """Judge the server's reply to its first request; if that does not pass, restart the server and ask again."""
        if self._first_stats is not None:
            verdict = self._trials.first_stats(case, self._first_stats)
            if verdict.passed:
                self._note(verdict)
                return
        if not self._trials.mute():
            self._server.restart()
        self._alone(case, fresh=True)

    def _note(self, verdict: Verdict) -> None:
        self._verdicts[verdict.case.id] = verdict
        self._progress(len(self._verdicts), len(self._cases))

    def _notes(self) -> Iterable[str]:
        if self._left_out:
            yield f"Not run, because TLS 1.2 cannot close one side alone: {', '.join(self._left_out)}."
        if self._server.target.one_at_a_time:
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
        if self._trials.part_s:
            yield f"Many cases got no answer in time: from then on a case waits only {self._trials.part_s:.2g} s."
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
