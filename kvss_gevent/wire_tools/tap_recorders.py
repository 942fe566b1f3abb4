"""The two recorders of a tap: one writes a capture file, the other shows lines of text."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from kvss_gevent.wire_tools import pcapng
from kvss_gevent.wire_tools.dialogue import Dialogue
from kvss_gevent.wire_tools.output import Output
from kvss_gevent.wire_tools.tcp_frames import Segments, Way

COMMENT: Final = (
    "Recorded by a proxy, kvss tap. Bytes, times, order and ends are real. The handshake, the acknowledgements and the "
    "borders of segments are invented: to see these, capture on a network interface."
)
HEAD: Final = (
    pcapng.section(COMMENT)
    + pcapng.interface("requests", "from client to server")
    + pcapng.interface("replies", "from server to client")
)
MAX_KEY_LOG_BYTES: Final = 1 << 20
MAX_HELD: Final = 64
"""Segments that wait for TLS keys, at most."""


class KeyLog:
    """A TLS key log that another program writes; its lines become part of the capture."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_bytes = 0

    def new_lines(self) -> bytes:
        """Return the whole lines added since the last call; b"" while there is no file."""
        try:
            if os.stat(self._path).st_size <= self._read_bytes or self._read_bytes >= MAX_KEY_LOG_BYTES:  # noqa: PTH116 - 3 us less
                return b""
            with self._path.open("rb") as file:
                file.seek(self._read_bytes)
                lines = file.read(MAX_KEY_LOG_BYTES - self._read_bytes)
        except OSError:
            return b""
        lines = lines[: lines.rfind(b"\n") + 1]
        self._read_bytes += len(lines)
        return lines


class Capture:
    """Records one connection as packets of a capture file.

    Wireshark decrypts only if the keys come before the handshake in the file. So, with a key log, everything from the
    server's first bytes on waits until the client has sent for the second time: by then it has written its keys.
    """

    __slots__ = ("_answered", "_held", "_key_log", "_output", "_segments")

    def __init__(
        self, output: Output, client: tuple[str, int], server: tuple[str, int], key_log: KeyLog | None
    ) -> None:
        self._output, self._key_log = output, key_log
        self._segments = Segments(client, server)
        self._held: list[bytes] = []
        self._answered = False

    def opened(self, time_ns: int) -> None:
        """See TapRecorder, here and below."""
        self._write_all(time_ns, self._segments.opened())

    def refused(self, time_ns: int, why: str) -> None:  # noqa: ARG002
        self._write_all(time_ns, self._segments.refused())

    def heard(self, way: Way, time_ns: int, data: bytes) -> None:
        blocks = [pcapng.packet(way, time_ns, frame) for frame in self._segments.data(way, data)]
        if self._key_log and (self._held or way is Way.TO_CLIENT):
            if not (self._answered and way is Way.TO_SERVER) and len(self._held) < MAX_HELD:
                self._answered = self._answered or way is Way.TO_SERVER
                self._held += blocks
                return
            self._release()
        for block in blocks:
            self._output.write(block)

    def ended(self, way: Way, time_ns: int) -> None:
        self._release()
        self._write_all(time_ns, [(way, self._segments.ended(way))])

    def reset(self, way: Way, time_ns: int) -> None:
        self._release()
        self._write_all(time_ns, [(way, self._segments.reset(way))])

    def _release(self) -> None:
        """Write the keys and the segments that waited for them; later keys are not looked for."""
        if self._key_log and (lines := self._key_log.new_lines()):
            block = pcapng.secrets(lines)
            self._output.head += block  # the ring's next file needs the keys too
            self._output.write(block)
        for block in self._held:
            self._output.write(block)
        self._held, self._key_log = [], None

    def _write_all(self, time_ns: int, frames: Iterable[tuple[Way, bytes]]) -> None:
        for way, frame in frames:
            self._output.write(pcapng.packet(way, time_ns, frame))


class Screen:
    """Shows one connection as lines of text."""

    __slots__ = ("_dialogue", "_ends", "_output")

    def __init__(self, output: Output, client: tuple[str, int]) -> None:
        self._output = output
        self._dialogue = Dialogue(f"[{client[0]}]:{client[1]}" if ":" in client[0] else f"{client[0]}:{client[1]}")
        self._ends = 0

    def opened(self, time_ns: int) -> None:
        """See TapRecorder, here and below."""
        self._show([self._dialogue.note(time_ns, "connected")])

    def refused(self, time_ns: int, why: str) -> None:
        self._show([self._dialogue.note(time_ns, f"not connected, the server cannot be reached: {why}")])

    def heard(self, way: Way, time_ns: int, data: bytes) -> None:
        self._show(self._dialogue.heard(way, time_ns, data))

    def ended(self, way: Way, time_ns: int) -> None:
        self._ends += 1
        side = "server" if way is Way.TO_CLIENT else "client"
        if self._ends == 1:
            self._show([self._dialogue.note(time_ns, f"the {side} sends no more")])
        else:
            self._show(self._dialogue.ended(time_ns, "closed"))

    def reset(self, way: Way, time_ns: int) -> None:
        side = "server" if way is Way.TO_CLIENT else "client"
        self._show(self._dialogue.ended(time_ns, f"reset by the {side}"))

    def _show(self, lines: list[str]) -> None:
        if lines:
            self._output.write("".join(f"{line}\n" for line in lines).encode())
