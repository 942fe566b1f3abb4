"""Runs one case against a server and returns its verdict."""

import time
from collections.abc import Iterator
from typing import Final

from kvss_gevent.conformance.case import (
    AskStats,
    Case,
    Closed,
    Expect,
    Finish,
    Habit,
    HalfClose,
    Leave,
    Line,
    Pause,
    Race,
    Reset,
    Send,
    Step,
    Taken,
)
from kvss_gevent.conformance.deadline import Deadline
from kvss_gevent.conformance.dialect import habits_of, is_other_success
from kvss_gevent.conformance.peer import PACKET_GAP_S, Gone, NoReply
from kvss_gevent.conformance.races.contests import CONTESTS, ContestLost
from kvss_gevent.conformance.running.case_connections import CaseConnections, StepFailed
from kvss_gevent.conformance.running.probe import Target
from kvss_gevent.conformance.score import Verdict
from kvss_gevent.conformance.stats_forms import EXAMPLE, FORMS, guess_counters, read_counters
from kvss_gevent.protocol.wire import BYE, shorten

_NO_END_S: Final = 20.0
"""Extra time for a contest with a server whose replies have no end mark, so that only silence ends them."""
_SETTLE_GAP_S: Final = 0.02
_FINISH_S: Final = 0.5
"""How long a server may take to close, if another case judges whether it closes."""


def run_case(case: Case, target: Target, key: bytes, timeout_s: float) -> Verdict:
    """Run a case with its own key. It takes at most timeout_s times its patience and attempts, plus its pauses.

    After an unexpected success the server is asked, once in a run and within three times timeout_s, which replies it
    uses for successes. If it always uses others than expected, the case is run again.
    """
    started = time.monotonic()
    for attempt in range(case.attempts):
        run = _CaseRun(target, Deadline(timeout_s * case.patience))
        fresh = key + b"-%d" % attempt if attempt else key
        verdict = run.judge(case.rendered(fresh), fresh, started)
        if run.saw_other_success and target.dialect.successes.learn():
            run = _CaseRun(target, Deadline(timeout_s * case.patience))
            fresh += b"-again"
            verdict = run.judge(case.rendered(fresh), fresh, started)
        # Another client can change the counters that are compared. A server that is silent or gone stays so.
        if verdict.passed or verdict.silent or verdict.gone:
            break
    return verdict


