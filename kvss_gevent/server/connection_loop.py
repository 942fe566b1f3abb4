"""The loop of one connection: its greenlet receives, asks the conversation, and sends.

The usual loop of `socket.recv` and `sendall` costs twice the CPU for a request: each wait tries, fails, makes a Waiter,
and starts and stops a watcher. Here each connection keeps one watcher, which is started once with the greenlet's own
switch. The event loop wakes the greenlet. The greenlet makes one recv, leaves its reply to the outbox or makes one
send, and goes back to the event loop. This needs three rules. The watcher is stopped before the greenlet waits for
anything else; otherwise the wrong event would wake it. Only the greenlet that owns a socket closes it, and it closes
the watcher first. To end a connection from outside, the socket is shut down: its greenlet then reads the end of the
stream.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

import gevent
from greenlet import getcurrent, greenlet

from kvss_gevent.core.service import Service
from kvss_gevent.core.session import no_table
from kvss_gevent.observe.observer import Observer
from kvss_gevent.observe.timing import NEVER_ON, Call
from kvss_gevent.protocol.wire import PUT_PREFIX
from kvss_gevent.server.client_memory import ClientMemory
from kvss_gevent.server.connection import Connection, as_lines_bytes, held_input
from kvss_gevent.server.outbox import LARGEST_REPLY_BYTES, Outbox
from kvss_gevent.server.transport import LARGEST_RECV_BYTES, PlainClientError, TlsError
from kvss_gevent.settings.config import Config
from kvss_gevent.stores.base import CommittingStore
from kvss_gevent.stores.hub_wait import hub_switch

logger = logging.getLogger("kvss")

READ, WRITE = 1, 2

SMALL_RECV_BYTES = 448
"""Fits Python's own small-object allocator. A larger buffer costs 0.3 us a request. It grows after it was full."""

STRANGERS = {"interval_s": 10.0}
"""For the log: clients of other protocols get at most one line in so many seconds, however often they come."""

PROGRESS_LOOKS = 5
"""How often a client that takes no replies is checked before --write-timeout ends it."""


class DeafClientError(Exception):
    """The client has taken none of its replies for the whole of --write-timeout."""


