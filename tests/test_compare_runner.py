"""Trials measured for real, in their own processes: what they yield, what becomes of one that fails, what is left."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from serving import wait_until

from kvss_gevent.compare import experiments
from kvss_gevent.compare.experiments import cost
from kvss_gevent.compare.measuring import contestant, interleave, open_loop, trial_runner
from kvss_gevent.compare.measuring.contestant import FailedError
from kvss_gevent.compare.measuring.experiment_context import QUICK, ExperimentContext, Profile
from kvss_gevent.compare.measuring.paced import Pace
from kvss_gevent.compare.measuring.processors import divide
from kvss_gevent.compare.plan import choose
from kvss_gevent.compare.rows import ALL, Measurement, Point, Trial
from kvss_gevent.measure.launch import kvss, launched

SHORT = Profile("quick", 1, 2, 2, 0.2, 0.05)
PLAN = choose(QUICK)

pytestmark = pytest.mark.server


def measured(experiment: str, model: str) -> dict[float, Point]:
    rows = trial_runner.measure(
        Trial(experiment, model, 1), choose(SHORT, [model] if model != "null" else []), divide()
    )
    assert not any(row.failed for row in rows), rows
    return {row.point.x: row.point for row in rows}


@pytest.mark.full
def test_a_generation_measures_all_by_turns() -> None:
    plan = choose(SHORT, ["gevent", "trio", "threads+disk", "sequential"], ["cost"])
    rows = trial_runner.measure(Trial("cost", ALL, 1), plan, divide())
    assert not any(row.failed for row in rows), rows
    costs = {(row.trial.model, row.point.case): row.point.figures.get("cpu_us", 0.0) for row in rows}
    for pace in cost.PACES[:1]:
        for name in ("gevent", "trio", "threads+disk", "sequential", "null"):
            assert 1 < costs[name, str(pace)] < 2000
        assert costs["null", str(pace)] < costs["trio", str(pace)]
    assert ("sequential", str(cost.PACES[-1])) not in costs, "it has one client, which cannot send 32 at once"


def test_a_contestant_that_does_not_start_leaves_the_others_their_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    def command(contestant: str, *_: object, **__: object) -> list[str]:
        return [sys.executable, "-c", "raise SystemExit('no room')"] if contestant == "trio" else usual[contestant]

    cores = divide()
    usual = {name: contestant.command(name, Path(), cores=cores) for name in ("gevent", "select")}
    monkeypatch.setattr(interleave, "command", command)
    found = list(interleave.generation(("gevent", "trio", "select"), (Pace(500, 1),), cores, rounds=2, slice_s=0.02))
    assert ("trio", "the server did not start: no room") in found
    assert {name for name, one in found if isinstance(one, Point)} == {"gevent", "select"}


def test_calls_are_counted_by_name() -> None:
    rows = trial_runner.measure(Trial("calls", "threads", 1), choose(SHORT), divide())
    singly = rows[0].point
    assert (singly.x, singly.case) == (1, "one at a time")
    if "calls" in singly.figures:  # not where no tracer may be used
        assert 1.8 < singly.figures["calls"] < 6
        assert singly.figures["recvfrom"] == pytest.approx(1, abs=0.3)


@pytest.mark.full
def test_a_server_for_one_client_leaves_the_others_without_an_answer() -> None:
    points = measured("connections", "sequential")
    assert points[32].errors == {"starved connections": 31}
    assert measured("idle", "sequential")[100].errors == {"unanswered connections": 99}


def test_threads_and_descriptors_of_idle_connections_are_counted() -> None:
    points = measured("idle", "threads")
    assert points[500].figures["threads"] - points[0].figures["threads"] == 500
    assert points[500].figures["descriptors"] - points[0].figures["descriptors"] == 500
    assert points[500].figures["each_kib"] > 1


@pytest.mark.full
@pytest.mark.timing
def test_one_burn_stops_a_loop_and_no_threads() -> None:
    assert measured("burn", "select")[1].figures["max_us"] > 400_000
    # On a machine that others use, threads may have bad luck, too, but not again and again.
    assert any(measured("burn", "threads")[1].figures["max_us"] < 400_000 for _ in range(3))


def fake(
    monkeypatch: pytest.MonkeyPatch,
    measure: Callable[[ExperimentContext], Iterator[Point]],
    model: str = "gevent",
    **more: Any,
) -> list[Measurement]:
    monkeypatch.setattr(experiments, "load", lambda _: SimpleNamespace(measure=measure, **more))
    return trial_runner.measure(Trial("fake", model, 1), PLAN, divide())


def test_a_cell_that_cannot_be_measured_is_a_row_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(_: ExperimentContext) -> Iterator[Point]:
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
    def measure(_: ExperimentContext) -> Iterator[Point]:
        how()
        yield Point(1, {})

    (row,) = fake(monkeypatch, measure)
    assert reason in row.failed


@pytest.mark.timing
def test_a_cell_that_takes_too_long_is_ended_with_its_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = tmp_path / "pid"

    def measure(context: ExperimentContext) -> Iterator[Point]:
        with context.serving() as server:
            told.write_text(str(server.pid))
            time.sleep(60)
            yield Point(1, {})

    begun_s = time.monotonic()
    (row,) = fake(monkeypatch, measure, LIMIT_S=3.0)
    assert row.failed == "took longer than 3 s"
    assert time.monotonic() - begun_s < 10
    wait_until(lambda: not Path(f"/proc/{told.read_text()}").exists())


def test_a_server_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(context: ExperimentContext) -> Iterator[Point]:
        with context.serving("--max-line", "nonsense"):
            yield Point(1, {})

    (row,) = fake(monkeypatch, measure)
    assert row.failed == "the server did not start: --max-line is 'nonsense'"


@pytest.mark.full
@pytest.mark.timing
def test_what_is_answered_after_its_time_is_not_kept_up_with(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(context: ExperimentContext) -> Iterator[Point]:
        with context.serving("--lab") as server:  # 5 ms each, one after the other: 200 a second at the most
            point, offered = context.offer(
                server, 1, rate=400, users=4, line=b"KV/1.0 SLEEP 5", seconds=1.0, drain_s=5.0
            )
            assert offered.unanswered == 0, "the drain is long enough for all"
            yield point

    (row,) = fake(monkeypatch, measure)
    assert row.failed == ""
    assert row.point.figures["offered_per_s"] == pytest.approx(400, rel=0.05)
    assert row.point.figures["answered_per_s"] < 210
    assert row.point.figures["max_us"] > 500_000


@pytest.mark.full
@pytest.mark.skipif(not divide().apart, reason="needs two processors: server and generator must be apart")
def test_another_process_on_the_servers_processor_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(context: ExperimentContext) -> Iterator[Point]:
        with context.serving() as server:
            point, _ = context.offer(server, 0, rate=100, users=1, seconds=1.0)
            busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            os.sched_setaffinity(busy.pid, context.cores.server)
            try:
                disturbed, _ = context.offer(server, 1, rate=100, users=1, seconds=1.0)
            finally:
                busy.kill()
                busy.wait()
            yield point
            yield disturbed

    rows = fake(monkeypatch, measure)
    assert rows[-1].point.disturbed


def test_a_load_that_waits_until_all_are_served_says_so_where_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(context: ExperimentContext) -> Iterator[Point]:
        with context.serving("--lab") as server:  # one client at a time
            point, offered = context.offer(server, 1, rate=100, users=1, line=b"KV/1.0 BURN 0", served=True)
            assert offered.answered > 0
            yield point
            monkeypatch.setattr(open_loop, "SERVED_S", 1.0)  # the second of two never gets a reply
            context.offer(server, 2, rate=100, users=2, line=b"KV/1.0 BURN 0", served=True)

    (row,) = fake(monkeypatch, measure, model="sequential")
    assert row.failed == "not each of 2 connections had a reply within 1 s"


def test_what_runs_beside_a_load_does_not_begin_before_its_window_also_where_the_event_loop_stood_still_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def measure(context: ExperimentContext) -> Iterator[Point]:
        begun_s: list[float] = []
        with context.serving() as server:
            asked_s = time.monotonic()
            beside = [lambda: begun_s.append(time.monotonic())]
            open_loop.offer(server.port, 0.1, rate=10, users=1, line=b"KV/1.0 GET a", warmup_s=0.5, beside=beside)
        yield Point(1, {"early": sum(begun - asked_s < 0.5 for begun in begun_s)})

    gevent.sleep(0.01)  # the clock of the loop stands still from here
    time.sleep(0.5)
    (row,) = fake(monkeypatch, measure)
    assert row.point.figures == {"early": 0}


def test_settings_in_the_environment_are_not_those_of_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVSS_STORE", "nonsense")
    with launched(kvss()) as server, server.connect() as sock:
        sock.sendall(b"KV/1.0 GET k\n")
        assert sock.recv(100) == b"404 NOT_FOUND\n"
