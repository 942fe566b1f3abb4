"""Runs cases against a server, beside each other where that is fair, and those that failed once more.

A server that hangs, closes or dies costs only the case at hand; a submission that dies is started again. The whole run
is bounded: see longest_s.
"""

import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Final

from kvss_gevent.conformance.case import Case, Race, Step
from kvss_gevent.conformance.case_plan import DEFAULT_PLAN, STATS_OF, Plan, form_to_grade, planned
from kvss_gevent.conformance.case_runner import Target, run_case
from kvss_gevent.conformance.causes import find
from kvss_gevent.conformance.dialect import PLAIN, Dialect, learn
from kvss_gevent.conformance.peer import Address, Deadline, Gone, NoReply, Peer, describe
from kvss_gevent.conformance.process.kernel import busyness, listens
from kvss_gevent.conformance.process.shell_command import Death
from kvss_gevent.conformance.process.submission import NotStarted, Submission
from kvss_gevent.conformance.score import Scorecard, Verdict
from kvss_gevent.conformance.stats_forms import ANY, README, form_of
from kvss_gevent.protocol.errors import server_name

WORKERS: Final = 8
"""Cases at a time. Most wait for their own pauses, so that this many keep one core of a small machine half busy."""

_MOST_STRETCH: Final = 4.0
"""Times its budget that a run may take at most on a busy machine."""

_MUTE_CASES: Final = 2 * WORKERS
"""After so many cases without one byte from the server the rest is not tried."""
_HANGS: Final = 4
"""After so many cases without an answer in their time a further one waits a part of it."""
_PART: Final = 0.1
_LONG_PAUSE_S: Final = 1.0
"""A case that pauses so long runs beside all others that do not compare counters."""
_BESIDE_S: Final = 0.5
_GREETING_S: Final = 0.08
_QUIET_S: Final = 0.04
_DEATH_S: Final = 3.0
"""How long the end of a server that listens no more may take to be known."""

Progress = Callable[[int, int], None]
"""Called with the cases done and the cases there are."""


class Unreachable(Exception):
    """Nothing answers at the address: no case was run. The message says why, tail is the end of a command's stderr."""

    def __init__(self, why: str, tail: str = "") -> None:
        super().__init__(why)
        self.tail = tail


def _ignore(_done: int, _all: int) -> None:
    pass


def grade(host: str, port: int, plan: Plan = DEFAULT_PLAN, progress: Progress = _ignore) -> Scorecard:
    """Run the planned cases against the server at host and port.

    Raises Unreachable where no connection can be made to begin with. Takes at most longest_s seconds. Where Ctrl-C
    interrupts it, the scorecard holds what was measured.
    """
    return _Run(host, port, plan, progress, None).card()


def grade_submission(submission: Submission, plan: Plan = DEFAULT_PLAN, progress: Progress = _ignore) -> Scorecard:
    """Start a submission, run the planned cases against it, and end it. Raises Unreachable where it does not start."""
    try:
        submission.ensure()
        return _Run("127.0.0.1", submission.port, plan, progress, submission).card()
    except NotStarted as failed:
        raise Unreachable(str(failed), failed.tail) from None
    finally:
        submission.end()


