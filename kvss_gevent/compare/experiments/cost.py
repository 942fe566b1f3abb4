"""Experiment 9: the server's CPU time for a request, at paces far below its maximum, with all servers in turn."""

from collections.abc import Iterator

from kvss_gevent.compare.estimate import Ratio, Standing
from kvss_gevent.compare.experiments import Panel, Statement
from kvss_gevent.compare.measuring.contestant import AGAIN, NULL, is_on_disk, label_of
from kvss_gevent.compare.measuring.experiment_context import Generation
from kvss_gevent.compare.measuring.paced import Pace
from kvss_gevent.compare.rows import Point
from kvss_gevent.compare.summary import Seen
from kvss_gevent.compare.words import listed

TITLE = "The cost of a request"
VARIES = "requests a second, one at a time or on 32 connections at once"
TEACHES = (
    "Most of a small request's cost is in the kernel: waking the server, receiving, sending. A server that is woken "
    "for every request pays for each wake-up. If many requests are due at once, a loop has one wake-up for all of "
    "them, and the order of the models changes."
)
BY_HAND = "kvss bench 127.0.0.1:5050 --connections 32 --server-pid PID"
CORE = True
CALIBRATED = True
PAIRED = True
LIMIT_S = 180.0

PACES = (Pace(2000, 1), Pace(20_000, 1), Pace(2000, 32), Pace(20_000, 32))
REFERENCE = "gevent"
ROUNDS, SLICE_S = 4, 0.04

PANELS = (
    Panel(
        "cpu_us",
        "CPU per request, microseconds",
        kind="dots",
        title="What a request costs depends on how many come at once",
        capped=False,
    ),
    Panel(
        "cpu_us",
        f"CPU per request as a multiple of {label_of(REFERENCE)}'s",
        kind="ratios",
        title="Who is cheaper: ratios within milliseconds of each other, and the band of ties",
        case=str(PACES[-1]),
        reference=REFERENCE,
        name="ratio",
    ),
)


def measure_together(context: Generation) -> Iterator[tuple[str, Point | str]]:
    """Measure one generation of servers at four paces."""
    return context.by_turns(PACES, ROUNDS, SLICE_S)


def findings(seen: Seen) -> Iterator[Statement]:
    """Say which models cost less than the reference, the same, or more, at each pace; and what the product shows."""
    reference = label_of(reference_of(seen))
    for pace in PACES:
        ratios = ratios_at(seen, pace)
        if not ratios:
            continue
        parts = []
        for verdict, words in (
            (Standing.AHEAD, "cost less than"),
            (Standing.TIED, "tied with"),
            (Standing.BEHIND, "cost more than"),
        ):
            names = [f"{label_of(name)} {ratio}" for name, ratio in ratios.items() if ratio.verdict is verdict]
            if names:
                parts.append(f"{words} {reference}: {listed(names)}")
        undecided = [f"{label_of(name)} {ratio}" for name, ratio in ratios.items() if ratio.verdict is Standing.OPEN]
        if undecided:
            parts.append(f"not determined beside {reference}: {listed(undecided)}")
        yield Statement(f"At {pace}: {'; '.join(parts)}.")
    if REFERENCE not in seen.contestants:
        return
    for name, key in (
        ("gevent-plain", "a lasting watcher makes gevent cheaper"),
        ("asyncio", "asyncio's streams cost more than the product"),
        ("trio", "trio costs more than the product"),
    ):
        found = ratios_at(seen, PACES[-1]).get(name)
        if found:
            decided = {Standing.BEHIND: True, Standing.AHEAD: False, Standing.TIED: False}.get(found.verdict)
            yield Statement(f"{label_of(name)} costs {found} times what {label_of(REFERENCE)} does.", decided, key)
    for pace in PACES:
        itself = seen.ratio(f"{REFERENCE}{AGAIN}", REFERENCE, pace.per_s, "cpu_us", str(pace))
        if itself:
            yield Statement(
                f"The product beside itself at {pace}: {itself}, {itself.verdict.value}.",
                itself.verdict not in (Standing.AHEAD, Standing.BEHIND),
                f"a model does not rank against itself at {pace}",
            )


def is_settled(seen: Seen) -> bool:
    """Tell whether no more generations are needed: every ratio has its verdict."""
    return all(ratio.verdict is not Standing.OPEN for pace in PACES for ratio in ratios_at(seen, pace).values())


def reference_of(seen: Seen) -> str:
    """Return the contestant with which the others are compared: the product, or the first in memory without it."""
    if REFERENCE in seen.contestants:
        return REFERENCE
    return next((name for name in seen.contestants if not is_on_disk(name)), REFERENCE)


def ratios_at(seen: Seen, pace: Pace) -> dict[str, Ratio]:
    """Return every contestant's cost as a multiple of the reference's, the cheapest first, without those on disk.

    It contains the null server if that was measured: nothing can be cheaper.
    """
    names = [name for name in seen.contestants if not is_on_disk(name) and not name.endswith(AGAIN)]
    reference = reference_of(seen)
    found = {
        name: ratio
        for name in [*names, *([NULL] if seen.null else [])]
        if name != reference and (ratio := seen.ratio(name, reference, pace.per_s, "cpu_us", str(pace)))
    }
    return dict(sorted(found.items(), key=lambda pair: pair[1].value))
