"""A conversation as lines of text: one line for each request, with the client, the reply and the time between them."""

import time
from collections import deque
from typing import Final

from kvss_gevent.protocol.wire import shorten
from kvss_gevent.wire_tools.tcp_frames import Way

MAX_LINE_BYTES: Final = 4096
MAX_OPEN: Final = 100_000
"""Requests without a reply, at most; with more, the connection is not shown any further."""
TLS_HANDSHAKE: Final = 0x16


class Dialogue:
    """The lines of one connection; requests and replies are paired in order. name is the client, as 127.0.0.1:40112."""

    __slots__ = ("_asked", "_begun", "_name", "_partial", "_silent")

    def __init__(self, name: str) -> None:
        self._name = name
        self._asked: deque[tuple[int, str]] = deque()  # as they are shown: a whole line takes up to 4 KiB
        self._partial = [b"", b""]
        self._begun = False
        self._silent = False

    def heard(self, way: Way, time_ns: int, data: bytes) -> list[str]:
        """Take bytes that passed in one direction; return the lines to show."""
        if self._silent:
            return []
        if not self._begun and way is Way.TO_SERVER:
            self._begun = True
            if data[0] == TLS_HANDSHAKE:
                self._silent = True
                return [self.note(time_ns, "uses TLS: its bytes are passed on, and cannot be read here")]
        *lines, rest = data.split(b"\n")
        shown = []
        for part in lines:
            line = (self._partial[way] + part).removesuffix(b"\r")
            self._partial[way] = b""
            if way is Way.TO_CLIENT:
                shown.append(self._answered(time_ns, line))
            elif len(self._asked) == MAX_OPEN:
                # A request that is left out would pair every later reply with the wrong request.
                self._silent = True
                self._asked.clear()
                return [*shown, self.note(time_ns, f"has {MAX_OPEN} requests without a reply: it is not shown further")]
            else:
                self._asked.append((time_ns, _request(line[:MAX_LINE_BYTES])))
        self._partial[way] = (self._partial[way] + rest)[:MAX_LINE_BYTES]
        return shown

    def ended(self, time_ns: int, how: str) -> list[str]:
        """Return the lines to show after the connection has ended."""
        rest = self._partial[Way.TO_SERVER]
        cut = f", and {'an AUTH' if _is_login(rest) else shorten(rest)} had no line feed" if rest else ""
        left = [self.note(sent_ns, f"{request} -> no reply") for sent_ns, request in self._asked]
        return [*left, self.note(time_ns, how + cut)]

    def note(self, time_ns: int, text: str) -> str:
        """Return a line that begins with the time and the client's name."""
        clock = time.strftime("%H:%M:%S", time.localtime(time_ns // 10**9))
        return f"{clock}.{time_ns % 10**9 // 1000:06d} {self._name} {text}"

    def _answered(self, time_ns: int, reply: bytes) -> str:
        if not self._asked:
            return self.note(time_ns, f"no request -> {_plain(reply)}")
        sent_ns, request = self._asked.popleft()
        return self.note(sent_ns, f"{request} -> {_plain(reply)}  {(time_ns - sent_ns) / 1000:.0f} us")


def _request(line: bytes) -> str:
    line = line.removeprefix(b"KV/1.0 ")
    return _plain(b" ".join(line.split(b" ", 2)[:2])) + " (password not shown)" if _is_login(line) else _plain(line)


def _is_login(line: bytes) -> bool:
    """Tell whether a line is an AUTH, also one without its version."""
    return line.removeprefix(b"KV/1.0 ").startswith(b"AUTH ")


def _plain(line: bytes) -> str:
    return shorten(line)[1:-1] if len(line) <= 60 else shorten(line)
