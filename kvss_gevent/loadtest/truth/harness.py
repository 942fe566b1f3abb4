"""Runs one cell: a known server and the load tester against it, and compares the report with the server's log."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kvss_gevent.loadtest.command import locust_command
from kvss_gevent.loadtest.engine.histogram import Histogram
from kvss_gevent.loadtest.engine.load_run import NO_REPLY
from kvss_gevent.loadtest.report.trust import FAILED_SHARE
from kvss_gevent.loadtest.truth.behaviours import CONNECTION
from kvss_gevent.loadtest.truth.cells import USERS, Cell
from kvss_gevent.measure.launch import free_port

ATTEMPTS = 3
"""Runs of a cell, at most: a run that the machine disturbed is repeated."""
HUNG_SHARE = 0.01
"""If this share of requests has no reply, p99 is a lower bound."""
_LIMIT_S = 60
_SLACK_US = 500
"""The time between a server's log and the load tester, for loopback and two event loops on an idle machine."""
_EDGE_S = 0.03
"""A fault so near to an edge of the window may count on either side."""


class Row(NamedTuple):
    """A request as the server logged it; times in seconds of the machine's monotonic clock, see truth/server.py."""

    connection: int
    received: float
    leaving: float | None
    replied: float | None
    fault: str
    verb: str


@dataclass(frozen=True, slots=True)
class CellOutcome:
    """The outcome of a cell: what does not agree, the number of runs, whether the machine disturbed the last run."""

    cell: Cell
    complaints: tuple[str, ...]
    attempts: int
    disturbed: bool

    @property
    def mark(self) -> str:
        """Return the cell's entry in the table."""
        if self.complaints:
            return "disturbed" if self.disturbed else "NOT"
        return "ok" if self.attempts == 1 else f"ok ({self.attempts})"


def repeat(outcome: CellOutcome) -> CellOutcome:
    """Run a cell again until it agrees, at most ATTEMPTS times in all."""
    while outcome.complaints and outcome.attempts < ATTEMPTS:
        outcome = attempt(outcome.cell, outcome.attempts + 1)
    return outcome


def attempt(cell: Cell, number: int = 1) -> CellOutcome:
    """Run a cell once."""
    try:
        code, results, log = _measure(cell)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        return CellOutcome(cell, (str(error),), number, False)
    disturbed = any(not one["ok"] and "the generator" in one["text"] for one in results["verdict"]["findings"])
    return CellOutcome(cell, tuple(compare(cell, code, results, log)), number, disturbed)


