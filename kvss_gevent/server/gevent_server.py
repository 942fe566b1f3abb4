"""The gevent server: a StreamServer, one greenlet per connection. A conversation answers what it receives.

The usual loop of `socket.recv` and `sendall` costs twice the CPU for a request: each wait tries, fails, makes a Waiter,
and starts and stops a watcher. Here each connection keeps one watcher, which is started once with the greenlet's own
switch. The event loop wakes the greenlet. The greenlet makes one recv and one send, and goes back to the event loop.
This needs three rules. The watcher is stopped before the greenlet waits for anything else; otherwise the wrong event
would wake it. Only the greenlet that owns a socket closes it, and it closes the watcher first. To end a connection from
outside, the socket is shut down: its greenlet then reads the end of the stream.
"""

import logging
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.server import StreamServer
from greenlet import getcurrent, greenlet

from kvss_gevent.core.service import Service
from kvss_gevent.core.session import no_table
from kvss_gevent.observe.observer import Observer
from kvss_gevent.observe.timing import NEVER_ON, Call
from kvss_gevent.server.admission import Admission
from kvss_gevent.server.client_memory import ClientMemory, default_bound
from kvss_gevent.server.connection import Connection, as_lines_bytes, close, has_left, held_input, host_of
from kvss_gevent.server.rare_log import RareLog
from kvss_gevent.server.security.tls import PlainClientError, TlsError
from kvss_gevent.server.timeouts import Reclaimed, reclaim, sweep
from kvss_gevent.server.transport import MakeTransport, plain
from kvss_gevent.settings.config import Config
from kvss_gevent.stores.hub_wait import hub_switch

logger = logging.getLogger("kvss")

READ, WRITE = 1, 2

SMALL_RECV_BYTES = 448
"""Fits Python's own small-object allocator. A larger buffer costs 0.3 us a request. It grows after it was full."""

SHORT_QUEUE = 16
"""If more clients wait to be accepted, none is left to a freer worker: a storm must not be accepted one in 2 ms."""
QUEUE_LENGTH = struct.Struct("24xI")
"""Offset in a listening socket's TCP_INFO of tcpi_unacked, which is the length of its queue."""

STRANGERS_LOG_INTERVAL_S = 10.0
"""Clients of other protocols are logged at most this often."""

PAUSE_S = 0.5
"""How long accepting rests if not even a refusal could be sent."""

LEAVE_S = 0.002
"""How long a new client is left to a worker with fewer clients. Without it, one worker of four got 52 of 64 clients."""

PROGRESS_LOOKS = 5
"""How often a client that takes no replies is checked before --write-timeout ends it."""

GRACE_S = 1.0
"""Time for connections that were reset at the end of a drain to end."""


Accepted = tuple[Connection | None, None]
NOBODY: Accepted = (None, None)
"""An accepted connection that is closed already; the turn goes on to the next one."""


class DeafClientError(Exception):
    """The client has taken none of its replies for the whole of --write-timeout."""


