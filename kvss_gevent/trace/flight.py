"""The flight recorder: a running server's last seconds in memory, written to a file on demand or when a call is slow.

The server's path pays for one tuple and one append for each call. Writing happens on a thread of its own, a piece at a
time: to make one text of all takes half a second, in which the loop cannot run. A server alone does not know when a
request arrived, so a recording shows who held the loop and what was taken up right after.
"""

import contextlib
import json
import logging
import os
import signal
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count
from operator import itemgetter
from pathlib import Path
from typing import Any

from kvss_gevent.core.session import Session
from kvss_gevent.protocol.wire import asked
from kvss_gevent.trace.events import Event, Note, What
from kvss_gevent.trace.noted_conversation import Tracer

logger = logging.getLogger("kvss")

FORM = "kvss flight recording 1"
MOST_EVENTS = 100_000
"""About 30 MB. At 10,000 requests a second it is the last ten seconds."""
AFTER_S = 0.5
"""Between something slow and the writing: what is taken up right after belongs to it."""
PAUSE_S = 60.0
"""Between two recordings that nobody asked for."""
MOST_FILES = 10
"""So many recordings that nobody asked for are written; then only the log tells."""

PIECE_EVENTS = 200
"""Written in one go: the loop waits 1 ms for that, and has PIECE_PAUSE_S for itself before the next."""
PIECE_PAUSE_S = 0.001

_WAITS = (What.STORE,)


@dataclass(frozen=True, slots=True)
class Flight:
    """A recording as it is read back: what was noted, by the time at which it ended, and where and when."""

    model: str
    process: int
    written: str
    why: str
    seconds: float
    events: list[Event]


class FlightError(Exception):
    """A file is no recording; the message says why."""


class FlightRecorder:
    """Keeps the events of the last `seconds`, at most MOST_EVENTS; `converse` is for a Service, to make conversations.

    slow_ms: a call that held its thread longer than that is logged and has a recording written; 0 is never.
    directory: where recordings go.
    """

    def __init__(self, model: str, seconds: float, slow_ms: float = 0.0, directory: Path = Path()) -> None:
        self._model, self._seconds, self._directory = model, seconds, directory
        self._kept: deque[Event] = deque(maxlen=MOST_EVENTS)
        self._slow_ns = int(slow_ms * 1e6)
        self._due_s = 0.0
        self._files = 0
        self._writing = threading.Lock()
        self._writer: threading.Thread | None = None
        note: Note = self._note_and_look if slow_ms else self._kept.append
        self.converse = Tracer(Session, note)

    def _note_and_look(self, event: Event) -> None:
        self._kept.append(event)
        if event[3] - event[2] > self._slow_ns and event[0] in (What.RECEIVE, What.PROCEED):
            self._look_at(event)

    def _look_at(self, event: Event) -> None:
        """Tell of a call that took long, if it held its thread and did not wait for a store."""
        waited_ns = 0
        for one in reversed(self._kept):
            if one[3] < event[2]:
                break
            if one[0] in _WAITS and one[1] == event[1] and one[2] >= event[2]:
                waited_ns += one[3] - one[2]
        held_ns = event[3] - event[2] - waited_ns
        now_s = time.monotonic()
        if held_ns <= self._slow_ns or now_s < self._due_s:
            return
        self._due_s = now_s + PAUSE_S
        said = f"{asked(event[6])} held the loop for {held_ns / 1e6:.0f} ms"
        logger.warning("%s", said)
        if self._files < MOST_FILES:
            self._files += 1
            self.write(said, AFTER_S)

    def dump(self, number: int) -> None:
        """Have the recording written because a signal asked for it."""
        self.write(f"asked for by {signal.Signals(number).name}")

    def write(self, why: str, after_s: float = 0.0) -> threading.Thread:
        """Have the recording written in the background and its path logged; returns the thread that does it.

        While one is being written others are not: this is logged.
        """
        writer = self._writer = threading.Timer(after_s, self._write, (why,))
        writer.daemon = True
        writer.start()
        return writer

    @property
    def is_writing(self) -> bool:
        """Whether a recording is being written, or will be soon."""
        return self._writing.locked() or (self._writer is not None and self._writer.is_alive())

    def _write(self, why: str) -> None:
        if not self._writing.acquire(blocking=False):
            logger.warning("a flight recording is being written; there is no other one for: %s", why)
            return
        stamp = time.strftime("%Y%m%d-%H%M%S")
        path = _free_name(self._directory / f"kvss-flight-{stamp}-{os.getpid()}.json")
        part = path.with_suffix(".part")
        try:
            written = self._write_to(part, stamp, why)
            part.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            failure: str | None = error.strerror
        else:
            failure = None
        finally:
            self._writing.release()
        if failure:
            logger.error("the flight recorder cannot write %s: %s", path, failure)
        else:
            logger.warning("flight recording of %d events: kvss show %s", written, path)

    def _write_to(self, path: Path, stamp: str, why: str) -> int:
        """Write a file; return the number of its events. Raises OSError."""
        recording = {
            "form": FORM,
            "model": self._model,
            "process": os.getpid(),
            "written": stamp,
            "why": why,
            "seconds": self._seconds,
            "events": [],
        }
        events = list(self._kept)
        first = bisect_left(events, time.monotonic_ns() - int(self._seconds * 1e9), key=itemgetter(3))
        # It holds keys and addresses, and its name can be guessed: the file is new, and its owner's alone.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(_text(recording)[: -len("]}")])
            for start in range(first, len(events), PIECE_EVENTS):
                rows = [_row(event) for event in events[start : start + PIECE_EVENTS]]
                file.write("," * (start > first) + _text(rows)[1:-1])
                time.sleep(PIECE_PAUSE_S)
            file.write("]}")
        return len(events) - first


def _free_name(path: Path) -> Path:
    """Return the path, with a number behind its name where there is a file already."""
    names = (path.with_stem(f"{path.stem}-{number}") for number in count(2))
    return next(name for name in chain((path,), names) if not name.exists())


def _row(event: Event) -> list[Any]:
    what, conversation, began, ended, bytes_in, bytes_out, head = event
    return [int(what), conversation, began, ended, bytes_in, bytes_out, asked(head)]


def _text(found: object) -> str:
    return json.dumps(found, separators=(",", ":"))


def read_flight(path: Path) -> Flight:
    """Read a recording. Raises FlightError, OSError."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise FlightError("it is not JSON, or its end is missing") from None
    if not isinstance(found, dict) or found.get("form") != FORM:
        raise FlightError("it is not a flight recording of this version")
    try:
        events = [_event(row) for row in found["events"]]
        model, written, why = (str(found[name]) for name in ("model", "written", "why"))
        return Flight(model, int(found["process"]), written, why, float(found["seconds"]), events)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise FlightError(f"it is damaged: {error}") from None


def _event(row: Sequence[Any]) -> Event:
    what, conversation, began, ended, bytes_in, bytes_out, words = row
    if not 0 <= began <= ended < 1 << 63:
        raise ValueError(f"an event from {began} to {ended}")
    return (What(what), int(conversation), int(began), int(ended), int(bytes_in), int(bytes_out), str(words).encode())