@contextmanager
def serving(name: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run a known server; yields its port and its process, which prints its log when its standard input is closed."""
    command = [sys.executable, "-m", "kvss_gevent.loadtest.truth.server", name]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().strip(), server
        finally:
            server.kill()


def _measure(cell: Cell) -> tuple[int, dict[str, Any], list[Row]]:
    """Run the load tester against the server once; returns its exit code and results, and the server's log.

    Raises RuntimeError if it leaves no results, and TimeoutExpired.
    """
    with serving(cell.server) as (port, server), tempfile.TemporaryDirectory() as out:
        options = [*cell.options(), "--headless", "--only-summary", "-H", f"127.0.0.1:{port}", "--kv-out", out]
        if cell.load.processes > 1:
            master = str(free_port())
            options += ["--processes", str(cell.load.processes)]
            options += ["--master-port", master, "--master-bind-port", master]
        done = subprocess.run(locust_command(options), capture_output=True, text=True, timeout=_LIMIT_S, check=False)
        path = Path(out) / "results.json"
        if not path.exists():
            raise RuntimeError(f"the load tester left no results: {done.stderr[-500:]}")
        results = json.loads(path.read_text())
        log, _ = server.communicate(timeout=_LIMIT_S)
    return done.returncode, results, [Row(*row) for row in json.loads(log)]


def compare(cell: Cell, code: int, results: dict[str, Any], log: list[Row]) -> Iterator[str]:
    """Yield each point in which the report and the server's log do not agree."""
    truth, requests = cell.truth, results["requests"]
    windows = results["window"]["clock_s"].values()
    if not windows:
        yield "no process reported a window: " + "; ".join(one["text"] for one in results["verdict"]["findings"])
        return
    # A process that got the message late has a shorter window, so a request may lie in all windows or only in some.
    begin, end = max(one[0] for one in windows), min(one[1] for one in windows)
    first, last = min(one[0] for one in windows), max(one[1] for one in windows)
    # At each edge of the window, the requests under way may count on either side.
    edge = 2 * cell.users * cell.load.depth
    if code != truth.exit_code:
        yield f"exit code {code}, expected {truth.exit_code}"
    if requests["unaccounted"]:
        yield f"{requests['unaccounted']} requests are in no column"
    if cell.load.is_open and abs(requests["offered_per_s"] - cell.rate) > 0.001 * cell.rate:
        yield f"offered {requests['offered_per_s']}/s, asked for {cell.rate:g}/s"
    # A request that was due before the window and has no reply counts in the window.
    least_due = cell.rate * sum(one[1] - one[0] for one in windows) / len(windows)
    most_due = least_due + (edge if NO_REPLY in truth.failures else 0)
    tolerance = 2 * cell.load.processes + 4
    if cell.load.loop == "constant" and not least_due - tolerance <= requests["due"] <= most_due + tolerance:
        yield f"{requests['due']} requests were due, expected {least_due:.0f}"
    # A reply after which the server closes is a good one; the fault is the end of the connection.
    good = [row.replied for row in log if row.replied is not None and row.fault in ("", CONNECTION)]
    answered = [sum(since <= replied < until for replied in good) for since, until in ((begin, end), (first, last))]
    reported = requests["answered_per_s"] * results["window"]["measured_s"] + _of("RMW", results)
    if not answered[0] - edge <= reported <= answered[1] + edge:
        yield f"{reported:.0f} answered in the window, the server answered {_span(*answered)}"
    received = [row for row in log if begin <= row.received < end]
    if not cell.load.is_open and truth.exact:
        yield from _commands(results, received, [row for row in log if first <= row.received < last], edge)
    yield from _failures(cell, results, log, (begin, first), (end, last))
    if not cell.user and truth.exact:
        yield from _service(results, received, edge)
    if not cell.user and cell.load.loop == "constant" and cell.load.depth == 1 and truth.keeps_up and truth.exact:
        yield from _response(cell, results, log, begin, end)
    wrong_data = truth.failures and truth.exact
    # Near the limit of trust both verdicts are right.
    many_failed = sum(bool(row.fault) for row in received) > 1.2 * FAILED_SHARE * len(received)
    overload = cell.load.is_open and not truth.keeps_up
    if results["verdict"]["trusted"] and (wrong_data or overload or many_failed):
        yield "the verdict trusts the figures"
    # In a closed loop a client without a reply sends no more, so such requests may be too few for the percentile.
    hung = sum(row.replied is None for row in log if row.received < end)
    many_hung = overload or hung > HUNG_SHARE * (hung + answered[0])
    if NO_REPLY in truth.failures and many_hung and "p99_us" not in results["response"]["at_least"]:
        yield "p99 is not marked as a lower bound"


def _of(command: str, results: dict[str, Any]) -> int:
    """Return the number of requests of a command in the report, with any outcome."""
    return sum(kinds["response"]["count"] for kinds in results["commands"].get(command, {}).values())


def _span(least: int, most: int) -> str:
    return f"{least}" if least == most else f"{least} to {most}"


def _commands(results: dict[str, Any], inside: list[Row], around: list[Row], edge: int) -> Iterator[str]:
    """Compare how often each command was sent in the window; in a closed loop exactly these are counted."""
    for verb, reported in (
        *((one, _of(one, results) + _of(f"RMW {one}", results)) for one in ("GET", "PUT", "DEL")),
        ("STATS", _of("OTHER", results)),
    ):
        logged = [sum(row.verb == verb for row in rows) for rows in (inside, around)]
        if not logged[0] - edge <= reported <= logged[1] + edge:
            yield f"{reported} {verb} were sent in the window, the server received {_span(*logged)}"


def _failures(
    cell: Cell, results: dict[str, Any], log: list[Row], begins: tuple[float, float], ends: tuple[float, float]
) -> Iterator[str]:
    """Compare failures. begins, ends: the times between which requests are in all windows, and in any window."""
    truth, failures = cell.truth, results["failures"]
    unknown = failures.keys() - set(truth.failures)
    if unknown:
        yield f"failures of other names: {', '.join(sorted(unknown))}"
    # A request counts by its due time, which is up to its response time before the server received it.
    early_s = results["response"]["max_us"] / 1e6 if cell.load.is_open else 0.0
    faulty = [row.received for row in log if row.fault]
    inside = sum(begins[0] + early_s + _EDGE_S <= at < ends[0] - _EDGE_S for at in faulty)
    around = sum(begins[1] - _EDGE_S <= at < ends[1] + early_s + _EDGE_S for at in faulty)
    found = results["requests"]["failed"]
    most = around if truth.exact else (around + cell.users) * cell.load.depth
    if not inside <= found <= most:
        yield f"{found} failed, the server's log has {inside} to {most}"


def _slack_us(results: dict[str, Any], percent: float) -> float:
    """Return by how much a percentile may be longer than in the server's log.

    It is the time for loopback, and the time for which the generator waited for a core. Markov's inequality bounds the
    latter by its mean: at most one request in a hundred waits longer than a hundred times the mean.
    """
    waited_s: float = sum(results["generator"]["wait_shares"].values()) * results["window"]["measured_s"]
    mean_us: float = waited_s * 1e6 / max(results["requests"]["due"], 1)
    return _SLACK_US + mean_us / (1 - percent / 100)


def _service(results: dict[str, Any], rows: list[Row], edge: int) -> Iterator[str]:
    """Compare the service times of good replies."""
    yield from _percentiles("service", results, [(row, row.received) for row in rows], edge)


def _response(cell: Cell, results: dict[str, Any], log: list[Row], begin: float, end: float) -> Iterator[str]:
    """Compare response times with those that follow from the schedule and from the server's log.

    Users take turns, so on each connection a request is due every users / rate seconds. No request is sent before its
    due time, so the earliest request, compared with this grid, shows where the grid begins.
    """
    period_s = USERS / cell.rate
    since: list[tuple[Row, float]] = []
    for connection in {row.connection for row in log}:
        rows = [row for row in log if row.connection == connection and row.received >= begin - 0.1]
        first = min((row.received - number * period_s for number, row in enumerate(rows)), default=0.0)
        dues = ((row, first + number * period_s) for number, row in enumerate(rows))
        since += [(row, due) for row, due in dues if begin <= due < end]
    yield from _percentiles("response", results, since, 2 * USERS)


def _percentiles(kind: str, results: dict[str, Any], since: list[tuple[Row, float]], edge: int) -> Iterator[str]:
    """Compare percentiles with those of good replies, counted from the given times (see truth/server.py)."""
    least_times, most_times = Histogram(), Histogram()
    for row, begun in since:
        if row.leaving is not None and row.replied is not None and not row.fault:
            least_times.record(int((row.leaving - begun) * 1e6))
            most_times.record(int((row.replied - begun) * 1e6))
    if not most_times.total:
        return
    reported = results[kind]
    shift = 100 * edge / most_times.total
    for name, percent in (("p50_us", 50.0), ("p90_us", 90.0), ("p99_us", 99.0)):
        least = least_times.percentile(max(percent - shift, 0.0))
        most = most_times.percentile(min(percent + shift, 100.0))
        if not least * 0.999 - 2 <= reported[name] <= most * 1.001 + _slack_us(results, percent):
            yield f"{kind} {name} is {reported[name]}, the server's log says {least} to {most}"
