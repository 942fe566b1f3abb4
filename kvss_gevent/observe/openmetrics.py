"""The figures of all workers as OpenMetrics text 1.0, which Prometheus and others read."""

from collections.abc import Iterable, Iterator
from typing import Final

from kvss_gevent.observe.latency_buckets import BOUNDS_S
from kvss_gevent.observe.shared_figures import HANDLED, REPLIES, SharedFigures

CONTENT_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_HANDLING: Final = "kvss_handling_seconds"
_HISTOGRAMS: Final = {
    "store": ("kvss_store_seconds", "Time of one batch in a store that may wait; empty for the other stores."),
    "lag": ("kvss_loop_lag_seconds", "How late the event loop is with a timer."),
}


def render(figures: SharedFigures, keys: int | None, uptime_s: int, now_s: float) -> str:
    """Return the page. keys: None if the store does not tell; now_s: on the monotonic clock."""
    return "\n".join([*_lines(figures, keys, uptime_s, now_s), "# EOF", ""])


def _lines(figures: SharedFigures, keys: int | None, uptime_s: int, now_s: float) -> Iterator[str]:
    counts = figures.replies()
    yield from _head("kvss_requests", "counter", "Requests answered, by command and code.")
    for (command, status), place in REPLIES.items():
        if counts[place]:
            yield f'kvss_requests_total{{command="{command}",code="{status:d}"}} {counts[place]}'
    text = "Time to answer what one packet brought, from its receipt to its replies, by command."
    yield from _head(_HANDLING, "histogram", text, "seconds")
    for name in HANDLED:
        yield from _histogram(_HANDLING, figures.histogram(name), f'command="{name}"')
    for name, (family, text) in _HISTOGRAMS.items():
        yield from _head(family, "histogram", text, "seconds")
        yield from _histogram(family, figures.histogram(name))
    yield from _simple("kvss_connections", "gauge", "Clients connected now.", figures.total("connections"))
    yield from _simple("kvss_connected", "counter", "Clients that have ever connected.", figures.total("connected"))
    yield from _simple(
        "kvss_received_bytes", "counter", "Bytes from clients (TCP).", figures.total("bytes_in"), "bytes"
    )
    yield from _simple(
        "kvss_sent_bytes", "counter", "Bytes that clients took (TCP).", figures.total("bytes_out"), "bytes"
    )
    yield from _simple("kvss_slow", "counter", "Entries of the slow log.", figures.total("slow"))
    text = "Keys forgotten at or after their deadline (memory:, disk:); Valkey and Redis count their own."
    yield from _simple("kvss_expired", "counter", text, figures.total("expired"))
    if keys is not None:
        yield from _simple("kvss_keys", "gauge", "Keys stored.", keys)
    yield from _simple("kvss_uptime_seconds", "gauge", "Time since the server started.", uptime_s, "seconds")
    yield from _workers(figures, now_s)


def _workers(figures: SharedFigures, now_s: float) -> Iterator[str]:
    rows = list(enumerate(figures.rows))

    def family(name: str, kind: str, text: str, values: Iterable[object], unit: str = "") -> Iterator[str]:
        yield from _head(name, kind, text, unit)
        suffix = "_total" if kind == "counter" else ""
        for number, value in enumerate(values):
            yield f'{name}{suffix}{{worker="{number}"}} {value}'

    yield from family("kvss_worker_connections", "gauge", "Clients of a worker.", (r["connections"] for _, r in rows))
    yield from family("kvss_worker_requests", "counter", "Requests of a worker.", (sum(r.replies) for _, r in rows))
    cpu = (f"{row['cpu_us'] / 1e6:.6f}" for _, row in rows)
    yield from family("kvss_worker_cpu_seconds", "counter", "Processor time of a worker.", cpu, "seconds")
    resident = (row["resident_bytes"] for _, row in rows)
    yield from family("kvss_worker_resident_bytes", "gauge", "Resident memory of a worker.", resident, "bytes")
    received, sent = ([row[name] for _, row in rows] for name in ("bytes_in", "bytes_out"))
    yield from family("kvss_worker_received_bytes", "counter", "Bytes from clients of a worker.", received, "bytes")
    yield from family("kvss_worker_sent_bytes", "counter", "Bytes that clients of a worker took.", sent, "bytes")
    seen, looked = ([f"{max(now_s - row[name] / 1000, 0):.3f}" for _, row in rows] for name in ("seen_ms", "looked_ms"))
    yield from family("kvss_worker_silent_seconds", "gauge", "Since a worker noted its figures last.", seen, "seconds")
    yield from family("kvss_worker_bytes_age_seconds", "gauge", "Since a worker counted its bytes.", looked, "seconds")


def _head(name: str, kind: str, text: str, unit: str = "") -> Iterator[str]:
    yield f"# TYPE {name} {kind}"
    if unit:
        yield f"# UNIT {name} {unit}"
    yield f"# HELP {name} {text}"


def _simple(name: str, kind: str, text: str, value: int, unit: str = "") -> Iterator[str]:
    yield from _head(name, kind, text, unit)
    yield f"{name}{'_total' if kind == 'counter' else ''} {value}"


def _histogram(name: str, fields: list[int], labels: str = "") -> Iterator[str]:
    *classes, above, total_ns = fields
    front, alone = (f"{labels},", f"{{{labels}}}") if labels else ("", "")
    count = 0
    for bound, number in zip(BOUNDS_S, classes, strict=True):
        count += number
        yield f'{name}_bucket{{{front}le="{bound!r}"}} {count}'
    count += above
    yield f'{name}_bucket{{{front}le="+Inf"}} {count}'
    yield f"{name}_count{alone} {count}"
    yield f"{name}_sum{alone} {total_ns / 1e9!r}"
