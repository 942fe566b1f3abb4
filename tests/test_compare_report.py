"""The report: complete, true to its rows, in one file that opens offline; looked at in a real browser."""

import csv
import json
import os
import re
import time
from pathlib import Path

import pytest
from browser import probe
from compare_rows import journal, rows

from kvss_gevent.compare.experiments import connections, cost
from kvss_gevent.compare.report import document, plots, report_files
from kvss_gevent.compare.report.document import see
from kvss_gevent.compare.rows import Journal, Measurement, Point, Trial
from kvss_gevent.settings.fail import Fail

FIRST, LAST = cost.PACES[0], cost.PACES[-1]


@pytest.fixture
def made(tmp_path: Path) -> Journal:
    kept = journal(
        tmp_path / "report",
        rows("connections", "gevent", {1: figures(9_000), 32: figures(90_000), 256: figures(100_000)}, limited=True),
        rows("connections", "threads", {1: figures(8_000), 32: figures(70_000), 256: figures(50_000)}),
        rows("connections", "null", {1: figures(9_500), 32: figures(110_000), 256: figures(120_000)}),
        rows("cost", "gevent", {LAST.per_s: {"cpu_us": 8.25}}, repeats=6, case=str(LAST)),
        rows("cost", "threads", {LAST.per_s: {"cpu_us": 16.5}}, repeats=6, case=str(LAST)),
        rows("cost", "gevent", {FIRST.per_s: {"cpu_us": 20.0}}, repeats=6, case=str(FIRST)),
        rows("cost", "threads", {FIRST.per_s: {"cpu_us": 40.0}}, repeats=6, case=str(FIRST)),
        rows("lines", "gevent", {0: {"lines": 400}}, repeats=1),
        rows("lines", "threads", {0: {"lines": 60}}, repeats=1),
        rows("burn", "gevent", {0: {"max_us": 900, "p50_us": 200}, 1: {"max_us": 501_000, "p50_us": 300_000}}),
        rows("burn", "threads", {0: {"max_us": 900, "p50_us": 200}, 1: {"max_us": 21_000, "p50_us": 9_000}}),
    )
    kept.add([Measurement(Trial("burn", "prefork", 1), Point(0, {}), "the server did not start: <no room>")])
    return kept


def figures(rate: float) -> dict[str, float]:
    return {"rate_per_s": rate, "p50_us": 300.0, "p99_us": 900.0}


def draw_for_ever(*_: object) -> dict[str, bytes]:
    time.sleep(600)
    return {}


def die(*_: object) -> dict[str, bytes]:
    os._exit(9)


@pytest.mark.parametrize(
    ("draw", "limit_s", "why"),
    [(draw_for_ever, 0.1, "was not drawn within 0.1 s"), (die, 600.0, "a process that draws has died")],
)
def test_a_picture_that_does_not_come_is_an_error_and_no_wait(
    made: Journal, monkeypatch: pytest.MonkeyPatch, draw: object, limit_s: float, why: str
) -> None:
    monkeypatch.setattr(report_files.plots, "files", draw)
    monkeypatch.setattr(report_files, "PICTURE_LIMIT_S", limit_s)
    with pytest.raises(Fail, match=why):
        report_files.write(made)


@pytest.mark.full
def test_the_places_in_a_picture_are_rounded_so_that_the_same_rows_make_the_same_file(made: Journal) -> None:
    figure = plots.draw(connections.PANELS[0], see(made, "connections"), connections.VARIES, "source")
    assert figure is not None
    places = [part for axes in figure.axes for part in axes.get_position().bounds]
    assert places == [pytest.approx(round(part, 6), abs=1e-12) for part in places]


