"""Observes one server process: counts requests, times calls, and writes both to the figures that workers share."""

import json
import time
from array import array
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import gevent

from kvss_gevent.core.lab_commands import Lab
from kvss_gevent.core.service import Service
from kvss_gevent.observe.counted_store import CountedStore
from kvss_gevent.observe.kernel_figures import NOTHING, Carried, carried, resident_bytes
from kvss_gevent.observe.latency_buckets import BITS, shown_classes
from kvss_gevent.observe.shared_figures import COUNTERS, HANDLED, HISTOGRAMS, REPLIES, TEXT_BYTES, WorkerRow
from kvss_gevent.observe.slow_log import SlowLog, name_of
from kvss_gevent.observe.timing import NS, SAMPLE_S, Call, ObservedClient, Timing
from kvss_gevent.observe.turn_watch import can_watch_turns, watch_turns
from kvss_gevent.protocol.wire import Status, Verb
from kvss_gevent.stores.base import Batch, Store

LOOK_S: Final = 1.0
"""How often the bytes of all connections are read, and the shared figures are written."""
LOOK_SLICE: Final = 100
"""Connections that are read in one go: 0.1 to 0.3 ms of work. Then clients get their turn."""
TIME_ALL_S: Final = 60.0
"""How long short packets are timed, too, after a turn of the loop took long for an unknown reason."""
BUSIEST: Final = 8

_COMMANDS: Final = {
    **{name.encode(): name for name in (*Verb.__members__, "AUTH", "SLOWLOG")},
    b"BURN": "LAB",
    b"SLEEP": "LAB",
}
_FOUND, _REPLACED = REPLIES["GET", Status.OK], REPLIES["PUT", Status.OK]
_PUT_REPLIES: Final = [REPLIES["PUT", status] for status in Status if status is not Status.UNAUTHORIZED]
"""The places of replies to PUTs. A PUT before the login does not count as one."""
_REFUSED: Final = (Status.BAD_REQUEST, Status.UPGRADE_REQUIRED)


