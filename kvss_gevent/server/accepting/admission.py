"""Bounds on the connections of all clients and of one address. Connections over a bound get 500 (rule 10)."""

import logging
import os
import socket
import time
from collections.abc import Callable
from typing import Any

from kvss_gevent.core.address_counts import AddressCounts, address_counts
from kvss_gevent.protocol.wire import LINE, Status
from kvss_gevent.server.connection import close
from kvss_gevent.settings.config import Config

logger = logging.getLogger("kvss")

REFUSALS = {"interval_s": 10.0}
"""For the log: refused connections get one line in so many seconds."""
RATE_INTERVAL_S = 1.0
"""In this time, one address may open as many new connections as it may have open at once."""


class Admission:
    """Counts connections by address, and refuses too many, or too many in a short time.

    An address without a bound of its own is "": loopback, or a Unix socket. counts: those of this worker, which it
    shares with the others.
    """

    def __init__(
        self,
        config: Callable[[], Config],
        counts: AddressCounts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._clock = clock
        self._counts = counts or address_counts(1)[0]
        self._spare = _open_spare()

    def let_in(self, address: str, connected: int) -> str:
        """Count one more connection of an address, or return why it is refused. connected: all open connections."""
        config = self._config()
        if 0 < config.max_connections <= connected:
            return f"{connected} clients are connected, as many as --max-connections and the limit of open files allow"
        if not address:
            return ""
        most = config.max_per_address or max(config.max_connections // 10, 1)
        interval = int(self._clock() / RATE_INTERVAL_S)
        opened, lately = self._counts.totals(address, interval)
        if opened >= most:
            return f"{address} has as many connections as --max-per-address allows"
        if lately >= most:
            return f"{address} opens more connections in a second than --max-per-address allows at a time"
        if not self._counts.opened(address, interval):
            return f"clients of too many addresses are connected to count those of {address}"
        return ""

    def closed(self, address: str) -> None:
        """Count the end of a connection that was let in."""
        if address:
            self._counts.closed(address)

    def refuse(self, sock: socket.SocketType, why: str) -> None:
        """Answer, close and log a connection that was accepted."""
        try:
            sock.send(LINE[Status.SERVER_ERROR])
        except OSError:
            pass
        close(sock)
        logger.warning("refused a connection with 500: %s", why, extra=REFUSALS)

    def refuse_without_descriptors(self, listener: Any, error: OSError) -> bool:
        """Accept and refuse one connection with the reserved descriptor; return whether that was possible.

        Otherwise the connection would stay in the kernel's queue and wake the event loop again and again.
        """
        if self._spare is None:
            self._spare = _open_spare()
        if self._spare is None:
            return False
        os.close(self._spare)
        try:
            descriptor, _ = listener._accept()
        except BlockingIOError:
            return True  # another worker was faster
        except OSError:
            return False
        else:
            sock = socket.SocketType(listener.family, listener.type, listener.proto, descriptor)
            sock.setblocking(False)
            self.refuse(sock, error.strerror or str(error))
            return True
        finally:
            self._spare = _open_spare()


def _open_spare() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return None
