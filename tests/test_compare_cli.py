"""`kvss compare` as a person uses it: a run, an interrupted one that goes on, what is refused."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from compare_rows import journal, rows
from in_process import kvss
from serving import wait_until

from kvss_gevent.measure.process_usage import tree

ROOT = Path(__file__).parent.parent
SMALL = ("--models", "gevent,select", "--experiments", "idle", "--repeats", "1")


def compare(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kvss_gevent", "compare", *words],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )


@pytest.mark.full
@pytest.mark.server
def test_a_run_says_how_far_it_is_and_prints_where_the_report_is(tmp_path: Path) -> None:
    done = compare("run", *SMALL, "--out", str(tmp_path / "report"))
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0] == "4. Memory of idle connections"
    assert said[1].startswith("   An idle connection costs ")
    assert said[-1] == f"{tmp_path}/report/index.html"
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("[1/2] idle ")
    assert lines[1].endswith(" 0 s left")
    settings = json.loads((tmp_path / "report" / "rows.json").read_text())["settings"]
    assert settings["contestants"] == ["gevent", "select"]
    assert settings["command"].startswith("kvss compare run --models gevent,select")
    again = compare("run", *SMALL, "--out", str(tmp_path / "report"))
    assert again.returncode == 2
    assert "already has a report" in again.stderr
    assert "--force" in again.stderr
    assert compare("run", *SMALL, "--out", str(tmp_path / "report"), "--force").returncode == 0


def heed_interrupts() -> None:
    """Undo what a shell does for its background jobs: they ignore SIGINT, and so would their children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.full
@pytest.mark.server
def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    words = ["run", "--models", "gevent,select", "--experiments", "idle", "--repeats", "2", "--out", "report"]
    process = subprocess.Popen(
        [sys.executable, "-m", "kvss_gevent", "compare", *words],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=heed_interrupts,  # noqa: PLW1509 - this test has no threads
    )
    assert process.stderr is not None
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(20) == 130
    assert "kvss compare: interrupted after " in said
    assert "  Continue with: kvss compare run --resume report" in said
    assert "Traceback" not in said
    kept = len((tmp_path / "report" / "rows.jsonl").read_text().splitlines()) - 1
    assert 1 <= kept < 4
    page = compare("report", "report", cwd=tmp_path)
    assert page.returncode == 0
    assert "trials: the run was interrupted" in (tmp_path / "report" / "index.html").read_text()
    done = compare("run", "--resume", "report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == 4 - kept
    assert "trials: the run was interrupted" not in (tmp_path / "report" / "index.html").read_text()


@pytest.mark.server
def test_nothing_is_left_of_a_run_that_is_killed(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "kvss_gevent", "compare", "run", "--models", "gevent", "--experiments", "stall"]
    process = subprocess.Popen(
        [*words, "--out", "report"],
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    wait_until(lambda: len(tree(process.pid)) >= 3, 20)  # the run, its trial, the trial's server
    below = tree(process.pid)[1:]
    process.kill()
    process.wait(5)
    wait_until(lambda: not any(map(runs, below)), 4)  # by itself a trial of this experiment would take nine seconds


def runs(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.full
@pytest.mark.server
def test_a_repetition_is_compared(tmp_path: Path) -> None:
    done = compare("again", "--models", "gevent,trio", "--experiments", "lines", "--repeats", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("all 2 runs agree")
    assert len(list((tmp_path / "reports").iterdir())) == 2


def test_diff_prints_real_differences_and_what_is_not_the_same(tmp_path: Path) -> None:
    first = [row for model in ("gevent", "trio", "select") for row in rows("cost", model, {32: {"cpu_us": 8.0}})]
    second = [
        row
        for model, cost in (("gevent", 8.0), ("trio", 24.0), ("select", 8.0))
        for row in rows("cost", model, {32: {"cpu_us": cost}})
    ]
    journal(tmp_path / "a", first)
    journal(tmp_path / "b", second)
    done = kvss("compare", "diff", str(tmp_path / "a"), str(tmp_path / "b"))
    assert done.returncode == 0
    assert "real   trio, cost at 32: cpu_us 8 -> 24, 3.00 times" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("1 of 3 figures differ")


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("run", "--models", "nginx"), "there is no model 'nginx'"),
        (("run", "--experiments", "99"), "there is no experiment '99'"),
        (("run", "--repeats", "0"), "'0' is not a whole number"),
        (("run", "--server-cores", "99"), "--server-cores: there are "),
        (("run", "--resume", "nowhere"), "cannot read nowhere"),
        (("report", "nowhere"), "cannot read nowhere"),
        (("diff", "nowhere", "there"), "cannot read nowhere"),
        ((), "COMMAND"),
    ],
)
def test_what_cannot_be_is_refused_with_exit_code_2(words: tuple[str, ...], cause: str) -> None:
    done = kvss("compare", *words)
    assert done.returncode == 2
    assert cause in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_report_that_cannot_be_written_is_exit_code_3(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = compare("run", *SMALL, "--out", str(tmp_path / "file" / "report"))
    assert done.returncode == 3
    assert done.stderr.startswith("kvss compare: cannot write to ")