class ConnectionLoop:
    """Runs the greenlets of a server's connections.

    on_end is called with a connection that has ended, and the reason; it closes the socket. memory counts what clients
    hold.
    """

    def __init__(
        self,
        service: Service,
        read_config: Callable[[], Config],
        memory: ClientMemory,
        on_end: Callable[[Connection, str], None],
        observer: Observer | None,
    ) -> None:
        self._service = service
        self._read_config = read_config
        self._memory = memory
        self._on_end = on_end
        self._observer = observer
        self._loop = gevent.get_hub().loop
        self._switch_to_hub = hub_switch()
        store = service.bare_store
        self._outbox = Outbox(self._loop, store.commit) if isinstance(store, CommittingStore) else Outbox(self._loop)
        if service.lab:
            service.lab.apart = self._outbox

    def converse(self, connection: Connection, readable: Any = None) -> None:
        """Run the greenlet of one connection, until the connection ends or hibernates."""
        sock = connection.sock
        readable = readable or self._loop.io(sock.fileno(), READ)
        reason = "it closed"
        rests = False
        try:
            rests = self._talk(connection, readable)
            if connection.session.closed:
                reason = "closed as asked"
                if foreign := connection.session.foreign:
                    reason = f"it speaks {foreign} and not KV/1.0"
                    logger.warning("%s: %s", connection, reason, extra=STRANGERS)
        except DeafClientError:
            connection.reset_on_close()
            reason = f"it took no reply for {self._read_config().write_timeout_s:g} s"
        except OSError as error:
            reason = error.strerror or "connection lost"
            if isinstance(error, PlainClientError | TlsError):
                logger.warning("%s: %s", connection, reason, extra=STRANGERS)
        except Exception:
            logger.exception("%s: an error in this server ends the connection", connection)
        finally:
            readable.stop()
            connection.wake = None
            if rests:
                readable.start(self._end_rest, connection, readable)
            else:
                readable.close()
                self._on_end(connection, reason)

    def hibernate(self, connection: Connection) -> None:
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
        greenlet(self.converse, gevent.get_hub()).switch(connection, readable)

    def _talk(  # noqa: PLR0912, PLR0915 - one loop: a call for each step would cost more than the step
        self, connection: Connection, readable: Any
    ) -> bool:
        """Receive, answer and send until one side is done or the connection is to hibernate; return whether it is.

        Raises OSError; DeafClientError.
        """
        session, switch_to_hub = connection.session, self._switch_to_hub
        recv, send = connection.transport[:2]
        receive, wake = session.receive, getcurrent().switch
        stopwatch, now = NEVER_ON, time.monotonic
        if self._service.may_wait:
            receive = self._observed(connection, receive)
            receive, wake = self._where_it_may_wait(connection, receive, readable, wake)
        elif self._observer:
            stopwatch = self._observer.timing.stopwatch
        reply_in_table = getattr(session, "reply_in_table", no_table)
        readable.start(wake)
        connection.wake = wake
        room = SMALL_RECV_BYTES
        collect = self._outbox.put
        # Replies of a store that makes greenlets wait come together anyhow, when it answers a batch.
        collected_bytes = 0 if self._service.store.blocks else LARGEST_REPLY_BYTES
        while True:  # with its condition here, CPython 3.11 would make the loop fast only after seven other connections
            if session.closed:
                break
            data = reply = b""  # a quiet connection must not keep the last ones
            unsent = switch_to_hub()
            if unsent:
                self._send_rest(connection, readable, wake, *unsent)
                unsent = ()
                continue
            try:
                data = recv(room)
            except BlockingIOError:
                if connection.rests:
                    return True
                continue
            if not data:
                break
            # Here, because a call of a function would cost a third of it. No packet is longer than room.
            if room > stopwatch.short_bytes and len(data) > stopwatch.short_bytes:
                # A look-up cannot take long. Two looks at the clock would take as long as itself.
                if data < PUT_PREFIX and not stopwatch.times_all:
                    reply = reply_in_table(data) or b""
                if not reply:
                    began_s = now()
                    reply = receive(data)
                    took_s = now() - began_s
                    if took_s > stopwatch.limit_s:
                        stopwatch.tell(connection, data, began_s, took_s)
            else:
                reply = receive(data)
            if len(data) >= room:
                # Before a login, what a client sends at once waits in the kernel.
                if self._service.is_admitted(session):
                    room = min(room * 12, LARGEST_RECV_BYTES)
                self._memory.note(connection, held_input(session))
            if reply:
                if len(reply) <= collected_bytes and not session.more and not session.closed:
                    collect(connection, send, reply)
                    continue
                reply = self._outbox.send(reply)
                try:
                    sent = send(reply)
                except BlockingIOError:
                    sent = 0
                if sent != len(reply) or session.more:
                    self._send_rest(
                        connection, readable, wake, reply, sent, as_lines_bytes(data) if session.more else 0
                    )
        return False

    def _observed(self, connection: Connection, call: Call) -> Call:
        return self._observer.timed(connection, call, self._service.may_wait) if self._observer else call

    def _where_it_may_wait(
        self, connection: Connection, inner: Call, readable: Any, switch: Callable[[], Any]
    ) -> tuple[Call, Callable[[], Any]]:
        """Return receive and wake for a conversation in which the greenlet may wait. The socket must not wake it there.

        The watcher is stopped if the client sends more before it has its replies. To stop and start it for every
        request costs a system call, 1.5 us in all. After a wait it is, too, for the outbox: an event of this turn that
        is still to come would wake the greenlet a second time in the turn.
        """
        loop, blocks = self._loop, self._service.store.blocks

        def receive(data: bytes) -> bytes:
            connection.sending = True  # the client waits for the server, so no timeout counts
            turn = loop.iteration
            reply = inner(data)
            connection.sending = False
            if not blocks and loop.iteration != turn:
                readable.stop()
            if not readable.active:
                readable.start(wake)
            return reply

        def wake(*rest: Any) -> None:
            if connection.sending:
                readable.stop()
            else:
                switch(*rest)

        return receive, wake

    def _send_rest(  # noqa: PLR0913, PLR0917 - the state of the loop, in which it is an exception
        self,
        connection: Connection,
        readable: Any,
        wake: Callable[[], Any],
        reply: bytes,
        sent: int,
        lines_bytes: int = 0,
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
                    reply, sent = self._outbox.send(proceed(b"")), 0
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
        limit_s = self._read_config().write_timeout_s
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
