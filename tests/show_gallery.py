"""Makes the pictures of docs/show.md anew: `python -m tests.show_gallery docs/show`. Needs Debian's chromium.

Every model plays a scene until its requests were hardly ever without a core, at most TRIES times; the quietest of these
is drawn.
Run it on a machine that does nothing else; it prints for which share of their time requests were without a core.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageChops

from kvss_gevent import models
from kvss_gevent.trace.analysis.scene_verdict import SceneAnalysis
from kvss_gevent.trace.page.data import coreless_share
from kvss_gevent.trace.page.scene_files import record_and_analyse
from kvss_gevent.trace.page.scene_page import render
from kvss_gevent.trace.scenes.catalogue import SCENES
from kvss_gevent.trace.scenes.scene import Scene

PICTURES = (
    ("burn", "", tuple(models.MODULES)),
    ("stall", "gevent,asyncio,threads", ("gevent", "asyncio", "threads", "prefork")),
    ("pool", "sequential,pool,gevent", ("sequential", "pool", "prefork", "gevent")),
    ("cores", "threads,prefork,gevent", ("gevent", "threads", "prefork")),
)
"""Scene, the models that are open, and those recorded."""
TRIES = 8
QUIET_SHARE = 0.01
SIZE = "1280,1700"
"""Pixels, more than a picture needs; what is empty below it is cut off."""
WITHOUT_TEXT = "<style>.after { display: none }</style>"


def quietest(scene: Scene, names: Sequence[str]) -> list[SceneAnalysis]:
    """Return the analysis of each model in which other programs took the fewest cores away."""
    found: dict[str, SceneAnalysis] = {}
    for _ in range(TRIES):
        for name in names:
            if name in found and coreless_share([found[name]]) < QUIET_SHARE:
                continue
            analysis = record_and_analyse(scene, name)
            if isinstance(analysis, str):
                print(analysis)
            elif name not in found or coreless_share([analysis]) < coreless_share([found[name]]):
                found[name] = analysis
    return list(found.values())


def main(directory: Path) -> None:
    """Record, render, photograph."""
    directory.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or sys.exit("chromium is missing: apt-get install chromium")
    with tempfile.TemporaryDirectory() as temporary:
        for name, opened, recorded in PICTURES:
            analyses = quietest(SCENES[name], recorded)
            page = Path(temporary) / f"{name}.html"
            page.write_text(render(analyses) + WITHOUT_TEXT, encoding="utf-8")
            picture = directory.resolve() / f"{name}.png"
            command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
            command += [f"--user-data-dir={temporary}/profile", f"--window-size={SIZE}"]
            command += [f"--screenshot={picture}", "--virtual-time-budget=4000"]
            subprocess.run([*command, f"{page.as_uri()}#{opened or 'shown'}"], check=True, timeout=60, stderr=-3)
            cut_below(picture)
            print(f"{name}.png: without a core for {coreless_share(analyses):.1%} of the time")


def cut_below(picture: Path) -> None:
    """Cut off what is empty below a picture."""
    with Image.open(picture) as image:
        whole = image.convert("RGB")
    drawn = ImageChops.difference(whole, Image.new("RGB", whole.size, "white")).getbbox()
    whole.crop((0, 0, whole.width, min(whole.height, (drawn or (0, 0, 0, 0))[3] + 12))).save(picture, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
