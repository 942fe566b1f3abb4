"""One connection of an asyncio client: sends the lines of many calls together, and wakes each caller at its reply."""

import asyncio
import os
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, Protocol, cast

from kvss_gevent.client.client_connection import reason
from kvss_gevent.client.client_options import UNIX, ClientConfig
from kvss_gevent.client.commands import Command, Outcome, T
from kvss_gevent.client.protocol import ClientProtocol
from kvss_gevent.protocol.errors import KVConnectError, KVConnectionLost, KVError, KVStatusError, KVTimeout

MAX_OWED: Final = 1 << 14
"""The most requests without a reply on one connection. Further calls wait, so a slow server does not fill our
memory."""

_STALE_S: Final = 1.0
_TURNS: Final = 4
"""Turns of the event loop until a close that has arrived is known: one for the sockets, up to three for TLS and
resets."""
_RECV_BYTES: Final = 1 << 16
_CLOSE_S: Final = 1.0


class Waiter(Protocol):
    """Gets an outcome: an asyncio.Future, or a pipeline in its place."""

    def done(self) -> bool: ...
    def set_result(self, result: Any, /) -> None: ...
    def set_exception(self, error: BaseException, /) -> None: ...


class AsyncConnection(asyncio.Protocol):
    """An open connection. `ended` is set when it is no longer open.

    If replies are still owed, new calls are gathered and written once in each turn of the event loop. timeout_s of the
    configuration is how long a whole reply may take, counted from the request or from the reply before it. One timer
    checks this for all requests.
    """

    def __init__(self, config: ClientConfig, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.usable = True
        self.ended = loop.create_future()
        self._config = config
        self._protocol: ClientProtocol[Waiter] = ClientProtocol(config.host, config.port, config.max_reply_bytes)
        self._owed = self._protocol.owed
        self._transport: asyncio.Transport
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        self._flushing = False
        self._paused = False
        self._unasked: KVError | None = None
        self._since_s = loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._room: deque[asyncio.Future[None]] = deque()

    @property
    def ready(self) -> bool:
        """Whether a call may be sent at once: the connection is open, has room, and was in use a moment ago."""
        if self._owed:
            return len(self._owed) < MAX_OWED and not self._room
        return self.usable and not self._protocol.refused and self.loop.time() - self._since_s < _STALE_S

    @property
    def owes(self) -> bool:
        """Whether a request has no reply yet, also one whose caller was cancelled."""
        return bool(self._owed)

    @property
    def _ending(self) -> bool:
        return not self.usable or self._transport.is_closing()

    def call(self, command: Command[T]) -> "asyncio.Future[T]":
        """Send a command, and return a future of its result."""
        future: asyncio.Future[T] = self.loop.create_future()
        self.send(command, future)
        return future

    def send(self, command: Command[Any], waiter: Waiter) -> None:
        """Send a command whose outcome goes to the waiter."""
        if not self.usable:
            _settle(waiter, self._protocol.fault(KVConnectionLost, "it ended before the request was sent", command))
            return
        alone = not self._owed
        self._protocol.request(command, waiter)
        if alone:
            self._since_s = self.loop.time()
            if self._timer is None:
                self._timer = self.loop.call_at(self._since_s + self._config.timeout_s, self._look_at_the_clock)
            if not self._flushing:
                self._transport.write(command.line)
                return
        self._batch.append(command.line)
        self._batch_bytes += len(command.line)
        if not self._flushing:
            self._flushing = True
            self.loop.call_soon(self._flush)

    async def wait_until_ready(self) -> bool:
        """Wait for room, and for a close that has arrived and is not known yet.

        Return False if the connection has ended.
        """
        while len(self._owed) >= MAX_OWED:
            room = self.loop.create_future()
            self._room.append(room)
            await room
        for _ in range(_TURNS):
            if self._owed or self._ending:
                break
            await asyncio.sleep(0)
        return not self._ending or self._protocol.refused or self._unasked is not None

    def turned_away(self, commands: Sequence[Command[Any]], outcomes: list[Outcome]) -> bool:
        """Tell whether the server was full and sent 500 before any request.

        Then outcomes has the 500, and the connection ends. Raises KVProtocolError if the server sent something else.
        """
        if self._unasked is not None:
            error, self._unasked = self._unasked, None
            raise error
        if not self._protocol.refused:
            return False
        self._protocol.refused = False
        self._end("the server closed it")
        self._protocol.turn_away(commands, outcomes)
        return True

    async def close(self) -> None:
        """Close the connection. Calls that still wait for a reply raise KVConnectionLost."""
        self.abandon()
        await asyncio.wait([self.ended], timeout=_CLOSE_S)

    def abandon(self) -> None:
        """Close the connection without waiting for its end."""
        self._end("the client closed it")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport. This method and the next ones belong to asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transport is not a subclass of it

    def data_received(self, data: bytes) -> None:
        """Wake the callers whose replies have come."""
        done: list[tuple[Waiter, Outcome]] = []
        error = None
        idle = not self._owed
        # With TLS there are more encrypted bytes than plain ones. So what is unsent is known only without TLS.
        unsent = 0 if self._config.tls else self._batch_bytes + self._transport.get_write_buffer_size()
        try:
            self._protocol.receive(data, unsent, done)
        except KVError as fault:
            error = fault
            if done and not self._owed:  # after a surplus reply, the reply before it cannot be trusted
                waiter, outcome = done.pop()
                fault.results = [outcome]
                _settle(waiter, fault)
        for waiter, outcome in done:
            _settle(waiter, outcome)
        if done:
            self._since_s = self.loop.time()
        if error is not None:
            self._unasked = error if idle else None
            self._fail(error)
        for _ in range(min(len(self._room), MAX_OWED - len(self._owed))):
            _settle(self._room.popleft(), None)

    def pause_writing(self) -> None:
        """Write no more lines while the transport is full."""
        self._paused = True

    def resume_writing(self) -> None:
        """Write the lines that waited."""
        self._paused = False
        self._flush()

    def eof_received(self) -> None:
        """Fail the waiting calls, one turn of the loop earlier than connection_lost. The transport then closes."""
        self._fail(self._protocol.lost())

    def connection_lost(self, error: Exception | None) -> None:
        """Fail the calls that wait."""
        if error is not None and self._owed:
            self._take_farewell()
        self._fail(self._protocol.lost("" if error is None else reason(error)))
        if not self.ended.done():
            self.ended.set_result(None)

    def _take_farewell(self) -> None:
        """Receive what came before the connection broke: 500 if the server is full, 400 for a line over its limit.

        A write that fails ends the transport, so it reads no more. Bytes that came earlier are still in the socket,
        which stays open until connection_lost returns. Encrypted bytes cannot be used here.
        """
        if self._config.tls:
            return
        try:
            data = os.read(self._transport.get_extra_info("socket").fileno(), _RECV_BYTES)
        except OSError:
            return
        if data:
            self.data_received(data)

    def _flush(self) -> None:
        if self._paused:
            return
        self._flushing = False
        if self._batch:
            lines, self._batch, self._batch_bytes = self._batch, [], 0
            self._transport.write(b"".join(lines))

    def _look_at_the_clock(self) -> None:
        """End the connection if the oldest reply is late; otherwise check again when it would be late."""
        self._timer = None
        if not self._owed:
            return
        due_s = self._since_s + self._config.timeout_s
        if self.loop.time() < due_s:
            self._timer = self.loop.call_at(due_s, self._look_at_the_clock)
        else:
            self._fail(self._protocol.late(self._config.timeout_s))

    def _end(self, detail: str) -> None:
        self._fail(self._protocol.fault(KVConnectionLost, detail))

    def _fail(self, error: KVError) -> None:
        """Give the first caller the error, and the others a lost connection. Close."""
        self.usable = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._owed:
            _, _, waiter = self._owed.popleft()
            _settle(waiter, error)
            lost = isinstance(error, KVConnectionLost)
            detail = error.detail if lost else f"a reply before this one is missing: {error.detail}"
            error = self._protocol.fault(KVConnectionLost, detail)
        while self._room:
            _settle(self._room.popleft(), None)
        self._batch.clear()
        self._batch_bytes = 0
        self._transport.abort()


async def connect(config: ClientConfig) -> AsyncConnection:
    """Connect and log in. Raises KVConnectError, and KVStatusError if the login is refused."""
    loop = asyncio.get_running_loop()
    connection = AsyncConnection(config, loop)
    try:
        async with asyncio.timeout(config.connect_timeout_s):
            await _open(config, loop, connection)
    except TimeoutError as error:
        raise KVConnectError(config.host, config.port, f"no answer within {config.connect_timeout_s:g} s") from error
    except (OSError, ValueError) as error:  # ValueError: a host that cannot be looked up, such as a label too long
        raise KVConnectError(config.host, config.port, reason(error)) from error
    login = config.login()
    if login is not None:
        try:
            await connection.call(login)
        except (KVTimeout, KVConnectionLost) as error:
            raise KVConnectError(config.host, config.port, f"no reply to {login}: {error.detail}") from error
        except KVStatusError:
            await connection.close()
            raise
        except asyncio.CancelledError:
            connection.abandon()
            raise
    return connection


async def _open(config: ClientConfig, loop: asyncio.AbstractEventLoop, connection: AsyncConnection) -> None:
    context = config.tls_context()
    if config.host.startswith(UNIX):
        path = config.host.removeprefix(UNIX)
        await loop.create_unix_connection(
            lambda: connection, path, ssl=context, server_hostname=config.host if context else None
        )
    else:
        await loop.create_connection(lambda: connection, config.host, config.port, ssl=context)


def _settle(waiter: Waiter, outcome: Outcome) -> None:
    """Give a waiter its outcome. If the waiter was cancelled, the outcome is dropped."""
    if not waiter.done():
        if isinstance(outcome, KVError):
            waiter.set_exception(outcome)
        else:
            waiter.set_result(outcome)
