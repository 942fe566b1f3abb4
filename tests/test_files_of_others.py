"""Commands that write results into a folder of the user's do not replace what something else has written there."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kvss_gevent.cli import main
from kvss_gevent.loadtest.load_options import read_options
from kvss_gevent.loadtest.report import files
from kvss_gevent.settings.fail import Exit, Fail


def graded(out: Path) -> int:
    submission = out.parent / "class" / "an"
    submission.mkdir(parents=True, exist_ok=True)
    (submission / "build.sh").write_text("exit 1\n")
    (submission / "run.sh").write_text("exit 1\n")
    return main(["grade", str(submission.parent), "--out", str(out)])


def loaded(out: Path) -> int:
    try:
        files.prepare(read_options({"out": str(out)}))
    except Fail as fail:
        fail.show("kvss load")
        return fail.code
    return Exit.OK


RUNS: dict[str, Callable[[Path], int]] = {
    "index.html": lambda out: main(["compare", "run", "--models", "select", "--out", str(out)]),
    "marks.csv": graded,
    "results.json": loaded,
    "1/results.json": lambda out: main(["load", "repeat", "2", str(out)]),
    "half.html": lambda out: main(["show", "half", "--models", "select", "--out", str(out)]),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_file_of_something_else_is_named_and_stays(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "site" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    assert RUNS[name](tmp_path / "site") == 2
    assert f": {file} would be replaced, and this command did not write it\n" in capsys.readouterr().err
    assert [path.read_text() for path in (tmp_path / "site").rglob("*") if path.is_file()] == ["mine"]


@pytest.mark.parametrize("run", [graded, loaded])
def test_a_folder_with_other_files_is_used_and_the_same_run_again_replaces_its_own(
    run: Callable[[Path], int], tmp_path: Path
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "notes.txt").write_text("mine")
    for _ in range(2):
        assert run(tmp_path / "site") == 0
        (tmp_path / "site" / "results.json").write_text("{}")
    assert (tmp_path / "site" / "notes.txt").read_text() == "mine"
