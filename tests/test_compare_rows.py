"""The journal of a comparison: what was written is there after a crash, and nothing else is taken for a row."""

from pathlib import Path

import pytest
from compare_rows import journal, rows

from kvss_gevent.compare.rows import Journal, Measurement, Point, Trial, UnreadableError

ROWS = rows("cost", "threads", {32: {"cpu_us": 9.5}}, errors={"lost connections": 2}, limited=True, case="alone")


def test_what_was_added_is_read_back(tmp_path: Path) -> None:
    made = journal(tmp_path / "new" / "report", ROWS)
    failed = Measurement(Trial("idle", "fork", 1), Point(0, {}), "took too long")
    made.add([failed])
    again = Journal.read(made.directory)
    assert again.rows == [*ROWS, failed]
    assert again.settings == made.settings
    assert Trial("idle", "fork", 1) in again.done()
    assert list(again.of("idle")) == [failed]


def test_a_line_that_was_cut_off_is_left_out_and_overwritten(tmp_path: Path) -> None:
    made = journal(tmp_path, ROWS)
    path = tmp_path / Journal.NAME
    path.write_text(path.read_text()[:-20])
    again = Journal.read(tmp_path)
    assert again.rows == ROWS[:-1]
    again.add(ROWS[-1:])
    assert Journal.read(tmp_path).rows == made.rows


def test_a_report_is_not_overwritten(tmp_path: Path) -> None:
    journal(tmp_path, ROWS)
    with pytest.raises(FileExistsError):
        Journal.create(tmp_path, {})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense\n",
        '{"format": "kvss-compare", "version": 99, "settings": {}}\n',
        "[]\n",
        '{"format": "kvss-compare", "version": 2, "settings": {}}\n',
        '{"format": "kvss-compare", "version": 2, "settings": []}\n',
        "\xff\n",
        "[" * 100_000,
    ],
    ids=range(8),
)
def test_what_is_no_journal_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / Journal.NAME).write_text(text, encoding="latin-1")
    with pytest.raises(UnreadableError, match="not a journal of this version"):
        Journal.read(tmp_path)


def test_a_directory_without_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="No such file"):
        Journal.read(tmp_path)
