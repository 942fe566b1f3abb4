"""Runs one case against a server and returns its verdict."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
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
    packets,
)
from kvss_gevent.conformance.deadline import Deadline
from kvss_gevent.conformance.dialect import PLAIN, Dialect, habits_of, is_other_success
from kvss_gevent.conformance.peer import BYTE_GAP_S, PACKET_GAP_S, Address, Gone, NoReply, Peer
from kvss_gevent.conformance.races.contests import CONTESTS, ContestLost
from kvss_gevent.conformance.score import Packet, TimedRequest, Verdict
from kvss_gevent.conformance.stats_forms import EXAMPLE, FORMS, guess_counters, read_counters
from kvss_gevent.protocol.wire import BYE, shorten

MOST_PACKETS: Final = 40
"""So many of a case's packets are kept, the last ones."""
_NO_END_S: Final = 20.0
"""Extra time for a contest with a server whose replies have no end mark, so that only silence ends them."""
_SETTLE_GAP_S: Final = 0.02
_FINISH_S: Final = 0.5
"""How long a server may take to close, if another case judges whether it closes."""
_EXTRA_S: Final = 0.5
_CLOSES_S: Final = 0.15
_QUIET_S: Final = 0.05
"""How long to wait for bytes that should not come: _EXTRA_S after one more request, _QUIET_S if none can be sent."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server under test, and what was learnt about it before the first case.

    marker: its reply line to `GET end_key`, which marks the end of a case; None if it does not reply. odd_stats: its
    STATS has neither form, so that counters are found by their names. first_stats: its reply line to a STATS that was
    its first request, if that is the line to judge.
    """

    address: Address
    stats_form: str
    end_key: bytes
    marker: bytes | None = None
    dialect: Dialect = PLAIN
    odd_stats: bool = False
    first_stats: bytes | None = None


class _Failed(Exception):
    def __init__(
        self,
        expected: str,
        received: str,
        *,
        silent: bool = False,
        closed: bool = False,
        picture: tuple[TimedRequest, ...] = (),
    ) -> None:
        super().__init__(received)
        self.closed = closed
        self.picture = picture
        self.expected = expected
        self.received = received
        self.silent = silent


def run_case(case: Case, target: Target, key: bytes, timeout_s: float) -> Verdict:
    """Run a case with its own key. It takes at most timeout_s times its patience and attempts, plus its pauses.

    After an unexpected success the server is asked, once in a run and within three times timeout_s, which replies it
    uses for successes. If it always uses others than expected, the case is run again.
    """
    started = time.monotonic()
    for attempt in range(case.attempts):
        conversation = _Conversation(target, Deadline(timeout_s * case.patience))
        fresh = key + b"-%d" % attempt if attempt else key
        verdict = conversation.judge(case.rendered(fresh), fresh, started)
        if conversation.saw_other_success and target.dialect.successes.learn():
            conversation = _Conversation(target, Deadline(timeout_s * case.patience))
            fresh += b"-again"
            verdict = conversation.judge(case.rendered(fresh), fresh, started)
        # Another client can change the counters that are compared. A server that is silent or gone stays so.
        if verdict.passed or verdict.silent or verdict.gone:
            break
    return verdict


