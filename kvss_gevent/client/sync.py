"""The client library: keys and values in, results out. The socket is for client_connection.py, bytes for wire.py."""

from types import TracebackType
from typing import Self

from kvss_gevent.client.connection import Connection
from kvss_gevent.protocol.errors import KVError, KVProtocolError, KVStatusError, status_error
from kvss_gevent.protocol.stats_reply import Stats, parse_stats
from kvss_gevent.protocol.wire import (
    DEFAULT_HOST,
    DEFAULT_PORT,
    VERSION,
    Status,
    Verb,
    build_request,
    is_http,
    parse_reply,
    shorten,
)

Result = bytes | bool | Stats | None
"""GET: the value or None. PUT: True where the key is new. DEL: True where the key was there. STATS: Stats."""

MAX_TIMEOUT_S = 1_000_000.0

_QUIT = VERSION + b" QUIT"


class KVClient:
    """A KV/1.0 server as an object: `with KVClient("127.0.0.1", 5050) as kv: kv.put(b"name", b"John")`.

    Keys and values are bytes. The first call connects, and so does the first call after a failure, after close() or
    after the server has closed an idle connection. Nothing is ever sent twice: after KVTimeout or KVConnectionLost
    the caller knows best whether to ask again.

    Threads and greenlets may share a client; their calls run one after the other. For calls at the same time give each
    its own. In a program that gevent has patched a call waits without blocking other greenlets.

    connect_timeout_s bounds connecting (for each address of the host; looking up a name is the system's own time),
    timeout_s the wait for each whole reply and for other threads' calls, max_reply_bytes the length of one reply.
    Raises ValueError for a port, a time or a size out of range. Calls raise KVError: see errors.py for its kinds.
    """

    def __init__(
        self,
        host: str = DEFAULT_HOST,
        port: int = DEFAULT_PORT,
        *,
        connect_timeout_s: float = 5.0,
        timeout_s: float = 30.0,
        max_reply_bytes: int = 64 << 20,
    ) -> None:
        if not 0 < port < 1 << 16:
            raise ValueError(f"a port is 1 to 65535, not {port}")
        for name, seconds in (("connect_timeout_s", connect_timeout_s), ("timeout_s", timeout_s)):
            if not 0 < seconds <= MAX_TIMEOUT_S:
                raise ValueError(f"{name} is above 0 and at most {MAX_TIMEOUT_S:.0f}, not {seconds}")
        if max_reply_bytes < 1:
            raise ValueError(f"max_reply_bytes is at least 1, not {max_reply_bytes}")
        self.host = host
        self.port = port
        self._connection = Connection(
            host, port, connect_timeout_s=connect_timeout_s, timeout_s=timeout_s, max_reply_bytes=max_reply_bytes
        )

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or None where the key is not there. Raises KVError; ValueError for an impossible key."""
        result = self._one(Verb.GET, key)
        assert result is None or isinstance(result, bytes)
        return result

    def put(self, key: bytes, value: bytes) -> bool:
        """Store a value; return True where the key is new, False where a value was replaced.

        Raises KVError. Raises ValueError, with nothing sent, for a key or value that KV/1.0 cannot carry: a key has 1
        to 511 bytes and no space, a value at least one byte, neither has a line feed, both are UTF-8.
        """
        return self._one(Verb.PUT, key, value) is True

    def delete(self, key: bytes) -> bool:
        """Forget a key; return True where it was there. Raises KVError; ValueError for an impossible key."""
        return self._one(Verb.DEL, key) is True

    def stats(self) -> Stats:
        """Return the server's counters. Raises KVError."""
        result = self._one(Verb.STATS)
        assert isinstance(result, Stats)
        return result

    def pipeline(self) -> "Pipeline":
        """Return an empty pipeline: many requests, one send."""
        return Pipeline(self)

    def request(self, line: bytes) -> bytes:
        r"""Send one line as it is and return the reply line as it is: for prompts and for servers under test.

        The version is the caller's to write, the line feed is not; a carriage return at the end is sent so that it
        arrives (rule 1). Raises ValueError for a line with a line feed in it, and KVError, whose results hold the
        reply where more than one came.
        """
        if b"\n" in line:
            raise ValueError("a request is one line: it has no line feed")
        replies: list[bytes] = []
        try:
            self._connection.exchange([line + (b"\r\n" if line.endswith(b"\r") else b"\n")], replies.append)
        except KVError as error:
            error.results = replies
            raise
        if line == _QUIT or is_http(line):
            self._connection.close()  # as the server does (rules 5 and 9), which may show only after the next request
        return replies[0]

    def connect(self) -> None:
        """Connect now, unless it is connected: for a program that wants to know early. Raises KVConnectError."""
        self._connection.open()

    def close(self) -> None:
        """Close the connection. A later call opens another."""
        self._connection.close()

    @property
    def connections_made(self) -> int:
        """How many connections this client has opened so far."""
        return self._connection.opened

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"KVClient({self.host!r}, {self.port})"

    def _one(self, verb: Verb, key: bytes = b"", value: bytes = b"") -> Result:
        line = _line(verb, key, value)
        [result] = self._all([verb], [line], [])
        if isinstance(result, KVStatusError):
            raise result
        return result

    def _all(
        self, verbs: list[Verb], lines: list[bytes], results: list[Result | KVStatusError]
    ) -> list[Result | KVStatusError]:
        def take(reply: bytes) -> None:
            results.append(self._read(verbs[len(results)], reply))

        self._connection.exchange(lines, take)
        return results

    def _read(self, verb: Verb, reply: bytes) -> Result | KVStatusError:
        try:
            status, data = parse_reply(reply)
            refusal = status_error(status, self.host, self.port, verb.name)
            return _result(verb, status, data) if refusal is None else refusal
        except ValueError as error:
            raise self._connection.fault(KVProtocolError, str(error)) from None


