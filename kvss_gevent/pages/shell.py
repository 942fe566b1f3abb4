"""The frame of every page: one HTML file that opens offline and works in light and dark, at 360 px, and on paper."""

import json
from collections.abc import Iterable
from html import escape
from importlib.resources import files
from typing import Any


def page(  # noqa: PLR0913 - only two are required
    title: str, body: str, *, lang: str = "en", style: str = "", script: str = "", data: Any = None
) -> str:
    """Return a whole HTML page.

    body is HTML. style and script are added after the shared ones. data, if given, is put into the page as JSON, in
    the element with the id `data`; scripts and tests read the figures from there.
    """
    parts = [
        "<!doctype html>",
        f'<html lang="{escape(lang)}"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',
        f"<title>{escape(title)}</title>",
        f"<style>{_asset('page.css')}{style}</style></head>",
        f"<body><main>{body}</main>",
    ]
    if data is not None:
        parts.append(f'<script type="application/json" id="data">{_json(data)}</script>')
    parts.append(f"<script>{_asset('page.js')}{script}</script></body></html>")
    return "\n".join(parts) + "\n"


def heading(title: str, lead: str) -> str:
    """Return the title of a page and the sentence below it."""
    return f"<h1>{escape(title)}</h1><p class=lead>{escape(lead)}</p>"


def bullets(items: Iterable[str]) -> str:
    """Return a list of plain texts."""
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def checks(findings: Iterable[tuple[bool | None, str]]) -> str:
    """Return a list of sentences, each marked as true, not true, or not decided (None)."""
    marks = {True: "ok", False: "not", None: "open"}
    lines = [
        f'<li><span class="mark {marks[holds]}">{marks[holds]}</span> {escape(text)}</li>' for holds, text in findings
    ]
    return f'<ul class="checks">{"".join(lines)}</ul>'


def folded(summary: str, html: str) -> str:
    """Return HTML that is hidden until the reader clicks on its summary."""
    return f"<details><summary>{escape(summary)}</summary>{html}</details>"


def figure(picture: str, caption: str) -> str:
    """Return a picture, as SVG or `img` HTML, with the sentence that says what it shows."""
    return f'<figure>{picture}<figcaption class="lead">{escape(caption)}</figcaption></figure>'


def _json(data: Any) -> str:
    # `</script` ends a script element even inside a string, and `<!--` has a meaning there.
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _asset(name: str) -> str:
    return files("kvss_gevent.pages").joinpath(name).read_text(encoding="utf-8")
