"""How the tests are run: what is left out, what is run again, and how both are shown."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

SUITE = """
import os, signal, time
from pathlib import Path
import gevent, pytest

@pytest.mark.full
def test_long(request): assert request.node.get_closest_marker("timeout").args == (300,)

def once(name):
    path = Path(name)
    first = not path.exists()
    path.touch()
    assert not first

@pytest.mark.timing
def test_depends_on_time(): once("time")

def test_fails_by_luck(): once("luck")

def test_sigint_is_not_ignored(): assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

@pytest.fixture
def long_ago():
    gevent.sleep(0.001)
    time.sleep(0.1)

def test_timers_count_from_the_beginning_of_a_test(long_ago):
    begun = time.monotonic()
    gevent.joinall([gevent.spawn(gevent.sleep, 1)], timeout=0.05)
    assert time.monotonic() - begun > 0.04

def test_bytecode_is_kept(): assert "PYTHONDONTWRITEBYTECODE" not in os.environ
"""


def run(directory: Path, *args: str) -> subprocess.CompletedProcess[str]:
    (directory / "test_suite.py").write_text(SUITE)
    (directory / "conftest.py").write_text((TESTS / "conftest.py").read_text())
    markers = [f"-o=markers={name}" for name in ("full\ntiming",)]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *markers, *args]
    return subprocess.run(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command],
        cwd=directory, capture_output=True, text=True, timeout=50, check=False,
        env={**os.environ, "PYTEST_ADDOPTS": "", "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip


def test_long_tests_are_left_out_and_only_tests_of_time_run_again(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 1
    assert "left out: 1 tests that take long; `make test-full` runs them" in done.stdout
    assert "run again: 1 tests that depend on time and had failed\n  test_suite.py::test_depends_on_time" in done.stdout
    assert "1 failed, 4 passed, 1 skipped, 1 rerun" in done.stdout
    assert "FAILED test_suite.py::test_fails_by_luck" in done.stdout


@pytest.mark.full
def test_everything_runs_where_all_is_asked_for_in_two_processes(tmp_path: Path) -> None:
    for name in ("time", "luck"):
        (tmp_path / name).touch()
    done = run(tmp_path, "--full", "-n", "2")
    assert done.returncode == 0, done.stdout
    assert "6 passed" in done.stdout
    assert "left out" not in done.stdout
