"""One KV/1.0 conversation without a socket: bytes in, reply bytes out.

The cost of a request decides the shape of this file. A packet that is one GET of a stored key is answered by one
look-up of the packet itself in the store's table. A packet that is one PUT is run at once. Every other packet is cut
into lines. A line is looked up, or stored, or recognised by its beginning and given to the store, either at once or in
one batch with the lines around it. All this is one function, because a call costs more than most of the steps. Replies
do not depend on where packets were cut.
"""

from collections.abc import Callable, Sequence
from io import BytesIO
from time import monotonic

from kvss_gevent.core.conversation import Shared
from kvss_gevent.protocol.foreign_protocols import is_foreign, is_tls_hello
from kvss_gevent.protocol.framing import CR, FOREIGN, LF, TLS, complete_lines
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
from kvss_gevent.stores.base import Command, ReplyTable

OK = LINE[Status.OK]
SPACE = 32
"""A number, not bytes: see framing.CR."""

LEAST_VALUE_BYTES = len(b"v\n")
NO_VERB = 0
"""What the loop has of a line that is no plain GET, PUT or DEL."""

LONGEST_HIT_BYTES = 128
"""A longer packet is hardly ever one GET. It is not looked up whole."""

OTHER_REPLY_BYTES = 512
"""What the reply to a request has at most that is no GET: that to STATS has 250."""

SLICE_S = 0.001
"""A slice that has run this long ends after its next STATS or operator's command, which costs 20 us to 3 ms."""

LookUp = Callable[[bytes], bytes | None]

no_table: LookUp = dict[bytes, bytes]().get
"""A look-up that never finds anything."""


