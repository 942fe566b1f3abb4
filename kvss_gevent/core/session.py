"""One KV/1.0 conversation without a socket: bytes in, reply bytes out. Sending, waiting and time are for others.

The cost of a request decides the shape of this file. A GET that hits is one dict look-up of its whole line and a plain
PUT is one step of the store (see InlineStore); all else is parsed. Replies do not depend on where packets were cut.
"""

from collections.abc import Sequence
from typing import Protocol

from kvss_gevent.core.conversation import Shared
from kvss_gevent.protocol.wire import (
    BYE,
    DEL,
    GET,
    OK_PREFIX,
    PUT,
    QUIT,
    REPLY,
    STATS,
    VERSION,
    Request,
    Status,
    is_http,
    parse_request,
)
from kvss_gevent.stores.base import QUICK_LINE_BYTES, Command, InlineStore, LineStore, Result, StoreError
from kvss_gevent.stores.lines import Replay, commands_of, lines_done

UPGRADE_REQUIRED = Status.UPGRADE_REQUIRED
DATA_VERBS = (GET, PUT, DEL)
OK, CREATED, NO_CONTENT = REPLY[Status.OK], REPLY[Status.CREATED], REPLY[Status.NO_CONTENT]
NOT_FOUND = REPLY[Status.NOT_FOUND]

UNUSABLE = VERSION
"""Stands in for a line that is too long or not UTF-8: a lone version gets 400, as those do (rules 2 and 3)."""


