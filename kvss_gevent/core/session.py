"""One KV/1.0 conversation without a socket: bytes in, reply bytes out.

The cost of a request decides the shape of this file. A packet that is one GET of a stored key is answered by one
look-up of the packet itself in the store's table. Every other line takes one way: looked up in the table, else parsed,
else given to the store, together with the lines around it that the table does not answer. Replies do not depend on
where packets were cut.
"""

from collections.abc import Sequence
from io import BytesIO

from kvss_gevent.core.conversation import Shared
from kvss_gevent.protocol.wire import (
    BYE,
    DEL,
    JUDGED_BYTES,
    LINE,
    PUT,
    STATS,
    TLS_HELLO,
    VERSION,
    Status,
    is_foreign,
    parse,
    refusal,
)
from kvss_gevent.stores.base import Command, ReplyTable

UNUSABLE = VERSION + b"\n"
"""Stands in for a line that is too long or not UTF-8: a lone version gets 400, as those do (rules 2 and 3)."""
FOREIGN = VERSION + b" \n"
"""The same for one that is of another protocol: it gets 400, too, and ends the connection (rule 5b)."""


class Session:
    """One client's conversation; see Conversation.

    Nothing here raises for what a peer sent or a store did. One call runs at most limits.slice_lines requests and
    returns at most limits.reply_bytes of replies, or one reply. A store that gathers may return one reply more.
    """

    __slots__ = (
        "_begun",
        "_longest",
        "_look_up",
        "_server",
        "_waiting",
        "closed",
        "foreign",
        "more",
        "partial",
        "quiet",
    )

    def __init__(self, server: Shared) -> None:
        self._server = server
        self._look_up = server.store.replies.get
        self._waiting: Sequence[bytes] = ()
        self._longest = 1
        """No waiting line is longer."""
        self._begun = False
        self.closed = False
        self.foreign = ""
        """What the client speaks, where that was seen to be another protocol."""
        self.more = False
        self.partial: bytearray | None = None
        self.quiet = False

    def receive(self, data: bytes) -> bytes:
        """Take bytes as they arrived; return the replies to the first slice of the requests that they complete."""
        self.quiet = False
        begun, self._begun = self._begun, True
        if self.partial is None and not self.more:
            reply = self._look_up(data)
            if reply is not None:
                self._server.stats.commands += 1
                return reply
            if not begun and data[:1] == TLS_HELLO:
                return self._refuse_tls()
            self._longest = len(data)
            if data.find(b"\n") == len(data) - 1 >= 0:
                self._waiting = (data,) if self._is_plain(data) else (self._clean(data),)
                return self.proceed()
        if data and not self.closed:
            lines = self._cut(data)
            self._waiting = [*self._waiting, *lines] if self.more else lines
        return self.proceed()

    def proceed(self) -> bytes:
        """Return the replies to the next slice of waiting requests."""
        waiting, server = self._waiting, self._server
        if not waiting:
            return b""
        limits = server.limits
        lines = waiting if len(waiting) <= limits.slice_lines else waiting[: limits.slice_lines]
        replies: list[bytes] = []
        left_bytes = limits.reply_bytes
        table = server.store.replies
        while len(replies) < len(lines) and not self.closed:
            # As many lines as cannot exceed what is left, whatever the table answers; one, if none would fit.
            done, most = len(replies), left_bytes // max(table.largest_bytes, self._longest)
            if most <= 0:
                if done:
                    break
                most = 1
            if server.store.gathers or most >= len(lines) - done:
                self._answer(lines[done:] if done else lines, replies, left_bytes)
                break
            self._answer(lines[done : done + most], replies, left_bytes)
            left_bytes -= sum(map(len, replies[done:]))
        answered = len(replies)
        server.stats.commands += answered
        if answered == len(waiting) or self.closed:
            self._waiting = ()
            self.more = False
        else:
            self._waiting = waiting[answered:]
            self.more = True
        return b"".join(replies)

    def _answer(self, lines: Sequence[bytes], replies: list[bytes], left_bytes: int) -> None:
        """Append the replies to lines, in order, as far as the store and left_bytes allow."""
        look_up, append = self._look_up, replies.append
        batch: list[Command] = []
        for line in lines:
            reply = look_up(line)
            if reply is not None and batch:
                # What waits in the batch may change the answer.
                if self._apply(batch, replies, left_bytes) < 0:
                    return
                batch = []
                reply = look_up(line)
            if reply is not None:
                append(reply)
                continue
            request = parse(line)
            verb = request.lastindex if request else None
            if request and verb and verb <= DEL:
                batch.append((verb, request[verb], line[request.end() :] if verb == PUT else b""))
                continue
            # STATS counts the keys stored: what stands before it is run first.
            left_bytes = self._apply(batch, replies, left_bytes)
            if left_bytes < 0:
                return
            batch = []
            append(self._other(line, verb, len(replies)))
            if self.closed:
                return
        self._apply(batch, replies, left_bytes)

    def _apply(self, batch: Sequence[Command], replies: list[bytes], left_bytes: int) -> int:
        """Run a batch and append its replies; return what is left of left_bytes, below 0 where the store stopped."""
        server = self._server
        while batch:
            failed = False
            try:
                answers = server.store.apply(batch, left_bytes)
            except Exception as fault:
                failed = True
                done = getattr(fault, "done", None)
                reply = server.fault_reply(fault)
                answers = [reply] * len(batch) if done is None else [*done, reply]
            replies += answers
            if server.store.gathers:
                left_bytes -= sum(map(len, answers))
            for verb, _, _ in batch[: len(answers)]:
                if verb == PUT:
                    server.stats.puts += 1
                elif verb == DEL:
                    server.stats.dels += 1
            if len(answers) < len(batch) and not failed:
                return -1
            batch = batch[len(answers) :]
        return left_bytes

    def _other(self, line: bytes, verb: int | None, answered: int) -> bytes:
        """Return the reply to a line that no store is asked for; `answered` lines of this slice stand before it."""
        server = self._server
        if verb == STATS:
            try:
                reply = server.stats_reply(server.stats.commands + answered)
            except Exception as fault:
                reply = server.fault_reply(fault)
        elif verb:
            reply = BYE + b"\n"
            self._close()
        else:
            reply = server.extra_reply(line) or LINE[refusal(line)]
            if line is FOREIGN or is_foreign(line):
                self._close("HTTP or the like")
        server.stats.others += 1
        return reply

    def _close(self, foreign: str = "") -> None:
        self.closed = True
        self.foreign = foreign
        self._look_up = _NOTHING.get

    def _refuse_tls(self) -> bytes:
        """Refuse a TLS client at once: it sends no line feed and waits (rule 5b)."""
        self._close("TLS")
        self._server.stats.commands += 1
        self._server.stats.others += 1
        return LINE[Status.UPGRADE_REQUIRED]

    def _cut(self, data: bytes) -> list[bytes]:
        """Return the lines that data completes, and keep its rest in `partial`."""
        # One byte over the limit is kept: it may be a carriage return, which does not count. More than that makes a
        # line too long whatever follows, so it need not be kept (rule 2), except for what it is judged by (rule 5b).
        room = max(self._server.limits.line_bytes + 2, JUDGED_BYTES)
        lines = BytesIO(data).readlines()
        rest = b"" if data.endswith(b"\n") else lines.pop()
        plain = self._is_plain(data)
        if self.partial is not None and lines:
            self.partial += lines[0][: room - len(self.partial)]
            if not self.partial.endswith(b"\n"):
                self.partial += b"\n"
            lines[0] = bytes(self.partial)
            plain = plain and self._is_plain(lines[0])
            self.partial = None
        if rest:
            if self.partial is None:
                self.partial = bytearray()
            self.partial += rest[: room - len(self.partial)]
        if lines:
            self._longest = max(self._longest if self.more else 1, len(data), len(lines[0]))
        return lines if plain else [self._clean(line) for line in lines]

    def _is_plain(self, data: bytes) -> bool:
        """Tell whether no line of these can be too long, or not UTF-8, or end in a carriage return."""
        return len(data) <= self._server.limits.line_bytes and data.isascii() and b"\r" not in data

    def _clean(self, line: bytes) -> bytes:
        """Drop a carriage return from the end of a line; replace a line that is too long or not UTF-8."""
        if line.endswith(b"\r\n"):
            line = line[:-2] + b"\n"
        if len(line) <= self._server.limits.line_bytes + 1 and _is_utf8(line):
            return line
        return FOREIGN if is_foreign(line[:JUDGED_BYTES]) else UNUSABLE


_NOTHING = ReplyTable()


def _is_utf8(line: bytes) -> bool:
    if line.isascii():
        return True
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
