"""What is done before the users start: checks for a KV/1.0 server, and stores the keys. These calls block."""

import os
import socket
from collections.abc import Iterator
from itertools import islice
from random import Random

import gevent

from kvss_gevent.loadtest.engine.clock import clock
from kvss_gevent.loadtest.engine.load_connection import (
    ConnectionLost,
    LoadConnection,
    TlsRefused,
    UserRefused,
    address_of,
    connected,
)
from kvss_gevent.loadtest.load_options import Options
from kvss_gevent.loadtest.workload.mix import Sizes, size_chooser
from kvss_gevent.loadtest.workload.proving_values import filler, key_bytes, make_value
from kvss_gevent.protocol.wire import OK_PREFIX, REPLY, Status, shorten
from kvss_gevent.settings.fail import Exit, Fail

_STATS = b"KV/1.0 STATS\n"
_ANSWER_S = 5.0
_LOAD_DEPTH = 100
_STORED = (REPLY[Status.OK], REPLY[Status.CREATED])


def read_address(host: str | None) -> tuple[str, int]:
    """Return host and port. Raises Fail if no host is given, or if it is not an address."""
    remedy = "Give its address, such as --host 127.0.0.1:5050."
    if not host:
        raise Fail("no server to load was given", remedy)
    try:
        return address_of(host)
    except ValueError as error:
        raise Fail(str(error), remedy) from None


def check_server(address: tuple[str, int], options: Options) -> None:
    """Connect as the users will, and send STATS once.

    Raises Fail if there is no answer, or if it is not KV/1.0 as the load tester reads it.
    """
    where = f"{address[0]}:{address[1]}"
    start = f"Start a server there: kvss serve {address[0]} {address[1]}"
    remedy = f"{start}, or name another with --host. A server with TLS needs --kv-tls."
    try:
        reply = _ask(address, options)
    except TlsRefused as refused:
        remedy = "Leave out --kv-tls, --kv-ca and --kv-insecure, or name a server with TLS with --host."
        if "certificate" in str(refused):
            remedy = "Give --kv-ca FILE with its authority, and --host a name in it; --kv-insecure checks nothing."
        raise Fail(f"{where}: {refused}", remedy, Exit.UNREACHABLE) from None
    except UserRefused as refused:
        raise Fail(f"{where}: {refused}", "Check --kv-user and KVSS_PASSWORD.", Exit.UNREACHABLE) from None
    except ConnectionLost as lost:
        raise Fail(f"no server at {where}: {lost}", remedy, Exit.UNREACHABLE) from None
    if reply == REPLY[Status.UNAUTHORIZED]:
        raise Fail(
            f"{where} asks for a login", "Give --kv-user NAME, and the password in KVSS_PASSWORD.", Exit.UNREACHABLE
        )
    if not reply.startswith(OK_PREFIX):
        raise Fail(f"what answers at {where} is not a KV/1.0 server: {shorten(reply)}", remedy, Exit.UNREACHABLE)
    if reply.endswith(b"\r"):
        raise Fail(
            f"the replies of {where} end in CR LF, and every figure would count them as wrong",
            f"End each reply in LF alone. `kvss conform {where}` shows what else differs.",
            Exit.UNREACHABLE,
        )


def _ask(address: tuple[str, int], options: Options) -> bytes:
    # The loop's clock is not updated while modules are imported, which would shorten the timeout.
    gevent.get_hub().loop.update_now()
    connection = connected(address, _ANSWER_S, options)
    try:
        with gevent.Timeout(_ANSWER_S, ConnectionLost("no reply in time")):
            return connection.exchange(_STATS)
    finally:
        connection.close()


def load_keys(address: tuple[str, int], options: Options, sizes: Sizes, token: str) -> float:
    """Store version 1 of every key, pipelined; returns how many seconds it took. Raises Fail."""
    begun = clock()
    count, timeout_s = options.keys, options.timeout
    choose = size_chooser(sizes, Random(f"{options.seed}/load"))
    writer = token.encode() + b".L"

    def lines() -> Iterator[bytes]:
        for number in range(count):
            key = key_bytes(number)
            value = make_value(key, writer, 1, 0, choose()) if options.verify else filler(choose())
            yield b"KV/1.0 PUT %s %s\n" % (key, value)

    try:
        connection = connected(address, timeout_s, options)
        try:
            _send_all(connection, lines(), timeout_s)
        finally:
            connection.close(quit_first=True)
    except ConnectionLost as lost:
        cause = f"storing {count} keys at {address[0]}:{address[1]} failed: {lost}"
        raise Fail(cause, "See the server's messages, or skip this step with --kv-preload off.", Exit.FAILED) from None
    return clock() - begun


def _send_all(connection: LoadConnection, lines: Iterator[bytes], timeout_s: float) -> None:
    while batch := list(islice(lines, _LOAD_DEPTH)):
        with gevent.Timeout(timeout_s, ConnectionLost("no reply in time")):
            connection.send(b"".join(batch), len(batch))
            for _ in batch:
                reply = connection.reply()
                if reply not in _STORED:
                    raise ConnectionLost(f"the server answered {shorten(reply)}")


def new_token() -> str:
    """Return a token that distinguishes this run's values from those of other runs."""
    return os.urandom(4).hex()


def check_web_port(host: str, port: int) -> None:
    """Raise Fail if the web page cannot listen; Locust itself would print three tracebacks."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or "there is no such port"
            raise Fail(
                f"the web page cannot listen on {host or '*'}:{port}: {reason}",
                "End what uses the port, give another with --web-port, or run without a page: --headless.",
            ) from None