class _Conversation:
    """The connections of one run of one case."""

    def __init__(self, target: Target, deadline: Deadline) -> None:
        self._target = target
        self._deadline = deadline
        self._peers: dict[str, Peer] = {}
        self._counters: dict[str, int] = {}
        self._sent: list[tuple[str, str]] = []
        self._last_sent_on: str | None = None
        self._habits = set(target.dialect.habits)
        self._began = time.monotonic()
        self._packets: deque[Packet] = deque(maxlen=MOST_PACKETS)
        self._key = b""
        self.saw_other_success = False

    def judge(self, case: Case, key: bytes, started: float) -> Verdict:
        """Run the steps and return the verdict."""
        self._key = key
        try:
            for step in case.steps:
                self._run(step)
            self._check_nothing_more()
            packets = tuple(self._packets)
        except _Failed as failed:
            return Verdict(
                case,
                False,
                time.monotonic() - started,
                self._packets_shown(),
                failed.expected,
                failed.received,
                heard=self._heard(),
                silent=failed.silent,
                closed=failed.closed,
                picture=failed.picture,
                habits=self._noted(),
                packets=tuple(self._packets),
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
                heard=self._heard(),
                silent=gone.waited,
            )
        finally:
            for peer in self._peers.values():
                peer.close()
        spent_s = time.monotonic() - started
        return Verdict(case, True, spent_s, heard=self._heard(), habits=self._noted(), packets=packets)

    def _noted(self) -> frozenset[Habit]:
        return frozenset(self._habits) if self._heard() else frozenset()

    def _heard(self) -> bool:
        return any(peer.heard_bytes for peer in self._peers.values())

    def _packets_shown(self) -> tuple[str, ...]:
        several = len(self._peers) > 1
        return tuple(f"({name}) {text}" if several and name else text for name, text in self._sent)

    def _run(self, step: Step) -> None:
        match step:
            case Send():
                self._send(step)
            case Expect():
                self._expect(step)
            case AskStats():
                self._stats(step)
            case Pause():
                self._deadline.pause(step.seconds)
            case HalfClose():
                self._peer(step.on).half_close()
            case Leave():
                self._peer(step.on).close()
            case Finish():
                self._peer(step.on).finish(_FINISH_S)
            case Taken():
                self._peer(step.on).await_read(PACKET_GAP_S)
            case Reset():
                self._peer(step.on).reset()
            case Closed(judged=True):
                self._closed(step.on)
            case Race():
                self._race(step.name)
        if not isinstance(step, Send):
            self._last_sent_on = None

    def _peer(self, name: str) -> Peer:
        if name not in self._peers:

            def note(sent: bool, data: bytes, end: str) -> None:
                shown = shorten(data) if data else ""
                self._packets.append(Packet(name, sent, time.monotonic() - self._began, shown, end))

            self._peers[name] = Peer(self._target.address, self._deadline, self._target.dialect, note)
        return self._peers[name]

    def _send(self, step: Send) -> None:
        peer = self._peer(step.on)
        parts = packets(step)
        self._sent.append((step.on, shorten(step.data) + (f" in {len(parts)} packets" if step.cut else "")))
        for packet in parts:
            if self._last_sent_on == step.on:
                peer.await_read(BYTE_GAP_S if step.cut else PACKET_GAP_S)
            self._last_sent_on = step.on
            try:
                peer.send(packet)
            except NoReply as stuck:
                raise _Failed("the server reads the request", stuck.why, silent=True) from None

    def _line(self, expected: str, name: str, line: Line = b"") -> bytes:
        try:
            return self._peer(name).line(line if isinstance(line, bytes) else b"")
        except NoReply as missing:
            received = f"{shorten(missing.rest)}, then {missing.why}" if missing.rest else missing.why
            raise _Failed(expected, received, silent=missing.waited, closed=not missing.waited) from None

    def _expect(self, step: Expect) -> None:
        if step.strict in self._target.dialect.habits:
            raise _Failed(_show_line(step.lines[0]), shorten(self._target.dialect.sample))
        for number, line in enumerate(step.lines, 1):
            expected = _show_line(line)
            if len(step.lines) > 1:
                expected += f" (reply {number} of {len(step.lines)})"
            try:
                got = self._line(expected, step.on, line)
            except _Failed as failed:
                if line == BYE and failed.closed and step.strict is None:
                    self._habits.add(Habit.FAREWELL)  # it closes without a reply to QUIT
                    return
                raise
            habits = habits_of(line, got, self._target.dialect.successes.instead)
            if habits is None:
                self.saw_other_success = is_other_success(line, got)
            if habits is None or step.strict in habits:
                raise _Failed(expected, shorten(got))
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
                raise _Failed(f"STATS has {', '.join(sorted(names))}", f"it has {', '.join(counters)}")
            wrong = next(_wrong(step, before, counters), None)
            if wrong is None:
                return
            if settled.passed() or self._deadline.passed():
                raise wrong
            self._deadline.pause(_SETTLE_GAP_S)

    def _ask_stats(self, name: str) -> dict[str, int]:
        form = self._target.stats_form
        self._sent.append((name, shorten(b"KV/1.0 STATS\n")))
        expected = _show_line(FORMS[form])
        line = self._target.first_stats
        if line is None:
            self._peer(name).send(b"KV/1.0 STATS\n")
            line = self._line(expected, name)
        counters = guess_counters(line) if self._target.odd_stats else read_counters(line, form)
        if not counters:
            raise _Failed(expected, shorten(line))
        if self._target.odd_stats:
            self._habits.add(Habit.STATS)
        return counters

    def _race(self, name: str) -> None:
        if not self._target.dialect.end:
            self._deadline.extend(_NO_END_S)
        try:
            CONTESTS[name](self._peer, self._key)
        except ContestLost as lost:
            self._sent += [("", text) for text in lost.sent]
            raise _Failed(lost.expected, lost.received, picture=lost.picture) from None
        except NoReply as missing:
            raise _Failed("a reply to each request", missing.why, silent=missing.waited) from None

    def _closed(self, name: str) -> None:
        expected = "the server closes the connection"
        peer = self._peer(name)
        try:
            more = self._rest_or_answer(peer) if self._can_ask(peer) else peer.rest()
        except NoReply as open_still:
            received = f"{open_still.why}: the connection stays open"
            raise _Failed(expected, received, silent=True) from None
        if more and more.startswith(self._target.marker or more + b"-"):
            raise _Failed(expected, "one more request is answered: the connection stays open")
        if more:
            raise _Failed(expected, f"{shorten(more)} first")

    def _rest_or_answer(self, peer: Peer) -> bytes:
        """Return what arrives before the end. If none comes soon, send a request: a reply proves that it is open."""
        deadline, peer.deadline = peer.deadline, Deadline(_CLOSES_S)
        try:
            return peer.rest()
        except NoReply:
            peer.deadline = deadline
            peer.send(b"KV/1.0 GET " + self._target.end_key + b"\n")
            return peer.rest()
        finally:
            peer.deadline = deadline

    def _can_ask(self, peer: Peer) -> bool:
        return self._target.marker is not None and not peer.half_closed and peer.between_lines

    def _check_nothing_more(self) -> None:
        """Check that nothing follows the last reply: one more request must get its own reply and no other (rule 11).

        This does not judge whether the connection is still open: a case about that sends another request itself.
        """
        peers = [peer for peer in self._peers.values() if not peer.left]
        for other in peers[:-1]:
            if pending := other.pending():
                raise _Failed("nothing more", shorten(pending))
        if not peers:
            return
        peer = peers[-1]
        before = tuple(self._packets)
        can_ask = self._can_ask(peer)
        peer.deadline = Deadline(min(_EXTRA_S, self._deadline.left_s()) if can_ask else _QUIET_S)
        try:
            if can_ask:
                peer.send(b"KV/1.0 GET " + self._target.end_key + b"\n")
                line = peer.line()
                extra = None if line == self._target.marker else line
            else:
                extra = peer.rest() or None
        except NoReply as silence:
            extra = silence.rest or None
        if extra is not None:
            raise _Failed("nothing more", shorten(extra))
        self._packets.clear()  # these packets do not belong to the case
        self._packets.extend(before)


def _wrong(step: AskStats, before: dict[str, int], now: dict[str, int]) -> Iterator[_Failed]:
    """Yield a failure for each wrong counter; counters that the server does not have are left out."""
    for name, least, most in step.moved:
        moved = now[name] - before[name] if name in now and name in before else least
        if not least <= moved <= most:
            expected = ", ".join(f"{one} {_range(low, high)}" for one, low, high in step.moved)
            received = f"{name} moved by {moved} instead of {_range(least, most)}"
            yield _Failed(f"from one STATS to the next {expected}", received)
    for name, number in step.exact:
        if now.get(name, number) != number:
            yield _Failed(f"{name} {number}", f"{name} {now[name]}")
    for name, least in step.least:
        if now.get(name, least) < least:
            yield _Failed(f"{name} at least {least}", f"{name} {now[name]}")


def _show_line(line: Line) -> str:
    if isinstance(line, bytes):
        return shorten(line)
    example = next((EXAMPLE[name] for name, pattern in FORMS.items() if pattern is line), line.pattern)
    return f"a line like {example.decode()!r}"


def _range(least: int, most: int) -> str:
    return f"{least:+d}" if least == most else f"{least:+d} to {most:+d}"
