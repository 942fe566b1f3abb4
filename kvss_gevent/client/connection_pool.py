"""KVPool, several connections to one server for threads and gevent."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Generic, Self, Unpack, overload

from kvss_gevent.client.call_methods import Calls
from kvss_gevent.client.client_options import ClientConfig, PoolConfig, PoolOptions, codec_of, take_url
from kvss_gevent.client.commands import STATS, Command, Commands, Outcome, T, Text, text_of
from kvss_gevent.client.leases import Leases
from kvss_gevent.client.sync import KVClient, Pipeline
from kvss_gevent.protocol.errors import KVBusy, KVError
from kvss_gevent.protocol.wire import DEFAULT_HOST, DEFAULT_PORT


class KVPool(Calls[Text], Generic[Text]):
    """At most size connections that threads or greenlets share: any number of them may call `pool.get(b"name")`.

    Each call has a connection for itself. `with pool.client() as kv` keeps one for several calls. If all are in use,
    callers wait in the order of their arrival, each at most wait_s; then they raise KVBusy.

    The keyword arguments are those of PoolOptions, and encoding as in KVClient.
    """

    @overload
    def __init__(
        self: "KVPool[bytes]",
        host: str = ...,
        port: int = ...,
        *,
        encoding: None = None,
        **options: Unpack[PoolOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: "KVPool[str]", host: str = ..., port: int = ..., *, encoding: str, **options: Unpack[PoolOptions]
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
        self._lock = threading.Lock()
        make: Any = partial(KVClient, host, port, encoding=encoding, **client_options)
        self._leases: Leases[KVClient[Text]] = Leases(self._pool.size, make)

    @overload
    @classmethod
    def from_url(cls, url: str, *, encoding: None = None, **options: Unpack[PoolOptions]) -> "KVPool[bytes]": ...

    @overload
    @classmethod
    def from_url(cls, url: str, *, encoding: str, **options: Unpack[PoolOptions]) -> "KVPool[str]": ...

    @classmethod
    def from_url(cls, url: str, *, encoding: Any = None, **options: Unpack[PoolOptions]) -> "KVPool[Any]":
        """Return a pool for kvss://USER@HOST:PORT, HOST:PORT or unix:PATH. Raises ValueError for any other text."""
        host, port = take_url(url, options)
        return cls(host, port, encoding=encoding, **options)

    @contextmanager
    def client(self) -> Iterator[KVClient[Text]]:
        """Lend a client to the block. Raises KVBusy, and RuntimeError if the pool is closed."""
        client = self._borrow(None)
        try:
            yield client
        finally:
            self._give_back(client)

    def pipeline(self) -> Pipeline[Text]:
        """Return an empty pipeline. While it is executed, it has a connection for itself."""
        return Pipeline(self._commands, self._all)

    def close(self) -> None:
        """Close the connections; lent ones are closed when they come back. The pool cannot be used again."""
        with self._lock:
            idle = self._leases.drain()
        for client in idle:
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"KVPool({self._config.host!r}, {self._config.port}, size={self._pool.size})"

    def _run(self, command: Command[T]) -> T:
        client = self._borrow(command)
        try:
            return client._run(command)
        finally:
            self._give_back(client)

    def _all(self, commands: Sequence[Command[Any]], outcomes: list[Outcome]) -> None:
        client = self._borrow(commands[0])
        try:
            client._all(commands, outcomes)
        finally:
            self._give_back(client)

    def _borrow(self, command: Command[Any] | None) -> KVClient[Text]:
        with self._lock:
            lease = self._leases.take()
            if lease is None:
                turn: _Turn[Text] = _Turn()
                self._leases.wait(turn.offer)
        if lease is None:
            return self._wait(turn, command)
        client, idle_s = lease
        if idle_s > self._pool.check_after_s:
            self._check(client)
        return client

    def _wait(self, turn: "_Turn[Text]", command: Command[Any] | None) -> KVClient[Text]:
        try:
            turn.came.wait(self._pool.wait_s)
        except BaseException:
            client = self._leave(turn)
            if client is not None:
                self._give_back(client)
            raise
        client = self._leave(turn)
        if client is None:
            detail = f"all {self._pool.size} of the pool were in use for {self._pool.wait_s:g} s"
            raise KVBusy(self._config.host, self._config.port, detail, text_of(command))
        return client

    def _leave(self, turn: "_Turn[Text]") -> KVClient[Text] | None:
        """Leave the queue; return the client that was given in the same moment, if there was one."""
        with self._lock:
            turn.over = True
            return turn.client

    def _check(self, client: KVClient[Text]) -> None:
        """Close a connection that does not answer. The client's next call opens another."""
        try:
            if client._connection.is_open():
                client._connection.exchange([STATS], [], self._config.connect_timeout_s)
        except KVError:
            pass  # the exchange has closed it
        except BaseException:
            self._give_back(client)
            raise

    def _give_back(self, client: KVClient[Text]) -> None:
        with self._lock:
            closed = self._leases.closed
            self._leases.give_back(client)
        if closed:
            client.close()


class _Turn(Generic[Text]):
    """A place in the queue. came is set when there is a client, over when the caller has stopped waiting."""

    def __init__(self) -> None:
        self.came = threading.Event()
        self.client: KVClient[Text] | None = None
        self.over = False

    def offer(self, client: KVClient[Text]) -> bool:
        if self.over:
            return False
        self.client = client
        self.came.set()
        return True