class Pipeline:
    """Requests that are sent together: queue them with get, put, delete and stats, then execute.

    A request is checked when it is queued (ValueError, as KVClient). Not for several threads.
    """

    def __init__(self, client: KVClient) -> None:
        self._client = client
        self._verbs: list[Verb] = []
        self._lines: list[bytes] = []

    def get(self, key: bytes) -> Self:
        """Queue a GET; its result is the value or None."""
        return self._queue(Verb.GET, key)

    def put(self, key: bytes, value: bytes) -> Self:
        """Queue a PUT; its result is True where the key is new."""
        return self._queue(Verb.PUT, key, value)

    def delete(self, key: bytes) -> Self:
        """Queue a DEL; its result is True where the key was there."""
        return self._queue(Verb.DEL, key)

    def stats(self) -> Self:
        """Queue a STATS; its result is a Stats."""
        return self._queue(Verb.STATS)

    def __len__(self) -> int:
        return len(self._lines)

    def execute(self, *, raise_errors: bool = True) -> list[Result | KVStatusError]:
        """Send all that is queued and return the results in order; the pipeline is empty afterwards.

        A refused request does not stop those behind it. The first refusal is raised at the end, with all results in its
        results; with raise_errors=False the list has each refusal, a KVStatusError, in its request's place.
        Any other KVError has the results so far; what became of the rest is unknown, and none of it is sent again.
        """
        verbs, self._verbs = self._verbs, []
        lines, self._lines = self._lines, []
        results: list[Result | KVStatusError] = []
        if not lines:
            return results
        try:
            self._client._all(verbs, lines, results)
        except KVError as error:
            error.results = results
            raise
        refusal = next((result for result in results if isinstance(result, KVStatusError)), None)
        if raise_errors and refusal is not None:
            refusal.results = results
            raise refusal
        return results

    def _queue(self, verb: Verb, key: bytes = b"", value: bytes = b"") -> Self:
        self._lines.append(_line(verb, key, value))
        self._verbs.append(verb)
        return self


def _line(verb: Verb, key: bytes, value: bytes) -> bytes:
    for name, data in (("key", key), ("value", value)):
        if not isinstance(data, bytes):
            raise TypeError(f"a {name} is bytes, not {type(data).__name__}")
    return build_request(verb, key, value)


def _result(verb: Verb, status: Status, data: bytes) -> Result:
    match verb, status:
        case (Verb.GET, Status.OK) if data:
            return data
        case (Verb.STATS, Status.OK):
            return parse_stats(data)
        case (Verb.GET, Status.NOT_FOUND):
            return None
        case (Verb.PUT, Status.CREATED) | (Verb.DEL, Status.NO_CONTENT):
            return True
        # Data here would be the reply to somebody's GET.
        case (Verb.PUT, Status.OK) | (Verb.DEL, Status.NOT_FOUND) if not data:
            return False
    shown = f"{status:d} {status.name} {shorten(data)}" if data else f"{status:d} {status.name}"
    raise ValueError(f"{shown} is no reply to {verb.name}")
