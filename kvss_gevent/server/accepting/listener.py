"""The listening socket of a server: at a TCP address, a Unix socket, or opened by a service manager."""

import errno
import ipaddress
import logging
import os
import socket
import stat
from collections.abc import Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from kvss_gevent.protocol.errors import server_name
from kvss_gevent.settings.addresses import UNIX_SCHEME, parse_endpoint
from kvss_gevent.settings.config import Config
from kvss_gevent.settings.fail import Exit, Fail, escaped
from kvss_gevent.settings.log import NOTICE
from kvss_gevent.settings.named_files import take_turn

logger = logging.getLogger("kvss")

BACKLOG: Final = 4096
"""Connections that wait in the kernel to be accepted. The kernel lowers it to net.core.somaxconn."""

FIRST_INHERITED: Final = 3
"""The first descriptor that a service manager passes on (sd_listen_fds(3))."""

SEND_BUFFER_BYTES: Final = 512 << 10
NOT_SENT_BYTES: Final = 128 << 10
KEEPALIVE_IDLE_S: Final = 240
KEEPALIVE_INTERVAL_S: Final = 20
KEEPALIVE_PROBES: Final = 3
"""A peer that has vanished is noticed after 300 s."""

HAS_UNIX: Final = hasattr(socket, "AF_UNIX")


@contextmanager
def listening(config: Config, environ: MutableMapping[str, str] = os.environ) -> Iterator[socket.socket]:
    """Open a listening socket for a `with` block. Raises Fail.

    It is non-blocking and has TCP_NODELAY, which its connections inherit.
    """
    listener = _inherited(config, environ) or (
        _listen_unix(config.unix) if config.unix else _listen_tcp(config.host, config.port, is_open=config.open)
    )
    if not (HAS_UNIX and listener.family == socket.AF_UNIX):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bound(listener)
    listener.setblocking(False)
    identity = _identity(config.unix) if config.unix else None
    try:
        yield listener
    finally:
        listener.close()
        if identity and _identity(config.unix) == identity:  # it may be the socket of another server by now
            Path(config.unix).unlink(missing_ok=True)


@contextmanager
def listening_for_metrics(config: Config) -> Iterator[socket.socket | None]:
    """Open the non-blocking listening socket of --metrics for a `with` block; None without --metrics. Raises Fail."""
    if not config.metrics:
        yield None
        return
    place = parse_endpoint(config.metrics, least_port=0)
    with _listen_tcp(place.host, place.port, is_open=config.open) as listener:
        listener.setblocking(False)
        logger.log(NOTICE, "metrics at http://%s/metrics", shown_address(listener))
        yield listener