class Observer:
    """The figures of one process. row is its row of the shared figures, which an earlier worker may have begun."""

    def __init__(self, row: WorkerRow, worker: int = 0, slow_ms: int = 0) -> None:
        self.row = row
        self._loop = gevent.get_hub().loop
        self.slow_log = SlowLog(row, worker, slow_ms, self._loop)
        self.timing = Timing(self.slow_log.on_hold, self._loop, self._answered)
        self._stores: list[CountedStore] = []
        self._replies = [0] * len(REPLIES)
        self._store_classes, self._lag_classes = [0] * BITS, [0] * BITS
        self._store_ns = self._lag_ns = 0
        self._look_ns, self._due_ns = int(self.slow_log.look_s * 1e9), 0
        self._time_all_until_s = 0.0
        self._watches_turns = slow_ms > 0 and can_watch_turns(self._loop)
        self.stop: Callable[[], None] = lambda: None
        """Stops watching the turns of the loop, which other servers may use."""
        self._begun = {name: row[name] for name in COUNTERS}
        self._begun_replies = list(row.replies)
        self._begun_histograms = {name: list(row.histogram(name)) for name in HISTOGRAMS}
        self.connected = 0
        self._bytes_in = self._bytes_out = 0
        self._carried: dict[ObservedClient, Carried] = {}
        self._service: Service | None = None
        self._commands = self._puts = 0

    def counting(self, store: Store) -> Store:
        """Return a store that is counted; see Service."""
        counted = CountedStore(store, self._replies, self._loop, self._on_wait)
        self._stores.append(counted)
        return counted

    @property
    def failed_s(self) -> float:
        """When a command last failed in the store, on the monotonic clock."""
        return max(store.failed_s for store in self._stores)

    def count_other(self, line: bytes, reply: bytes) -> None:
        """Count a request that was answered without the store, and its reply."""
        status = Status(int(reply[:3]))
        word = line.split(b" ", 2)[1:2] if status not in _REFUSED else ()
        command = _COMMANDS.get(word[0].rstrip(), "none") if word else "none"
        self._replies[REPLIES[command, status]] += 1

    def timed(self, client: ObservedClient, call: Call, may_wait: bool) -> Call:
        """Return the same call of a conversation, timed."""
        return (self.timing.timed_where_it_may_wait if may_wait else self.timing.timed)(client, call)

    def _answered(self) -> int:
        return self._service.stats.commands if self._service else 0

    def opened(self, client: ObservedClient) -> None:
        """Note a new client."""
        self.connected += 1
        self._carried[client] = NOTHING

    def closed(self, client: ObservedClient) -> None:
        """Note that a client leaves. Its socket is still open."""
        self._look_at(client)
        self._carried.pop(client, None)

    def _on_wait(self, began_ns: int, ended_ns: int, batch: Batch, turns: int) -> None:
        took_ns = ended_ns - began_ns
        self._store_classes[took_ns.bit_length()] += 1
        self._store_ns += took_ns
        client = self.timing.waited(took_ns, turns)
        if client is not None:
            self.slow_log.on_store(client, batch, began_ns, ended_ns)

    def watched_lab(self) -> Lab:
        """Return the laboratory's commands, which report to the slow log."""
        return WatchedLab(self.slow_log)

    def start(self, service: Service, *, may_wait: bool) -> None:
        """Start to observe connections and the loop. A worker goes on where the one before it has ended.

        may_wait: whether calls may let other greenlets run, for a store or a password.
        """
        self._service = service
        self.begin_slow_log(service, may_wait=may_wait)
        self._commands, self._puts = service.stats.commands, service.stats.puts
        self.row["looked_ms"] = time.monotonic_ns() // 1_000_000
        gevent.spawn(self._look_often)
        self._due_ns = time.monotonic_ns() + self._look_ns
        # A timer of the loop. A greenlet that sleeps would take three times as long, 20 to 50 times a second.
        self._lag_timer = self._loop.timer(self.slow_log.look_s, self.slow_log.look_s)
        self._lag_timer.start(self._measure_lag)
        self._sample_timer = self._loop.timer(SAMPLE_S, SAMPLE_S)
        self._sample_timer.start(self.timing.tick)

    def begin_slow_log(self, service: Service, *, may_wait: bool) -> None:
        """Time calls and turns of the loop for the slow log, if there is one."""
        self.slow_log.begin(self.timing.set_limit, may_wait=may_wait)
        self.leave_out_short(service)
        if self._watches_turns:
            self.stop = watch_turns(self._loop, self.slow_log.slow_ns / NS, service.stats, self._on_long_turn)

    def leave_out_short(self, service: Service) -> None:
        """Leave short packets untimed if they cannot take long, and if their turn tells where one does all the same.

        With the laboratory's commands they can.
        """
        if (
            self._watches_turns
            and service.store.run
            and not service.may_wait
            and not service.lab
            and time.monotonic() >= self._time_all_until_s
        ):
            self.timing.leave_out_short(self.slow_log.slow_ns, len(service.bare_store.replies))

    def _on_long_turn(self, began_s: float, ended_s: float, requests: int) -> None:
        # Perhaps a short packet took long: for a time they are timed.
        if self.slow_log.on_turn(int(began_s * NS), int(ended_s * NS), requests):
            self._time_all_until_s = ended_s + TIME_ALL_S
            self.timing.leave_out_short(0, 0)

    def _measure_lag(self) -> None:
        due_ns, now_ns = self._due_ns, time.monotonic_ns()
        self._due_ns = now_ns + self._look_ns
        late_ns = max(now_ns - due_ns, 0)
        self.slow_log.on_timer(due_ns, now_ns)
        self.slow_log.look_at_delay()
        self._lag_classes[late_ns.bit_length()] += 1
        self._lag_ns += late_ns

    def _look_often(self) -> None:
        assert self._service is not None
        before_s = time.monotonic()
        while True:
            gevent.sleep(LOOK_S)
            now_s = time.monotonic()
            self.timing.begin_second()
            self.leave_out_short(self._service)
            self._look(now_s - before_s)
            before_s = now_s
            self.note()

    def _look(self, seconds: float) -> None:
        """Read from the kernel how much each connection has carried, some at a time; note the busiest clients."""
        busiest: list[tuple[int, int, int, ObservedClient]] = []
        for number, client in enumerate(list(self._carried)):
            if number % LOOK_SLICE == LOOK_SLICE - 1:
                gevent.sleep(1e-6)  # sleep(0) ends before the event loop looks at the sockets
            if client not in self._carried:
                continue  # the client has gone
            bytes_in, bytes_out, packets = self._look_at(client)
            if packets:
                busiest.append((packets, bytes_in, bytes_out, client))
                if len(busiest) > 10 * BUSIEST:
                    busiest = _most(busiest)
        clients = [
            {
                "client": name_of(client),
                "packets_per_s": round(packets / seconds, 1),
                "bytes_in_per_s": round(bytes_in / seconds),
                "bytes_out_per_s": round(bytes_out / seconds),
            }
            for packets, bytes_in, bytes_out, client in _most(busiest)
        ]
        # This is not in note(): the bytes were read now, and a rate of bytes needs the time of the reading.
        self._write("bytes_in", self._bytes_in)
        self._write("bytes_out", self._bytes_out)
        self.row["looked_ms"] = time.monotonic_ns() // 1_000_000
        text = json.dumps(clients, separators=(",", ":")).encode()
        self.row.text = text if len(text) <= TEXT_BYTES - 4 else b"[]"

    def _look_at(self, client: ObservedClient) -> Carried:
        """Return how much a client has carried since the last reading."""
        now = carried(client.sock)
        if now is NOTHING:
            return NOTHING
        old_in, old_out, old_packets = self._carried[client]
        self._carried[client] = now
        since = (now[0] - old_in, now[1] - old_out, now[2] - old_packets)
        self._bytes_in += since[0]
        self._bytes_out += since[1]
        return since

    def note(self) -> None:
        """Write the row of the shared figures."""
        row, service, times = self.row, self._service, self.timing.times
        assert service is not None
        counts = [now + old for now, old in zip(self._replies, self._begun_replies, strict=True)]
        # The remaining PUTs were stored by sessions: they replaced a value by one of the same length. The remaining
        # commands were answered by the table of replies: GETs that found their key.
        replaced = service.stats.puts - self._puts - sum(self._replies[place] for place in _PUT_REPLIES)
        found = service.stats.commands - self._commands - sum(self._replies) - replaced
        for place, more in ((_REPLACED, replaced), (_FOUND, found)):
            counts[place] = max(counts[place] + max(more, 0), row.replies[place])
        row.replies[:] = array("q", counts)
        for name, value in (
            ("connected", self.connected),
            ("expired", getattr(service.bare_store, "expired_keys", 0)),
            ("cpu_us", time.process_time_ns() // 1000),
        ):
            self._write(name, value)
        self.slow_log.write_open()
        row["connections"] = service.stats.connections
        row["seen_ms"] = time.monotonic_ns() // 1_000_000
        row["resident_bytes"] = resident_bytes()
        histograms: tuple[tuple[str, Sequence[float], float], ...] = (
            *zip(HANDLED, times.classes, times.total_ns, strict=True),
            ("store", self._store_classes, self._store_ns),
            ("lag", self._lag_classes, self._lag_ns),
        )
        for name, classes, total_ns in histograms:
            fields = [*shown_classes(classes), total_ns]
            begun = self._begun_histograms[name]
            row.histogram(name)[:] = array("q", [int(now) + old for now, old in zip(fields, begun, strict=True)])

    def _write(self, name: str, value: int) -> None:
        self.row[name] = max(self._begun[name] + value, self.row[name])


class WatchedLab(Lab):
    """The laboratory's commands, which report to the slow log."""

    def __init__(self, slow_log: SlowLog) -> None:
        super().__init__()
        self._slow_log = slow_log

    def run(self, line: bytes) -> bytes | None:
        """Run a request line and return its reply line; None if it is not a well-formed lab command."""
        began_ns = time.monotonic_ns()
        reply = super().run(line)
        if reply is not None:
            self._slow_log.on_lab(began_ns, time.monotonic_ns(), line)
        return reply


def _most(busiest: Collection[Any]) -> list[Any]:
    return sorted(busiest, key=lambda one: one[:3], reverse=True)[:BUSIEST]
