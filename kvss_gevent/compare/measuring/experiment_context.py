"""What an experiment gets: a server of the contestant, ways to load it, and the profile of the run."""

import itertools
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
import gevent.socket

from kvss_gevent.compare.measuring.contestant import FailedError, command, places_of, serving
from kvss_gevent.compare.measuring.interleave import generation
from kvss_gevent.compare.measuring.open_loop import Offered, offer
from kvss_gevent.compare.measuring.paced import Pace, prime
from kvss_gevent.compare.measuring.processors import Cores, busy_s
from kvss_gevent.compare.rows import Point
from kvss_gevent.measure import closed_loop
from kvss_gevent.measure.launch import Launched
from kvss_gevent.measure.load import BUSY_SHARE, ClosedLoad, LoadOutcome
from kvss_gevent.measure.prepared_connections import Unusable
from kvss_gevent.measure.process_usage import Usage, cpu_wait_s, usage

OTHERS_SHARE = 0.1
"""A measurement was disturbed if other processes had the server's processor, or the generator waited for its own, for a
larger share of the time."""

TICKS_S = 0.02
"""The error of the time of other processes."""

LATE_US = 1000
"""A generator that is later at the median does not offer the given rate."""


@dataclass(frozen=True, slots=True)
class Profile:
    """How long and how often to measure: `quick` for a first look, `full` for a report to keep.

    seconds: the length of each measurement, without the warm-up.
    """

    name: str
    repeats: int
    generations: int
    """The generations of a paired experiment, at least."""
    most_generations: int
    """The generations at most, if intervals are still wide and there is time."""
    seconds: float
    warmup_s: float
    budget_s: float = 400.0
    """After this time no generations are added."""

    @property
    def quick(self) -> bool:
        """Whether experiments measure only a few points."""
        return self.name == "quick"


QUICK = Profile("quick", 2, 6, 12, 0.4, 0.1)
FULL = Profile("full", 7, 10, 30, 2.0, 0.5, 4 * 3600.0)


@dataclass(frozen=True, slots=True)
class Generation:
    """What a paired experiment gets: all its contestants at once."""

    contestants: Sequence[str]
    cores: Cores

    def by_turns(
        self, paces: Sequence[Pace], rounds: int, slice_s: float, *, primed: bool = True, stored: bool = True
    ) -> Iterator[tuple[str, Point | str]]:
        """Measure all contestants in turn; see interleave.generation."""
        return generation(
            self.contestants, paces, self.cores, rounds=rounds, slice_s=slice_s, primed=primed, stored=stored
        )


