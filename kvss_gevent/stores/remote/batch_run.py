"""Runs one batch on the nodes of a store: splits it, follows the nodes' redirections, and joins the replies."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from valkey.exceptions import ReadOnlyError, ResponseError

from kvss_gevent.protocol.wire import DEL, EXPIRE, GET, LINE, PUT, PUTEX, TTL, Status
from kvss_gevent.stores.base import Batch, StoreError, split_seconds
from kvss_gevent.stores.remote.node import Node
from kvss_gevent.stores.remote.node_connection import Address, RawCommand, Reply, pack
from kvss_gevent.stores.remote.redirections import redirection
from kvss_gevent.stores.remote.request import TOO_MUCH, NodeRequest

logger = logging.getLogger("kvss")

REDIRECTIONS = 4
"""After this many redirections a batch fails. While a cluster is being rearranged, a batch needs one or two."""

KEPT_LIMITS = 8
"""If values suddenly become larger, a batch keeps values up to this many times its limit_bytes."""

ASKING: RawCommand = (b"ASKING",)

NO_KEY, NO_DEADLINE = -2, -1
"""Answers of a server to PTTL that are not milliseconds."""

MOVED_BETWEEN = "a key moved between two commands of a batch: their order cannot be kept"


FOREIGN = "a reply has another type than Valkey and Redis give to this command: is it one of them?"

OK, CREATED, NO_CONTENT = LINE[Status.OK], LINE[Status.CREATED], LINE[Status.NO_CONTENT]
NOT_FOUND, SERVER_ERROR = LINE[Status.NOT_FOUND], LINE[Status.SERVER_ERROR]


class Directory(Protocol):
    """Which node serves which key, and what a batch learns about that; see RemoteStore."""

    cluster: bool

    def node(self, address: Address, /) -> Node: ...
    def moved(self, slot: int, node: Node, /) -> None: ...
    def refresh_soon(self) -> None: ...
    def note_largest(self, size_bytes: int, /) -> None: ...


def reply_to_get(value: bytes | None) -> bytes:
    """Return the reply line for a value, or for a key that is not there.

    Another program may have stored an empty value or one with a line feed, which KV/1.0 cannot carry. That is 500
    (rules 1 and 11).
    """
    if value is None:
        return NOT_FOUND
    if not value or b"\n" in value:
        logger.error("a value that another program stored is empty or has a line feed: GET gets 500")
        return SERVER_ERROR
    return b"200 OK %b\n" % value


def command_of_expiry(verb: int, key: bytes, value: bytes) -> RawCommand:
    """Return the server's command for a command of rule 15."""
    if verb == PUTEX:
        seconds, value = split_seconds(value)
        return b"SET", key, value[:-1], b"EX", b"%d" % seconds, b"GET"
    if verb == EXPIRE:
        return b"EXPIRE", key, value[:-1]
    if verb == TTL:
        return b"PTTL", key
    # The server's PERSIST answers 0 for a missing key, and also for one that does not expire.
    return b"GETEX", key, b"PERSIST"


