"""AsyncKVPool, several connections to one server for asyncio."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Generic, Self, Unpack, overload

from kvss_gevent.client.asyncio_client import AsyncKVClient, AsyncPipeline
from kvss_gevent.client.call_methods import AsyncCalls
from kvss_gevent.client.client_options import ClientConfig, PoolConfig, PoolOptions, codec_of, take_url
from kvss_gevent.client.commands import Command, Commands, Outcome, T, Text, text_of
from kvss_gevent.client.leases import Leases
from kvss_gevent.protocol.errors import KVBusy, KVError
from kvss_gevent.protocol.wire import DEFAULT_HOST, DEFAULT_PORT


class AsyncKVPool(AsyncCalls[Text], Generic[Text]):
    """At most size connections that tasks share. Each call has a connection for itself.

    One AsyncKVClient already carries the calls of many tasks, and is faster. A pool is for calls that must not wait
    behind the slow reply of another. `async with pool.client() as kv` keeps a connection for several calls. If all are
    in use, callers wait in the order of their arrival, each at most wait_s; then they raise KVBusy. A connection that
    comes back with a reply still owed, for example after a cancelled call, is closed.

    The keyword arguments are those of PoolOptions, and encoding as in KVClient.
    """

    @overload
    def __init__(
        self: "AsyncKVPool[bytes]",
        host: str = ...,
        port: int = ...,
        *,
        encoding: None = None,
        **options: Unpack[PoolOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: "AsyncKVPool[str]", host: str = ..., port: int = ..., *, encoding: str, **options: Unpack[PoolOptions]
    ) -> None: ...

    def __init__(
        self,
        host: str = DEFAULT_HOST,
        port: int = DEFAULT_PORT,
        *,
        encoding: str | None = None,
        **options: Unpack[PoolOptions],
    ) -> None:
        self._pool, client_options = PoolConfig.split(options)
        self._config = ClientConfig(host, port, **client_options)
        self._commands: Commands[Text] = Commands(codec_of(encoding))
        make: Any = partial(AsyncKVClient, host, port, encoding=encoding, **client_options)
        self._leases: Leases[AsyncKVClient[Text]] = Leases(self._pool.size, make)

    @overload
    @classmethod
    def from_url(cls, url: str, *, encoding: None = None, **options: Unpack[PoolOptions]) -> "AsyncKVPool[bytes]": ...

    @overload
    @classmethod
    def from_url(cls, url: str, *, encoding: str, **options: Unpack[PoolOptions]) -> "AsyncKVPool[str]": ...

    @classmethod
    def from_url(cls, url: str, *, encoding: Any = None, **options: Unpack[PoolOptions]) -> "AsyncKVPool[Any]":
        """Return a pool for kvss://USER@HOST:PORT, HOST:PORT or unix:PATH. Raises ValueError for any other text."""
        host, port = take_url(url, options)
        return cls(host, port, encoding=encoding, **options)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[AsyncKVClient[Text]]:
        """Lend a client to the block. Raises KVBusy, and RuntimeError if the pool is closed."""
        client = await self._borrow(None)
        try:
            yield client
        finally:
            await self._give_back(client)

    def pipeline(self) -> AsyncPipeline[Text]:
        """Return an empty pipeline. While it is executed, it has a connection for itself."""
        return AsyncPipeline(self._commands, self._all)

    async def close(self) -> None:
        """Close the connections; lent ones are closed when they come back. The pool cannot be used again."""
        for client in self._leases.drain():
            await client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncKVPool({self._config.host!r}, {self._config.port}, size={self._pool.size})"

    async def _run(self, command: Command[T]) -> T:
        client = await self._borrow(command)
        try:
            return await client._run(command)
        finally:
            await self._give_back(client)

    async def _all(self, commands: Sequence[Command[Any]], outcomes: list[Outcome]) -> None:
        client = await self._borrow(commands[0])
        try:
            await client._all(commands, outcomes)
        finally:
            await self._give_back(client)

    async def _borrow(self, command: Command[Any] | None) -> AsyncKVClient[Text]:
        lease = self._leases.take()
        if lease is None:
            return await self._wait(command)
        client, idle_s = lease
        if idle_s > self._pool.check_after_s:
            await self._check(client)
        return client

    async def _wait(self, command: Command[Any] | None) -> AsyncKVClient[Text]:
        came: asyncio.Future[AsyncKVClient[Text]] = asyncio.get_running_loop().create_future()

        def offer(client: AsyncKVClient[Text]) -> bool:
            if came.done():
                return False
            came.set_result(client)
            return True

        self._leases.wait(offer)
        try:
            await asyncio.wait([came], timeout=self._pool.wait_s)
        except asyncio.CancelledError:
            if not came.cancel():
                await self._give_back(came.result())
            raise
        if came.cancel():
            detail = f"all {self._pool.size} of the pool were in use for {self._pool.wait_s:g} s"
            raise KVBusy(self._config.host, self._config.port, detail, text_of(command))
        return came.result()

    async def _check(self, client: AsyncKVClient[Text]) -> None:
        """Close a connection that does not answer. The client's next call opens another."""
        try:
            if client._connection is not None:
                async with asyncio.timeout(self._config.connect_timeout_s):
                    await client.stats()
        except (KVError, TimeoutError):
            await client.close()
        except asyncio.CancelledError:
            await self._give_back(client)
            raise

    async def _give_back(self, client: AsyncKVClient[Text]) -> None:
        connection = client._connection
        try:
            if self._leases.closed or (connection is not None and connection.owes):
                await client.close()
        finally:
            self._leases.give_back(client)