class _CaseRun:
    """One run of one case: its steps, the counters it read, and the habits it noted."""

    def __init__(self, target: Target, deadline: Deadline) -> None:
        self._target = target
        self._deadline = deadline
        self._connections = CaseConnections(target, deadline)
        self._counters: dict[str, int] = {}
        self._habits = set(target.dialect.habits)
        self._key = b""
        self.saw_other_success = False

    def judge(self, case: Case, key: bytes, started: float) -> Verdict:
        """Run the steps and return the verdict."""
        self._key = key
        try:
            for step in case.steps:
                self._run(step)
            self._connections.check_nothing_more()
            packets = tuple(self._connections.packets)
        except StepFailed as failed:
            return Verdict(
                case,
                False,
                time.monotonic() - started,
                self._connections.shown(),
                failed.expected,
                failed.received,
                heard=self._connections.heard(),
                silent=failed.silent,
                closed=failed.closed,
                picture=failed.picture,
                habits=self._noted(),
                packets=tuple(self._connections.packets),
            )
        except Gone as gone:
            cause = f"no connection: {gone}"
            return Verdict(
                case,
                False,
                time.monotonic() - started,
                (),
                "a connection",
                cause,
                gone=not gone.waited,
                heard=self._connections.heard(),
                silent=gone.waited,
            )
        finally:
            self._connections.close()
        spent_s = time.monotonic() - started
        return Verdict(case, True, spent_s, heard=self._connections.heard(), habits=self._noted(), packets=packets)

    def _noted(self) -> frozenset[Habit]:
        return frozenset(self._habits) if self._connections.heard() else frozenset()

    def _run(self, step: Step) -> None:
        match step:
            case Send():
                self._connections.send(step)
            case Expect():
                self._expect(step)
            case AskStats():
                self._stats(step)
            case Pause():
                self._deadline.pause(step.seconds)
            case HalfClose():
                self._connections.peer(step.on).half_close()
            case Leave():
                self._connections.peer(step.on).close()
            case Finish():
                self._connections.peer(step.on).finish(_FINISH_S)
            case Taken():
                self._connections.peer(step.on).await_read(PACKET_GAP_S)
            case Reset():
                self._connections.peer(step.on).reset()
            case Closed(judged=True):
                self._connections.check_closed(step.on)
            case Race():
                self._race(step.name)
        if not isinstance(step, Send):
            self._connections.last_sent_on = None

    def _expect(self, step: Expect) -> None:
        if step.strict in self._target.dialect.habits:
            raise StepFailed(_show_line(step.lines[0]), shorten(self._target.dialect.sample))
        for number, line in enumerate(step.lines, 1):
            expected = _show_line(line)
            if len(step.lines) > 1:
                expected += f" (reply {number} of {len(step.lines)})"
            try:
                got = self._connections.line(expected, step.on, line)
            except StepFailed as failed:
                if line == BYE and failed.closed and step.strict is None:
                    self._habits.add(Habit.FAREWELL)  # it closes without a reply to QUIT
                    return
                raise
            habits = habits_of(line, got, self._target.dialect.successes.instead)
            if habits is None:
                self.saw_other_success = is_other_success(line, got)
            if habits is None or step.strict in habits:
                raise StepFailed(expected, shorten(got))
            self._habits |= habits

    def _stats(self, step: AskStats) -> None:
        settled = Deadline(step.settle_s)
        before = self._counters
        while True:
            self._counters = counters = self._ask_stats(step.on)
            while step.calm and not self._deadline.passed():
                self._deadline.pause(_SETTLE_GAP_S)
                earlier, self._counters = self._counters, self._ask_stats(step.on)
                if self._counters.get("connections") == earlier.get("connections"):
                    break
            names: set[str] = {str(bound[0]) for bound in (*step.moved, *step.exact, *step.least)}
            if names and not names & counters.keys():
                raise StepFailed(f"STATS has {', '.join(sorted(names))}", f"it has {', '.join(counters)}")
            wrong = next(_wrong(step, before, counters), None)
            if wrong is None:
                return
            if settled.passed() or self._deadline.passed():
                raise wrong
            self._deadline.pause(_SETTLE_GAP_S)

    def _ask_stats(self, name: str) -> dict[str, int]:
        form = self._target.stats_form
        self._connections.sent.append((name, shorten(b"KV/1.0 STATS\n")))
        expected = _show_line(FORMS[form])
        line = self._target.first_stats
        if line is None:
            self._connections.put(name, b"KV/1.0 STATS\n")
            line = self._connections.line(expected, name)
        counters = guess_counters(line) if self._target.odd_stats else read_counters(line, form)
        if not counters:
            raise StepFailed(expected, shorten(line))
        if self._target.odd_stats:
            self._habits.add(Habit.STATS)
        return counters

    def _race(self, name: str) -> None:
        if not self._target.dialect.end:
            self._deadline.extend(_NO_END_S)
        try:
            CONTESTS[name](self._connections.peer, self._key)
        except ContestLost as lost:
            self._connections.sent += [("", text) for text in lost.sent]
            raise StepFailed(lost.expected, lost.received, picture=lost.picture) from None
        except NoReply as missing:
            raise StepFailed("a reply to each request", missing.why, silent=missing.waited) from None


def _wrong(step: AskStats, before: dict[str, int], now: dict[str, int]) -> Iterator[StepFailed]:
    """Yield a failure for each wrong counter; counters that the server does not have are left out."""
    for name, least, most in step.moved:
        moved = now[name] - before[name] if name in now and name in before else least
        if not least <= moved <= most:
            expected = ", ".join(f"{one} {_range(low, high)}" for one, low, high in step.moved)
            received = f"{name} moved by {moved} instead of {_range(least, most)}"
            yield StepFailed(f"from one STATS to the next {expected}", received)
    for name, number in step.exact:
        if now.get(name, number) != number:
            yield StepFailed(f"{name} {number}", f"{name} {now[name]}")
    for name, least in step.least:
        if now.get(name, least) < least:
            yield StepFailed(f"{name} at least {least}", f"{name} {now[name]}")


def _show_line(line: Line) -> str:
    if isinstance(line, bytes):
        return shorten(line)
    example = next((EXAMPLE[name] for name, pattern in FORMS.items() if pattern is line), line.pattern)
    return f"a line like {example.decode()!r}"


def _range(least: int, most: int) -> str:
    return f"{least:+d}" if least == most else f"{least:+d} to {most:+d}"
