"""Adds to Locust's own statistics what they lose: times below a millisecond, and a last row in the CSV files.

Locust 2.47 rounds response times below 100 ms to whole milliseconds, truncates percentiles in CSV to whole numbers, and
writes no row at the end. The counts of each tick are added together with StatsEntry.extend, which costs 0.5 us for a
request; Locust's request event costs 3 us or more.
"""

import time
from itertools import chain
from math import inf
from typing import Any

from locust import stats

from kvss_gevent.loadtest.engine.histogram import highest_us
from kvss_gevent.loadtest.engine.recorder import ERROR, HIT, PARTS, RESPONSE, Tally

_SHORT = len(b"404 NOT_FOUND\n")
"""The approximate size of a reply without a value, which has 7 to 17 bytes."""

_WIDTHS = "{:<8} {:<40} {:>9} {:>14} |{:>10.3f}{:>10.3f}{:>10.3f}{:>10.3f} |{:>10.2f}{:>11.2f}"


def begin(target: Any, now: float) -> None:
    """Let Locust's rates count from `now` on, the begin of the measured window, in seconds since the epoch."""
    target.total.start_time = now


def add(target: Any, tally: Tally, ends_at: float = inf) -> None:
    """Add a tally's counts to Locust's RequestStats: the type is the command, the name is the outcome, times are in ms.

    ends_at: the end of the measured window, in seconds since the epoch; Locust's rates end there.
    """
    now = time.time()
    for (kind, command, outcome), histogram in tally.counts.items():
        count = histogram.total
        if kind != RESPONSE or not count:
            continue
        entry: Any = stats.StatsEntry(target, outcome, command)  # Locust declares times as int, but floats work
        entry.num_requests = count
        entry.num_reqs_per_sec = {int(now): count}
        entry.last_request_timestamp = min(now, ends_at)
        entry.start_time = now
        entry.total_content_length = _reply_bytes(tally, command, outcome, count)
        if outcome == ERROR:
            entry.num_failures = count
            entry.num_fail_per_sec = {int(now): count}
        entry.response_times = {highest_us(index) / 1000: n for index, n in histogram.counts.items()}
        entry.min_response_time = histogram.min_us / 1000
        entry.max_response_time = histogram.max_us / 1000
        entry.total_response_time = histogram.mean_us * count / 1000
        target.entries[outcome, command].extend(entry)
        if command in PARTS:
            continue
        if outcome == ERROR:
            # The times of failures must not be in the percentiles over all requests.
            entry.num_none_requests = count
            entry.response_times = {}
            entry.total_response_time = entry.max_response_time = 0
            entry.min_response_time = None
        target.total.extend(entry)
    for name, count in (tally.failures + tally.connect_errors).items():
        _add_failure(target, name, count, now)


def _reply_bytes(tally: Tally, command: str, outcome: str, count: int) -> int:
    """Return the bytes of a series' replies: the sizes of those without a value are known, the rest are values."""
    sizes = {(HIT, "PUT"): len(b"200 OK\n"), (HIT, "DEL"): len(b"204 NO_CONTENT\n")}
    if outcome == HIT and command in ("GET", "RMW GET", "OTHER"):
        values = (HIT, "GET"), (HIT, "RMW GET"), (HIT, "OTHER")
        others = readers = 0
        for (kind, one, ended), histogram in tally.counts.items():
            if kind == RESPONSE and one != "RMW":
                if (ended, one) in values:
                    readers += histogram.total
                else:
                    others += histogram.total * sizes.get((ended, one), _SHORT)
        return max(tally.bytes - others, 0) * count // max(readers, 1)
    return count * sizes.get((outcome, command.removeprefix("RMW ")), _SHORT)


def _add_failure(target: Any, name: str, count: int, now: float) -> None:
    key = stats.StatsError.create_key("KV", "requests", name)
    error = target.errors.get(key)
    if error is None:
        error = target.errors[key] = stats.StatsError("KV", "requests", name, first_seen=now)
    error.occurrences += count
    error.last_seen = now


