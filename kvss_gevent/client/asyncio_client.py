"""AsyncKVClient, the client for asyncio, and its pipeline."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, Self, Unpack, overload

from kvss_gevent.client.asyncio_connection import AsyncConnection, connect
from kvss_gevent.client.call_methods import AsyncCalls, QueuedCalls
from kvss_gevent.client.client_options import NO_RETRY, ClientConfig, ClientOptions, codec_of, take_url
from kvss_gevent.client.commands import Command, Commands, Outcome, T, Text, accepted, ends_connection, raw, text_of
from kvss_gevent.protocol.errors import KVConnectionLost, KVError, KVStatusError
from kvss_gevent.protocol.wire import DEFAULT_HOST, DEFAULT_PORT


class AsyncKVClient(AsyncCalls[Text], Generic[Text]):
    """A KV/1.0 server for asyncio: `async with AsyncKVClient("127.0.0.1", 5050) as kv: await kv.put(b"name", b"John")`.

    Tasks may share a client: their requests are sent together, many in one packet, and each task is woken by its own
    reply. Connecting, keys, errors and options are as in KVClient. A call that is cancelled may take effect
    nevertheless; the connection can still be used. A client belongs to the event loop in which it is used.
    """

    @overload
    def __init__(
        self: "AsyncKVClient[bytes]",
        host: str = ...,
        port: int = ...,
        *,
        encoding: None = None,
        **options: Unpack[ClientOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: "AsyncKVClient[str]", host: str = ..., port: int = ..., *, encoding: str, **options: Unpack[ClientOptions]
    ) -> None: ...

    def __init__(
        self,
        host: str = DEFAULT_HOST,
        port: int = DEFAULT_PORT,
        *,
        encoding: str | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        self._config = ClientConfig(host, port, **options)
        self._commands: Commands[Text] = Commands(codec_of(encoding))
        self._connection: AsyncConnection | None = None
        self._connecting: asyncio.Future[AsyncConnection] | None = None
        self._opened = 0

    @overload
    @classmethod
    def from_url(
        cls, url: str, *, encoding: None = None, **options: Unpack[ClientOptions]
    ) -> "AsyncKVClient[bytes]": ...

    @overload
    @classmethod
    def from_url(cls, url: str, *, encoding: str, **options: Unpack[ClientOptions]) -> "AsyncKVClient[str]": ...

    @classmethod
    def from_url(cls, url: str, *, encoding: Any = None, **options: Unpack[ClientOptions]) -> "AsyncKVClient[Any]":
        """Return a client for kvss://USER@HOST:PORT, HOST:PORT or unix:PATH. Raises ValueError for any other text."""
        host, port = take_url(url, options)
        return cls(host, port, encoding=encoding, **options)

    @property
    def host(self) -> str:
        """The server's name or address."""
        return self._config.host

    @property
    def port(self) -> int:
        """The server's port."""
        return self._config.port

    @property
    def connections_made(self) -> int:
        """How many connections this client has opened so far."""
        return self._opened

    def pipeline(self) -> "AsyncPipeline[Text]":
        """Return an empty pipeline, for requests that are sent together."""
        return AsyncPipeline(self._commands, self._all)

    async def request(self, line: bytes) -> bytes:
        """Send one line as it is, and return the reply line as it is; see KVClient.request."""
        if b"\n" in line:
            raise ValueError("a request is one line, so it must not contain a line feed")
        reply = await self._send(raw(line))
        if ends_connection(line):
            await self.close()  # as the server does; without this, it may be noticed only after the next request
        return reply

    async def connect(self) -> None:
        """Connect now, unless it is connected. Raises KVConnectError."""
        await self._connected(None)

    async def close(self) -> None:
        """Close the connection, also while it is being opened. A later call opens another."""
        loop = asyncio.get_running_loop()
        connection, self._connection = self._connection, None
        connecting, self._connecting = self._connecting, None
        if connecting is not None and connecting.get_loop() is loop:
            connecting.cancel()
            await asyncio.wait([connecting])
        if connection is not None and connection.loop is loop:
            await connection.close()
        elif connection is not None and not connection.loop.is_closed():
            connection.loop.call_soon_threadsafe(connection.abandon)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncKVClient({self.host!r}, {self.port})"

    def _run(self, command: Command[T]) -> Awaitable[T]:
        connection = self._connection
        if self._config.retry is not NO_RETRY:
            return self._retrying(command.reads, lambda: self._send(command))
        if connection is not None and connection.ready and connection.loop is asyncio.get_running_loop():
            return connection.call(command)
        return self._send(command)

    async def _send(self, command: Command[T]) -> T:
        connection = await self._connected(command)
        outcomes: list[Outcome] = []
        if connection.turned_away([command], outcomes):
            raise outcomes[0]
        return await connection.call(command)

    async def _all(self, commands: Sequence[Command[Any]], outcomes: list[Outcome]) -> None:
        async def run() -> None:
            outcomes.clear()
            connection = await self._connected(commands[0])
            if connection.turned_away(commands, outcomes):
                return
            replies = _Replies(len(commands), outcomes, connection.loop.create_future())
            for command in commands:
                connection.send(command, replies)
            await replies.all

        await self._retrying(all(command.reads for command in commands), run)

    async def _retrying(self, reads: bool, run: Callable[[], Awaitable[T]]) -> T:
        tries = 0
        while True:
            tries += 1
            try:
                return await run()
            except KVError as error:
                pause_s = self._config.retry.pause_before_next_s(tries, error, reads=reads)
                if pause_s is None:
                    raise
                await asyncio.sleep(pause_s)

    async def _connected(self, command: Command[Any] | None) -> AsyncConnection:
        """Return a connection that is ready. Calls that need one at the same time share it."""
        loop = asyncio.get_running_loop()
        connection = self._connection
        if connection is not None and connection.loop is loop and await connection.wait_until_ready():
            return connection
        if self._connection is connection:
            self._connection = None
        if self._connecting is None or self._connecting.get_loop() is not loop:
            self._connecting = asyncio.ensure_future(connect(self._config))
            self._connecting.add_done_callback(self._keep)
        connecting = self._connecting
        try:
            # If one caller is cancelled, the others must still get their connection.
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not connecting.cancelled() or (task is not None and task.cancelling()):
                raise
            raise KVConnectionLost(self.host, self.port, "the client closed it", text_of(command)) from None
        except KVError as error:  # the other callers raise it, too, each for its own command
            raise type(error)(error.host, error.port, error.detail, text_of(command)) from error

    def _keep(self, connecting: "asyncio.Future[AsyncConnection]") -> None:
        wanted = self._connecting is connecting
        if wanted:
            self._connecting = None
        if connecting.cancelled() or connecting.exception() is not None:
            return
        self._opened += 1
        if wanted:
            self._connection = connecting.result()
        else:  # the client was closed in the same turn of the event loop
            connecting.result().abandon()


