"""The slow log: what held the loop or the store for long, and the requests after it that may have waited.

An entry stays open for two turns of the loop. Requests that were ready when the hold began run in the same turn, and
those that arrived meanwhile run in the next one. Later ones have not waited. While no entry is open this costs nothing,
because only calls over the limit of the log are reported. A client is not blamed for the time in which the process had
no core, nor for a wait for the store in which another client held the loop. A turn of the loop that took long without
such a call has an entry, too. It names no client, because only the length of the whole turn is known.
"""

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from kvss_gevent.observe.kernel_figures import RunDelay
from kvss_gevent.observe.shared_figures import SharedFigures, WorkerRow
from kvss_gevent.observe.timing import ObservedClient
from kvss_gevent.protocol.errors import server_name
from kvss_gevent.protocol.wire import Verb, asked
from kvss_gevent.stores.base import Batch

logger = logging.getLogger("kvss")

COMMAND_CHARACTERS: Final = 64
MOST_HOLDS: Final = 256
"""Holds that are remembered, to be subtracted from waits for the store."""
LONGEST_LOOK_S: Final = 0.05
TURNS: Final = 1
"""After the turn of the hold, this many turns are for requests that waited."""
NS_A_REQUEST: Final = 10_000
"""A request usually takes less. A turn that is long because many requests were ready at once holds nobody for long."""


@dataclass(slots=True)
class Entry:
    """One hold, and the requests after it. Times are in ns of the monotonic clock."""

    place: int
    at_s: float
    """Its end, by the wall clock."""
    held: str
    """What was held: `loop`, `store`, or `machine` if the process had no core."""
    client: ObservedClient | None
    name: str
    command: str
    """Or what the turn did."""
    turn: int
    began_ns: int = 0
    ns: int = 0
    without_core_ns: int | None = None
    """For at least this time the process had no core; None for the store, because its waits are not measured so."""
    waited: int = 0
    slowest_ns: int = 0
    slowest_client: str = ""
    slowest_command: str = ""

    def follow(self, name: str, data: bytes, ended_ns: int) -> None:
        """Note requests that ran right after it."""
        self.waited += data.count(b"\n") or 1
        if ended_ns - self.began_ns > self.slowest_ns:
            self.slowest_ns = ended_ns - self.began_ns
            self.slowest_client, self.slowest_command = name, shown_command(data)

    def as_json(self, worker: int) -> bytes:
        """Return the entry for readers."""
        found: dict[str, Any] = {
            "at": round(self.at_s, 3),
            "worker": worker,
            "held": self.held,
            "client": self.name,
            "command": self.command,
            "ms": round(self.ns / 1e6, 1),
            "waited": self.waited,
        }
        if self.without_core_ns is not None:
            found["without_core_ms"] = round(self.without_core_ns / 1e6, 1)
        if self.waited:
            found["slowest"] = {
                "client": self.slowest_client,
                "command": self.slowest_command,
                "ms": round(self.slowest_ns / 1e6, 1),
            }
        return json.dumps(found, separators=(",", ":"), ensure_ascii=False).encode()


