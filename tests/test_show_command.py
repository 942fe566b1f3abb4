"""The command `kvss show`: what it writes and lists, and how it says what it cannot do."""

import json
import os
import re
from pathlib import Path

import pytest

from kvss_gevent.cli import main
from kvss_gevent.trace.scenes.catalogue import SCENES

pytestmark = pytest.mark.server


def test_the_command_writes_page_and_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "half", "--models", "select,sequential", "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert re.search(
        r"With sequential client \d waited \d+ ms because client 1, busy or idle, kept the only place", out
    )
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"half.html", "half.trace.json"}
    assert json.loads((tmp_path / "out" / "half.trace.json").read_text())["otherData"]["scene"] == "half"


def test_the_command_lists_the_scenes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(SCENES)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["brun"], "there is no scene 'brun'"),
        (["/no/such/file"], "cannot read /no/such/file: No such file or directory"),
        (["burn", "--models", "gevent,nix"], "there is no model 'nix'"),
    ],
)
def test_a_wrong_word_is_told_with_what_there_is(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_told_before_anything_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kvss_gevent.trace.page.scene_files.record_and_analyse", lambda *_: pytest.fail("recorded"))
    (tmp_path / "file").write_text("")
    assert main(["show", "half", "--models", "select", "--out", str(tmp_path / "file")]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_a_model_whose_store_has_no_library_is_told_without_the_name_of_a_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lmdb.py").write_text("raise ModuleNotFoundError('no lmdb', name='lmdb')\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))
    assert main(["show", "half", "--models", "fork", "--out", str(tmp_path)]) == 1
    said = (
        "fork could not be recorded: the server did not start: disk: needs the package lmdb, which is not installed; "
    )
    assert f"{said}In the checkout: pip install -e '.[disk]'" in capsys.readouterr().err


def test_a_server_that_cannot_start_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr("sys.executable", "/bin/false")
    assert main(["show", "half", "--models", "select", "--out", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert "select could not be recorded: the server did not start" in err
    assert "no model could be recorded" in err
