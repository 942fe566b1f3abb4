"""Conversations of a server that has users: AUTH first, then what the user's role allows (rules 12 and 14).

Before the login the server keeps one line of at most LINE_BYTES for a client. After it a plain session takes over. For
the role read it has a store that refuses writes. So the path of a request has no `if` for users.
"""

import re
from collections.abc import Callable, Mapping, Sized
from typing import Final, Protocol

from kvss_gevent.core.admin_commands import NoAdmin
from kvss_gevent.core.conversation import Conversation
from kvss_gevent.core.service import Service
from kvss_gevent.core.session import Session
from kvss_gevent.core.user_file import Role, User
from kvss_gevent.protocol.foreign_protocols import JUDGED_BYTES, is_foreign, is_tls_hello
from kvss_gevent.protocol.framing import is_utf8
from kvss_gevent.protocol.wire import LINE, OK_PREFIX, QUIT, READING_VERBS, Status
from kvss_gevent.stores.base import Batch, Run, Store

LINE_BYTES: Final = 4096
"""The longest line before the login."""

AUTH: Final = re.compile(rb"KV/1\.0 AUTH ([^ \n]+) ([^\n]+)\n").fullmatch
AUTHENTICATED: Final = OK_PREFIX + b"authenticated\n"
UNAUTHORIZED, FORBIDDEN = LINE[Status.UNAUTHORIZED], LINE[Status.FORBIDDEN]
_PREFIX: Final = b"KV/1.0 AUTH "

Authenticate = Callable[[bytes, bytes], User | None]
"""Returns the user of a name and password. May wait; other conversations go on meanwhile."""


class ReadOnlyStore:
    """A store as the role read sees it: commands that write are forbidden."""

    put = None

    def __init__(self, store: Store) -> None:
        self.replies, self.blocks = store.replies, store.blocks
        self.run = _for_reading(store.run) if store.run else None
        self._store = store

    def apply(self, batch: Batch, limit_bytes: int) -> list[bytes]:
        """Run the commands that read, in order; see Store."""
        reads = [command for command in batch if command[0] in READING_VERBS]
        replies = iter(self._store.apply(reads, limit_bytes) if reads else ())
        answers = []
        for verb, _, _ in batch:
            reply = next(replies, None) if verb in READING_VERBS else FORBIDDEN
            if reply is None:
                break
            answers.append(reply)
        return answers

    def count(self) -> int:
        """Return the number of keys stored."""
        return self._store.count()

    def close(self) -> None:
        """Do nothing: the store is closed by its owner."""


def _for_reading(run: Run) -> Run:
    return lambda verb, key, value: run(verb, key, value) if verb in READING_VERBS else FORBIDDEN


class Converses(Protocol):
    """Makes a conversation; see Service."""

    def __call__(self, service: Service, /) -> Conversation: ...


def views(service: Service) -> Mapping[Role, Service]:
    """Return a service as each role sees it: the same counters and limits, and what the role may do."""
    forbidden = NoAdmin() if service.admin else None
    return {
        Role.READ: service.over(ReadOnlyStore, forbidden),
        Role.WRITE: service.over(lambda store: store, forbidden),
        Role.ADMIN: service,
    }


