"""What all pages share: nothing from outside, nothing unescaped, colours that everybody tells apart."""

import itertools
import json
import xml.etree.ElementTree as ET

import pytest

from kvss_gevent.pages import palette, shell, svg, tables

NASTY = '<b>&"</script>'


def test_a_page_asks_nobody_and_escapes_what_it_shows() -> None:
    body = shell.heading(NASTY, NASTY) + shell.bullets([NASTY]) + shell.checks([(None, NASTY)])
    html = shell.page(NASTY, body + tables.table([NASTY], [[NASTY]]), data={"said": NASTY})
    assert "<b>" not in html
    assert html.count("</script>") == 2
    for word in ("http:", "https:", "@import", "src="):
        assert word not in html


def test_the_data_of_a_page_is_json_for_a_script_to_read() -> None:
    data = {"said": NASTY, "waited_us": [1.5, 2]}
    html = shell.page("t", "", data=data)
    start = html.index('id="data">') + len('id="data">')
    assert json.loads(html[start : html.index("</script>", start)]) == data


def test_a_table_says_by_which_number_a_cell_is_sorted() -> None:
    html = tables.table(["model", "p99"], [["gevent", ("1.2 ms", 1.2)], ["pool", ("-", None)]], sortable=True)
    assert 'data-number="1.2"' in html
    assert 'data-number="null"' in html
    assert html.count("<button") == 2
    assert html.count('data-label="model"') == 2


def test_the_heading_of_a_column_of_numbers_stands_over_them() -> None:
    html = tables.table(["model", "p99"], [["pool", "none"], ["gevent", ("1.2 ms", 1.2)]])
    assert '<th scope="col">model</th><th scope="col" class="number">p99</th>' in html
    assert '<th scope="col">p99</th>' in tables.table(["model", "p99"], [])


def test_a_table_refuses_a_row_of_another_length() -> None:
    with pytest.raises(ValueError, match="zip"):
        tables.table(["a", "b"], [["only one"]])


def test_pictures_are_well_formed() -> None:
    picture = svg.svg(
        100, 50, svg.line([(0, 1.23456), (2, 3)], stroke_dasharray="2 2"), svg.text(1, 2, NASTY), label=NASTY
    )
    root = ET.fromstring(picture)
    assert root.attrib["aria-label"] == NASTY
    polyline, words = root
    assert polyline.attrib["points"] == "0,1.23 2,3"
    assert words.text == NASTY


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 10, [0, 2, 4, 6, 8, 10]), (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (3, 3, [3]), (5, 38, [10, 20, 30])],
)
def test_ticks_are_round_and_few(low: float, high: float, expected: list[float]) -> None:
    assert svg.ticks(low, high) == pytest.approx(expected)


def test_decades_enclose_all_values() -> None:
    assert svg.decades(3, 2500) == [1, 10, 100, 1000, 10000]


def test_scales_put_values_where_they_belong() -> None:
    assert svg.linear(0, 10, 100, 0)(5) == 50
    assert svg.logarithmic(1, 1000, 0, 300)(10) == pytest.approx(100)
    assert svg.logarithmic(1, 1000, 0, 300)(0) == 0
    assert svg.nines(99.9) == pytest.approx(3)


def test_labels_move_apart_in_order_and_no_further_than_need_be() -> None:
    assert svg.spread([0, 50, 100], 10) == [0, 50, 100]
    assert svg.spread([50, 50], 10) == [45, 55]
    moved = svg.spread([10, 11, 12, 80], 10)
    assert moved[3] == 80
    assert all(second - first >= 10 - 1e-9 for first, second in itertools.pairwise(moved))


# Machado, Oliveira and Fernandes, A Physiologically-based Model for Simulation of Color Vision Deficiency (2009),
# full severity; for linear RGB.
SEEN_BY = {
    "everybody": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopes": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopes": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopes": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}


def lab(colour: str, matrix: tuple[tuple[float, ...], ...]) -> tuple[float, float, float]:
    """Return a colour in CIE Lab as seen through a matrix."""
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    rgb = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    r, g, b = (min(max(sum(a * c for a, c in zip(row, rgb, strict=True)), 0), 1) for row in matrix)
    xyz = (
        (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505,
        0.2126 * r + 0.7152 * g + 0.0722 * b,
        (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089,
    )
    x, y, z = (value ** (1 / 3) if value > 0.008856 else 7.787 * value + 16 / 116 for value in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("who", SEEN_BY)
def test_series_are_told_apart_by(who: str) -> None:
    seen = [lab(one.colour, SEEN_BY[who]) for one in palette.LOOKS]
    for first, second in itertools.combinations(seen, 2):
        distance = sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) ** 0.5
        assert distance > 10  # 2.3 is a difference that is just seen


def test_series_are_told_apart_without_colour() -> None:
    assert len({(one.dash, one.marker) for one in palette.LOOKS}) == len(palette.LOOKS)
    assert len({one.marker for one in palette.LOOKS}) == len(palette.LOOKS)
