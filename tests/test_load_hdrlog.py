"""loadtest/hdrlog.py: what it writes, HdrHistogram's own tools read."""

import io
import random
from pathlib import Path

import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

from kvss_gevent.loadtest.engine.histogram import HIGHEST_US, Histogram
from kvss_gevent.loadtest.report.hdr_log import encode, hgrm, write_log


def pair(count: int, seed: int) -> tuple[Histogram, HdrHistogram]:
    rng = random.Random(seed)
    ours, theirs = Histogram(), HdrHistogram(1, HIGHEST_US, 3)
    for _ in range(count):
        value_us = int(10 ** rng.uniform(0, 7))
        ours.record(value_us)
        theirs.record_value(value_us)
    return ours, theirs


@pytest.mark.parametrize("count", [1, 2, 17, 5000])
def test_hgrm_is_what_hdrhistogram_writes(count: int) -> None:
    ours, theirs = pair(count, seed=count)
    out = io.BytesIO()
    theirs.output_percentile_distribution(out, 1.0)
    assert hgrm(ours) == out.getvalue().decode()


def test_an_empty_hgrm_has_only_its_frame() -> None:
    assert "TotalCount     =        0.000" in hgrm(Histogram())


@pytest.mark.parametrize("count", [0, 1, 300, 5000])
def test_hdrhistogram_decodes_the_encoding_to_the_same_counts(count: int) -> None:
    ours, _ = pair(count, seed=count)
    decoded = HdrHistogram.decode(encode(ours))
    assert {i: n for i in range(decoded.counts_len) if (n := decoded.get_count_at_index(i))} == ours.counts


def test_large_counts_survive_the_encoding() -> None:
    ours = Histogram({0: 1, 40: 2**40, 23000: 127, 23001: 128})
    decoded = HdrHistogram.decode(encode(ours))
    assert [decoded.get_count_at_index(i) for i in (0, 40, 23000, 23001)] == [1, 2**40, 127, 128]


def test_hdrhistograms_reader_adds_the_intervals_of_a_log(tmp_path: Path) -> None:
    parts = [pair(200, seed)[0] for seed in (1, 2, 3)]
    path = tmp_path / "run.hlog"
    with path.open("w") as out:
        write_log(out, 1_700_000_000.0, [(i, 1.0, encode(part), part.max_us) for i, part in enumerate(parts)])
    whole = HdrHistogram(1, HIGHEST_US, 3)
    reader = HistogramLogReader(str(path), whole)
    assert reader.add_next_interval_histogram(whole) is not None
    while reader.add_next_interval_histogram(whole):
        pass
    reader.close()
    assert whole.get_total_count() == 600
    assert reader.get_start_time_sec() == 1_700_000_000.0
