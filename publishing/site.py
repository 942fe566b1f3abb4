"""`python -m publishing.site`: builds the documents as a site in site/, without a network, and finds dead links.

Exit codes: 0 built, 1 a link is dead or a page is wrong.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from publishing.links import dead_links

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "site"

ELSEWHERE = re.compile(r"https://[^\"]*/iframe-worker/shim")
CELL = re.compile(r"<td[^>]*>.*?</td>", re.DOTALL)
"""Of a table. A bar in its code is written with a backslash, which the site builder would show."""
SHIM = Path(__file__).with_name("iframe-worker.js")
"""What lets search work in a page opened from the disk. The site builder would fetch it when the page is opened."""


def main() -> int:
    """Build the site; returns the exit code."""
    shutil.rmtree(SITE, ignore_errors=True)
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "-f", "mkdocs.yml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
        check=False,
    )
    if done.returncode:
        # Behind the warnings stands a traceback, which says nothing more.
        print((done.stdout + done.stderr).partition("Traceback")[0], file=sys.stderr)
        print("kvss docs: the site was not built\n  Mend what is named above.", file=sys.stderr)
        return 1
    shutil.copyfile(SHIM, SITE / "assets" / SHIM.name)
    for page in SITE.rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        up = "../" * (len(page.relative_to(SITE).parts) - 1)
        html = ELSEWHERE.sub(f"{up}assets/{SHIM.name}", html)
        page.write_text(CELL.sub(lambda cell: cell[0].replace("\\|", "|"), html), encoding="utf-8")
    dead = list(dead_links(SITE, left_out=("404.html",)))  # that page has links from a web server's root
    for line in dead:
        print(line, file=sys.stderr)
    if dead:
        print("kvss docs: links are dead\n  Mend them in docs/.", file=sys.stderr)
        return 1
    print(SITE / "index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