class AsyncPipeline(QueuedCalls[Text], Generic[Text]):
    """Requests that are sent together: queue them with get, put, delete and the rest, then await execute()."""

    def __init__(
        self, commands: Commands[Text], execute: Callable[[Sequence[Command[Any]], list[Outcome]], Awaitable[None]]
    ) -> None:
        self._commands: Commands[Text] = commands
        self._queued: list[Command[Any]] = []
        self._execute = execute

    async def execute(self, *, raise_errors: bool = True) -> list[Any]:
        """Send all that is queued and return the results in order, as Pipeline.execute does."""
        commands = self._take()
        outcomes: list[Outcome] = []
        if not commands:
            return outcomes
        try:
            await self._execute(commands, outcomes)
        except KVError as error:
            error.results = outcomes
            raise
        return accepted(outcomes) if raise_errors else outcomes


class _Replies:
    """Takes the place of a future for each reply of a pipeline, and completes one future for all replies."""

    def __init__(self, number: int, outcomes: list[Outcome], future: "asyncio.Future[None]") -> None:
        self.all = future
        self._number = number
        self._outcomes = outcomes

    def done(self) -> bool:
        return self.all.done()

    def set_result(self, result: Outcome, /) -> None:
        self._outcomes.append(result)
        if len(self._outcomes) == self._number:
            self.all.set_result(None)

    def set_exception(self, error: BaseException, /) -> None:
        if isinstance(error, KVStatusError):
            self.set_result(error)
        else:
            self.all.set_exception(error)
