"""One Valkey or Redis server as a store sees it: a runner with one connection, which sends waiting work as pipelines.

The client library connects and parses. It must never repeat anything: after any failure the connection is closed, and
the outcome of what was sent on it is reported as unknown. RemoteStore decides which node gets what.
"""

import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from valkey.exceptions import ValkeyError

from kvss_gevent.stores.base import StoreError
from kvss_gevent.stores.remote.access import Access
from kvss_gevent.stores.remote.node_connection import Address, Reply, Sender, pack
from kvss_gevent.stores.remote.request import PIPELINE_BYTES, PIPELINE_COMMANDS, TOO_MUCH, NodeLimits, NodeRequest
from kvss_gevent.stores.remote.runtimes import Runtime

FRESH_S = 0.1
"""A connection that was used this recently is not checked before use: a check costs a tenth of a round trip."""

REST_S = 0.2
"""After a failure, work for the node fails at once for this long, instead of waiting."""


VALUE_UNWANTED = (b"SET", b"GETEX")
"""Commands whose replies are values that no client asked for."""


class Node:
    """A server by its address. submit() may be called from any thread, or any greenlet on a runtime of greenlets."""

    def __init__(self, address: Address, limits: NodeLimits, runtime: Runtime, access: Access) -> None:
        self.address = address
        self.limits = limits
        self.pipelines = 0
        """Round trips made."""
        self.on_failure: Callable[[], None] = _nothing
        self._connection = runtime.connect_to(address, limits.timeout_s, access)
        self._waiting: deque[NodeRequest] = deque()
        self._called = runtime.signal()
        self._lock = threading.Lock()
        self._queued_bytes = 0
        self._closed = False
        self._resting_until_s = float("-inf")
        self._fault = ""
        self._connected = False
        self._sock: Sender
        """The socket of the connection, while it is connected."""
        self._used_s = 0.0
        self._runner = runtime.spawn(self._run, f"kvss node {self}")

    def __str__(self) -> str:
        host, port = self.address
        return f"{host}:{port}"

    def submit(self, work: NodeRequest) -> None:
        """Queue work. If that is not possible, call its done() at once with an error."""
        with self._lock:
            queued_bytes = self._queued_bytes + len(work.packed)
            full = queued_bytes > self.limits.queue_bytes and self._queued_bytes > 0
            closed = self._closed
            if not (full or closed):
                self._queued_bytes = queued_bytes
                self._waiting.append(work)
        if not (full or closed):
            if not self._called.is_set():
                self._called.set()
            return
        work.error = StoreError(f"{self}: " + ("no longer in use" if closed else "too much work is waiting for it"))
        work.done(work)

    def close(self, timeout_s: float = 0.0) -> None:
        """Stop the runner after the queued work; wait for its end for at most timeout_s."""
        with self._lock:
            self._closed = True
        self._called.set()
        if timeout_s:
            self._runner.join(timeout_s)

    def _run(self) -> None:
        while True:
            # submit checks the signal after it has queued work. It is cleared before the queue is read, so no work is
            # missed.
            self._called.clear()
            while self._waiting:
                gathered = self._gather()
                self._finish(gathered, self._do(gathered))
            if self._closed:
                break
            self._called.wait()
        self._finish(list(self._waiting), "no longer in use")
        self._disconnect()

    def _do(self, gathered: Sequence[NodeRequest]) -> str:
        """Run the work whose time is not over; return the fault that ended it, for the work without replies."""
        now_s = time.monotonic()
        if now_s < self._resting_until_s:
            return self._fault
        ready = []
        for work in gathered:
            if work.deadline_s > now_s:
                ready.append(work)
        try:
            if ready:
                self._exchange(ready)
        except Exception as fault:  # after any error it is unknown which reply comes next
            self._disconnect()
            self._fault = str(fault) or type(fault).__name__
            self._resting_until_s = time.monotonic() + REST_S
            self.on_failure()
            return self._fault
        return "its turn did not come in time"

    def _gather(self) -> list[NodeRequest]:
        """Take the waiting work, up to the limits of a pipeline. It came during the last round trip."""
        gathered: list[NodeRequest] = []
        commands = size_bytes = 0
        while self._waiting and commands < PIPELINE_COMMANDS and size_bytes < PIPELINE_BYTES:
            work = self._waiting.popleft()
            gathered.append(work)
            commands += len(work.commands)
            size_bytes += len(work.packed)
        return gathered

    def _exchange(self, gathered: Sequence[NodeRequest]) -> None:
        """Send all as one pipeline and read the replies. Raises ValkeyError or OSError if this fails on the way."""
        if not self._connected or time.monotonic() - self._used_s > FRESH_S:
            self._ensure_connected()
        packed = gathered[0].packed if len(gathered) == 1 else b"".join([work.packed for work in gathered])
        wanted = self.limits.replicas_ack
        waits = wanted > 0 and any(work.writes for work in gathered)
        if waits:
            # WAIT gives up before the connection does, so that too few replicas are not taken for a dead node.
            packed += pack([(b"WAIT", b"%d" % wanted, b"%d" % (self.limits.timeout_s * 500))])
        self.pipelines += 1
        try:
            sent = self._sock.send(packed)  # nearly always the kernel takes all of it
        except (BlockingIOError, ssl.SSLWantWriteError):
            sent = 0
        if sent < len(packed):
            self._sock.sendall(packed[sent:])
        deadline_s = time.monotonic() + self.limits.timeout_s
        read_all: list[tuple[NodeRequest, list[Reply]]] = []
        try:
            for work in gathered:
                read_all.append((work, self._read_replies(work, deadline_s)))
        finally:
            # No write is acknowledged without the replicas' answer.
            confirmed = wanted if not waits else self._confirmed() if len(read_all) == len(gathered) else 0
            for work, replies in read_all:
                if work.writes and confirmed < wanted:
                    work.error = StoreError(f"{self}: {confirmed} of {wanted} replicas confirmed the write in time")
                work.replies = replies
        self._used_s = time.monotonic()

    def _confirmed(self) -> int:
        """Read the answer to WAIT."""
        reply = self._connection.read_reply()
        return reply if isinstance(reply, int) else 0

    def _read_replies(self, work: NodeRequest, deadline_s: float) -> list[Reply]:
        read_reply = self._connection.read_reply
        replies: list[Reply] = []
        kept_bytes = 0
        for command in work.commands:
            if work.asking:
                read_reply()
            reply = read_reply()
            if type(reply) is bytes:
                if command[0] in VALUE_UNWANTED:
                    reply = b""  # only that there was one matters
                elif kept_bytes > work.keep_bytes:
                    reply = TOO_MUCH
                else:
                    kept_bytes += len(reply)
            replies.append(reply)
        if time.monotonic() > deadline_s:
            raise TimeoutError("its replies came too slowly")
        return replies

    def _ensure_connected(self) -> None:
        """Connect if there is no connection, or if the server has closed it. Nothing was sent on it yet."""
        if self._connected:
            try:
                self._connected = not self._connection.can_read(0)
            except (ValkeyError, OSError):
                self._connected = False
        if not self._connected:
            self._connection.disconnect()
            self._connection.connect()
            self._sock = self._connection.socket()
            self._connected = True

    def _disconnect(self) -> None:
        self._connected = False
        self._connection.disconnect()

    def _finish(self, gathered: Sequence[NodeRequest], fault: str) -> None:
        """Give back finished work. Work without replies gets an error with the fault."""
        size_bytes = 0
        for work in gathered:
            size_bytes += len(work.packed)
        with self._lock:
            self._queued_bytes -= size_bytes
        error: StoreError | None = None
        for work in gathered:
            if work.error is None and len(work.replies) != len(work.commands):
                error = error or StoreError(f"{self}: {fault}")
                work.error = error
            work.done(work)


def _nothing() -> None:
    pass
