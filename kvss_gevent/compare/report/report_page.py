"""The report as one HTML page that opens offline, with its pictures. document.py makes the content."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from kvss_gevent.pages import shell
from kvss_gevent.pages.tables import Cell, table


@dataclass(slots=True)
class Table:
    """A table; see pages.tables for its cells."""

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str


@dataclass(slots=True)
class Picture:
    """A picture: the name of its files without suffix, its SVG, and what it shows in words."""

    name: str
    svg: bytes
    words: str


@dataclass(slots=True)
class Section:
    """An experiment on the page: sentences, known truths and whether they were confirmed, pictures, tables."""

    anchor: str
    title: str
    lead: str
    sentences: Sequence[tuple[str, bool | None]]
    truths: Sequence[tuple[str, bool | None]]
    pictures: Sequence[Picture]
    doubts: Sequence[str]
    tables: Sequence[Table]
    scene: str = ""
    """The path of the page of `kvss show` that shows the same; "" if there is none."""


@dataclass(slots=True)
class ReportPage:
    """The content of the whole page."""

    title: str
    lead: str
    doubts: Sequence[str]
    summary: Table
    sections: Sequence[Section]
    facts: Mapping[str, str]
    commands: Mapping[str, str]
    left_out: Sequence[str]


STYLE = """
.doubts { border-left: .3rem solid #d55e00; padding-left: .8rem; }
nav ul { columns: 2; padding-left: 1.2rem; }
@media (max-width: 600px) { nav ul { columns: 1; } }
"""


def render(page: ReportPage) -> str:
    """Return the page as HTML."""
    links = "".join(f'<li><a href="#{section.anchor}">{escape(section.title)}</a></li>' for section in page.sections)
    parts = [shell.heading(page.title, page.lead)]
    if page.doubts:
        parts.append(
            f'<div class="doubts"><h2 id="doubts">Do not trust these results</h2>{shell.bullets(page.doubts)}</div>'
        )
    parts += ['<h2 id="summary">Summary</h2>', f"<p>{escape(page.summary.caption)}</p>"]
    parts.append(table(page.summary.head, page.summary.rows, sortable=True))
    parts.append(f'<nav aria-label="experiments"><ul>{links}</ul></nav>')
    parts += map(_section, page.sections)
    parts += ['<h2 id="conditions">Conditions</h2>', table(("what", "here"), list(page.facts.items()))]
    parts.append('<h2 id="commands">Commands</h2>')
    parts += [shell.folded(name, f"<pre>{escape(command)}</pre>") for name, command in page.commands.items()]
    parts.append('<h2 id="left-out">Left out</h2>')
    parts.append(shell.bullets(page.left_out) if page.left_out else "<p>Nothing.</p>")
    return shell.page(page.title, "\n".join(parts), style=STYLE)


def _section(section: Section) -> str:
    parts = [f'<section id="{section.anchor}"><h2>{escape(section.title)}</h2><p class=lead>{escape(section.lead)}</p>']
    parts += [f"<p>{escape(text)}</p>" for text, _ in section.sentences]
    if section.truths:
        parts.append(shell.checks([(holds, text) for text, holds in section.truths]))
    for picture in section.pictures:
        data = base64.b64encode(picture.svg).decode()
        image = f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(picture.words, quote=True)}">'
        parts.append(shell.figure(image, f"{picture.words} Files: {picture.name}.png, {picture.name}.svg."))
    if section.scene:
        parts.append(f'<p><a href="{escape(section.scene)}">Who waits for whom</a>: the same, in one second.</p>')
    if section.doubts:
        parts.append(f'<div class="doubts">{shell.bullets(section.doubts)}</div>')
    parts += [shell.folded(one.caption, table(one.head, one.rows, sortable=True)) for one in section.tables]
    return "\n".join(parts) + "</section>"