def install() -> None:
    """Replace the functions of Locust that round; a second call does nothing."""
    entry: Any = stats.StatsEntry
    if getattr(entry, "kvss_installed", False):
        return
    entry.kvss_installed = True
    entry.to_string = _to_string
    entry.percentile = _percentile
    plain_to_dict = entry.to_dict

    def to_dict(self: Any, escape_string_values: bool = False) -> Any:
        data = plain_to_dict(self, escape_string_values)
        data["min_response_time"] = self.min_response_time or 0
        data["max_response_time"] = self.max_response_time
        return data

    entry.to_dict = to_dict
    writer: Any = stats.StatsCSV
    writer._percentile_fields = _percentile_fields
    files: Any = stats.StatsCSVFileWriter
    plain_close = files.close_files

    def close_files(self: Any) -> None:
        _write_last_rows(self)
        plain_close(self)

    files.close_files = close_files
    for name in ("get_stats_summary", "get_percentile_stats_summary"):
        setattr(stats, name, globals()[f"_{name}"])


def _to_string(self: Any, current: bool = True) -> str:
    return _WIDTHS.format(
        self.method or "",
        self.name,
        self.num_requests,
        f"{self.num_failures}({self.fail_ratio * 100:.2f}%)",
        self.avg_response_time,
        self.min_response_time or 0,
        self.max_response_time,
        self.median_response_time or 0,
        (self.current_rps if current else self.total_rps) or 0,
        (self.current_fail_per_sec if current else self.total_fail_per_sec) or 0,
    )


def _percentile(self: Any) -> str:
    if not self.num_requests:
        raise ValueError("Can't calculate percentile on url with no successful requests")
    figures = "".join(f"{self.get_response_time_percentile(p):10.3f}" for p in stats.PERCENTILES_TO_REPORT)
    return f"{self.method or '':<8} {self.name:<12} {figures} {self.num_requests:>9}"


def _get_stats_summary(request_stats: Any, current: bool = True) -> list[str]:
    rule = "-" * 138
    head = ("Type", "Outcome", "# reqs", "# fails", "Avg", "Min", "Max", "Med", "req/s", "failures/s")
    heading = "{:<8} {:<40} {:>9} {:>14} |{:>10}{:>10}{:>10}{:>10} |{:>10}{:>11}".format(*head)
    rows = [request_stats.entries[key].to_string(current) for key in sorted(request_stats.entries)]
    return [heading + " (ms)", rule, *rows, rule, request_stats.total.to_string(current)]


def _get_percentile_stats_summary(request_stats: Any) -> list[str]:
    heads = "".join(f"{name:>10}" for name in stats.get_readable_percentiles(stats.PERCENTILES_TO_REPORT))
    entries = [request_stats.entries[key] for key in sorted(request_stats.entries)]
    rows = [entry.percentile() for entry in [*entries, request_stats.total] if entry.response_times]
    return ["Response time percentiles (ms)", f"{'Type':<8} {'Outcome':<12} {heads} {'# reqs':>9}", "-" * 138, *rows]


def _percentile_fields(self: Any, stats_entry: Any, use_current: bool = False) -> list[Any]:
    if not stats_entry.num_requests:
        return list(self.percentiles_na)
    if use_current and stats_entry.use_response_times_cache:
        return [stats_entry.get_current_response_time_percentile(p) or 0 for p in self.percentiles_to_report]
    return [stats_entry.get_response_time_percentile(p) for p in self.percentiles_to_report]


def _write_last_rows(writer: Any) -> None:
    """Write the rows that Locust's writer, which runs once a second, has not written yet."""
    handle = writer.requests_csv_filehandle
    if handle.closed:
        return
    handle.seek(0)
    writer.requests_csv_writer.writerow(writer.requests_csv_columns)
    writer._requests_data_rows(writer.requests_csv_writer)
    handle.truncate()
    writer._stats_history_data_rows(writer.stats_history_csv_writer, time.time())
    failures = writer.failures_csv_filehandle
    failures.seek(0)
    writer.failures_csv_writer.writerow(chain(writer.failures_columns))
    writer._failures_data_rows(writer.failures_csv_writer)
    failures.truncate()