class SlowLog:
    """The entries of one process. slow_ms: a call that takes this long is slow; with 0 no call is."""

    def __init__(
        self, row: WorkerRow, worker: int, slow_ms: int, loop: Any, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._now_ns = now_ns
        self._row, self._worker, self._loop = row, worker, loop
        self.slow_ns = slow_ms * 1_000_000
        """What takes longer is slow."""
        self._set_limit: Callable[[int], None] = lambda _: None
        self._usual_ns = self.slow_ns
        self._open: list[Entry] = []
        self._store_entry: Entry | None = None
        self._holds: deque[tuple[int, int]] = deque(maxlen=MOST_HOLDS)
        self._lab: tuple[int, int, bytes] = (0, 0, b"")
        self._run_delay = RunDelay()
        self._delay_ns, self._looked_ns = self._run_delay.ns(), now_ns()
        self.look_s = min(slow_ms / 1000, LONGEST_LOOK_S) or LONGEST_LOOK_S
        self.written = row["slow"]
        """Entries so far, including those of earlier workers in this row."""

    def begin(self, set_limit: Callable[[int], None], *, may_wait: bool) -> None:
        """Start the reports of calls. If calls may wait, shorter ones are reported, too: others waited meanwhile."""
        if self.slow_ns:
            self._set_limit = set_limit
            self._usual_ns = self.slow_ns // 4 if may_wait else self.slow_ns
            set_limit(self._usual_ns)

    def on_lab(self, began_ns: int, ended_ns: int, line: bytes) -> None:
        """Take a command of the laboratory, so that a pipeline is not blamed for its first request."""
        if ended_ns - began_ns > self._lab[1] - self._lab[0]:
            self._lab = (began_ns, ended_ns, line)

    def on_hold(self, client: ObservedClient, data: bytes, held_ns: int, ended_ns: int) -> None:
        """Take a call that is over; see timing.py."""
        turn = self._loop.iteration
        self._settle(turn)
        for entry in self._open:
            if entry.client is not client:
                entry.follow(name_of(client), data, ended_ns)
        if held_ns > self._usual_ns // 2:
            # Others ran inside it if it waited for a commit at the end of the turn.
            held_ns -= _covered(self._holds, ended_ns - held_ns, ended_ns)
            self._holds.append((ended_ns - held_ns, ended_ns))
        if held_ns > self.slow_ns:
            began_ns = ended_ns - held_ns
            command = shown_command(data)
            lab_began_ns, lab_ended_ns, line = self._lab
            if lab_began_ns >= began_ns and lab_ended_ns - lab_began_ns > held_ns // 2:
                command = shown_command(line)
            self._lab = (0, 0, b"")
            self._accuse(client, command, began_ns, held_ns, turn)
        self._set_limit(-1 if self._open else self._usual_ns)

    def on_turn(self, began_ns: int, ended_ns: int, requests: int) -> bool:
        """Take a turn of the loop that is about to end; return whether it was held by what has no entry yet."""
        turn = self._loop.iteration
        told = [(entry.began_ns, entry.began_ns + entry.ns) for entry in self._open if entry.turn == turn]
        held_ns = ended_ns - began_ns - _covered(told, began_ns, ended_ns)
        if held_ns <= self.slow_ns + requests * NS_A_REQUEST:
            return False
        self._settle(turn)
        self._holds.append((began_ns, ended_ns))
        of = f"of {requests:,} request{'s' * (requests > 1)}" if requests else "without requests"
        entry = self._accuse(None, f"a turn {of}", began_ns, held_ns, turn)
        self._set_limit(-1)
        return entry.held == "loop"

    def _accuse(self, client: ObservedClient | None, command: str, began_ns: int, held_ns: int, turn: int) -> Entry:
        # A part of the time without a core may lie outside the call. Only the part that cannot is subtracted.
        delay_ns, since_ns = self.look_at_delay()
        without_core_ns = min(max(delay_ns - max(since_ns - held_ns, 0), 0), held_ns)
        if held_ns - without_core_ns > self.slow_ns:
            entry = self._entry("loop", client, command, turn)
        else:
            entry = self._entry("machine", None, "", turn)
        entry.without_core_ns = without_core_ns
        return self._add(entry, began_ns, held_ns)

    def look_at_delay(self) -> tuple[int, int]:
        """Return how long the process was ready and had no core since the last look, and the time of that look, in ns.

        Call it every look_s; otherwise calls are blamed for the time that the machine took.
        """
        delay_ns, looked_ns = self._delay_ns, self._looked_ns
        self._delay_ns, self._looked_ns = self._run_delay.ns(), self._now_ns()
        return self._delay_ns - delay_ns, self._looked_ns - looked_ns

    def on_timer(self, due_ns: int, now_ns: int) -> None:
        """Take a timer of the loop, which may be late. Calls that waited for the store did not cause the delay."""
        if self.slow_ns and now_ns - due_ns > self.slow_ns // 4:
            self._holds.append((due_ns, now_ns))
        if self._open:  # on a quiet server, the next call may be minutes away
            self._settle(self._loop.iteration)
            self._set_limit(-1 if self._open else self._usual_ns)

    def on_store(self, client: ObservedClient, batch: Batch, began_ns: int, ended_ns: int) -> None:
        """Take a batch that a waiting store has answered."""
        if not self.slow_ns or ended_ns - began_ns <= self.slow_ns:
            return
        turn = self._loop.iteration
        self._settle(turn)
        own_ns = ended_ns - began_ns - _covered(self._holds, began_ns, ended_ns)
        if own_ns <= self.slow_ns:
            return
        verb, key, _ = batch[0]
        line = b"KV/1.0 %b %b\n" % (verb_name(verb), key) + b"\n" * (len(batch) - 1)
        entry = self._store_entry
        if entry is not None and entry.turn == turn and entry in self._open:
            entry.follow(name_of(client), line, ended_ns)  # several batches share one commit, or one lost server
            return
        self._store_entry = self._add(self._entry("store", client, shown_command(line), turn), began_ns, own_ns)
        self._set_limit(-1)

    def _entry(self, held: str, client: ObservedClient | None, command: str, turn: int) -> Entry:
        name = name_of(client) if client else ""
        return Entry(self.written, time.time(), held, client, name, command, turn)

    def _add(self, entry: Entry, began_ns: int, ns: int) -> Entry:
        entry.began_ns, entry.ns = began_ns, ns
        self.written += 1
        self._row["slow"] = self.written
        self._open.append(entry)
        self._write(entry)
        return entry

    def _settle(self, turn: int) -> None:
        """Close the entries whose followers have all run."""
        for entry in self._open:
            if turn > entry.turn + TURNS:
                self._write(entry)
                logger.info(
                    "slow: %s%s held the %s for %.0f ms%s; %d request(s) may have waited",
                    entry.command or "something",
                    f" of {entry.name}" if entry.name else "",
                    entry.held,
                    entry.ns / 1e6,
                    f", {entry.without_core_ns / 1e6:.1f} ms of them without a core" if entry.without_core_ns else "",
                    entry.waited,
                )
        self._open = [entry for entry in self._open if turn <= entry.turn + TURNS]

    def write_open(self) -> None:
        """Write entries that are still open, for readers in other processes."""
        for entry in self._open:
            self._write(entry)

    def _write(self, entry: Entry) -> None:
        self._row.write_slow(entry.place, entry.as_json(self._worker))


def read_slow_log(figures: SharedFigures | None, slow_ms: int, most: int) -> bytes:
    """Return the newest entries of all workers, newest first, and the busiest clients, as one line of JSON."""
    rows = figures.rows if figures else ()
    # Only as many as are wanted are read: a flood of these commands must not cost more than its replies.
    entries = sorted((entry for row in rows for entry in _entries(row, most)), key=lambda entry: -entry["at"])[:most]
    clients = [client for row in rows for client in _parsed(row.text) or ()]
    clients.sort(key=lambda client: -client["packets_per_s"])
    found = {"slow_ms": slow_ms, "entries": entries, "clients": clients}
    return json.dumps(found, separators=(",", ":"), ensure_ascii=False).encode()


def _entries(row: WorkerRow, most: int) -> Iterator[Any]:
    for text in row.slow_texts(most):
        entry = _parsed(text)
        if entry:
            yield entry


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None  # an entry is being written, or there is none


def name_of(client: ObservedClient) -> str:
    """Return the address of a client."""
    return server_name(*client.address[:2]) if client.address else "unix"


def verb_name(verb: int) -> bytes:
    """Return the word of a verb."""
    return Verb(verb).name.encode()


def shown_command(data: bytes) -> str:
    """Return verb and key of the first request in data, and how many others came with it; never a value."""
    more = data.count(b"\n") - 1
    text = asked(data[:COMMAND_CHARACTERS].partition(b"\n")[0]) if data else "(more)"
    return f"{text} and {more} more" if more > 0 else text


def _covered(spans: Iterable[tuple[int, int]], began: int, ended: int) -> int:
    """Return how much of a time lies in one or more spans."""
    covered, at = 0, began
    for span_began, span_ended in sorted(spans):
        if span_ended > at and span_began < ended:
            covered += min(span_ended, ended) - max(span_began, at)
            at = min(span_ended, ended)
    return covered