@dataclass(slots=True)
class ExperimentContext:
    """The contestant, the profile and the processors of one trial, and ways to load a server."""

    contestant: str
    profile: Profile
    cores: Cores
    directory: Path

    @property
    def places(self) -> int:
        """The number of clients for the contestant, if the experiment does not vary it."""
        return places_of(self.contestant, self.cores)

    @contextmanager
    def serving(
        self,
        *flags: str,
        setup: str = "",
        primed: bool = True,
        processors: frozenset[int] = frozenset(),
    ) -> Iterator[Launched]:
        """Run a server of the contestant until the block ends, on its own or other processors. Raises FailedError."""
        words = command(self.contestant, self.directory, flags, setup, cores=self.cores)
        with serving(words, processors or self.cores.server) as server:
            if primed:
                prime(server.port)
            yield server

    def saturate(
        self, server: Launched, x: float, load: ClosedLoad, case: str = ""
    ) -> tuple[Point, Usage, LoadOutcome]:
        """Load the server as much as possible; returns the point at x, the server's usage, and the whole outcome.

        Figures: rate_per_s, p50_us, p99_us (of packets), cpu_us (of the server, for a request), generator_us. Raises
        FailedError if nothing could be measured.
        """
        readings: list[Reading] = []
        try:
            outcome = closed_loop.run("127.0.0.1", server.port, load, lambda: readings.append(self._read(server)))
        except Unusable as unusable:
            raise FailedError(f"it could not be loaded: {unusable}") from None
        except ProcessLookupError:
            raise FailedError("the server ended while it was loaded") from None
        used, disturbed = self._between(*readings)
        errors = {"starved connections": outcome.starved, "lost connections": outcome.lost}
        errors |= {f"replies {status}": number for status, number in outcome.refused.items()}
        figures: dict[str, float] = {"rate_per_s": outcome.per_second}
        if outcome.requests and outcome.p50_us is not None and outcome.p99_us is not None:
            figures |= {
                "p50_us": outcome.p50_us,
                "p99_us": outcome.p99_us,
                "cpu_us": used.cpu_ns / 1000 / outcome.requests,
                "generator_us": outcome.cpu_us or 0.0,
            }
        limited = outcome.cpu_share > BUSY_SHARE
        point = Point(x, figures, {kind: n for kind, n in errors.items() if n}, limited, case, disturbed)
        return point, used, outcome

    def load(self, connections: int = 32, depth: int = 1, value_bytes: int = 64, get_percent: int = 80) -> ClosedLoad:
        """Return a load with the length of the profile."""
        seconds, warmup_s = self.profile.seconds, self.profile.warmup_s
        return ClosedLoad(connections, depth, get_percent, value_bytes, 1000, seconds, warmup_s, drain_s=0.3)

    def offer(self, server: Launched, x: float, *, case: str = "", **how: Any) -> tuple[Point, Offered]:
        """Offer requests at a rate for the profile's seconds or `seconds`; returns the point at x. See open_loop.offer.

        Figures: offered_per_s, answered_per_s (within the window), p50_us, p99_us, max_us (from the intended start),
        lag_us (at the median).
        """
        seconds = how.pop("seconds", self.profile.seconds)
        try:
            before = self._read(server)
            offered = offer(server.port, seconds, warmup_s=self.profile.warmup_s, **how)
            _, disturbed = self._between(before, self._read(server))
        except ProcessLookupError:
            raise FailedError("the server ended while it was loaded") from None
        in_time = offered.seconds or seconds
        errors = dict(offered.errors)
        if offered.unanswered:
            errors["unanswered requests"] = offered.unanswered
        figures: dict[str, float] = {
            "offered_per_s": offered.due / in_time,
            "answered_per_s": max(offered.answered + offered.unanswered - offered.behind, 0) / in_time,
        }
        if offered.answered:
            p50_us, p99_us = offered.response.percentiles((50, 99))
            figures |= {"p50_us": p50_us, "p99_us": p99_us, "max_us": offered.response.max_us}
        lag_us = offered.lag.percentile(50)
        figures["lag_us"] = lag_us
        limited = offered.cpu_share > BUSY_SHARE or lag_us > LATE_US
        return Point(x, figures, errors, limited, case, disturbed), offered

    def _read(self, server: Launched) -> "Reading":
        return Reading(time.monotonic(), usage(server.pid), busy_s(self.cores.server), cpu_wait_s())

    def _between(self, before: "Reading", after: "Reading") -> tuple[Usage, bool]:
        """Return what the server used between two readings, and whether other processes disturbed it."""
        took_s = after.at_s - before.at_s
        used = after.server.since(before.server)
        others_s = after.busy_s - before.busy_s - used.cpu_ns / 1e9 if self.cores.apart else 0.0
        return used, max(others_s, after.waited_s - before.waited_s) > OTHERS_SHARE * took_s + TICKS_S


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters at one moment: of the server, of its processors, and of the generator's waits for a processor."""

    at_s: float
    server: Usage
    busy_s: float
    waited_s: float


def asking(
    port: int, line: bytes, replies: list[float] | None = None, *, requests: int | None = None
) -> Callable[[], None]:
    """Return a function for a greenlet: a client that sends a request line and waits for its reply, again and again.

    requests: how often, None for no end. replies: gets, for each reply, the seconds since the client began.
    """

    def ask() -> None:
        begun_s = time.monotonic()
        sock = gevent.socket.create_connection(("127.0.0.1", port), 5)
        sock.settimeout(30)
        with sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in itertools.count() if requests is None else range(requests):
                try:
                    sock.sendall(line + b"\n")
                    got = sock.recv(65536)
                except OSError:
                    return
                if not got:
                    return
                if replies is not None:
                    replies.append(time.monotonic() - begun_s)

    return ask