@pytest.mark.full
def test_all_that_was_measured_is_in_the_tables(made: Journal) -> None:
    report_files.write(made)
    data = json.loads((made.directory / "rows.json").read_text())
    assert len(data["rows"]) == len(made.rows)
    with (made.directory / "rows.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(made.rows)
    costs = {row["model"]: row["cpu_us"] for row in table if row["case"] == str(LAST)}
    assert costs == {"gevent": "8.25", "threads": "16.5"}
    assert {row["failed"] for row in table} == {"", "the server did not start: <no room>"}


@pytest.mark.full
def test_every_message_is_a_picture_of_its_own_with_title_and_source(made: Journal) -> None:
    page = report_files.write(made).read_text()
    for name in ("connections-rate-per", "connections-p99", "cost-cpu", "cost-ratio", "burn-max", "lines-lines"):
        assert (made.directory / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        svg = (made.directory / f"{name}.svg").read_text()
        assert "kvss compare, " in svg, "where it is from"
        assert f"{name}.svg" in page
    assert "Who is cheaper" in (made.directory / "cost-ratio.svg").read_text()


@pytest.mark.full
def test_the_same_rows_make_the_same_page(made: Journal) -> None:
    first = report_files.write(made).read_text()
    assert report_files.write(Journal.read(made.directory)).read_text() == first


@pytest.mark.full
def test_it_says_what_was_left_out_and_what_failed_and_how_it_was_made(made: Journal) -> None:
    page = report_files.write(made).read_text()
    for words in (
        "prefork, on disk could not be measured: the server did not start: &lt;no room&gt;.",
        "rate, stall, idle, slow",
        "kvss compare run",
        "taskset -c 0 python -m kvss_gevent serve --port 0 --model threads",
        "The generator was saturated, so that the server may be better: gevent (tuned).",
        "Of 2 known truths 2 came out, 0 did not, and 0 could not be determined.",
        "2.00 [2.00 to 2.00]",
        "a processor",
    ):
        assert words in page


@pytest.mark.full
def test_it_says_when_other_processes_were_in_the_way(made: Journal) -> None:
    words = "Other processes were in the way in "
    assert words not in report_files.write(made).read_text()
    made.add([Measurement(Trial("burn", "trio", n), Point(1, {"max_us": 5e5}, disturbed=True)) for n in range(9)])
    assert f"{words}{9 / (len(made.rows) - 1):.0%}" in report_files.write(made).read_text()
    last = list(document.as_text(made))[-4:]
    assert any(line.startswith("   Other processes") for line in last), "it is read at the end"


@pytest.mark.full
def test_nothing_in_it_points_elsewhere(made: Journal) -> None:
    page = report_files.write(made).read_text()
    without_data = re.sub(r"data:image/svg\+xml;base64,[A-Za-z0-9+/=]+", "", page)
    assert not re.search(r"""(src|href)=["'](?!#|data:|")""", without_data)
    assert "http" not in without_data


@pytest.mark.full
def test_in_a_browser_nothing_is_fetched_tables_sort_pictures_show_and_nothing_overflows(
    made: Journal, tmp_path: Path
) -> None:
    seen, asked = probe(report_files.write(made), tmp_path / "profile")
    assert asked == ["/index.html", "/index.html"]
    for name, width in (("narrow", 390), ("wide", 1280)):
        frame = seen[name]
        assert width - 20 <= frame["width"] <= width
        assert frame["needs"] <= frame["width"], f"{name} overflows"
        assert frame["resources"] == []
        assert len(frame["pictures"]) == 7
        assert all(natural > 0 and 0 < shown <= max(width, 640) for natural, shown in frame["pictures"])
        assert [trial[:4] for trial in frame["once"]] == ["1", "2.00"]
        assert [trial[:4] for trial in frame["twice"]] == ["2.00", "1"]
        assert "Concurrency models under KV/1.0" in frame["text"]


def test_one_model_measured_once_is_reported_without_comparisons(tmp_path: Path) -> None:
    one = journal(tmp_path, rows("cost", "threads", {LAST.per_s: {"cpu_us": 8.25}}, repeats=1, case=str(LAST)))
    assert list(document.as_text(one))[:2] == [
        "9. The cost of a request",
        "   Nothing is compared here: the figures are on the page.",
    ]
    page = document.page(one, {"cost": document.see(one, "cost")}, {})
    assert "gevent" not in page.lead
    assert page.summary.caption.startswith("CPU is a multiple of that of threads")
    assert page.sections[0].tables[0].caption.endswith("One repeat has no interval")