class KVServer(StreamServer):  # type: ignore[misc]
    """A KV/1.0 server on a listening socket, one greenlet per connection.

    start() begins to accept and returns; drain() ends all in good order. Make, start and drain it in one thread. The
    limits are those of config; `kvss serve --help` explains them.
    """

    max_accept = 100

    def __init__(
        self, listener: Any, service: Service, config: Config, someone_is_freer: Callable[[], bool] | None = None
    ) -> None:
        super().__init__(listener, self._converse, spawn=gevent.spawn_raw)
        self.service = service
        self.config = config
        self.connections: set[Connection] = set()
        self._someone_is_freer = someone_is_freer or _nobody
        self._left_it = False
        self._admission = Admission(lambda: self.config)
        self._strangers = RareLog(STRANGERS_LOG_INTERVAL_S)
        self._loop = gevent.get_hub().loop
        self._switch_to_hub = hub_switch()
        self.make_transport: MakeTransport = plain
        usual_bytes = default_bound()
        self.observer: Observer | None = None
        self.may_wait = service.store.blocks
        """Whether a conversation may let other greenlets run, in its store or while a password is checked."""
        self.needs_login = False
        """Whether conversations have is_admitted, because one without a login may not stay for long."""
        self._memory = ClientMemory(lambda: self.config.max_client_memory_bytes or usual_bytes)
        self._sweeper = gevent.spawn(
            sweep, self.connections, lambda: self.config, self._memory, self._is_admitted, self._hibernate
        )
        self._reclaimer = (
            gevent.spawn(reclaim, service.bare_store) if isinstance(service.bare_store, Reclaimed) else None
        )

    def do_read(self) -> Accepted | None:
        """Accept one connection, or refuse it with 500 if there is no room (rule 10). None ends the turn."""
        if not self._left_it and self._someone_is_freer() and self._queue_length() <= SHORT_QUEUE:
            self._left_it = True  # only once: the other worker may be stuck, or as busy
            self.stop_accepting()
            gevent.spawn_later(LEAVE_S, self._accept_again)
            return None
        self._left_it = False
        try:
            descriptor, address = self.socket._accept()
        except (BlockingIOError, InterruptedError, ConnectionError):
            return None
        except OSError as error:
            if not self._admission.refuse_without_descriptors(self.socket, error):
                self.stop_accepting()
                gevent.spawn_later(PAUSE_S, self._accept_again)
            return None
        # A plain socket: a gevent socket has watchers of its own, which cost memory and would not be used.
        sock = socket.socket(self.socket.family, self.socket.type, self.socket.proto, fileno=descriptor)
        sock.setblocking(False)
        if not isinstance(address, tuple):
            address = ""  # the path that a client of the Unix socket may have: any bytes, of its own choice
        host = host_of(address)
        if why := self._admission.refusal(host, self.service.connections()):
            self._admission.refuse(sock, why)
            return NOBODY
        self._admission.opened(host)
        if has_left(sock):
            self._admission.closed(host)
            sock.close()
            return NOBODY
        connection = Connection(sock, self.make_transport(sock), self.service.open(host or "loopback"), address)
        self.connections.add(connection)
        self.service.stats.connections += 1
        if self.observer:
            self.observer.opened(connection)
        logger.info("%s connected", connection)
        return connection, None

    def do_handle(self, connection: Connection | None, _: None) -> None:
        """Give the connection its greenlet."""
        if connection:
            self._spawn(self._converse, connection)

    def _is_admitted(self, conversation: Any) -> bool:
        return not self.needs_login or conversation.is_admitted

    def _queue_length(self) -> int:
        """Return how many clients wait to be accepted; 0 where the system does not tell."""
        try:
            info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, QUEUE_LENGTH.size)
            return int(QUEUE_LENGTH.unpack(info)[0])
        except (AttributeError, OSError, struct.error):
            return 0

    def _accept_again(self) -> None:
        if self.started:
            self.start_accepting()

    def _converse(self, connection: Connection, readable: Any = None) -> None:
        """Run the greenlet of one connection, until the connection ends or hibernates."""
        sock = connection.sock
        readable = readable or self._loop.io(sock.fileno(), READ)
        reason = "it closed"
        rests = False
        try:
            rests = self._talk(connection, readable)
            if connection.session.closed:
                reason = "closed as asked"
                if foreign := getattr(connection.session, "foreign", ""):
                    reason = f"it speaks {foreign} and not KV/1.0"
                    self._strangers.warn("%s: %s", connection, reason)
        except DeafClientError:
            connection.reset_on_close()
            reason = f"it took no reply for {self.config.write_timeout_s:g} s"
        except OSError as error:
            reason = error.strerror or "connection lost"
            if isinstance(error, PlainClientError | TlsError):
                self._strangers.warn("%s: %s", connection, reason)
        except Exception:
            logger.exception("%s: an error in this server ends the connection", connection)
        finally:
            readable.stop()
            connection.wake = None
            if rests:
                readable.start(self._end_rest, connection, readable)
            else:
                readable.close()
                self._forget(connection, reason)

    def _forget(self, connection: Connection, reason: str) -> None:
        """Close a connection whose watcher is closed."""
        self.connections.discard(connection)
        self._memory.forget(connection)
        self._admission.closed(host_of(connection.address))
        self.service.stats.connections -= 1
        if self.observer:
            self.observer.closed(connection)
        logger.info("%s gone: %s", connection, connection.ended or reason)
        connection.transport.finish()
        close(connection.sock)

    def _hibernate(self, connection: Connection) -> None:
        """Let a quiet connection give up its greenlet soon. Its next byte gives it another one."""
        self._loop.run_callback(self._rest, connection)

    def _rest(self, connection: Connection) -> None:
        """End the greenlet of a quiet connection. Runs in the hub, so nothing reads or sends meanwhile."""
        if connection.wake and not connection.sending and connection.session.quiet:
            connection.rests = True
            connection.wake()
            connection.rests = False

    def _end_rest(self, connection: Connection, readable: Any) -> None:
        """Give a hibernating connection a greenlet. It runs at once, because there is something to read."""
        readable.stop()
        greenlet(self._converse, gevent.get_hub()).switch(connection, readable)

    def _talk(  # noqa: PLR0912 - one loop: a call for each step would cost more than the step
        self, connection: Connection, readable: Any
    ) -> bool:
        """Receive, answer and send until one side is done or the connection is to hibernate; return whether it is.

        Raises OSError; DeafClientError.
        """
        session, switch_to_hub = connection.session, self._switch_to_hub
        recv, send = connection.transport[:2]
        largest_bytes = connection.transport.largest_bytes
        receive, wake = session.receive, getcurrent().switch
        stopwatch, now = NEVER_ON, time.monotonic
        if self.may_wait:
            receive = self._observed(connection, receive)
            receive, wake = self._for_a_store_that_waits(connection, receive, readable, wake)
        elif self.observer:
            stopwatch = self.observer.timing.stopwatch
        reply_in_table = getattr(session, "reply_in_table", no_table)
        readable.start(wake)
        connection.wake = wake
        room = SMALL_RECV_BYTES
        while not session.closed:
            switch_to_hub()
            try:
                data = recv(room)
            except BlockingIOError:
                if connection.rests:
                    return True
                continue
            if not data:
                break
            if stopwatch.is_on:  # here, because a call of a function would cost a third of it
                # A look-up cannot take long. Two looks at the clock would take as long as itself.
                reply = None if stopwatch.times_all else reply_in_table(data)
                if reply is None:
                    began_s = now()
                    reply = receive(data)
                    took_s = now() - began_s
                    if took_s > stopwatch.limit_s:
                        stopwatch.tell(connection, data, began_s, took_s)
            else:
                reply = receive(data)
            if len(data) >= room:
                if self._is_admitted(session):  # before a login, what a client sends at once waits in the kernel
                    room = min(room * 12, largest_bytes)
                self._memory.note(connection, held_input(session))
            if reply:
                try:
                    sent = send(reply)
                except BlockingIOError:
                    sent = 0
                if sent != len(reply) or session.more:
                    lines_bytes = as_lines_bytes(data) if session.more else 0
                    self._send_rest(connection, readable, wake, reply, sent, lines_bytes)
        return False

    def _observed(self, connection: Connection, call: Call) -> Call:
        return self.observer.timed(connection, call, self.may_wait) if self.observer else call

    def _for_a_store_that_waits(
        self, connection: Connection, inner: Call, readable: Any, switch: Callable[[], Any]
    ) -> tuple[Call, Callable[[], Any]]:
        """Return receive and wake for a store in which the greenlet may wait. The socket must not wake it there.

        The watcher is stopped only if the client sends more before it has its replies. To stop and start it for every
        request costs a system call, 1.5 us in all.
        """

        def receive(data: bytes) -> bytes:
            connection.sending = True  # the client waits for the server, so no timeout counts
            reply = inner(data)
            connection.sending = False
            if not readable.active:
                readable.start(wake)
            return reply

        def wake() -> None:
            if connection.sending:
                readable.stop()
            else:
                switch()

        return receive, wake

    def _send_rest(  # noqa: PLR0913, PLR0917 - the state of the loop, in which it is an exception
        self,
        connection: Connection,
        readable: Any,
        wake: Callable[[], Any],
        reply: bytes,
        sent: int,
        lines_bytes: int,
    ) -> None:
        """Send the bytes that the kernel did not take, and the replies to waiting requests. Others run meanwhile.

        lines_bytes: what the waiting requests take, at most. Afterwards the readable watcher is started again, with
        wake.
        """
        session, send = connection.session, connection.transport.send
        proceed = self._observed(connection, lambda _: session.proceed())
        readable.stop()
        connection.sending = True
        writable = self._loop.io(connection.sock.fileno(), WRITE)
        try:
            while sent < len(reply) or session.more:
                # All of a reply stays in memory until its last byte is sent. It is counted before the wait, which may
                # be endless.
                self._memory.note(connection, held_input(session) + len(reply) + (lines_bytes if session.more else 0))
                # While the socket takes everything, nothing makes this greenlet wait, and a flood of pipelines would
                # starve all other clients. Waiting for the socket lets the events of other sockets in; sleep(0) does
                # not.
                self._wait_until_writable(connection, writable)
                if sent == len(reply):
                    reply, sent = proceed(b""), 0
                try:
                    sent += send(memoryview(reply)[sent:])
                except BlockingIOError:
                    pass
        finally:
            writable.close()
            connection.sending = False
            self._memory.note(connection, held_input(session))
        readable.start(wake)

    def _wait_until_writable(self, connection: Connection, writable: Any) -> None:
        """Wait until the socket takes more. Raises DeafClientError if the client takes nothing for --write-timeout.

        A socket with large buffers becomes writable long after a slow client has begun to take its replies. So the test
        is whether the kernel has less to send than before.
        """
        wait = gevent.get_hub().wait
        limit_s = self.config.write_timeout_s
        if not limit_s:
            wait(writable)
            return
        untaken_bytes, since_s = connection.untaken_bytes(), time.monotonic()
        while True:
            with gevent.Timeout(limit_s / PROGRESS_LOOKS, False):
                wait(writable)
                return
            now_bytes, now_s = connection.untaken_bytes(), time.monotonic()
            if now_bytes != untaken_bytes:
                untaken_bytes, since_s = now_bytes, now_s
            elif now_s - since_s >= limit_s:
                raise DeafClientError

    def drain(self, timeout_s: float) -> bool:
        """Stop accepting, answer what was received, close; return whether all was done within timeout_s.

        Connections that are not done by then are reset.
        """
        self.close()
        self._sweeper.kill()
        if self._reclaimer:
            self._reclaimer.kill()
        for connection in list(self.connections):
            connection.stop_receiving()
        deadline_s = time.monotonic() + timeout_s
        while self.connections and time.monotonic() < deadline_s:
            gevent.sleep(0.01)
        in_time = not self.connections
        for connection in list(self.connections):
            connection.end("the server stopped", reset=True)
        while self.connections and time.monotonic() < deadline_s + GRACE_S:
            gevent.sleep(0.01)
        return in_time


def _nobody() -> bool:
    """The answer where there is only one worker."""
    return False
