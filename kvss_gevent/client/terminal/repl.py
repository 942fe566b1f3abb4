"""Lines at a prompt or in a script: what each becomes on the wire, and what a person sees of its reply."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import Final

from kvss_gevent.client.sync import KVClient
from kvss_gevent.client.terminal.hints import HELP, help_for, hint
from kvss_gevent.protocol.errors import KVConnectError, KVError, server_name
from kvss_gevent.protocol.wire import KEY_VERBS, VERSION, Verb, parse_request

PROMPT: Final = "KVSS> "
MAX_KEYS_SEEN: Final = 1000
PATIENCE_S: Final = 1.0
"""How long a reply may take before the wait is shown."""

_VERSION: Final = re.compile(rb"[A-Za-z]+/\d\S*")
_QUIT: Final = VERSION + b" QUIT"
_JOINERS: Final = "\u200c\u200d"  # not "printable" to Python, and many scripts and emoji need them


class LineAct(Enum):
    """What to do with a line."""

    NOTHING = auto()
    HELP = auto()
    SEND = auto()
    SEND_AND_LEAVE = auto()
    LEAVE = auto()


def read_line(line: bytes) -> tuple[LineAct, bytes]:
    """Return what to do with a line, without its line feed, and the request to send, empty where there is none.

    Blank lines and lines that begin with # are nothing. HELP with a word or none, EXIT and QUIT alone, in any letter
    case, are the client's own; every other line is sent as it is, so that a server's grammar can be tried out. With
    HELP the word stands in the request's place.
    """
    word = line.strip().upper()
    if not word or word.startswith(b"#"):
        return LineAct.NOTHING, b""
    first, *others = line.split()
    if first.upper() == b"HELP" and len(others) < 2:
        return LineAct.HELP, b"".join(others)
    if word == b"EXIT":
        return LineAct.LEAVE, b""
    request = _QUIT if word == b"QUIT" else with_version(line)
    return (LineAct.SEND_AND_LEAVE if request == _QUIT else LineAct.SEND), request


def with_version(line: bytes) -> bytes:
    """Put `KV/1.0 ` before a line unless its first word looks like a version: letters, a slash, a digit."""
    return line if _VERSION.fullmatch(line.partition(b" ")[0]) else VERSION + b" " + line


def printable(reply: bytes) -> str:
    r"""Show a reply on a terminal as it is, but what could drive the terminal is written out: \x1b or \u202e."""
    text = reply.decode(errors="backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _JOINERS else repr(c)[1:-1] for c in text)


class KeysSeen:
    """The keys of this conversation that were last known to be there, the newest first, at most MAX_KEYS_SEEN."""

    def __init__(self) -> None:
        self._keys: dict[bytes, None] = {}

    def learn(self, request: bytes, reply: bytes) -> None:
        """Note what a request and its reply tell about a key."""
        verb, key, _ = parse_request(request)
        if verb not in KEY_VERBS:
            return
        self._keys.pop(key, None)
        if verb is not Verb.DEL and reply.startswith(b"2"):
            self._keys[key] = None
            if len(self._keys) > MAX_KEYS_SEEN:
                del self._keys[next(iter(self._keys))]

    def __iter__(self) -> Iterator[str]:
        """Yield the keys that can be typed."""
        for key in reversed(self._keys):
            text = key.decode(errors="replace")
            if text.isprintable() and text.encode() == key:
                yield text


class TerminalConversation:
    """The interactive client without its keyboard and screen.

    show prints one line of a result, note one line about the conversation itself. A lost connection is reported and the
    next line opens another; no line is ever sent twice.
    """

    def __init__(self, client: KVClient, show: Callable[[str], None], note: Callable[[str], None]) -> None:
        self.keys = KeysSeen()
        self._client = client
        self._show = show
        self._note = note

    def run(self, ask: Callable[[], str]) -> None:
        """Ask for lines and answer them until one of them leaves, or ask raises EOFError (Ctrl-D).

        KeyboardInterrupt (Ctrl-C) drops the line that is being typed, or the wait for a reply. A text of several lines,
        as a paste can be, is run line by line.
        """
        leave = False
        while not leave:
            try:
                text = ask()
            except KeyboardInterrupt:
                continue
            except EOFError:
                return
            leave = any(self._answer(line) for line in text.split("\n"))

    def _answer(self, text: str) -> bool:
        """Run one line and tell whether to leave; a blank line is shown after the answer, as in the course document."""
        act, request = read_line(text.encode(errors="surrogateescape"))
        if act in (LineAct.NOTHING, LineAct.LEAVE):
            return act is LineAct.LEAVE
        if act is LineAct.HELP:
            self._show(help_for(printable(request)) if request else HELP)
        else:
            self._send(request, quietly=act is LineAct.SEND_AND_LEAVE)
        if act is not LineAct.SEND_AND_LEAVE:
            self._note("")
        return act is LineAct.SEND_AND_LEAVE

    def _send(self, request: bytes, *, quietly: bool) -> None:
        connections = self._client.connections_made
        name = server_name(self._client.host, self._client.port)
        try:
            with waiting(name, self._note):
                replies = [self._client.request(request)]
            self.keys.learn(request, replies[0])
            trouble = []
        except KVError as error:
            replies = error.results
            unknown = "nothing was sent" if isinstance(error, KVConnectError) else "it may have taken effect or not"
            trouble = [str(error), f"({unknown}; the next line connects again)"]
        except KeyboardInterrupt:
            replies = []
            trouble = [
                "interrupted before the reply",
                "(it may have taken effect or not; the next line connects again)",
            ]
        if self._client.connections_made > connections > 0 and not quietly:
            self._note(f"(reconnected to {name})")
        for reply in replies:
            self._show(printable(reply))
            if text := hint(request, reply):
                self._note(f"({printable(text.encode())})")
        for line in trouble if not quietly else ():
            self._note(line)


@contextmanager
def waiting(name: str, note: Callable[[str], None], patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Tell that a reply is waited for, once it takes long, and in the end how long it took."""
    begin = time.monotonic()
    timer = threading.Timer(patience_s, note, [f"(waiting for {name}; Ctrl-C gives up)"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    took_s = time.monotonic() - begin
    if took_s > patience_s:
        note(f"(after {took_s:.1f} s)")
