"""Cells measured for real, in processes of their own: what they yield, what becomes of one that fails, what is left."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from serving import wait_until

from kvss_gevent.compare import experiments
from kvss_gevent.compare.measuring import cell_runner
from kvss_gevent.compare.measuring.contestant import FailedError
from kvss_gevent.compare.measuring.cores import divide
from kvss_gevent.compare.measuring.experiment_context import QUICK, Profile, Workbench
from kvss_gevent.compare.rows import Cell, Point, Row

SHORT = Profile("quick", 1, 0.2, 0.05)
pytestmark = pytest.mark.server


def measured(experiment: str, model: str) -> dict[float, Point]:
    rows = cell_runner.measure(Cell(experiment, model, 1), SHORT, divide())
    assert not any(row.failed for row in rows), rows
    return {row.point.x: row.point for row in rows}


@pytest.mark.parametrize("model", ["gevent", "threads", "gevent+disk", "null"])
def test_cost_counts_cpu_and_switches(model: str) -> None:
    (point,) = measured("cost", model).values()
    assert 0.5 < point.figures["cpu_us"] < 1000
    assert point.figures["rate_per_s"] > 100
    if model == "threads":
        assert point.figures["switches"] > 0.5, "a thread that serves one request at a time waits for each"


def test_a_rate_that_the_server_can_do_is_answered_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    from kvss_gevent.compare.experiments import rate

    monkeypatch.setattr(rate, "QUICK", (500,))
    (row,) = cell_runner.measure(Cell("rate", "gevent", 1), Profile("quick", 1, 1.0, 0.2), divide())
    point = row.point
    assert point.figures["answered_per_s"] == pytest.approx(500, rel=0.15)
    assert point.figures["offered_per_s"] == pytest.approx(500, rel=0.15)
    assert 0 < point.figures["p50_us"] <= point.figures["p99_us"]
    assert not point.errors


def test_a_server_for_one_client_leaves_the_others_without_an_answer() -> None:
    points = measured("connections", "sequential")
    assert points[32].errors == {"starved connections": 31}
    assert measured("idle", "sequential")[100].errors == {"unanswered connections": 99}


def test_threads_and_descriptors_of_idle_connections_are_counted() -> None:
    points = measured("idle", "threads")
    assert points[500].figures["threads"] - points[0].figures["threads"] == 500
    assert points[500].figures["descriptors"] - points[0].figures["descriptors"] == 500
    assert points[500].figures["each_kib"] > 1


def test_one_burn_stops_a_loop_and_no_threads() -> None:
    assert measured("burn", "select")[1].figures["max_us"] > 400_000
    # On a machine that others use, threads may have bad luck, too, but not again and again.
    assert any(measured("burn", "threads")[1].figures["max_us"] < 400_000 for _ in range(3))


def fake(monkeypatch: pytest.MonkeyPatch, measure: Callable[[Workbench], Iterator[Point]], **more: Any) -> list[Row]:
    monkeypatch.setattr(experiments, "load", lambda _: SimpleNamespace(measure=measure, **more))
    return cell_runner.measure(Cell("fake", "gevent", 1), QUICK, divide())


def test_a_cell_that_cannot_be_measured_is_a_row_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(_: Workbench) -> Iterator[Point]:
        yield Point(1, {"p50_us": 1.0})
        raise FailedError("no luck")

    (row,) = fake(monkeypatch, measure)
    assert (row.failed, row.point.figures) == ("no luck", {})


@pytest.mark.parametrize(
    ("how", "reason"),
    [(lambda: 1 / 0, "a mistake of the laboratory: ZeroDivisionError"), (lambda: os._exit(3), "ended before it was")],
)
def test_a_mistake_and_a_crash_are_rows_too(
    monkeypatch: pytest.MonkeyPatch, how: Callable[[], Any], reason: str
) -> None:
    def measure(_: Workbench) -> Iterator[Point]:
        how()
        yield Point(1, {})

    (row,) = fake(monkeypatch, measure)
    assert reason in row.failed


def test_a_cell_that_takes_too_long_is_ended_with_its_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = tmp_path / "pid"

    def measure(bench: Workbench) -> Iterator[Point]:
        with bench.serving() as server:
            told.write_text(str(server.pid))
            time.sleep(60)
            yield Point(1, {})

    begun_s = time.monotonic()
    (row,) = fake(monkeypatch, measure, LIMIT_S=3.0)
    assert row.failed == "took longer than 3 s"
    assert time.monotonic() - begun_s < 10
    wait_until(lambda: not Path(f"/proc/{told.read_text()}").exists())


def test_a_server_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(bench: Workbench) -> Iterator[Point]:
        with bench.serving("--max-line", "nonsense"):
            yield Point(1, {})

    (row,) = fake(monkeypatch, measure)
    assert row.failed == "the server did not start: --max-line is 'nonsense'"


def test_what_is_answered_after_its_time_is_not_kept_up_with(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(bench: Workbench) -> Iterator[Point]:
        with bench.serving("--lab") as server:  # 5 ms each, one after the other: 200 a second at the most
            point, offered = bench.offer(server, 1, rate=400, users=4, line=b"KV/1.0 SLEEP 5", seconds=1.0, drain_s=5.0)
            assert offered.unanswered == 0, "the drain is long enough for all"
            yield point

    (row,) = fake(monkeypatch, measure)
    assert row.failed == ""
    assert row.point.figures["offered_per_s"] == pytest.approx(400, rel=0.05)
    assert row.point.figures["answered_per_s"] < 210
    assert row.point.figures["max_us"] > 500_000


@pytest.mark.skipif(not divide().apart, reason="needs two processors: server and generator must be apart")
def test_another_process_on_the_servers_processor_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(bench: Workbench) -> Iterator[Point]:
        with bench.serving() as server:
            point, _ = bench.offer(server, 0, rate=100, users=1, seconds=1.0)
            busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            os.sched_setaffinity(busy.pid, bench.cores.server)
            try:
                disturbed, _ = bench.offer(server, 1, rate=100, users=1, seconds=1.0)
            finally:
                busy.kill()
                busy.wait()
            yield point
            yield disturbed

    rows = fake(monkeypatch, measure)
    assert rows[-1].point.disturbed
