"""Looks at pages of our own in a real browser, Debian's chromium, over loopback and nothing else."""

import http.server
import json
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

QUIET = (
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
)

PROBE = """<!doctype html><title>probe</title>
<iframe id=narrow width=390 height=800 src="/index.html"></iframe>
<iframe id=wide width=1280 height=800 src="/index.html"></iframe>
<pre id=result></pre>
<script>
const clicks = (table, column) => {
  table.tHead.rows[0].cells[column].firstElementChild.click();
  return [...table.tBodies[0].rows].map((row) => row.cells[column].textContent);
};
const look = (id) => {
  const frame = document.getElementById(id).contentWindow;
  const root = frame.document.documentElement;
  const table = frame.document.querySelector("table");
  return {
    width: root.clientWidth,
    needs: root.scrollWidth,
    pictures: [...frame.document.images].map((image) => [image.naturalWidth, image.clientWidth]),
    resources: frame.performance.getEntriesByType("resource").map((one) => one.name.slice(0, 60))
      .filter((name) => !name.startsWith("data:")),
    once: clicks(table, 1),
    twice: clicks(table, 1),
    text: frame.document.body.innerText,
  };
};
addEventListener("load", () => {
  document.getElementById("result").textContent = JSON.stringify({narrow: look("narrow"), wide: look("wide")});
});
</script>
"""


def probe(page: Path, profile: Path, look: str = PROBE) -> tuple[dict[str, Any], list[str]]:
    """Open a page 390 and 1280 pixels wide, click its first table's second heading twice; return what was seen.

    look is a page that holds it in two frames and does that. Returns what look finds by frame, and the paths that the
    browser asked for.
    """
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/probe.html":
                asked.clear()  # the browser dumped too early, and is asked again
            asked.append(self.path)
            body = {"/probe.html": look.encode(), "/index.html": page.read_bytes()}.get(self.path, b"")
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        seen = dumped(f"http://127.0.0.1:{server.server_port}/probe.html", profile)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
    return seen, [path for path in asked if path not in ("/probe.html", "/favicon.ico")]


def dumped(url: str, profile: Path) -> dict[str, Any]:
    """Return the JSON that a page leaves in #result; a browser that dumps too early is asked again, for a minute."""
    chromium = shutil.which("chromium")
    assert chromium is not None, "this test needs a browser: apt-get install chromium"
    deadline_s = time.monotonic() + 60
    while True:
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", *QUIET, f"--user-data-dir={profile}"]
        command += ["--virtual-time-budget=10000", "--dump-dom", url]
        dom = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        _, found, rest = dom.partition('<pre id="result">')
        text = rest.partition("</pre>")[0]
        if found and text:
            result: dict[str, Any] = json.loads(
                text.replace("&lt;", "<").replace("&gt;", ">").replace("&nbsp;", " ").replace("&amp;", "&")
            )
            return result
        assert time.monotonic() < deadline_s, dom[-2000:]
