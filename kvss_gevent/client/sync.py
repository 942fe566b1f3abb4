"""KVClient, the client for threads and gevent, and its pipeline."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, Self, Unpack, overload

from kvss_gevent.client.call_methods import Calls, QueuedCalls
from kvss_gevent.client.client_connection import ClientConnection
from kvss_gevent.client.client_options import ClientConfig, ClientOptions, codec_of, take_url
from kvss_gevent.client.commands import Command, Commands, Outcome, T, Text, accepted, ends_connection, raw
from kvss_gevent.protocol.errors import KVError, KVStatusError
from kvss_gevent.protocol.wire import DEFAULT_HOST, DEFAULT_PORT


class KVClient(Calls[Text], Generic[Text]):
    """A KV/1.0 server as an object: `with KVClient("127.0.0.1", 5050) as kv: kv.put(b"name", b"John")`.

    Keys and values are bytes, or str with encoding="utf-8". The first call connects, and so does the first call after a
    failure, after close() or after the server has closed an idle connection. Without `retry` nothing is sent twice:
    after KVTimeout or KVConnectionLost the caller decides whether to ask again.

    Threads and greenlets may share a client; their calls run one after the other. For calls at the same time use a
    KVPool. In a program that gevent has patched, a call that waits lets other greenlets run.

    The keyword arguments are those of ClientOptions. Raises ValueError or TypeError if one of them is wrong.
    """

    @overload
    def __init__(
        self: "KVClient[bytes]",
        host: str = ...,
        port: int = ...,
        *,
        encoding: None = None,
        **options: Unpack[ClientOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: "KVClient[str]", host: str = ..., port: int = ..., *, encoding: str, **options: Unpack[ClientOptions]
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
        self._connection = ClientConnection(self._config)

    @overload
    @classmethod
    def from_url(cls, url: str, *, encoding: None = None, **options: Unpack[ClientOptions]) -> "KVClient[bytes]": ...

    @overload
    @classmethod
    def from_url(cls, url: str, *, encoding: str, **options: Unpack[ClientOptions]) -> "KVClient[str]": ...

    @classmethod
    def from_url(cls, url: str, *, encoding: Any = None, **options: Unpack[ClientOptions]) -> "KVClient[Any]":
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
        return self._connection.opened

    def pipeline(self) -> "Pipeline[Text]":
        """Return an empty pipeline, for requests that are sent together."""
        return Pipeline(self._commands, self._all)

    def request(self, line: bytes) -> bytes:
        """Send one line as it is and return the reply line as it is: for prompts and for servers under test.

        The line begins with the version and has no line feed. A carriage return at its end is sent so that it arrives
        (rule 1). Raises ValueError for a line with a line feed in it, and KVError; its results hold the reply if more
        than one came. A line is never sent again.
        """
        [reply] = self.requests([line])
        if ends_connection(line):
            self._connection.close()  # as the server does; without this, it may be noticed only after the next request
        return reply

    def requests(self, lines: Sequence[bytes]) -> list[bytes]:
        """Send one or more lines together, as they are, and return their reply lines; see request."""
        if any(b"\n" in line for line in lines):
            raise ValueError("a request is one line, so it must not contain a line feed")
        replies: list[bytes] = []
        self._connection.exchange([raw(line) for line in lines], replies)
        return replies

    def connect(self) -> None:
        """Connect now, unless it is connected.

        So a program knows early whether there is a server. Raises KVConnectError.
        """
        self._connection.open()

    def close(self) -> None:
        """Close the connection. A later call opens another."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"KVClient({self.host!r}, {self.port})"

    def _run(self, command: Command[T]) -> T:
        outcomes: list[Outcome] = []
        self._all([command], outcomes)
        outcome = outcomes[0]
        if isinstance(outcome, KVStatusError):
            raise outcome
        result: T = outcome
        return result

    def _all(self, commands: Sequence[Command[Any]], outcomes: list[Outcome]) -> None:
        tries = 0
        while True:
            tries += 1
            try:
                return self._connection.exchange(commands, outcomes)
            except KVError as error:
                reads = all(command.reads for command in commands)
                pause_s = self._config.retry.pause_before_next_s(tries, error, reads=reads)
                if pause_s is None:
                    raise
                outcomes.clear()
                time.sleep(pause_s)


class Pipeline(QueuedCalls[Text], Generic[Text]):
    """Requests that are sent together: queue them with get, put, delete and so on, then execute. For one thread."""

    def __init__(
        self, commands: Commands[Text], execute: Callable[[Sequence[Command[Any]], list[Outcome]], None]
    ) -> None:
        self._commands: Commands[Text] = commands
        self._queued: list[Command[Any]] = []
        self._execute = execute

    def execute(self, *, raise_errors: bool = True) -> list[Any]:
        """Send all that is queued and return the results in order; the pipeline is empty afterwards.

        After a refused request the next ones still run. The first refusal is raised at the end, with all results in its
        `results`. With raise_errors=False the list has each refusal, a KVStatusError, in the place of its request. Any
        other KVError has the results so far; whether the other requests took effect is unknown.
        """
        commands = self._take()
        outcomes: list[Outcome] = []
        if not commands:
            return outcomes
        self._execute(commands, outcomes)
        return accepted(outcomes) if raise_errors else outcomes
