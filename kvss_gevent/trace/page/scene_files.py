"""Records and analyses a scene, and writes its files: for `kvss show`, and for the laboratory's report."""

import json
from pathlib import Path

from kvss_gevent.trace.analysis.parts import UnpairedError
from kvss_gevent.trace.analysis.scene_verdict import SceneAnalysis, analyse
from kvss_gevent.trace.page.chrome_trace import chrome_trace
from kvss_gevent.trace.page.data import page_data
from kvss_gevent.trace.page.scene_page import render
from kvss_gevent.trace.scenes.player import PlayError
from kvss_gevent.trace.scenes.recording import record
from kvss_gevent.trace.scenes.scene import Scene

TRIES = 2
"""A failed recording, such as one that lost events, is made once more."""


def record_and_analyse(scene: Scene, model: str) -> SceneAnalysis | str:
    """Record and analyse a scene with one model; return the analysis, or a sentence why there is none."""
    why = ""
    for _ in range(TRIES):
        try:
            return analyse(record(scene, model))
        except (PlayError, UnpairedError) as error:
            why = f"{model} could not be recorded: {error}"
    return why


def write(directory: Path, scene: Scene, analyses: list[SceneAnalysis]) -> Path:
    """Write the page and the trace of a scene; return the page's path. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    page = directory / f"{scene.name}.html"
    page.write_text(render(analyses), encoding="utf-8")
    page.with_suffix(".trace.json").write_text(json.dumps(chrome_trace(page_data(analyses))), encoding="utf-8")
    return page
