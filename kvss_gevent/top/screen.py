"""Shows figures as text: on a screen of at least 40 columns, or in one line for each interval."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from kvss_gevent.settings.fail import escaped
from kvss_gevent.top.rates import Figures

LEAST_COLUMNS: Final = 40
BUSIEST: Final = 5
_UNITS: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def screen(figures: Figures, server: str, columns: int, rows: int, clock: str) -> list[str]:
    """Return at most `rows` lines of at most `columns` characters each."""
    columns = max(columns, LEAST_COLUMNS)
    lines = list(_lines(figures, server, columns, clock))
    foot = "q quits"
    shown = lines[: max(rows - 1, 1)]
    return [line[:columns] for line in [*shown, *([foot] if len(shown) < rows else [])]]


def _lines(figures: Figures, server: str, columns: int, clock: str) -> Iterator[str]:
    yield from _packed(
        [f"kvss top {server}", f"up {_span(figures.uptime_s)}" if figures.uptime_s else "", clock], columns
    )
    yield ""
    if figures.said:
        yield "STATS has an unknown form:"
        yield escaped(figures.said)
    yield from _packed(
        [
            _named("requests", figures.requests_per_s, "/s"),
            _named("clients", figures.clients),
            _named("keys", figures.keys),
            _named("slow", figures.slow),
        ],
        columns,
    )
    commands = sorted(((name, value) for name, value in figures.by_command.items() if value), key=lambda one: -one[1])
    yield from _packed([f"{name} {number(value)}/s" for name, value in commands], columns, "  ")
    errors = [f"{code} {number(value)}/s" for code, value in sorted(figures.errors.items()) if value]
    yield from _packed(["errors:", *errors] if errors else [], columns, "  ")
    yield from _packed(
        [
            _timed("handling p50", figures.p50_us),
            _timed("p99", figures.p99_us),
            _timed("store p99", figures.store_p99_us),
            _timed("loop lag p99", None if figures.lag_p99_ms is None else figures.lag_p99_ms * 1000),
            _named("in", figures.in_per_s, "B/s"),
            _named("out", figures.out_per_s, "B/s"),
        ],
        columns,
    )
    if figures.no_page:
        yield f"no metrics: {figures.no_page}"
    yield from _workers(figures, columns)
    yield from _busiest(figures, columns)
    yield from _slow(figures, columns)


def _workers(figures: Figures, columns: int) -> Iterator[str]:
    if figures.workers:
        rows = [
            (
                one.number if one.silent_s < 3 else f"{one.number} silent {one.silent_s:.0f} s",
                number(one.requests_per_s),
                number(one.clients),
                f"{one.cores:.0%}",
                f"{number(one.resident_bytes)}B",
            )
            for one in figures.workers
        ]
        yield from _table(("worker", "requests/s", "clients", "cpu", "memory"), rows, columns)


def _busiest(figures: Figures, columns: int) -> Iterator[str]:
    if figures.slow_log and figures.slow_log.clients:
        rows = [
            (
                escaped(one.client),
                number(one.packets_per_s),
                f"{number(one.bytes_in_per_s)}B",
                f"{number(one.bytes_out_per_s)}B",
            )
            for one in figures.slow_log.clients[:BUSIEST]
        ]
        yield from _table(("busiest client", "packets/s", "in/s", "out/s"), rows, columns)


def _slow(figures: Figures, columns: int) -> Iterator[str]:
    log = figures.slow_log
    if log is None:
        return
    yield ""
    if not log.slow_ms:
        yield "no slow log: kvss serve --slow-ms 20"
        return
    yield f"slow log, {log.slow_ms} ms and longer{'' if log.entries else ': nothing'}"
    for one in log.entries:
        yield from _packed(
            [
                time.strftime("%H:%M:%S", time.localtime(one.at_s)),
                f"{one.ms:g} ms{_without_core(one.without_core_ms)}",
                escaped(one.held),
                escaped(one.command),
                escaped(one.client),
                f"{one.waited} may have waited",
            ],
            columns,
            continued="  ",
        )


def plain(figures: Figures, clock: str) -> str:
    """Return one line: the time, then NAME=VALUE for each known figure; commands and errors that are 0 are left out."""
    values: dict[str, float | None] = {
        "requests/s": figures.requests_per_s,
        **{f"{name}/s": value for name, value in (*figures.by_command.items(), *figures.errors.items()) if value},
        "clients": figures.clients,
        "keys": figures.keys,
        "p50_us": figures.p50_us,
        "p99_us": figures.p99_us,
        "store_p99_us": figures.store_p99_us,
        "lag_p99_ms": figures.lag_p99_ms,
        "in_bytes/s": figures.in_per_s,
        "out_bytes/s": figures.out_per_s,
        "slow": figures.slow,
    }
    words = [
        f"{name}={value:.10g}" if isinstance(value, int) else f"{name}={value:.1f}"
        for name, value in values.items()
        if value is not None
    ]
    return " ".join([clock, *words, *([f"stats={figures.said!r}"] if figures.said else [])])


def number(value: float) -> str:
    """Return a number with three significant digits and its unit prefix."""
    for factor, unit in _UNITS:
        if value >= 0.9995 * factor:
            return f"{value / factor:.3g}{unit}" if value < 999.5 * factor else f"{value / factor:.0f}{unit}"
    return f"{value:.3g}"


def _named(name: str, value: float | None, unit: str = "") -> str:
    if value is None:
        return ""
    return f"{name} {value:,}" if isinstance(value, int) else f"{name} {number(value)}{unit}"


def _timed(name: str, us: float | None) -> str:
    if us is None:
        return ""
    return (
        f"{name} {us:.3g} us"
        if us < 999.5
        else f"{name} {us / 1000:.3g} ms"
        if us < 999_500
        else f"{name} {us / 1e6:.3g} s"
    )


def _without_core(ms: float) -> str:
    return f", {ms:g} ms without a core" if ms else ""


def _span(seconds: int) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def _packed(words: Iterable[str], columns: int, begin: str = "", continued: str | None = None) -> Iterator[str]:
    """Put as many words into each line as fit, and yield the lines; empty words are left out."""
    line = begin
    for word in filter(None, words):
        if line.strip() and len(line) + 2 + len(word) > columns:
            yield line
            line = begin if continued is None else continued
        line += f"{'  ' if line.strip() else ''}{word}"
    if line.strip():
        yield line


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], columns: int) -> Iterator[str]:
    """Yield an empty line and a table; columns at the right that do not fit are left out."""
    yield ""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    while len(widths) > 1 and sum(widths) + 2 * (len(widths) - 1) > columns:
        widths.pop()
    for row in (head, *rows):
        first, *others = (cell for cell, _ in zip(row, widths, strict=False))
        yield "  ".join(
            [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        )
