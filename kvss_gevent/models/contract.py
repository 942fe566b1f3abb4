"""What all models share: what they are given, accepting, and a conversation in blocking calls.

Stopping. On SIGTERM or SIGINT the main thread gets SystemExit, wherever it is: a model that blocks need not do anything
for it. A model whose event loop has its own way for signals uses that and returns. No model drains: clients are cut
off, even if replies are still under way.
"""

import contextlib
import errno
import logging
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kvss_gevent.core.service import Service
from kvss_gevent.settings.config import Config

logger = logging.getLogger("kvss")

RECV_BYTES = 1 << 16

BACKLOG = 4096
"""Connections that the kernel keeps until they are accepted. asyncio listens again, and would make it 100."""
PAUSE_S = 0.1
"""How long a model accepts nobody after the machine had no room for one more client."""

NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

BLOCKING_STORE = "a store that blocks keeps every client waiting"


@dataclass(frozen=True, slots=True)
class Ground:
    """What a model is given.

    listener: a socket that listens, non-blocking, with TCP_NODELAY, which its connections inherit. open_service: to be
    called once, and in a model of several processes once in each, after the fork. config: for models that use it.
    """

    listener: socket.socket
    open_service: Callable[[], Service]
    config: Config


def clients(listener: socket.socket) -> Iterator[socket.socket]:
    """Accept for ever, waiting for each client; yield their blocking sockets."""
    with contextlib.suppress(OSError):  # closed already: accept will fail, too
        listener.setblocking(True)
    while True:
        try:
            sock, _ = listener.accept()
        except OSError as error:
            if listener.fileno() < 0:
                return  # it was closed: the server ends
            rest_after(error)
        else:
            yield sock


def rest_after(error: OSError) -> None:
    """Handle a failed accept: do nothing if the client has left, pause if there is no room."""
    if error.errno in NO_ROOM:
        logger.warning("cannot accept: %s", error.strerror)
        time.sleep(PAUSE_S)


def converse(sock: socket.socket, service: Service) -> None:
    """Serve one client in blocking calls until one side is done. Counts the client and closes the socket."""
    session = service.open()
    service.stats.connections += 1
    try:
        while not session.closed and (data := sock.recv(RECV_BYTES)):
            sock.sendall(session.receive(data))
            while session.more:
                sock.sendall(session.proceed())
    except OSError:
        pass  # the client broke the connection off
    finally:
        service.stats.connections -= 1
        sock.close()


def gil_is_on() -> bool:
    """Tell whether one thread runs Python at a time."""
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())