def check_exposure(config: Config) -> None:
    """Refuse to serve other machines without protection. Raises Fail with what to do."""
    metrics_host = parse_endpoint(config.metrics, least_port=0).host if config.metrics else "localhost"
    if not config.open and not _is_loopback(metrics_host):
        raise Fail(
            f"the metrics on {metrics_host} can be reached from other machines, and no login is needed",
            "Give --metrics an address of loopback, such as 127.0.0.1:9100; or --open to let everyone see them.",
        )
    if bool(config.tls_cert) != bool(config.tls_key):
        raise Fail(
            "--tls-cert and --tls-key are needed together", "Give both; `kvss tls make-dev DIR` makes them for a class."
        )
    if config.tls_client_ca and not config.tls_cert:
        raise Fail("--tls-client-ca needs TLS", "Give also --tls-cert and --tls-key.")
    if config.unix or config.open or _is_loopback(config.host):
        return
    if not config.users:
        raise Fail(
            f"{config.host} can be reached from other machines, and no login is needed",
            "Give --users FILE, made by `kvss user add`, and TLS; or --open to let everyone in.",
        )
    if not config.tls_cert:
        raise Fail(
            f"{config.host} can be reached from other machines, and passwords would be sent without encryption",
            "Give --tls-cert and --tls-key; or --open to accept that.",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


def bound(listener: socket.socket) -> None:
    """Set what every connection inherits: kernel buffers of bounded size, and keepalive for peers that have vanished.

    Without a bound the kernel keeps some 2.5 MiB of replies for each client that does not read.
    """
    for level, name, value in (
        (socket.SOL_SOCKET, "SO_SNDBUF", SEND_BUFFER_BYTES // 2),  # Linux doubles it
        (socket.IPPROTO_TCP, "TCP_NOTSENT_LOWAT", NOT_SENT_BYTES),
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", KEEPALIVE_INTERVAL_S),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", KEEPALIVE_PROBES),
    ):
        if hasattr(socket, name):  # not every system has all of these
            listener.setsockopt(level, getattr(socket, name), value)


def shown_address(listener: socket.socket) -> str:
    """Return the address of a listening socket as a client writes it."""
    address = listener.getsockname()
    if isinstance(address, str | bytes):
        return f"{UNIX_SCHEME}{escaped(os.fsdecode(address))}"
    return server_name(*address[:2])


def _inherited(config: Config, environ: MutableMapping[str, str]) -> socket.socket | None:
    """Return the socket of LISTEN_FDS, if it is for this process. Its address needs the same protection as another."""
    number = environ.pop("LISTEN_FDS", None)
    if environ.pop("LISTEN_PID", None) != str(os.getpid()) or number is None:
        return None
    if number != "1":
        raise Fail(
            f"the service manager passes {number} sockets", "Configure it to pass one: a server has one address."
        )
    try:
        with ExitStack() as stack:
            listener = stack.enter_context(socket.socket(fileno=FIRST_INHERITED))
            if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) or listener.type != socket.SOCK_STREAM:
                raise OSError("it is not a listening socket of a stream")
            if not (HAS_UNIX and listener.family == socket.AF_UNIX):
                check_exposure(replace(config, host=str(listener.getsockname()[0]), unix=""))
            stack.pop_all()
    except OSError as error:
        raise Fail(
            f"the socket of LISTEN_FDS cannot be used: {error.strerror or error}",
            "Write ListenStream= in the socket unit.",
            Exit.UNREACHABLE,
        ) from None
    os.set_inheritable(FIRST_INHERITED, False)
    return listener


def _listen_tcp(host: str, port: int, *, is_open: bool) -> socket.socket:
    where = server_name(host, port)
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise Fail(
            f"cannot find the address of {host!r}: {error}",
            "Give an address of this machine.",
            Exit.UNREACHABLE,
        ) from None
    listener = socket.socket(family, kind, proto)
    try:
        if os.name == "posix":  # on other systems it would let two servers use one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        remedy = {
            errno.EADDRINUSE: "Stop the program that uses it, or choose another port: port 0 is a free one.",
            errno.EACCES: "Ports below 1024 need special rights; choose a higher one, such as 5050.",
            errno.EADDRNOTAVAIL: "Give an address of this machine, such as 127.0.0.1.",
        }.get(error.errno or 0, "Choose another address or port.")
        raise Fail(f"cannot listen on {where}: {error.strerror}", remedy, Exit.UNREACHABLE) from None
    if is_open and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        logger.warning("%s is open: other machines can reach it, and --open lets them in", where)
    return listener


def _listen_unix(path: str) -> socket.socket:
    if not HAS_UNIX:
        raise Fail("this system has no Unix sockets", "Give HOST and PORT.", Exit.UNREACHABLE)
    listener = socket.socket(socket.AF_UNIX)
    old_mask = os.umask(0o177)  # only the owner may connect: whoever connects may read and write everything
    try:
        with _alone_in(Path(path).parent):
            _remove_stale(path)
            listener.bind(path)
            listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE:
            remedy = "Give a path in a directory that is there and can be written."
        elif Path(path).is_socket():
            remedy = "Another server uses it: stop that one, or give another path."
        else:
            remedy = "Something else is there, and no socket: give another path."
        raise Fail(f"cannot listen on {UNIX_SCHEME}{path}: {error.strerror}", remedy, Exit.UNREACHABLE) from None
    finally:
        os.umask(old_mask)
    return listener


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Take turns with other servers that make a socket in this directory.

    Otherwise one could find the socket of another before that listens, take it for a stale one, and remove it.
    Raises OSError if another program keeps the lock of the directory.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        take_turn(descriptor)
        yield
    finally:
        os.close(descriptor)


def _identity(path: str) -> tuple[int, int] | None:
    """Return what identifies the file that is at a path now; None if there is none. Another file there has another."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _remove_stale(path: str) -> None:
    """Remove the socket of a server that was killed; touch nothing else."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            probe.connect(path)
    except ConnectionRefusedError:
        Path(path).unlink(missing_ok=True)
    except OSError:
        pass
