"""One KV/1.0 conversation without a socket: bytes in, reply bytes out.

The cost of a request decides the shape of this file. A packet that is one GET of a stored key is answered by one
look-up of the packet itself in the store's table. A packet that is one PUT is run at once. Every other packet is cut
into lines. A line is looked up, or stored, or recognised by its beginning and given to the store, either at once or in
one batch with the lines around it. Replies do not depend on where packets were cut.
"""

from collections import deque
from collections.abc import Callable, Sequence
from io import BytesIO
from time import monotonic

from kvss_gevent.core.conversation import Shared
from kvss_gevent.protocol.foreign_protocols import is_foreign, is_tls_hello
from kvss_gevent.protocol.framing import FOREIGN, LF, complete_lines
from kvss_gevent.protocol.wire import (
    BYE,
    DEL,
    DEL_PREFIX,
    EXPIRY_VERBS,
    GET,
    GET_LINE,
    GET_PREFIX,
    LINE,
    MAX_KEY_BYTES,
    OK_PREFIX,
    PUT,
    PUT_PREFIX,
    QUIT,
    STATS,
    Status,
)
from kvss_gevent.stores.base import Command

OK = LINE[Status.OK]
CR, SPACE = 13, 32
"""Numbers, not bytes: `CR in data` is then one memchr; for bytes Python first tries to make a number of them."""

LEAST_VALUE_BYTES = len(b"v\n")
WAITS = b""
"""In the place of a reply that the store has not given yet."""

NO_VERB = 0
"""What the loop has of a line that is no plain GET, PUT or DEL."""

LONGEST_HIT_BYTES = 128
"""A longer packet is hardly ever one GET. It is cut into lines before any look-up."""

SLICE_S = 0.001
"""A slice that has run this long ends after its next STATS or operator's command, which costs 20 us to 3 ms."""

LookUp = Callable[[bytes], bytes | None]

no_table: LookUp = deque[bytes](maxlen=0).append
"""A look-up that never finds anything: one call into C that does not hash the line."""