def reply_of_expiry(verb: int, reply: Reply) -> bytes:
    """Return the reply line for what a server answered to command_of_expiry. Raises StoreError."""
    if verb == PUTEX:
        return CREATED if reply is None else OK
    if verb == EXPIRE:
        return OK if reply == 1 else NOT_FOUND
    if verb == TTL:
        if type(reply) is not int:
            raise StoreError(FOREIGN)
        if reply == NO_KEY:
            return NOT_FOUND
        return b"200 OK %d\n" % (-1 if reply == NO_DEADLINE else max(-(-reply // 1000), 1))
    return NOT_FOUND if reply is None else OK


class BatchRun:
    """A batch that is running. It begins on the caller's thread and continues on the threads of nodes."""

    __slots__ = (
        "_batch",
        "_deadline_s",
        "_done",
        "_left",
        "_limit_bytes",
        "_lock",
        "_redirections",
        "_replies",
        "_store",
        "_works",
    )

    def __init__(
        self,
        store: Directory,
        batch: Batch,
        limit_bytes: int,
        done: Callable[[list[bytes] | StoreError], None],
        deadline_s: float,
    ) -> None:
        self._store = store
        self._batch = batch
        self._limit_bytes = limit_bytes
        self._done = done
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._replies: list[Reply] = [None] * len(batch)
        self._works: list[tuple[NodeRequest, Node, Sequence[int]]] = []
        self._left = 0
        self._redirections = 0

    def send(self, parts: Mapping[tuple[Node, bool], Sequence[int]]) -> None:
        """Send commands, given by their numbers in the batch, to their nodes; the bool is for ASKING."""
        batch = self._batch
        keep_bytes = KEPT_LIMITS * self._limit_bytes
        self._works = []
        for (node, asking), numbers in parts.items():
            commands: list[RawCommand] = []
            writes = False
            for number in numbers:
                verb, key, value = batch[number]
                if verb == GET:
                    commands.append((b"GET", key))
                    continue
                writes = writes or verb != TTL
                if verb == PUT:
                    # With GET, SET returns the old value. So one step tells whether there was one.
                    commands.append((b"SET", key, value[:-1], b"GET"))
                else:
                    commands.append((b"DEL", key) if verb == DEL else command_of_expiry(verb, key, value))
            work = NodeRequest()
            work.commands = commands
            work.packed = pack(commands if not asking else [part for command in commands for part in (ASKING, command)])
            work.done = self._one_is_done
            work.deadline_s = self._deadline_s
            work.writes = writes
            work.asking = asking
            work.keep_bytes = keep_bytes
            self._works.append((work, node, numbers))
        self._left = len(parts)
        for work, node, _ in tuple(self._works):
            node.submit(work)

    def _one_is_done(self, _: NodeRequest) -> None:
        with self._lock:
            self._left -= 1
            if self._left:
                return
        outcome: list[bytes] | StoreError | None
        try:
            outcome = self._all_are_done()
        except StoreError as error:
            outcome = error.with_traceback(None)  # the error would keep this frame in memory, and with it the batch
        except Exception as mistake:  # whatever happens, a caller waits for an outcome
            outcome = StoreError(f"an error in this store: {mistake!r}")
        if outcome is not None:
            self._done(outcome)

    def _all_are_done(self) -> list[bytes] | None:
        """Return reply lines, or None if redirected commands were sent again. Raises StoreError."""
        refused = False
        for work, _, numbers in self._works:
            if work.error:
                raise StoreError(str(work.error))
            for number, reply in zip(numbers, work.replies, strict=True):
                self._replies[number] = reply
                refused = refused or isinstance(reply, ResponseError)
        if refused:
            self._redirect()
            return None
        return self._reply_lines()

    def _redirect(self) -> None:
        """Send redirected commands to their nodes: they were not run. Raises StoreError for any other refusal."""
        if self._redirections == REDIRECTIONS:
            raise StoreError(f"redirected {REDIRECTIONS} times: the nodes do not agree which of them serves the key")
        self._redirections += 1
        store = self._store
        parts: dict[tuple[Node, bool], list[int]] = {}
        for work, node, numbers in self._works:
            targets: dict[bytes, tuple[Node, bool]] = {}
            for number, reply in zip(numbers, work.replies, strict=True):
                key = self._batch[number][1]
                if not isinstance(reply, ResponseError):
                    if key in targets:
                        raise StoreError(MOVED_BETWEEN)
                    continue
                target = redirection(reply, node.address) if store.cluster else None
                if target is None:
                    if isinstance(reply, ReadOnlyError) or "CLUSTERDOWN" in str(reply):
                        store.refresh_soon()
                    raise StoreError(f"{node} refused a command: {reply}")
                address, once, slot = target
                owner = store.node(address)
                if not once:
                    store.moved(slot, owner)
                if targets.setdefault(key, (owner, once)) != (owner, once):
                    raise StoreError(MOVED_BETWEEN)
                parts.setdefault((owner, once), []).append(number)
        self.send(parts)

    def _reply_lines(self) -> list[bytes]:
        """Return reply lines. Cut them after limit_bytes if only GETs follow, because GETs can be repeated."""
        largest_bytes = 0
        for reply in self._replies:
            if type(reply) is bytes and len(reply) > largest_bytes:
                largest_bytes = len(reply)
        self._store.note_largest(largest_bytes)
        replies: list[bytes] = []
        fetched = 0
        cut: int | None = None
        for (verb, _, _), reply in zip(self._batch, self._replies, strict=True):
            if verb != GET:
                if cut is not None and TOO_MUCH in self._replies[cut : len(replies)]:
                    raise StoreError(f"values of more than {KEPT_LIMITS * self._limit_bytes} bytes in one pipeline")
                cut = None
                if verb == PUT:
                    replies.append(CREATED if reply is None else OK)
                elif verb == DEL:
                    replies.append(NO_CONTENT if reply == 1 else NOT_FOUND)
                else:
                    replies.append(reply_of_expiry(verb, reply))
                continue
            if cut is None and fetched > self._limit_bytes:
                cut = len(replies)
            if type(reply) is bytes:
                fetched += len(reply)
            elif reply is not None and reply is not TOO_MUCH:
                raise StoreError(FOREIGN)
            replies.append(b"" if reply is TOO_MUCH else reply_to_get(reply))
        return replies if cut is None else replies[:cut]
