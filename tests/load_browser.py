"""A headless chromium for tests, driven over its DevTools pipe: pages that go on working, asked until they are done."""

import json
import os
import select
import shutil
import subprocess
import time
from base64 import b64decode
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_QUIET = ("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync")


class Browser:
    """One page in a browser of its own. Every call has a deadline; `profile` is a directory for the browser to fill.

    A pipe and not a port: nothing listens, nobody else can connect, and the browser ends when its test does. The
    protocol is one JSON object to a message, ended by a zero byte (--remote-debugging-pipe, file descriptors 3 and 4).
    """

    def __init__(self, profile: Path) -> None:
        chromium = shutil.which("chromium")
        assert chromium is not None, "this test needs a browser: apt-get install chromium"
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", *_QUIET, f"--user-data-dir={profile}"]
        command += ["--remote-debugging-pipe", "--window-size=1400,1000", "about:blank"]
        # The two descriptors must be 3 and 4 in the browser, whatever they are here: a shell puts them there.
        shell = ["bash", "-c", f'exec "$@" 3<&{to_read} 4>&{to_write}', "browser"]
        descriptors = (to_read, to_write)
        self._process = subprocess.Popen(
            [*shell, *command], pass_fds=descriptors, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for descriptor in descriptors:
            os.close(descriptor)
        self._buffer = b""
        self._number = 0
        self._session = ""

    def __enter__(self) -> Self:
        [page] = [one for one in self._call("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        attached = self._call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._to)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        os.close(self._from)

    def open(self, url: str) -> None:
        """Go to an address."""
        self._call("Page.navigate", url=url)

    def evaluate(self, script: str) -> Any:
        """Return the value of a JavaScript expression in the page, as plain data."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def fill(self, name: str, value: str) -> None:
        """Write into the input of that name as a person would: scripts of the page that listen hear of it."""
        field = f"document.querySelector('input[name={name}]')"
        setter = "Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set"
        self.evaluate(f"{setter}.call({field}, {value!r})")
        self.evaluate(f"{field}.dispatchEvent(new Event('input', {{bubbles: true}}))")

    def click(self, text: str) -> None:
        """Press the button with that text."""
        pressed = f"[...document.querySelectorAll('button')].filter(e => e.textContent == {text!r}).map(e => e.click())"
        assert self.evaluate(f"{pressed}.length") == 1, text

    def texts(self, selector: str) -> list[str]:
        """Return the texts of the elements there are now, those in frames, too."""
        documents = "[document, ...[...document.querySelectorAll('iframe')].map(e => e.contentDocument)]"
        script = f"{documents}.flatMap(d => [...d.querySelectorAll({selector!r})]).map(e => e.textContent)"
        found: list[str] = self.evaluate(script)
        return found

    def wait_for(self, selector: str, *parts: str, within_s: float = 20) -> list[str]:
        """Return the elements' texts once each part is in one of them; fails with the last texts after within_s."""
        ends = time.monotonic() + within_s
        while True:
            texts = self.texts(selector)
            missing = [part for part in parts if not any(part in text for text in texts)]
            if not missing:
                return texts
            assert time.monotonic() < ends, f"not on the page after {within_s} s: {missing}; but {texts}"
            time.sleep(0.1)

    def screenshot(self, path: Path) -> None:
        """Write what the page looks like as PNG."""
        path.write_bytes(b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def _call(self, method: str, within_s: float = 30, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        ends = time.monotonic() + within_s
        while True:
            answer = self._next(ends)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def _next(self, ends: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(ends - time.monotonic(), 0))
            assert ready, "the browser does not answer"
            data = os.read(self._from, 1 << 16)
            assert data, "the browser has ended"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer
