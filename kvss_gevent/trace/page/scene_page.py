"""The page of a scene: one HTML file that opens offline. Its scripts draw the pictures from the data in the page."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

from kvss_gevent.pages import shell
from kvss_gevent.trace.analysis.scene_verdict import SceneAnalysis
from kvss_gevent.trace.page.data import page_data

SCRIPTS = ("strips.js", "steps.js", "files.js", "controls.js")

HOW = (
    ("", 1, "", "served: solid, in the client's colour"),
    ("", 1, ".36", "waits for the client of that colour"),
    ("held", 1, "", "kept out by the client of that colour, busy or idle"),
    ("lock", 1, "", "ready, the lock is with the client of that colour"),
    ("lock", 0, "", "ready, no core"),
    ("store", 1, "", "in the store"),
    ("blocked", 1, "", "in a call that blocks"),
    ("start", 1, "", "its process is being made"),
    ("client", 1, "", "reply not read yet"),
)
"""The patterns of the legend: name, number of the colour, opacity, meaning."""

KEYS = "space, arrows, + and -, 1 to 9 open a model, c compares, Esc resets; shift and wheel zooms"

BUTTONS = (
    ("play", "&#9654;", "play or pause"),
    ("back", "&larr;", "the event before"),
    ("next", "&rarr;", "the next event"),
    ("in", "+", "zoom in"),
    ("out", "&minus;", "zoom out"),
    ("only", "only the open ones", "show only the models that are open, side by side"),
    ("reset", "reset", "show everything as at the start"),
)


def render(analyses: Sequence[SceneAnalysis]) -> str:
    """Return the page about one scene."""
    data = page_data(analyses)
    scene = data["scene"]
    answers = "".join(f'<button type="button">{escape(answer)}</button>' for answer in scene["answers"])
    warning = f'<p class="warning">{escape(data["warning"])}</p>' if data["warning"] else ""
    body = f"""
<script>document.body.classList.add("veiled")</script>
<h1>{escape(scene["title"])}</h1>
<p class="description">{escape(scene["description"])}</p>
<section class="predict" aria-label="question">
<p class="question">{escape(scene["question"])}</p>
<div class="answers">{answers}<button type="button" class="skip">show it without a guess</button></div>
<p class="because" hidden>{escape(scene["because"])}</p>
</section>
{warning}
{picture(BUTTONS, KEYS, patterns=True)}
<div class="after">
<h2>What was measured</h2>
{shell.bullets(data["summary"])}
<div class="code"></div>
<p class="lead">{escape(data["conditions"])}. Every figure is in this page's data, in the element with the
id data: the parts of each request sum to its time.</p>
</div>
<div class="tip" role="tooltip"></div>
"""
    return page(f"{scene['title']}: who waits for whom", body, data)


def page(title: str, body: str, data: dict[str, Any]) -> str:
    """Return a page whose pictures are drawn from data."""
    return shell.page(title, body, style=_asset("show.css"), script="".join(map(_asset, SCRIPTS)), data=data)


def picture(buttons: Sequence[tuple[str, str, str]], keys: str = "", patterns: bool = False) -> str:
    """Return the element in which the scripts draw, with these buttons, a line about keys, and a legend."""
    tools = "".join(
        f'<button type="button" data-do="{name}" title="{title}" aria-label="{title}">{shown}</button>'
        for name, shown, title in buttons
    )
    how = "".join(
        f'<span data-how="{name} {who}"{f" data-light={light}" if light else ""}>{escape(text)}</span>'
        for name, who, light, text in (HOW if patterns else ())
    )
    return f"""<div class="stage">
<div class="tools">{tools}<span class="keys">{escape(keys)}</span></div>
<div class="axis"></div><div class="strips"></div>
<p class="step" aria-live="polite"></p>
<div class="queue"></div>
<p class="how">{how}</p>
<noscript><p>The pictures need JavaScript.</p></noscript>
</div>"""


def _asset(name: str) -> str:
    return files("kvss_gevent.trace.page").joinpath(name).read_text(encoding="utf-8")
