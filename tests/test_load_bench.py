"""loadtest/bench_load.py: it measures both sides and says what it found. The figures are for `make bench-load`."""

import re
import subprocess
import sys

import pytest
from load_runs import ROOT, environment

pytestmark = pytest.mark.server


@pytest.mark.full
@pytest.mark.timing
def test_a_short_round_measures_both_sides() -> None:
    command = [sys.executable, "-m", "bench.load_tester", "--rounds", "1", "--seconds", "2"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    found = re.search(
        r"bare ([\d,]+)/s at ([\d.]+) us of CPU a request, load tester ([\d,]+)/s at ([\d.]+) us", done.stdout
    )
    assert found is not None, done.stdout + done.stderr
    bare, bare_us, full, full_us = (float(figure.replace(",", "")) for figure in found.groups())
    assert min(bare, full) > 100
    assert min(bare_us, full_us) > 1
    assert re.search(r"late by \d+ us at the median", done.stdout)
    ratio = re.search(r"ratio of CPU a request, .*: ([\d.]+); at least 0.85 is asked", done.stdout)
    assert ratio is not None
    assert float(ratio[1]) == pytest.approx(bare_us / full_us, abs=0.02)
    assert done.returncode == 1 or float(ratio[1]) >= 0.85


def test_bad_numbers_are_refused() -> None:
    command = [sys.executable, "-m", "bench.load_tester", "--rounds", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert "--rounds and --seconds are at least 1" in done.stderr
