"""The report as one HTML page that opens offline: pictures and script are inside. What it says is report.py's."""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files


@dataclass(slots=True)
class Table:
    """A table. Cells are texts; a cell (text, number) is sorted by its number."""

    head: Sequence[str]
    rows: Sequence[Sequence[str | tuple[str, float]]]
    caption: str = ""


@dataclass(slots=True)
class Section:
    """An experiment on the page: sentences, each with whether a known truth came out; a picture; tables behind it."""

    anchor: str
    title: str
    lead: str
    sentences: Sequence[tuple[str, bool | None]] = ()
    picture: bytes = b""
    picture_text: str = ""
    notes: Sequence[str] = ()
    tables: Sequence[Table] = ()


@dataclass(slots=True)
class Page:
    """The whole page."""

    title: str
    lead: str
    summary: Table
    sections: Sequence[Section]
    facts: Mapping[str, str]
    commands: Mapping[str, str]
    left_out: Sequence[str] = field(default_factory=list)


def render(page: Page) -> str:
    """Return the page as HTML."""
    asset = files("kvss_gevent.compare.report").joinpath
    style, script = asset("page.css").read_text(), asset("page.js").read_text()
    links = "".join(f'<li><a href="#{section.anchor}">{escape(section.title)}</a></li>' for section in page.sections)
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',
        f"<title>{escape(page.title)}</title><style>{style}</style></head><body><main>",
        f"<h1>{escape(page.title)}</h1><p class=lead>{escape(page.lead)}</p>",
        '<h2 id="summary">Summary</h2>',
        _table(page.summary),
        f'<nav aria-label="experiments"><ul>{links}</ul></nav>',
        *map(_section, page.sections),
        '<h2 id="conditions">Conditions</h2>',
        _table(Table(("", ""), list(page.facts.items()))),
        '<h2 id="commands">Commands</h2>',
        *(
            f"<details><summary>{escape(name)}</summary><pre>{escape(command)}</pre></details>"
            for name, command in page.commands.items()
        ),
        '<h2 id="left-out">Left out</h2>',
        _list(page.left_out) if page.left_out else "<p>Nothing.</p>",
        f"</main><script>{script}</script></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _section(section: Section) -> str:
    parts = [f'<section id="{section.anchor}"><h2>{escape(section.title)}</h2><p class=lead>{escape(section.lead)}</p>']
    marks = {True: ("held", "as known"), False: ("missed", "not as known"), None: ("", "")}
    for text, holds in section.sentences:
        css, mark = marks[holds]
        shown = f'<span class="mark {css}">{mark}</span> ' if mark else ""
        parts.append(f"<p>{shown}{escape(text)}</p>")
    if section.picture:
        data = base64.b64encode(section.picture).decode()
        parts.append(f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(section.picture_text, quote=True)}">')
    if section.notes:
        parts.append(_list(section.notes))
    parts += [
        f"<details><summary>{escape(table.caption)}</summary>{_table(table)}</details>" for table in section.tables
    ]
    return "\n".join(parts) + "</section>"


def _list(items: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def _table(table: Table) -> str:
    lines = ['<div class="wide"><table><thead><tr>']
    lines += [f'<th scope="col"><button type="button">{escape(cell)}</button></th>' for cell in table.head]
    lines.append("</tr></thead><tbody>")
    for row in table.rows:
        lines.append("<tr>" + "".join(map(_cell, row)) + "</tr>")
    return "".join(lines) + "</tbody></table></div>"


def _cell(cell: str | tuple[str, float]) -> str:
    if isinstance(cell, str):
        return f"<td>{escape(cell)}</td>"
    text, number = cell
    return f'<td class="number" data-number="{json.dumps(number)}">{escape(text)}</td>'