class _Run:
    """One run over the table."""

    def __init__(self, host: str, port: int, plan: Plan, progress: Progress, submission: Submission | None) -> None:
        self._started = time.monotonic()
        self._host, self._port, self._plan, self._progress = host, port, plan, progress
        self._submission = submission
        self._prefix = b"conform-" + secrets.token_hex(3).encode()
        first = _first_stats(host, port, plan) if submission is not None else b""
        self._target, self._one_at_a_time = _probe(host, port, self._prefix + b"-end", plan)
        self._first_stats = first.removesuffix(b"\n") if first.count(b"\n") == 1 and first.endswith(b"\n") else None
        asked = form_to_grade(plan, self._target.stats_form)
        self._cases = [
            case for case in planned(plan, self._target.stats_form, asked) if submission is not None or not case.fresh
        ]
        self._keys = {case.id: b"%b-%03d" % (self._prefix, number) for number, case in enumerate(self._cases)}
        self._verdicts: dict[str, Verdict] = {}
        self._again: dict[str, Case] = {}
        self._passed: deque[tuple[int, Case]] = deque(maxlen=WORKERS)
        self._accident = ""
        self._lost = ""
        self._running: set[str] = set()
        self._suspects: set[str] = set()
        self._lock = threading.Lock()
        self._stopped = False
        self._patience = 1.0
        self._suffix = b""
        self._hangs = 0
        self._hurried = False
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
        card = Scorecard(where, self._target.stats_form, verdicts, notes, spent_s, self._plan.profile, complete)
        return replace(card, causes=find(card))

    def _run_all(self) -> None:
        ordinary = [case for case in self._cases if not case.fresh]
        long = [case for case in ordinary if case.pauses_s >= _LONG_PAUSE_S and not case.alone]
        together = [case for case in ordinary if not case.alone and case not in long]
        with self._beside_others(long):
            if self._one_at_a_time and self._submission is not None:
                for case in together:  # there is never more than one suspect
                    self._alone(case)
            else:
                self._run_pool(self._first, together)
                self._try_suspects()
            for case in ordinary:
                if case.alone and not case.counts:
                    self._alone(case)
        for case in ordinary:
            if case.id not in self._verdicts:  # it compares counters, or did not pass beside others
                self._alone(case)
        for case in self._cases:
            if case.fresh:
                self._fresh(case)
        self._run_failed_again()

    @contextmanager
    def _beside_others(self, cases: list[Case]) -> Iterator[None]:
        """Run these cases meanwhile; those that do not pass have no verdict yet."""

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
        """Run alone the cases beside which the server died: so the one that ends it is known, and costs no other."""
        if self._submission is not None:
            starts = self._submission.starts
            if self._death(starts) is not None:  # behind the last case
                self._suspect(starts)
        suspects = [case for case in self._cases if case.id in self._again]
        fresh = False
        for case in suspects:
            if not fresh:
                self._restart()
            self._alone(case)
            fresh = self._verdicts[case.id].passed
        if suspects and not any(self._verdicts[case.id].death for case in suspects):
            names = ", ".join(case.id for case in suspects)
            self._accident = f"The server died once beside these cases, and not when each was run alone: {names}."

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
        """Give each case that failed a second chance: a busy machine must not cost points."""
        failed = [verdict for verdict in self._verdicts.values() if not verdict.passed]
        if self._mute() or any(verdict.gone for verdict in failed):
            return
        # A contest that was lost by its replies is proof; one that ran out of time is not. The case in a verdict has
        # the key of the first run, under which something may be stored by now: run the table's.
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
        self._restart()
        self._again.clear()
        self._run_pool(self._second, [case for case in cases if not case.alone], WORKERS if self._patience == 1 else 2)
        for case in cases:
            if case.fresh:
                self._restart()
            if case.alone or case.fresh or case.id in self._again:
                self._second(case)

    def _first(self, case: Case) -> None:
        if self._stopped:
            return
        starts = self._ensure()
        with self._lock:
            self._running.add(case.id)
        verdict = self._verdict(case)
        failed = not verdict.passed and not verdict.skipped
        died = self._ended(starts) or (failed and self._death(starts) is not None)
        with self._lock:
            if died or self._ended(starts):
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
        """Suspect the cases that passed last, too, before a start of the server came to its end."""
        self._again |= {case.id: case for start, case in self._passed if start == starts}

    def _second(self, case: Case) -> None:
        first = self._verdicts[case.id]
        # Where those before it had no answer a second time either, a case that fails in the same way is not repeated.
        if self._stopped or self._late() or (first.silent and self._hangs >= _HANGS):
            return
        starts = self._ensure()
        verdict = self._verdict(case)
        if verdict.passed:
            self._verdicts[case.id] = replace(
                verdict, tries=2, sent=first.sent, expected=first.expected, received=first.received
            )
        elif self._death(starts) is not None:
            self._again[case.id] = case

    def _alone(self, case: Case) -> None:
        starts = self._ensure()
        verdict = self._verdict(case)
        death = None if verdict.skipped else self._death(starts)
        if death is not None:
            verdict = replace(verdict, passed=False, death=str(death), tail=death.stderr)
        self._note(verdict)

    def _fresh(self, case: Case) -> None:
        """Judge what the server said to its first request, and where that does not pass, start it anew and ask."""
        if self._first_stats is not None:
            target = replace(self._target, first_stats=self._first_stats)
            verdict = run_case(case, target, self._keys[case.id], self._plan.timeout_s)
            if verdict.passed:
                self._note(verdict)
                return
        if not self._mute():
            self._restart()
        self._alone(case)

    def _ensure(self) -> int:
        """See that a submission runs; return how often it has been started."""
        return self._started_by(Submission.ensure)

    def _restart(self) -> None:
        self._started_by(Submission.restart)

    def _started_by(self, start: Callable[[Submission], None]) -> int:
        """Start a submission, take over its new port, and return how often it has been started."""
        if self._submission is None or self._lost:
            return 0
        try:
            start(self._submission)
        except NotStarted as failed:
            self._lost = f"the server does not start again: {failed}"
        address = self._target.address
        self._target = replace(self._target, address=(address[0], self._submission.port, *address[2:]))
        return self._submission.starts

    def _ended(self, starts: int) -> bool:
        """Tell whether the start of a submission with this number is known to be over."""
        return self._submission is not None and (self._submission.starts != starts or self._submission.died)

    def _death(self, starts: int) -> Death | None:
        """Return how a submission ended behind a case, None where it lives: it still answers.

        A connection that ends is no sign: a server's last connection can end long before its process does.
        """
        if self._submission is None or self._lost:
            return None
        if self._target.marker is None:  # it has never answered
            return self._submission.death(0.0 if listens(self._submission.port) else _DEATH_S)
        within_s = _DEATH_S
        try:
            deadline = Deadline(self._timeout_s() * busyness())
            with closing(Peer(self._target.address, deadline, self._target.dialect)) as peer:
                peer.send(b"KV/1.0 GET " + self._target.end_key + b"\n")
                if peer.rest():
                    return None
        except NoReply:
            within_s = 0.0
        except Gone:
            pass
        return self._submission.death(within_s) or self._submission.give_up(starts)

    def _verdict(self, case: Case) -> Verdict:
        if self._submission is not None and self._submission.stopping.is_set():
            raise KeyboardInterrupt
        if self._mute():
            cause = "not tried: the server has not answered anything before"
            return Verdict(case, False, 0.0, (), "an answer", cause, heard=False, silent=True, skipped=True)
        if self._lost:
            cause = f"not tried: {self._lost}"
            return Verdict(case, False, 0.0, (), "a server", cause, heard=False, silent=True, skipped=True)
        if self._one_at_a_time and case.needs_two:
            cause = "not tried: the server serves one client at a time"
            return Verdict(case, False, 0.0, (), "two clients at once", cause, silent=True, skipped=True)
        if self._late():
            cause = f"not tried: the {self._plan.budget_s:g} s of the whole run are over"
            return Verdict(case, False, 0.0, (), "an answer in time", cause, silent=True, skipped=True)
        # A case that is patient by itself is not given a busy machine's patience on top.
        timeout_s = self._timeout_s() * max(1.0, self._patience / case.patience)
        verdict = run_case(case, self._target, self._keys[case.id] + self._suffix, timeout_s)
        self._hangs += verdict.silent
        self._hurried = self._hurried or self._hangs >= _HANGS
        self._unheard = self._unheard + 1 if verdict.silent and not verdict.heard else 0
        if self._unheard >= _HANGS and self._submission is None and self._target.marker is not None:
            self._ask_whether_it_lives()
        return verdict

    def _timeout_s(self) -> float:
        """Return how long an answer may take: less where many did not come, so that a run ends in time."""
        if self._hangs < _HANGS:
            return self._plan.timeout_s
        return min(self._plan.timeout_s, self._plan.timeout_s * _PART * busyness())

    def _ask_whether_it_lives(self) -> None:
        question = b"KV/1.0 GET " + self._target.end_key
        timeout_s = self._plan.timeout_s * busyness()
        if _ask_anew(self._target.address, question, timeout_s, self._target.dialect) is None:
            self._lost = self._lost or "the server answers nobody any more"
        self._unheard = 0

    def _late(self) -> bool:
        spent_s = time.monotonic() - self._started
        return spent_s > self._plan.budget_s and spent_s > self._plan.budget_s * min(busyness(), _MOST_STRETCH)

    def _mute(self) -> bool:
        verdicts = list(self._verdicts.values())
        return (
            self._target.marker is None
            and len(verdicts) >= _MUTE_CASES
            and not any(verdict.heard for verdict in verdicts)
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
        if self._lost:
            yield f"From some case on no other could be tried: {self._lost}."
        if verdicts and verdicts[-1].gone:
            order = sorted(self._suspects, key=[case.id for case in self._cases].index)
            where = f"; it was busy with: {', '.join(order)}" if order else ""
            yield f"The server died during the run{where}. With --command it is started again after a crash."
        if self._hurried:
            part_s = _PART * self._plan.timeout_s
            yield f"Many cases had no answer in their time: behind them a case waits {part_s:g} s."
        late = sum("of the whole run are over" in verdict.received for verdict in verdicts if verdict.skipped)
        if late:
            yield f"The time limit of {self._plan.budget_s:g} s was over: {late} cases were not tried."
        flaky = [verdict.case.id for verdict in verdicts if verdict.flaky]
        if flaky:
            yield f"Failed at first and passed when run again: {', '.join(flaky)}."


def _is_race(step: Step) -> bool:
    return isinstance(step, Race)


def _probe(host: str, port: int, end_key: bytes, plan: Plan) -> tuple[Target, bool]:
    """Learn how the server answers a missing key, and whether it serves one client at a time."""
    timeout_s = plan.timeout_s * busyness()
    address, first = _reach(host, port, timeout_s)
    question = b"KV/1.0 GET " + end_key
    with closing(first):
        dialect = _learn(first, question)
    marker = _ask_anew(address, question, timeout_s, dialect) if dialect.sample else None
    # Twice, for whoever is taken for a server of one client at a time loses much.
    one_at_a_time = marker is not None and all(_keeps_waiting(address, question, timeout_s, dialect) for _ in range(2))
    line = _ask_anew(address, b"KV/1.0 STATS", timeout_s, dialect) if dialect.sample else None
    found = form_of(line or b"")
    form = found or STATS_OF.get(plan.profile, README if plan.stats_form == ANY else plan.stats_form)
    if plan.stats_form != ANY:
        form = plan.stats_form
    return Target(address, form, end_key, marker, dialect, line is not None and found != form), one_at_a_time


def _first_stats(host: str, port: int, plan: Plan) -> bytes:
    """Return what a server that has just been started answers where its first request is STATS, b"" for nothing."""
    _, peer = _reach(host, port, plan.timeout_s * busyness())
    with closing(peer):
        try:
            peer.send(b"KV/1.0 STATS\n")
            peer.rest()
        except NoReply:
            return b""
        return peer.listen(_QUIET_S)


def _keeps_waiting(address: Address, line: bytes, timeout_s: float, dialect: Dialect) -> bool:
    """Tell whether a client has no answer while another one, which has been served, is connected."""
    try:
        with closing(Peer(address, Deadline(timeout_s), dialect)) as first:
            first.send(line + b"\n")
            first.line()
            return _ask_anew(address, line, min(timeout_s, _BESIDE_S * busyness()), dialect) is None
    except (Gone, NoReply):
        return True


def _learn(peer: Peer, question: bytes) -> Dialect:
    """Hear what comes before a question and behind it."""
    greeting = peer.listen(_GREETING_S)
    try:
        peer.send(question + b"\n")
        peer.rest()
    except NoReply:
        return PLAIN
    reply = peer.listen(_QUIET_S)
    return learn(greeting, reply) if reply else PLAIN


def _reach(host: str, port: int, timeout_s: float) -> tuple[Address, Peer]:
    """Return the first address of the host that takes a connection, and the connection. Raises Unreachable."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unreachable(describe(error) if isinstance(error, OSError) else "no such host name") from None
    why = "no address"
    for address in dict.fromkeys(entry[4] for entry in found):
        try:
            return address, Peer(address, Deadline(timeout_s))
        except Gone as gone:
            why = str(gone)
    raise Unreachable(why)


def _ask_anew(address: Address, line: bytes, timeout_s: float, dialect: Dialect) -> bytes | None:
    """Return the reply line to one request on a new connection, None where there is none."""
    try:
        with closing(Peer(address, Deadline(timeout_s), dialect)) as peer:
            peer.send(line + b"\n")
            return peer.line()
    except (Gone, NoReply):
        return None