class Session:
    """One client's conversation; see Conversation.

    Nothing here raises for what a peer sent or a store did. One call runs at most limits.slice_lines requests and
    returns at most limits.reply_bytes of replies, or one reply. A store that gathers may return one reply more.
    """

    __slots__ = (
        "_begun",
        "_look_up",
        "_pipelines",
        "_renew",
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
        self._look_up: LookUp = server.store.replies.get
        self._renew = server.store.replies.renew
        self._waiting: Sequence[bytes] = ()
        self._begun = False
        self._pipelines = False
        """Whether the last packet that was cut into lines had more than one."""
        self.closed = False
        self.foreign = ""
        """The other protocol that the client speaks, once that was seen."""
        self.more = False
        self.partial: bytearray | None = None
        self.quiet = False

    def receive(self, data: bytes) -> bytes:
        """Take bytes as they arrived; return the replies to the first slice of the requests that they complete."""
        self.quiet = False
        if self.partial is None and not self.more:
            if len(data) <= LONGEST_HIT_BYTES:
                reply = self._look_up(data)
                if reply is not None and (self._renew is None or self._renew()):
                    self._begun = True
                    self._server.stats.commands += 1
                    return reply
            if not self._begun:
                self._begun = True
                if is_tls_hello(data):
                    return self._refuse_tls()
            # One whole line, the most frequent packet, needs no slices: it is always answered at once. `partition`
            # costs a third less than `find`, but copies. So it is not tried on packets of a client that pipelines.
            if not self._pipelines:
                _, end, rest = data.partition(b"\n")
                if (
                    end
                    and not rest
                    and data.isascii()
                    and CR not in data
                    and len(data) <= self._server.limits.line_bytes
                    and not self.closed
                ):
                    # As in the loop of _answer, where a PUT alone would cost a third more.
                    rest = data.removeprefix(PUT_PREFIX)  # the packet itself if it does not begin so
                    put = self._server.store.put
                    if rest is not data and put is not None:
                        key, _, value = rest.partition(b" ")
                        if key and len(key) <= MAX_KEY_BYTES and len(value) >= LEAST_VALUE_BYTES:
                            stats = self._server.stats
                            stats.puts += 1
                            stats.commands += 1
                            request = GET_LINE % key
                            reply = OK_PREFIX + value
                            old = self._look_up(request)
                            if old is not None and len(old) == len(reply):
                                self._server.store.replies[request] = reply
                                return OK
                            try:
                                return put(request, reply)
                            except Exception as fault:
                                return self._server.fault_reply(fault)
                    if len(data) > LONGEST_HIT_BYTES and self._renew is not None:
                        self._renew()  # any other line is not in the table
                    return self._answer((data,), self._server.limits.reply_bytes)[0]
        return self._receive_lines(data)

    def _receive_lines(self, data: bytes) -> bytes:
        """Take bytes as they arrived, of any kind; see receive."""
        if self._renew is not None:
            self._renew()
        plain = data.isascii() and CR not in data and 0 < len(data) <= self._server.limits.line_bytes
        lines = BytesIO(data).readlines()
        self._pipelines = len(lines) > 1
        if not plain or self.partial is not None or data[-1] != LF:
            lines, self.partial = complete_lines(lines, self.partial, self._server.limits.line_bytes, plain=plain)
        return self._answer_slice([*self._waiting, *lines] if self.more else lines)

    def reply_in_table(self, data: bytes) -> bytes | None:
        """Take a packet that is one GET of a stored key, and return the reply; None, with nothing done, for any other.

        It is the beginning of `receive`, which does not call it, because that would be a call for every request.
        """
        if self.partial is not None or self.more or len(data) > LONGEST_HIT_BYTES:
            return None
        reply = self._look_up(data)
        if reply is None or (self._renew is not None and not self._renew()):
            return None
        self.quiet = False
        self._begun = True
        self._server.stats.commands += 1
        return reply

    def proceed(self) -> bytes:
        """Return the replies to the next slice of waiting requests."""
        return self._answer_slice(self._waiting)

    def _answer_slice(self, waiting: Sequence[bytes]) -> bytes:
        """Return the replies to the first of these lines. The others wait."""
        if not waiting or self.closed:
            return b""
        server = self._server
        limits = server.limits
        lines = waiting if len(waiting) <= limits.slice_lines else waiting[: limits.slice_lines]
        replies = self._answer(lines, limits.reply_bytes)
        until_s = 0.0
        while len(replies) < len(lines) and server.store.run is not None and not self.closed:
            now_s = monotonic()
            until_s = until_s or now_s + SLICE_S
            if now_s >= until_s:
                break
            left_bytes = limits.reply_bytes - sum(map(len, replies))
            if left_bytes < server.store.replies.largest_bytes:
                break
            replies += self._answer(lines[len(replies) :], left_bytes)
        answered = len(replies)
        if self.more or answered < len(waiting):
            self._waiting = () if self.closed else waiting[answered:]
            self.more = len(self._waiting) > 0
        return b"".join(replies)

    def _answer(  # noqa: PLR0912, PLR0915 - one loop: a call for each line would cost a tenth of it
        self, lines: Sequence[bytes], left_bytes: int
    ) -> list[bytes]:
        """Return the replies to lines, in order: at least one.

        They are fewer than lines if left_bytes may not be enough, and after a reply with data that is not of the store.
        """
        server = self._server
        stats, store, look_up = server.stats, server.store, self._look_up
        put, run, table = store.put, store.run, store.replies
        large_bytes = left_bytes // len(lines)
        if table.largest_bytes > large_bytes:
            lines = lines[: left_bytes // table.largest_bytes or 1]
            large_bytes = left_bytes // len(lines)
        replies: list[bytes] = []
        batch: list[Command] = []
        hidden: dict[bytes, bytes] = {}
        verb: int
        puts = dels = 0
        for line in lines:
            if line < PUT_PREFIX:  # a line behind it is never in the table, and it may be long
                reply = look_up(line)
                if reply is not None:
                    replies.append(reply)
                    continue
                verb = GET
                rest = line.removeprefix(GET_PREFIX)  # the line itself if it does not begin so
                if rest is line:
                    verb = DEL
                    rest = line.removeprefix(DEL_PREFIX)
                if rest is not line and 1 < len(rest) <= MAX_KEY_BYTES + 1 and SPACE not in rest:
                    key, value = rest[:-1], b""
                    if verb is DEL:
                        dels += 1
                else:
                    verb = NO_VERB
            else:
                rest = line.removeprefix(PUT_PREFIX)
                key, _, value = rest.partition(b" ")
                if rest is not line and key and len(key) <= MAX_KEY_BYTES and len(value) >= LEAST_VALUE_BYTES:
                    puts += 1
                    if put is not None:
                        request = GET_LINE % key
                        reply = OK_PREFIX + value
                        old = look_up(request)
                        if old is not None and len(old) == len(reply):
                            table[request] = reply  # what put does; the call would cost a tenth of the PUT
                            replies.append(OK)
                            continue
                        try:
                            replies.append(put(request, reply))
                        except Exception as fault:
                            replies.append(server.fault_reply(fault))
                        if table.largest_bytes > large_bytes:
                            break  # GETs of this value may need more than is left
                        continue
                    verb = PUT
                else:
                    verb = NO_VERB
            if verb is NO_VERB:
                verb, key, value = server.parse(line[:-1])
                if verb in EXPIRY_VERBS:
                    value += b"\n"
                    stats.others += 1
                else:
                    # STATS counts keys and requests, so all requests before it run first.
                    stats.puts += puts
                    stats.dels += dels
                    puts = dels = 0
                    if batch:
                        asked = len(replies)
                        self._apply(batch, hidden, replies, left_bytes)
                        batch = []
                        if len(replies) < asked or sum(map(len, replies)) > left_bytes:
                            break
                    reply = self._other(verb, line, len(replies))
                    replies.append(reply)
                    if self.closed or len(reply) > large_bytes or reply.startswith(OK_PREFIX):
                        break
                    continue
            if run is None:
                if verb is not GET and table and len(lines) > 1:
                    # Later GETs of this key must wait, too. Until the batch runs, nobody else looks anything up.
                    request = GET_LINE % key
                    old = table.pop(request, None)
                    if old is not None:
                        hidden[request] = old
                batch.append((verb, key, value))
                replies.append(WAITS)
                continue
            try:
                replies.append(run(verb, key, value))
            except Exception as fault:
                replies.append(server.fault_reply(fault))
            if table.largest_bytes > large_bytes:
                break
        if batch:
            self._apply(batch, hidden, replies, left_bytes)
        if puts:
            stats.puts += puts
        if dels:
            stats.dels += dels
        stats.commands += len(replies)
        return replies

    def _apply(
        self, batch: Sequence[Command], hidden: dict[bytes, bytes], replies: list[bytes], left_bytes: int
    ) -> None:
        """Run a batch and put its replies in their places; drop the replies behind where the store stopped.

        hidden: what was taken out of the table, so that only the batch answers for these keys. It goes back.
        """
        server = self._server
        if hidden:
            server.store.replies.update(hidden)
            hidden.clear()
        if len(replies) > len(batch):
            left_bytes -= sum(map(len, replies))
        try:
            answers = server.store.apply(batch, left_bytes)
        except Exception as fault:
            answers = [server.fault_reply(fault)] * len(batch)
        if len(replies) == len(batch):
            replies[:] = answers
        else:
            given = iter(answers)
            replies[:] = [reply or next(given, WAITS) for reply in replies]
            if len(answers) < len(batch):
                del replies[replies.index(WAITS) :]
        for verb, _, _ in batch[len(answers) :]:
            if verb is PUT:
                server.stats.puts -= 1
            elif verb is DEL:
                server.stats.dels -= 1
            elif verb is not GET:
                server.stats.others -= 1

    def _other(self, verb: int, line: bytes, answered: int) -> bytes:
        """Return the reply to a line that needs no store; `answered` lines of this slice come before it."""
        server = self._server
        if verb is STATS:
            try:
                reply = server.stats_reply(server.stats.commands + answered)
            except Exception as fault:
                reply = server.fault_reply(fault)
        elif verb is QUIT:
            reply = BYE + b"\n"
            self._close()
        else:
            reply = server.extra_reply(line) or LINE[Status(verb)]
            if line is FOREIGN or is_foreign(line):
                self._close("HTTP or the like")
        server.count_other(line, reply)
        return reply

    def _close(self, foreign: str = "") -> None:
        self.closed = True
        self.foreign = foreign
        self._look_up = no_table

    def _refuse_tls(self) -> bytes:
        """Refuse a TLS client at once: it sends no line feed and waits (rule 5b)."""
        self._close("TLS")
        self._server.stats.commands += 1
        self._server.count_other(b"", LINE[Status.UPGRADE_REQUIRED])
        return LINE[Status.UPGRADE_REQUIRED]