class Session:
    """One client's conversation.

    Give `receive` what arrived and send what it returns. While `more` is true requests are waiting: call `proceed` for
    the replies to the next slice of them before receiving again. Once `closed` is true the connection must end, after
    the replies are sent. Nothing here raises for what a peer sent or a store did. One call runs at most
    limits.slice_lines requests and returns at most limits.reply_bytes of replies plus one reply.
    """

    __slots__ = ("_out", "_service", "_waiting", "closed", "more", "partial", "quiet")

    def __init__(self, service: Shared) -> None:
        self._service = service
        self._waiting: Sequence[bytes] = ()
        self._out: list[bytes] = _NOTHING
        self.closed = False
        self.more = False
        self.partial: bytearray | None = None
        """The line whose end has not arrived: one object per line, so that `is` tells whether it is still the same."""
        self.quiet = False
        """For the caller to set; false again after the next receive."""

    def receive(self, data: bytes) -> bytes:
        """Take bytes as they arrived; return the replies to the first slice of the requests that they complete."""
        self.quiet = False
        service = self._service
        if self.partial is None and not (self.more or self.closed):
            limits = service.limits
            store = service.quick
            last = len(data) - 1
            if store is not None and data.find(b"\n") == last >= 0:
                # One packet, one request that hits: a client that waits for its replies. A hit needs no check.
                reply = store.replies.get(data[:-1])
                if reply is not None:
                    service.stats.commands += 1
                    return reply + b"\n"
            if data[-1:] == b"\n" and last <= limits.line_bytes and data.isascii() and b"\r" not in data:
                # Whole lines with nothing odd about them. To take them the long way costs 1.5 us more.
                lines = data.split(b"\n")
                lines.pop()
                if len(lines) <= limits.slice_lines:
                    self._out = []
                    if service.inline is None:
                        self._run_batch(lines)
                        return self._end_slice(lines)
                    if store is not None and len(lines) * store.largest_reply_bytes <= limits.reply_bytes:
                        self._run_quick(lines, store)
                        return self._end_slice(lines)
        if not self.closed:
            lines = self._cut(data)
            self._waiting = [*self._waiting, *lines] if self.more else lines
        return self.proceed()

    def proceed(self) -> bytes:
        """Return the replies to the next slice of waiting requests."""
        if not self._waiting:
            return b""
        service = self._service
        lines = self._waiting
        if len(lines) > service.limits.slice_lines:
            lines = lines[: service.limits.slice_lines]
        self._out = []
        if service.inline is not None:
            self._run_inline(lines, service.inline)
        else:
            self._run_batch(lines)
        return self._end_slice(self._waiting)

    def _end_slice(self, lines: Sequence[bytes]) -> bytes:
        """Count what `_out` answers, keep the rest of the lines waiting, and return the replies as they are sent."""
        out, self._out = self._out, _NOTHING
        answered = len(out)
        self._service.stats.commands += answered
        if answered == len(lines) or self.closed:
            self._waiting = ()
            self.more = False
        else:
            self._waiting = lines[answered:]
            self.more = True
        out.append(b"")
        return b"\n".join(out)

    def _cut(self, data: bytes) -> list[bytes]:
        """Return the usable lines that data completes, and keep its rest in `partial`."""
        # One byte over the limit is kept: it may be a carriage return, which does not count. More than that makes a
        # line too long whatever follows, so it need not be kept (rule 2).
        room = self._service.limits.line_bytes + 2
        lines = data.split(b"\n")
        rest = lines.pop()
        if self.partial is not None and lines:
            self.partial += lines[0][: room - len(self.partial)]
            lines[0] = bytes(self.partial)
            self.partial = None
            data = lines[0] + data
        if rest:
            if self.partial is None:
                self.partial = bytearray()
            self.partial += rest[: room - len(self.partial)]
        return self._clean(lines, data) if lines else lines

    def _clean(self, lines: list[bytes], data: bytes) -> list[bytes]:
        """Drop a carriage return from the end of each line and replace unusable lines; data holds all of the lines."""
        limit = self._service.limits.line_bytes
        if len(data) <= limit and data.isascii() and b"\r" not in data:
            return lines
        lines = [line.removesuffix(b"\r") for line in lines]
        return [line if len(line) <= limit and _is_utf8(line) else UNUSABLE for line in lines]

    def _run_quick(self, lines: Sequence[bytes], store: InlineStore) -> None:
        """Append the replies to lines that cannot exceed a slice, up to one that ends the run."""
        out = self._out
        look_up, put_line, answer = store.replies.get, store.put_line, self._answer
        try:
            for line in lines:
                out.append(look_up(line) or put_line(line) or answer(line, parse_request(line), store))
        except _EndOfRun as end:
            out.append(end.reply)

    def _run_inline(self, lines: Sequence[bytes], store: InlineStore) -> None:
        """Append the replies to lines, one request after the other, until the lines or the slice's bytes run out."""
        service = self._service
        limit = service.limits.reply_bytes
        if service.quick is not None and len(lines) * store.largest_reply_bytes <= limit:
            self._run_quick(lines, store)
        # The same with an eye on the bytes: where the store has large values, and after a PUT of one.
        out = self._out
        pending_bytes = sum(map(len, out)) if len(out) < len(lines) else 0
        for line in lines[len(out) :]:
            if self.closed or pending_bytes > limit:
                break
            try:
                reply = self._answer(line, parse_request(line), store)
            except _EndOfRun as end:
                reply = end.reply
            pending_bytes += len(reply)
            out.append(reply)

    def _run_batch(self, lines: Sequence[bytes]) -> None:
        """Append the replies to lines; what reads or writes is one batch to the store: one commit, one round trip."""
        service = self._service
        if service.lines is not None and self._run_lines(lines, service.lines):
            return
        requests: list[Request] = []
        batch: list[Command] = []
        counted = False
        for line in lines:
            request = parse_request(line)
            verb = request[0]
            # STATS counts the keys stored: what stands before it is run first and what stands behind it later.
            if batch if verb is STATS else counted and verb in DATA_VERBS:
                break
            requests.append(request)
            if verb in DATA_VERBS:
                batch.append(request)
            elif verb is STATS:
                counted = True
            elif verb is QUIT or (verb is UPGRADE_REQUIRED and is_http(line)):
                break  # what follows is not run (rules 5 and 9)
        results: Sequence[Result | Exception] = ()
        if batch:
            try:
                results = service.store.apply(batch, service.limits.reply_bytes)
            except Exception as fault:
                results = [fault] * len(batch)
        replay = Replay(results)
        try:
            for line, request in zip(lines, requests, strict=False):
                if replay.left == 0 and request[0] in DATA_VERBS:
                    break  # the store stopped early; the rest is for the next slice
                self._out.append(self._answer(line, request, replay))
        except _EndOfRun as end:
            self._out.append(end.reply)

    def _run_lines(self, lines: Sequence[bytes], store: LineStore) -> bool:
        """Append the replies to lines that the store runs itself; return whether it ran any."""
        service = self._service
        try:
            self._out, puts, dels = store.run_lines(lines, service.limits.reply_bytes)
        except Exception as fault:
            batch = commands_of(lines)
            if not batch:
                return False
            self._out, puts, dels = lines_done(batch, [StoreError()] * len(batch))
            service.fault_reply(fault)
        service.stats.puts += puts
        service.stats.dels += dels
        return len(self._out) > 0

    def _answer(self, line: bytes, request: Request, store: "_Answers") -> bytes:
        """Run one request and return its reply; raises _EndOfRun with it where the quick loop must not go on."""
        service = self._service
        stats = service.stats
        verb, key, value = request
        ends_run = False
        try:
            if verb is PUT:
                stats.puts += 1
                # After a large value the replies of this run can be large: they must be measured from here on.
                ends_run = len(line) > QUICK_LINE_BYTES and store is service.inline
                reply = CREATED if store.put(key, value) else OK
            elif verb is GET:
                found = store.get(key)
                reply = NOT_FOUND if found is None else OK_PREFIX + found
            elif verb is DEL:
                stats.dels += 1
                reply = NO_CONTENT if store.delete(key) else NOT_FOUND
            else:
                if verb is STATS:
                    reply = service.stats_reply(stats.commands + len(self._out))
                elif verb is QUIT:
                    reply = BYE
                    ends_run = self.closed = True
                else:
                    reply = (service.lab and service.lab.run(line)) or REPLY[Status(verb)]
                    ends_run = self.closed = verb is UPGRADE_REQUIRED and is_http(line)
                stats.others += 1
        except Exception as fault:
            reply = service.fault_reply(fault)
        if service.trace:
            service.trace(request, reply)
        if ends_run:
            raise _EndOfRun(reply)
        return reply


class _Answers(Protocol):
    """What `_answer` asks: a store that answers at once, or the results of a batch in their order."""

    def get(self, key: bytes, /) -> bytes | None: ...
    def put(self, key: bytes, value: bytes, /) -> bool: ...
    def delete(self, key: bytes, /) -> bool: ...


class _EndOfRun(Exception):
    def __init__(self, reply: bytes) -> None:
        self.reply = reply


_NOTHING: list[bytes] = []


def _is_utf8(line: bytes) -> bool:
    if line.isascii():
        return True
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
