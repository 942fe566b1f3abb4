"""A closed-loop load as data: its packets in KV/1.0 or RESP, and its result."""

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from kvss_gevent.protocol.wire import Verb, build_request

BUSY_SHARE: Final = 0.9
"""Share of a core. A generator that used more was saturated, and the server may be able to do more."""

PACKETS = 509
"""Packets are made before the measurement, so they cost nothing in it. Their number is a prime, so that connections
which begin at different packets do not fall into step."""

EXACT_US = 1 << 16
COARSE_BITS = 10
"""Times up to EXACT_US are counted to 1 us, and longer ones to 1,024 us: an error of at most 1.6 %."""

Packet = tuple[bytes, int]
"""Requests that are sent together, and the number of line feeds in their replies."""


@dataclass(frozen=True, slots=True)
class ClosedLoad:
    """What is sent, and for how long. depth: requests of a packet."""

    connections: int = 50
    depth: int = 1
    get_percent: float = 80
    value_bytes: int = 64
    keys: int = 1000
    seconds: float = 5.0
    warmup_s: float = 0.5
    """Time before the seconds that count."""
    drain_s: float = 5.0
    """Time after these seconds for replies that are still to come. Then a connection without them is given up."""
    protocol: str = "kv"
    """`kv` for KV/1.0, `resp` for the protocol of redis-server."""


@dataclass(frozen=True, slots=True)
class LoadOutcome:
    """The result.

    Times are of packets, from before sending to the last reply, in microseconds; None without packets. refused: replies
    other than 200 and 201, by status. lost: connections that the server ended or refused. starved: connections that got
    no whole packet of replies in time. cpu_us: the generator's own, per request; cpu_share: of one core.
    """

    requests: int
    seconds: float
    p50_us: int | None
    p99_us: int | None
    max_us: int | None
    refused: dict[str, int]
    lost: int
    starved: int
    cpu_us: float | None
    cpu_share: float
    fairness: float | None
    """Jain's index of the packets answered on each connection: 1 if all got the same, 1/n if one got all."""

    @property
    def per_second(self) -> float:
        """Requests answered per second."""
        return self.requests / self.seconds

    @property
    def clean(self) -> bool:
        """Whether every request on every connection got the right reply."""
        return not (self.refused or self.lost or self.starved) and self.requests > 0


class Times:
    """How many packets took how long. Its size is bounded."""

    def __init__(self) -> None:
        self.exact = [0] * EXACT_US
        self.coarse: Counter[int] = Counter()
        self.longest_us = 0

    def add(self, took_us: int) -> None:
        """Count one packet."""
        try:
            self.exact[took_us] += 1
        except IndexError:
            self.coarse[took_us >> COARSE_BITS] += 1
        if took_us > self.longest_us:  # noqa: PLR1730 - a call of max costs more than the rest of this
            self.longest_us = took_us

    @property
    def count(self) -> int:
        """The number of packets."""
        return sum(self.exact) + sum(self.coarse.values())

    def percentile(self, percent: float) -> int | None:
        """Return the time that this share of the packets did not exceed, in microseconds; None without packets."""
        wanted = self.count * percent / 100
        seen = 0
        for took_us, number in itertools.chain(enumerate(self.exact), self._coarse_us()):
            seen += number
            if number and seen >= wanted:
                return min(took_us, self.longest_us)
        return None

    def _coarse_us(self) -> Iterator[tuple[int, int]]:
        for step in sorted(self.coarse):
            yield ((step + 1) << COARSE_BITS) - 1, self.coarse[step]


def jain(shares: Sequence[float]) -> float | None:
    """Return Jain's index of fairness, (sum x)^2 / (n sum x^2); None if nobody got anything.

    R. Jain, D. Chiu, W. Hawe: A Quantitative Measure of Fairness (1984).
    """
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else None


def make_packets(load: ClosedLoad) -> list[Packet]:
    """Return PACKETS packets of `depth` requests each. The same load gives the same packets."""
    pick = random.Random(1)

    def packet() -> Packet:
        made = [
            request(load, key_of(pick.randrange(load.keys)), get=pick.random() * 100 < load.get_percent)
            for _ in range(load.depth)
        ]
        return b"".join(data for data, _ in made), sum(line_feeds for _, line_feeds in made)

    return [packet() for _ in range(PACKETS)]


def request(load: ClosedLoad, key: bytes, *, get: bool) -> Packet:
    """Return one request, a GET that finds its key or a PUT, as a packet of its own."""
    value = b"x" * load.value_bytes
    if load.protocol == "resp":
        if get:
            return b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key), 2
        return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(value), value), 1
    return (build_request(Verb.GET, key) if get else build_request(Verb.PUT, key, value)), 1


def key_of(number: int) -> bytes:
    """Return the key with this number."""
    return b"key:%08d" % number
