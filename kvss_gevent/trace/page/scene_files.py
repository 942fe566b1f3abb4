"""A scene from its recording to its files: what `kvss show` writes, and the laboratory's report links."""

import json
from pathlib import Path

from kvss_gevent.trace.analysis.parts import UnpairedError
from kvss_gevent.trace.analysis.scene_verdict import Story, tell
from kvss_gevent.trace.page.chrome_trace import chrome_trace
from kvss_gevent.trace.page.data import page_data
from kvss_gevent.trace.page.scene_page import render
from kvss_gevent.trace.scenes.player import PlayError
from kvss_gevent.trace.scenes.recording import record
from kvss_gevent.trace.scenes.scene import Scene

TRIES = 2
"""A recording that lost events is made once more."""


def told(scene: Scene, model: str) -> Story | str:
    """Record a scene with one model; return its story, or why there is none."""
    why = ""
    for _ in range(TRIES):
        try:
            return tell(record(scene, model))
        except (PlayError, UnpairedError) as error:
            why = f"{model} could not be recorded: {error}"
    return why


def write(directory: Path, scene: Scene, stories: list[Story]) -> Path:
    """Write the page and the trace of a scene; return the page's path. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    page = directory / f"{scene.name}.html"
    page.write_text(render(stories), encoding="utf-8")
    page.with_suffix(".trace.json").write_text(json.dumps(chrome_trace(page_data(stories))), encoding="utf-8")
    return page
