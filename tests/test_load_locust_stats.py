"""loadtest/locust_stats.py: Locust's own numbers keep their fractions, and failures stay apart."""

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest
from load_unpatched import stats

from kvss_gevent.loadtest.engine.recorder import ERROR, HIT, RESPONSE, Tally
from kvss_gevent.loadtest.locust_plugin import statistics


@pytest.fixture
def filled() -> stats.RequestStats:
    statistics.install()
    statistics.install()
    target = stats.RequestStats()
    part = Tally()
    for us in range(100, 200):
        part.histogram(RESPONSE, "GET", HIT).record(us)
    part.histogram(RESPONSE, "GET", ERROR).record(9_000_000)
    part.histogram(RESPONSE, "RMW", HIT).record(150)
    part.histogram(RESPONSE, "RMW GET", HIT).record(140)
    part.bytes = 101 * 20 + 7
    part.failures["torn value"] = 1
    statistics.add(target, part)
    return target


def test_percentiles_under_a_millisecond_are_not_rounded_away(filled: stats.RequestStats) -> None:
    entry = filled.entries["hit", "GET"]
    assert entry.get_response_time_percentile(0.5) == pytest.approx(0.15, abs=0.002)
    assert (entry.min_response_time, entry.max_response_time) == (0.1, 0.199)
    data = entry.to_dict()
    assert (data["min_response_time"], data["max_response_time"]) == (0.1, 0.199)
    assert "0.199" in entry.to_string()
    assert "0.150" in entry.percentile()
    assert "0.150" in "\n".join(stats.get_percentile_stats_summary(filled))
    assert "0.199" in "\n".join(stats.get_stats_summary(filled))


def test_a_failure_counts_and_its_time_is_no_part_of_the_whole(filled: stats.RequestStats) -> None:
    assert filled.total.num_requests == 102, "an RMW is one request, and its parts are none"
    assert filled.total.num_failures == 1
    assert filled.total.get_response_time_percentile(1.0) == 0.199
    assert filled.total.avg_response_time == pytest.approx(0.1495, abs=0.001)
    assert filled.entries["error", "GET"].num_failures == 1
    [error] = filled.errors.values()
    assert (error.occurrences, error.error) == (1, "torn value")
    part = Tally()
    part.failures["torn value"] = 4
    statistics.add(filled, part)
    assert error.occurrences == 5


def test_csv_files_end_with_the_whole_and_keep_fractions(filled: stats.RequestStats, tmp_path: Path) -> None:
    environment = SimpleNamespace(stats=filled, runner=None)
    writer = stats.StatsCSVFileWriter(environment, stats.PERCENTILES_TO_REPORT, str(tmp_path / "run"))  # type: ignore[arg-type]
    writer.exceptions_csv_writer.writerow(writer.exceptions_columns)
    writer.close_files()
    writer.close_files()
    with (tmp_path / "run_stats.csv").open() as rows:
        last = list(csv.DictReader(rows))[-1]
    assert (last["Request Count"], last["100%"]) == ("102", "0.199")
    with (tmp_path / "run_failures.csv").open() as rows:
        assert [row["Occurrences"] for row in csv.DictReader(rows)] == ["1"]


def test_an_entry_without_requests_has_no_percentiles() -> None:
    statistics.install()
    entry = stats.StatsEntry(stats.RequestStats(), "hit", "GET")
    with pytest.raises(ValueError, match="no successful requests"):
        entry.percentile()
