"""`kvss serve --model` and `kvss models`: what they refuse and what the table shows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import in_process
import pytest
from model_servers import FORKING, ROWS, model

from kvss_gevent.models import MODULES


def kvss(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kvss_gevent", *words],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "COLUMNS": "80", **(env or {})},
        check=False,
    )


@pytest.mark.parametrize("name", FORKING)
def test_a_model_of_several_processes_refuses_a_store_that_lives_in_one(name: str) -> None:
    done = kvss("serve", "--port", "0", "--model", name)
    assert (done.returncode, done.stdout) == (2, "")
    cause, remedy = done.stderr.splitlines()
    assert cause == (
        f"kvss serve: --model {name} runs in several processes, and memory: lives in one: "
        "each client would find a store of its own"
    )
    assert "--store disk:kvss.data" in remedy


@pytest.mark.parametrize(
    ("flags", "cause", "remedy"),
    [
        (("--model", "threadz"), "--model is 'threadz'", ", ".join(MODULES)),
        (("--pool-size", "0"), "--pool-size is '0'", "1 to 1000"),
        (("--pool-size", "1001"), "--pool-size is '1001'", "1 to 1000"),
    ],
)
def test_bad_words_are_exit_code_2(flags: tuple[str, ...], cause: str, remedy: str) -> None:
    done = in_process.kvss("serve", "--port", "0", *flags)
    assert done.returncode == 2
    assert cause in done.stderr
    assert remedy in done.stderr


@pytest.mark.server
def test_an_option_without_effect_is_said_to_have_none(tmp_path: Path) -> None:
    with model("select", tmp_path, "--max-connections", "5", "--pool-size", "5") as server:
        _, log = server.stop()
    (line,) = log.splitlines()
    assert line.endswith("--max-connections (KVSS_MAX_CONNECTIONS) has no effect with --model select")


@pytest.fixture
def no_trio(tmp_path: Path) -> dict[str, str]:
    """An environment in which importing trio fails as where it is not installed."""
    (tmp_path / "trio.py").write_text("raise ModuleNotFoundError('no trio', name='trio')\n")
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))}


def test_a_model_whose_library_is_absent_is_exit_code_3(no_trio: dict[str, str]) -> None:
    done = kvss("serve", "--port", "0", "--model", "trio", env=no_trio)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        "kvss serve: the model trio needs the package trio, which is not installed\n"
        "  In the checkout: pip install -e '.[lab]'\n"
    )


def test_the_table_shows_what_is_absent_and_why(no_trio: dict[str, str]) -> None:
    data = json.loads(kvss("models", "--json", env=no_trio).stdout)
    absent = [row for row in data["models"] if not row["available"]]
    assert [(row["name"], row["why_not"]) for row in absent] == [
        (
            "trio",
            "the model trio needs the package trio, which is not installed: In the checkout: pip install -e '.[lab]'",
        )
    ]
    assert "not available: the model trio needs" in kvss("models", env=no_trio).stdout


def test_the_table_shows_every_model_with_its_file_and_limits() -> None:
    done = in_process.kvss("models", env={"COLUMNS": "80"})
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    root = Path(__file__).parent.parent
    for name, row in ROWS.items():
        assert row.why_not == "", "the tests need the extra lab"
        assert f"\n{name} " in f"\n{done.stdout}"
        assert row.file in done.stdout
        assert (root / row.file).is_file()
        assert row.limits
        assert row.idea
        assert len(row.idea) <= 64
    data = json.loads(in_process.kvss("models", "--json").stdout)
    assert [row["name"] for row in data["models"]] == list(MODULES)
    assert data["gil"] is getattr(sys, "_is_gil_enabled", lambda: True)()
    assert any(f"the GIL is {'on' if data['gil'] else 'off'}" in limit for limit in ROWS["threads"].limits)
