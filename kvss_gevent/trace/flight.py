"""The flight recorder: keeps a server's last seconds in memory, and writes them on demand or after a slow call.

Each call costs one tuple and one append. A separate thread writes the file, piece by piece: to format all events at
once takes half a second, in which the loop cannot run. A server does not know when a request arrived, so a recording
shows which call held the loop and which calls began right after it.
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
from kvss_gevent.settings.named_files import UnreadableFile, read_parsed
from kvss_gevent.trace.events import Event, Note, What
from kvss_gevent.trace.noted_conversation import Tracer

logger = logging.getLogger("kvss")

FORM = "kvss flight recording 1"
MAX_BYTES = 64 << 20
"""A longer file is no recording: MOST_EVENTS take about 12 MB."""
MOST_EVENTS = 100_000
"""About 30 MB. At 10,000 requests a second it is the last ten seconds."""
AFTER_S = 0.5
"""Time from a slow call to the writing, so that the recording has the calls right after it."""
PAUSE_S = 60.0
"""Shortest time between two recordings that slow calls start."""
MOST_FILES = 10
"""So many recordings are written because of slow calls; later slow calls are only logged."""

PIECE_EVENTS = 200
"""Events written together: this holds the loop for 1 ms. The thread then sleeps for PIECE_PAUSE_S."""
PIECE_PAUSE_S = 0.001


@dataclass(frozen=True, slots=True)
class Flight:
    """A recording that was read from a file: events in the order of their ends, the model, the process, the cause."""

    model: str
    process: int
    written: str
    why: str
    seconds: float
    events: list[Event]


class FlightError(Exception):
    """A file is not a recording; the message says why."""


class FlightRecorder:
    """Keeps the events of the last `seconds`, at most MOST_EVENTS. A Service makes conversations with `converse`.

    slow_ms: a call that held its thread longer is logged and starts a recording; 0 for never. directory: where
    recordings are written.
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
        """Log a long call and start a recording, unless it waited for a store most of the time."""
        waited_ns = 0
        for one in reversed(self._kept):
            if one[3] < event[2]:
                break
            if one[0] is What.STORE and one[1] == event[1] and one[2] >= event[2]:
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
        """Start a recording because a signal asked for it."""
        self.write(f"asked for by {signal.Signals(number).name}")

    def write(self, why: str, after_s: float = 0.0) -> threading.Thread:
        """Write a recording in the background after after_s, and log its path; returns the thread.

        While a recording is being written no other one is; this is logged.
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
            logger.warning("a flight recording is being written already, so none is made for: %s", why)
            return
        now = time.localtime()
        path = _free_name(self._directory / f"kvss-flight-{time.strftime('%Y%m%d-%H%M%S', now)}-{os.getpid()}.json")
        part = path.with_suffix(".part")
        try:
            written = self._write_to(part, time.strftime("%Y-%m-%d %H:%M:%S", now), why)
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
        # It has keys of clients and its name can be guessed, so it must be a new file that only its owner can read.
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
    """Return the path; if there is such a file already, with a number after its name."""
    names = (path.with_stem(f"{path.stem}-{number}") for number in count(2))
    return next(name for name in chain((path,), names) if not name.exists())


def _row(event: Event) -> list[Any]:
    what, conversation, began, ended, bytes_in, bytes_out, head = event
    return [int(what), conversation, began, ended, bytes_in, bytes_out, asked(head)]


def _text(found: object) -> str:
    return json.dumps(found, separators=(",", ":"))


def read_flight(path: Path) -> Flight:
    """Read a recording. Raises FlightError."""
    try:
        found: dict[str, Any] = read_parsed(path, MAX_BYTES, json.loads)
    except UnreadableFile as error:
        raise FlightError(str(error)) from None
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
