"""One TCP connection of a client for threads and greenlets: sockets, waiting and time. Replies are read in protocol.py.

Functions of socket, selectors, threading and ssl are looked up at each call. So after gevent has patched these modules,
a wait lets other greenlets run.
"""

import os
import selectors
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import accumulate
from typing import Any, Final

from kvss_gevent.client.client_options import UNIX, ClientConfig
from kvss_gevent.client.commands import Command, Outcome
from kvss_gevent.client.protocol import ClientProtocol
from kvss_gevent.protocol.errors import KVBusy, KVConnectError, KVConnectionLost, KVError, KVStatusError, KVTimeout

_RECV_BYTES: Final = 1 << 16
_SEND_BYTES: Final = 1 << 18


class ClientConnection:
    """A connection that opens when it is needed and closes after any fault.

    timeout_s of the configuration is how long a whole reply may take, counted from the request or from the reply before
    it. opened: the number of connections made so far. Threads and greenlets may share it. They take turns, and each
    waits at most timeout_s for its turn.
    """

    def __init__(self, config: ClientConfig) -> None:
        self.opened = 0
        self._config = config
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self._protocol = self._new_protocol()
        self._would_block: tuple[type[OSError], ...] = (BlockingIOError,)
        self._writable = True

    def open(self) -> None:
        """Connect, unless it is connected already. Raises KVConnectError, and KVStatusError if the login is refused."""
        with self._turn():
            self._open()

    def close(self) -> None:
        """Close the socket. The next exchange opens another."""
        with self._turn():
            self._close()

    def is_open(self) -> bool:
        """Tell whether there is a socket. Its server may have closed it since the last exchange."""
        return self._sock is not None

    def exchange(
        self, commands: Sequence[Command[Any]], outcomes: list[Outcome], timeout_s: float | None = None
    ) -> None:
        """Send commands as one stream and add each one's outcome to outcomes, in order; a KVError has them as results.

        Sending and receiving overlap, so that no pipeline is too long for the socket buffers. After any exception, also
        gevent.Timeout or Ctrl-C, the connection is closed, because a late reply would be taken for the next request's.
        timeout_s replaces the configured one.
        """
        with self._turn(commands[0]):
            try:
                self._forget_what_ended()
                if self._sock is not None and self._protocol.refused:
                    self._close()
                    return self._protocol.turn_away(commands, outcomes)
                self._open(commands[0])
                return self._run(commands, outcomes, timeout_s or self._config.timeout_s)
            except BaseException as error:
                self._close()
                if isinstance(error, KVError):
                    error.results = outcomes
                raise

    @contextmanager
    def _turn(self, command: Command[Any] | None = None) -> Iterator[None]:
        if not self._lock.acquire(timeout=self._config.timeout_s):
            detail = f"other calls kept it for {self._config.timeout_s:g} s"
            raise self._protocol.fault(KVBusy, detail, command)
        try:
            yield
        finally:
            self._lock.release()

    def _new_protocol(self) -> ClientProtocol[None]:
        return ClientProtocol(self._config.host, self._config.port, self._config.max_reply_bytes)

    def _open(self, command: Command[Any] | None = None) -> None:
        if self._sock is not None:
            return
        timeout_s = self._config.connect_timeout_s
        try:
            self._sock = self._connected(timeout_s)
        except TimeoutError as error:
            detail = f"no answer within {timeout_s:g} s"
            raise self._protocol.fault(KVConnectError, detail, command) from error
        except (OSError, ValueError) as error:  # ValueError: a host that cannot be looked up, such as a label too long
            raise self._protocol.fault(KVConnectError, reason(error), command) from error
        self._protocol = self._new_protocol()
        self._writable = True
        self.opened += 1
        login = self._config.login()
        if login is not None:
            self._log_in(login, command)

    def _connected(self, timeout_s: float) -> socket.socket:
        host, port = self._config.host, self._config.port
        context = self._config.tls_context()
        if host.startswith(UNIX):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(timeout_s)
        else:
            sock = socket.create_connection((host, port), timeout_s)
        try:
            if host.startswith(UNIX):
                sock.connect(host.removeprefix(UNIX))
            else:
                with suppress(OSError):  # the connection is reset already; the exchange notices it
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is None:
                return sock
            import ssl

            self._would_block = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
            return context.wrap_socket(sock, server_hostname=host)
        except BaseException:
            sock.close()
            raise

    def _log_in(self, login: Command[None], command: Command[Any] | None) -> None:
        outcomes: list[Outcome] = []
        try:
            self._run([login], outcomes, self._config.timeout_s)
        except (KVTimeout, KVConnectionLost) as error:
            self._close()
            raise self._protocol.fault(KVConnectError, f"no reply to {login}: {error.detail}", command) from error
        if isinstance(outcomes[0], KVStatusError):
            self._close()
            raise outcomes[0]

    def _close(self) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    def _run(self, commands: Sequence[Command[Any]], outcomes: list[Outcome], timeout_s: float) -> None:
        protocol = self._protocol
        for command in commands:
            protocol.request(command, None)
        data = memoryview(b"".join([command.line for command in commands]))
        ends = list(accumulate([len(command.line) for command in commands]))
        sent = answered = 0
        deadline = time.monotonic() + timeout_s
        while answered < len(ends):
            if sent < len(data) and self._writable:
                step = self._send(data[sent : sent + _SEND_BYTES])
                sent += step
                if step:
                    continue
                # The server may wait until we read, or refuse a line before its end (rule 2) and read no more of it.
                self._wait_until_ready(deadline, timeout_s)
                received = self._received(None, timeout_s)
                if not received:
                    continue
            else:
                received = self._received(deadline, timeout_s)
            done: list[tuple[None, Outcome]] = []
            try:
                protocol.receive(received, len(data) - sent, done)
            finally:
                outcomes.extend([outcome for _, outcome in done])
            if done:
                answered += len(done)
                deadline = time.monotonic() + timeout_s
        if sent < len(data):
            self._close()

    def _send(self, chunk: memoryview) -> int:
        """Send a part of the chunk and return how many bytes, 0 if there is no room."""
        assert self._sock is not None
        self._sock.settimeout(0.0)
        try:
            return self._sock.send(chunk)
        except self._would_block:
            return 0
        except OSError:
            # The server has closed. It may have sent a reply before: 500 if it is full, 400 for a line over its limit.
            self._writable = False
            return 0

    def _wait_until_ready(self, deadline: float, timeout_s: float) -> None:
        """Wait until there is room to send, or something to receive."""
        assert self._sock is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
            selector.select(self._remaining_s(deadline, timeout_s))

    def _received(self, deadline: float | None, timeout_s: float) -> bytes:
        """Wait for bytes and return them, at least one. Without a deadline, return none instead of waiting."""
        assert self._sock is not None
        self._sock.settimeout(0.0 if deadline is None else self._remaining_s(deadline, timeout_s))
        try:
            data = self._sock.recv(_RECV_BYTES)
        except self._would_block:
            return b""
        except TimeoutError as error:
            raise self._protocol.late(timeout_s) from error
        except OSError as error:
            raise self._protocol.lost(reason(error)) from error
        if not data:
            raise self._protocol.lost()
        return data

    def _forget_what_ended(self) -> None:
        """Check, without waiting, what came since the last reply.

        If the server has closed the connection, forget it: nothing was sent on it, so a new one is not a retry. This
        costs one system call a request. Without it, a surplus reply would be taken for the next request's.
        """
        if self._sock is None:
            return
        self._sock.settimeout(0.0)
        try:
            data = self._sock.recv(_RECV_BYTES)
        except self._would_block:
            return
        except OSError:
            data = b""
        if data:
            self._protocol.receive(data, 0, [])
        else:
            self._close()

    def _remaining_s(self, deadline: float, timeout_s: float) -> float:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise self._protocol.late(timeout_s)
        return remaining


def reason(error: Exception) -> str:
    """Return the system's words for a fault, without numbers and addresses."""
    verify = getattr(error, "verify_message", None)  # of ssl.SSLCertVerificationError
    if verify:
        return f"its certificate is not trusted: {verify}"
    if getattr(error, "reason", None) == "WRONG_VERSION_NUMBER":  # of ssl.SSLError
        return "it does not speak TLS"
    if isinstance(error, ConnectionError) and error.errno:
        return os.strerror(error.errno)  # asyncio's own text is "Connect call failed" with the address once more
    return getattr(error, "strerror", None) or str(error)