class LoginConversation:
    """A conversation before its user is known, and afterwards the one that its user has."""

    __slots__ = (
        "_admitted",
        "_answered",
        "_authenticate",
        "_begun",
        "_converse",
        "_foreign",
        "_inner",
        "_partial",
        "_service",
        "_views",
        "_waiting",
        "closed",
        "quiet",
        "user",
    )

    def __init__(
        self, service: Service, views: Mapping[Role, Service], authenticate: Authenticate, converse: Converses = Session
    ) -> None:
        self._service, self._views = service, views
        self._authenticate = authenticate
        self._converse = converse
        self._inner: Conversation | None = None
        self.user: User | None = None
        """Who is logged in."""
        self._admitted = False
        self._partial: bytearray | None = None
        self._waiting = b""
        """Bytes with at least one whole line that is not answered. They stay in one piece: lines take much more."""
        self._answered = 0
        """How many of these bytes belong to lines that are answered."""
        self._begun = False
        self._foreign = ""
        self.closed = False
        self.quiet = False

    @property
    def foreign(self) -> str:
        """See Conversation."""
        return self._foreign or (self._inner.foreign if self._inner is not None else "")

    @property
    def is_admitted(self) -> bool:
        """Whether there was ever a login."""
        return self._admitted

    @property
    def more(self) -> bool:
        """See Conversation."""
        return bool(self._waiting) or (self._inner is not None and self._inner.more)

    @property
    def partial(self) -> Sized | None:
        """See Conversation."""
        return self._partial if self._partial is not None or self._inner is None else self._inner.partial

    def receive(self, data: bytes) -> bytes:
        """Take bytes as they arrived; return replies."""
        self.quiet = False
        if self.closed:
            return b""
        if not self._begun and is_tls_hello(data):  # at once: such a client sends no line feed and waits (rule 5b)
            self._leave("TLS")
            return self._counted(data, LINE[Status.UPGRADE_REQUIRED])
        self._begun = True
        if self._inner is not None and not self._waiting and self._partial is None and not self._may_hold_auth(data):
            reply = self._inner.receive(data)
            self.closed = self._inner.closed
            return reply
        if self._inner is not None and self._inner.partial is not None:
            # These bytes continue a line that began earlier, even if they look like a request.
            end = data.find(b"\n") + 1
            reply = self._inner.receive(data[: end or len(data)])
            self.closed = self._inner.closed
            rest = data[end:] if end else b""
            return reply if self.closed or not rest else reply + self._take(rest)
        return self._take(data)

    def _may_hold_auth(self, data: bytes) -> bool:
        """Tell whether data contains an AUTH, or ends with the beginning of one."""
        if _PREFIX in data:
            return True
        begun = data.rfind(b"\n") + 1
        if begun == len(data) or (not begun and self._inner is not None and self._inner.partial is not None):
            return False
        return _PREFIX.startswith(data[begun : begun + len(_PREFIX)])

    def proceed(self) -> bytes:
        """Return the replies to the next waiting requests."""
        if self._inner is not None and self._inner.more:
            reply = self._inner.proceed()
            self.closed = self._inner.closed
            return reply
        return self._answer_next()

    def _take(self, data: bytes) -> bytes:
        """Take bytes whose lines are answered one by one, until the session of a user takes over."""
        self._waiting = self._waiting[self._answered :] + data
        self._answered = 0
        return self._answer_next()

    def _answer_next(self) -> bytes:
        """Answer the next waiting line. After the last one, keep the bytes that follow it."""
        reply = b""
        begun, end = self._answered, self._waiting.find(b"\n", self._answered) + 1
        if end:
            line = self._waiting[begun:end]
            if self._partial is not None:
                line = bytes(self._partial) + line
                self._partial = None
            self._answered = end
            reply = self._answer(line)
        if self.closed:
            self._waiting, self._answered, self._partial = b"", 0, None
        elif self._waiting.find(b"\n", self._answered) < 0:
            rest = self._waiting[self._answered :]
            self._waiting, self._answered = b"", 0
            if rest:
                reply += self._keep(rest)
        return reply

    def _keep(self, rest: bytes) -> bytes:
        """Keep the beginning of a line, or give it to the user's session if there is one now."""
        if self._inner is not None and self._partial is None and not _PREFIX.startswith(rest[: len(_PREFIX)]):
            return self._inner.receive(rest)
        # Enough to see that a line is too long, and which protocol it belongs to (rule 5b).
        limit = LINE_BYTES if self._inner is None else max(self._service.limits.line_bytes, JUDGED_BYTES)
        self._partial = bytearray() if self._partial is None else self._partial
        self._partial += rest[: max(limit + 2 - len(self._partial), 0)]
        return b""

    def _answer(self, line: bytes) -> bytes:
        if line.endswith(b"\r\n"):
            line = line[:-2] + b"\n"
        found = AUTH(line)
        if found is not None and len(line) <= LINE_BYTES and is_utf8(line):
            return self._counted(line, self._log_in(found[1], found[2]))
        if self._inner is None:
            return self._counted(line, self._refuse(line))
        reply = self._inner.receive(line)
        self.closed = self._inner.closed
        return reply

    def _log_in(self, name: bytes, password: bytes) -> bytes:
        user = self.user = self._authenticate(name, password)
        if user is None:
            self._inner = None  # after an AUTH that fails, nobody is logged in
            return UNAUTHORIZED
        self._admitted = True
        self._inner = self._converse(self._views[user.role])
        return AUTHENTICATED

    def _refuse(self, line: bytes) -> bytes:
        """Answer a line of a client that is not logged in."""
        if len(line) > LINE_BYTES + 1 or not is_utf8(line):
            if is_foreign(line[:JUDGED_BYTES]):
                self._leave("HTTP or the like")
            return LINE[Status.BAD_REQUEST]
        verb, _, _ = self._service.parse(line[:-1])
        if isinstance(verb, Status):
            if is_foreign(line):
                self._leave("HTTP or the like")
            return LINE[verb]
        if verb is QUIT:
            self.closed = True
            return OK_PREFIX + b"bye\n"
        return UNAUTHORIZED

    def _leave(self, foreign: str) -> None:
        self.closed = True
        self._foreign = foreign

    def _counted(self, line: bytes, reply: bytes) -> bytes:
        self._service.stats.commands += 1
        self._service.count_other(line, reply)
        return reply
