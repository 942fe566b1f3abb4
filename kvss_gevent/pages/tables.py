"""HTML tables: numbers are right-aligned, a click on a heading sorts, and a narrow screen shows one card a row."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class Markup:
    """A cell whose content is HTML; number, if there is one, is what it is sorted by."""

    html: str
    number: float | None = None


Cell = str | tuple[str, float | None] | Markup
"""A text; or a text with the number that it is sorted by (None comes last); or HTML."""


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]], *, sortable: bool = False, css: str = "") -> str:
    """Return a table. On screens below 600 px every row is a card, and the headings are its labels."""
    columns = zip(*rows, strict=True) if rows else ((),) * len(head)
    looks = [' class="number"' if any(isinstance(cell, tuple) for cell in column) else "" for column in columns]
    cells = [f'<th scope="col"{look}>{_heading(name, sortable)}</th>' for name, look in zip(head, looks, strict=True)]
    lines = [f'<div class="wide"><table class="cards {escape(css)}"><thead><tr>{"".join(cells)}</tr></thead><tbody>']
    for row in rows:
        lines.append("<tr>" + "".join(_cell(cell, name) for cell, name in zip(row, head, strict=True)) + "</tr>")
    return "".join(lines) + "</tbody></table></div>"


def _heading(name: str, sortable: bool) -> str:
    return f'<button type="button">{escape(name)}</button>' if sortable and name else escape(name)


def _cell(cell: Cell, label: str) -> str:
    label = f' data-label="{escape(label)}"' if label else ""
    if isinstance(cell, Markup):
        sorts = "" if cell.number is None else f' data-number="{json.dumps(cell.number)}"'
        return f"<td{sorts}{label}>{cell.html}</td>"
    if isinstance(cell, str):
        return f"<td{label}>{escape(cell)}</td>"
    text, number = cell
    return f'<td class="number" data-number="{json.dumps(number)}"{label}>{escape(text)}</td>'
