"""A conversation whose requests and replies are logged, for `kvss serve -vv`."""

import logging
from collections import deque
from collections.abc import Sized
from typing import Final

from kvss_gevent.core.conversation import Conversation, Shared
from kvss_gevent.core.session import Session
from kvss_gevent.protocol.wire import Verb, parse_request, shorten

logger = logging.getLogger("kvss")

SEEN_BYTES: Final = 600
"""How much of a request line is kept until its reply: enough for any key."""


def logged(server: Shared) -> Conversation:
    """Return a new session with a log of its requests."""
    return LoggedConversation(Session(server))


class LoggedConversation:
    """Another conversation, with a log line for each request: command, key and the code of the reply, never a value."""

    __slots__ = ("_inner", "_requests", "_started")

    def __init__(self, inner: Conversation) -> None:
        self._inner = inner
        self._requests: deque[bytes] = deque()
        """The beginnings of the lines that are not answered yet."""
        self._started = b""

    @property
    def closed(self) -> bool:
        """See Conversation, as the next four."""
        return self._inner.closed

    @property
    def foreign(self) -> str:
        return self._inner.foreign

    @property
    def more(self) -> bool:
        return self._inner.more

    @property
    def partial(self) -> Sized | None:
        return self._inner.partial

    @property
    def quiet(self) -> bool:
        return self._inner.quiet

    @quiet.setter
    def quiet(self, value: bool) -> None:
        self._inner.quiet = value

    def receive(self, data: bytes) -> bytes:
        """Pass bytes on, and log the replies."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._requests.append((self._started + line)[:SEEN_BYTES])
            self._started = b""
        self._started = (self._started + rest)[:SEEN_BYTES]
        return self._log(self._inner.receive(data))

    def proceed(self) -> bytes:
        """Go on, and log the replies."""
        return self._log(self._inner.proceed())

    def _log(self, replies: bytes) -> bytes:
        for reply in replies.split(b"\n")[:-1]:
            line = self._requests.popleft() if self._requests else b""
            verb, key, _ = parse_request(line.removesuffix(b"\r"))
            code = reply[:3].decode()
            if (isinstance(verb, Verb) and not code.startswith("4")) or code == "404":
                logger.debug("%s%s -> %s", Verb(verb).name, f" {shorten(key)}" if key else "", code)
            else:
                logger.debug("%s -> %s", "refused" if code[0] == "4" else "lab command", reply.decode(errors="replace"))
        return replies
