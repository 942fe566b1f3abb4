"""Makes the pictures of docs/show.md anew: `python -m tests.show_gallery docs/show`. Needs Debian's chromium.

A model plays a scene until its requests were hardly ever without a core, at most TRIES times; the quietest is drawn.
Run it on a machine that does nothing else; it prints for which share of their time requests were without a core.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from kvss_gevent import models
from kvss_gevent.trace.analysis.scene_verdict import Story
from kvss_gevent.trace.page.data import coreless_share
from kvss_gevent.trace.page.scene_files import told
from kvss_gevent.trace.page.scene_page import render
from kvss_gevent.trace.scenes.catalogue import SCENES
from kvss_gevent.trace.scenes.scene import Scene

PICTURES = (
    ("burn", "", tuple(models.MODULES), 1280, 1010),
    ("stall", "gevent,asyncio,threads", ("gevent", "asyncio", "threads", "prefork"), 1280, 700),
    ("pool", "sequential,pool,gevent", ("sequential", "pool", "prefork", "gevent"), 1280, 700),
    ("cores", "threads,prefork,gevent", ("gevent", "threads", "prefork"), 1280, 720),
)
"""Scene, the models that are open, those recorded, and the size in pixels."""


TRIES = 12
QUIET_SHARE = 0.01


def quietest(scene: Scene, model: str) -> Story:
    """Return the story of a scene in which other programs took the fewest cores away."""
    stories: list[Story] = []
    for _ in range(TRIES):
        story = told(scene, model)
        if isinstance(story, str):
            print(story)
            continue
        stories.append(story)
        if coreless_share([story]) < QUIET_SHARE:
            break
    return min(stories, key=lambda story: coreless_share([story]))


def main(directory: Path) -> None:
    """Record, render, photograph."""
    directory.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or sys.exit("chromium is missing: apt-get install chromium")
    with tempfile.TemporaryDirectory() as temporary:
        for name, opened, recorded, width, height in PICTURES:
            stories = [quietest(SCENES[name], model) for model in recorded]
            page = Path(temporary) / f"{name}.html"
            page.write_text(render(stories), encoding="utf-8")
            command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
            command += [f"--user-data-dir={temporary}/profile", f"--window-size={width},{height}"]
            command += [f"--screenshot={directory.resolve()}/{name}.png", "--virtual-time-budget=4000"]
            subprocess.run([*command, f"{page.as_uri()}#{opened or 'shown'}"], check=True, timeout=60, stderr=-3)
            print(f"{name}.png: without a core for {coreless_share(stories):.1%} of the time")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
