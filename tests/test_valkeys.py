"""The cluster to try things out: `up` starts one that works, `down` ends it and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from serving import serving
from valkeys import need_server, valkey

pytestmark = pytest.mark.server

ROOT = Path(__file__).parent.parent


def run(word: str, home: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tests.valkeys", word],
        env={**os.environ, "XDG_STATE_HOME": str(home)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.full
def test_up_and_down(tmp_path: Path) -> None:
    need_server()
    assert run("down", tmp_path).returncode == 1  # nothing to end
    with valkey(tmp_path / "other") as other:
        started = run("up", tmp_path)
        try:
            assert started.returncode == 0, started.stderr
            command, _, url = started.stdout.rpartition(" ")
            assert command == "kvss serve --store"
            assert run("up", tmp_path).returncode == 1  # once is enough
            with serving("--store", url.strip()) as served:
                assert served.ask(b"KV/1.0 PUT a 1\nKV/1.0 GET a\n") == b"201 CREATED\n200 OK 1\n"
                ended = run("down", tmp_path)
                assert ended.returncode == 0, ended.stderr
                assert served.ask(b"KV/1.0 GET a\n") == b"500 SERVER_ERROR\n"
        finally:
            run("down", tmp_path)
        assert other.answers()
    assert not (tmp_path / "kvss" / "cluster").exists()