class Session:
    """One client's conversation; see Conversation.

    Nothing here raises for what a peer sent or a store did. One call runs at most limits.slice_lines requests and
    returns at most limits.reply_bytes of replies, or one reply. A store that gathers may return one reply more.
    """

    __slots__ = (
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
        self._look_up = no_table
        """Finds the reply to a packet that is one GET. It finds none where the next packet cannot be a request alone:
        before the first bytes, within a line, while requests wait, and after the end."""
        self._renew = server.store.replies.renew
        self._waiting: Sequence[bytes] = ()
        self._pipelines = False
        """Whether the last packet that was made a list of lines had more than one."""
        self.closed = False
        self.foreign = ""
        """The other protocol that the client speaks, once that was seen."""
        self.more = False
        self.partial: bytearray | None = None
        self.quiet = False

    def receive(self, data: bytes) -> bytes:  # noqa: PLR0912, PLR0915 - the top of this file says why
        """Take bytes as they arrived; return the replies to the first slice of the requests that they complete."""
        self.quiet = False
        server, look_up = self._server, self._look_up
        if len(data) <= LONGEST_HIT_BYTES:
            reply = look_up(data)
            if reply is not None and (self._renew is None or self._renew()):
                server.stats.commands += 1
                return reply
        limits, store, stats = server.limits, server.store, server.stats
        put, table = store.put, store.replies
        if look_up is no_table or data[-1] != LF or CR in data or not data.isascii() or len(data) > limits.line_bytes:
            waiting = self._odd_lines(data)
            if not waiting:
                return b""
            look_up = table.get
        elif self._pipelines or data.partition(b"\n")[2]:
            # To find one line alone, `partition` costs half of a list; but it copies, so pipelines are not asked twice.
            waiting = [*BytesIO(data)]
            self._pipelines = len(waiting) > 1
        else:
            # As in the loop below, where a PUT alone would cost a third more.
            rest = data.removeprefix(PUT_PREFIX)  # the packet itself if it does not begin so
            key, _, value = rest.partition(b" ")
            if rest is not data and put and 0 < len(key) <= MAX_KEY_BYTES and len(value) >= LEAST_VALUE_BYTES:
                stats.puts += 1
                stats.commands += 1
                request, new = GET_LINE % key, OK_PREFIX + value
                old = look_up(request)
                if old is not None and len(old) == len(new):
                    table[request] = new
                    return OK
                try:
                    return put(request, new)
                except Exception as fault:
                    return server.fault_reply(fault)
            waiting = (data,)
        if self._renew is not None and (len(waiting) > 1 or len(data) > LONGEST_HIT_BYTES):
            self._renew()  # a short line alone has just been looked up
        run = store.run
        lines, left_bytes, until_s = waiting, limits.reply_bytes, 0.0
        replies: list[bytes] = []
        batch: list[Command] = []
        verb: int
        puts = dels = counted = 0
        while True:
            largest_bytes = table.largest_bytes
            if len(lines) > limits.slice_lines:
                lines = lines[: limits.slice_lines]
            if len(lines) * largest_bytes > left_bytes:
                lines = lines[: _how_many_fit(lines, table, left_bytes)]
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
                    if rest is line or not 1 < len(rest) <= MAX_KEY_BYTES + 1 or SPACE in rest:
                        verb = NO_VERB
                    elif verb is DEL:
                        dels += 1
                    key, value = rest[:-1], b""
                else:
                    verb = NO_VERB
                    rest = line.removeprefix(PUT_PREFIX)
                    key, _, value = rest.partition(b" ")
                    if rest is not line and len(value) >= LEAST_VALUE_BYTES:
                        if put is not None:
                            request, new = GET_LINE % key, OK_PREFIX + value
                            old = look_up(request)
                            if old is not None:
                                # What put does; the call would cost a fifth of the PUT. Without `not grown_bytes`, 50
                                # PUTs of one length would cost 5 % more.
                                grown_bytes = len(new) - len(old)
                                if not grown_bytes or (grown_bytes <= table.room_bytes and len(new) <= largest_bytes):
                                    if grown_bytes:
                                        table.room_bytes -= grown_bytes
                                    puts += 1
                                    table[request] = new
                                    replies.append(OK)
                                    continue
                        if key and len(key) <= MAX_KEY_BYTES:
                            puts += 1
                            verb = PUT
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
                            asked = len(replies) + len(batch)
                            self._apply(batch, replies, left_bytes)
                            batch = []
                            if len(replies) < asked or sum(map(len, replies)) > left_bytes:
                                break
                        reply = self._other(verb, line, len(replies))
                        replies.append(reply)
                        if self.closed or reply.startswith(OK_PREFIX):
                            break
                        continue
                if run is None:
                    batch.append((verb, key, value))
                    continue
                try:
                    replies.append(put(request, new) if verb is PUT and put is not None else run(verb, key, value))
                except Exception as fault:
                    replies.append(server.fault_reply(fault))
                if table.largest_bytes > largest_bytes:
                    break  # GETs of this value may need more than is left
            if batch:
                self._apply(batch, replies, left_bytes)
            answered = len(replies)
            if answered == len(waiting) or self.closed:
                break
            if answered < limits.slice_lines and run is not None:
                now_s = monotonic()
                until_s = until_s or now_s + SLICE_S
                left_bytes -= sum(map(len, replies[counted:]))
                counted = answered
                if now_s < until_s and left_bytes >= table.largest_bytes:
                    lines = waiting[answered : limits.slice_lines]
                    continue
            self._waiting = waiting[answered:]
            self.more = True
            self._look_up = no_table
            break
        stats.commands += answered
        if puts:
            stats.puts += puts
        if dels:
            stats.dels += dels
        return b"".join(replies)

    def _odd_lines(self, data: bytes) -> Sequence[bytes]:
        """Return the lines that wait, and those that a packet of any kind completes."""
        if self.closed:
            return ()
        if self._look_up is no_table and self.partial is None and not self.more and is_tls_hello(data):
            return (TLS,)  # at once: such a client sends no line feed and waits (rule 5b)
        waiting = self._waiting
        if data:
            lines, self.partial = complete_lines(data, self.partial, self._server.limits.line_bytes)
            waiting = [*waiting, *lines] if waiting else lines
        self._waiting = ()
        self.more = False
        self._look_up = self._server.store.replies.get if self.partial is None else no_table
        if self._renew is not None:
            self._renew()
        return waiting

    def reply_in_table(self, data: bytes) -> bytes | None:
        """Take a packet that is one GET of a stored key, and return the reply; None, with nothing done, for any other.

        It is the beginning of `receive`, which does not call it, because that would be a call for every request.
        """
        reply = self._look_up(data) if len(data) <= LONGEST_HIT_BYTES else None
        if reply is None or (self._renew is not None and not self._renew()):
            return None
        self.quiet = False
        self._server.stats.commands += 1
        return reply

    def proceed(self) -> bytes:
        """Return the replies to the next slice of waiting requests."""
        return self.receive(b"") if self.more else b""

    def _apply(self, batch: Sequence[Command], replies: list[bytes], left_bytes: int) -> None:
        """Run a batch and append its replies. They are fewer than its commands where the store stopped."""
        server = self._server
        if replies:
            left_bytes -= sum(map(len, replies))
        try:
            answers = server.store.apply(batch, left_bytes)
        except Exception as fault:
            answers = [server.fault_reply(fault)] * len(batch)
        replies += answers
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
            if line is TLS:
                self._close("TLS")
            elif line is FOREIGN or is_foreign(line):
                self._close("HTTP or the like")
        server.count_other(line, reply)
        return reply

    def _close(self, foreign: str = "") -> None:
        self.closed = True
        self.foreign = foreign
        self._look_up = no_table


def _how_many_fit(lines: Sequence[bytes], table: ReplyTable, left_bytes: int) -> int:
    """Return how many requests have replies of at most left_bytes together; at least 1."""
    longest_put = 0
    for number, line in enumerate(lines):
        reply_bytes = OTHER_REPLY_BYTES
        if GET_PREFIX <= line < PUT_PREFIX:
            reply = table.get(line)
            reply_bytes = table.largest_bytes if reply is None else max(len(reply), longest_put)
        else:
            longest_put = max(longest_put, len(line))  # a GET behind it may return what it stores
        left_bytes -= reply_bytes
        if left_bytes < 0:
            return number or 1
    return len(lines)
