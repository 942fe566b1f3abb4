"""The torture in short: kills and power cuts under load lose nothing; a server that does not sync is found out."""

from pathlib import Path

import pytest
from torture import torture

pytestmark = [pytest.mark.server, pytest.mark.timeout(120)]


def test_a_killed_server_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    counts = torture(tmp_path, deaths=6, least_acknowledged=30)
    assert counts.problems == []
    assert counts.acknowledged > 100
    assert counts.bytes_grown > 1 << 20


@pytest.mark.full
def test_a_power_cut_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    counts = torture(tmp_path, deaths=4, cut_power=True)
    assert counts.problems == []
    assert counts.acknowledged > 50


def test_the_layer_that_cuts_the_power_shows_a_server_that_does_not_sync(tmp_path: Path) -> None:
    counts = torture(tmp_path, deaths=2, cut_power=True, flags=("--sync", "none"), least_acknowledged=30)
    assert counts.problems != []


@pytest.mark.full
def test_with_sync_interval_a_power_cut_loses_little_and_damages_nothing(tmp_path: Path) -> None:
    counts = torture(
        tmp_path, deaths=2, cut_power=True, flags=("--sync", "interval"), lives_s=(1.5, 2.6), may_lose_s=1.5, seed=1
    )
    assert counts.problems == []
    assert counts.lost > 0, "the layer did nothing"


@pytest.mark.full
@pytest.mark.parametrize("sync", ["interval", "none"])
def test_without_a_sync_for_each_write_a_kill_loses_nothing_either(tmp_path: Path, sync: str) -> None:
    counts = torture(tmp_path, deaths=3, flags=("--sync", sync), lives_s=(0.1, 1.4))
    assert counts.problems == []
    assert counts.lost == 0
