"""The gevent server: a StreamServer that accepts clients, and one greenlet per connection."""

import logging
import time
from socket import SocketType
from typing import Any

import gevent
from gevent.server import StreamServer

from kvss_gevent.core.service import Service
from kvss_gevent.observe.observer import Observer
from kvss_gevent.server.accepting.admission import Admission
from kvss_gevent.server.accepting.listen_queue import ListenQueue
from kvss_gevent.server.client_memory import ClientMemory, default_bound
from kvss_gevent.server.connection import Connection, close, has_left, host_of
from kvss_gevent.server.connection_loop import ConnectionLoop
from kvss_gevent.server.timeouts import Reclaimed, reclaim, sweep
from kvss_gevent.server.transport import MakeTransport, plain
from kvss_gevent.server.worker_context import WorkerContext
from kvss_gevent.settings.config import Config

logger = logging.getLogger("kvss")

SHORT_QUEUE = 16
"""If more clients wait, none is left to a worker with fewer clients. In a storm, each would cost a pause of LEAVE_S."""

PAUSE_S = 0.5
"""How long the server accepts nobody after it could not even send a refusal."""

LEAVE_S = 0.002
"""How long a new client is left to a worker with fewer clients. Without it, one worker of four got 52 of 64 clients."""

GRACE_S = 1.0
"""How long the end of a drain waits for the connections that it has reset."""


Accepted = tuple[Connection | None, None]
NOBODY: Accepted = (None, None)
"""Instead of a connection that is closed already: the turn goes on with the next client."""


class KVServer(StreamServer):  # type: ignore[misc]
    """A KV/1.0 server on a listening socket, one greenlet per connection.

    start() begins to accept and returns; drain() ends all in good order. Make, start and drain it in one thread. The
    limits are those of config; `kvss serve --help` explains them. worker: given where several processes accept.
    """

    max_accept = 100

    def __init__(
        self,
        listener: Any,
        service: Service,
        config: Config,
        worker: WorkerContext | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.service = service
        self.config = config
        self.connections: set[Connection] = set()
        self.make_transport: MakeTransport = plain
        self._someone_is_freer = worker.someone_is_freer if worker else _nobody
        self._left_it = False
        self._admission = Admission(self._read_config, worker.addresses if worker else None)
        self._observer = observer
        usual_bytes = default_bound()
        self._memory = ClientMemory(lambda: self.config.max_client_memory_bytes or usual_bytes)
        self.connection_loop = ConnectionLoop(service, self._read_config, self._memory, self._forget, observer)
        super().__init__(listener, self.connection_loop.converse, spawn=gevent.spawn_raw)
        self._queue = ListenQueue(self.socket)
        self._sweeper = gevent.spawn(
            sweep,
            self.connections,
            self._read_config,
            self._memory,
            service.is_admitted,
            self.connection_loop.hibernate,
        )
        self._reclaimer = (
            gevent.spawn(reclaim, service.bare_store) if isinstance(service.bare_store, Reclaimed) else None
        )

    def _read_config(self) -> Config:
        return self.config

    def do_read(self) -> Accepted | None:
        """Accept one connection, or refuse it with 500 if there is no room (rule 10). Returning None ends the turn."""
        if not self._left_it and self._someone_is_freer() and self._queue.length() <= SHORT_QUEUE:
            self._left_it = True  # each client only once: the other worker may hang, or be as busy
            self.stop_accepting()
            gevent.spawn_later(LEAVE_S, self._accept_again)
            return None
        self._left_it = False
        try:
            descriptor, address = self.socket._accept()
        except (BlockingIOError, InterruptedError, ConnectionError):
            return None
        except OSError as error:
            if not self._admission.refuse_without_descriptors(self.socket, error):
                self.stop_accepting()
                gevent.spawn_later(PAUSE_S, self._accept_again)
            return None
        # With the Python methods of socket.socket, to accept and end a client that has left takes 48 us and not 40. A
        # gevent socket also has watchers, which cost memory and would not be used.
        sock = SocketType(self.socket.family, self.socket.type, self.socket.proto, descriptor)
        sock.setblocking(False)
        if has_left(sock):
            self._queue.note_left()
            sock.close()
            return NOBODY
        if not isinstance(address, tuple):
            address = ""  # a client of a Unix socket may choose a path, of any bytes
        host = host_of(address)
        if why := self._admission.let_in(host, self.service.connections()):
            self._admission.refuse(sock, why)
            return NOBODY
        connection = Connection(sock, self.make_transport(sock), self.service.open(host or "loopback"), address)
        self.connections.add(connection)
        self.service.stats.connections += 1
        if self._observer:
            self._observer.opened(connection)
        logger.info("%s connected", connection)
        return connection, None

    def do_handle(self, connection: Connection | None, _: None) -> None:
        """Give the connection its greenlet."""
        if connection:
            self._spawn(self.connection_loop.converse, connection)

    def _accept_again(self) -> None:
        if self.started:
            self.start_accepting()

    def _forget(self, connection: Connection, reason: str) -> None:
        """Close a connection whose watcher is closed."""
        self.connections.discard(connection)
        self._memory.forget(connection)
        self._admission.closed(host_of(connection.address))
        self.service.stats.connections -= 1
        if self._observer:
            self._observer.closed(connection)
        logger.info("%s gone: %s", connection, connection.ended or reason)
        connection.transport.finish()
        close(connection.sock)

    def drain(self, timeout_s: float) -> bool:
        """Stop accepting, answer what was received, close; return whether all was done within timeout_s.

        Connections that are not done by then are reset.
        """
        self._queue.close()
        self.close()
        self._sweeper.kill()
        if self._reclaimer:
            self._reclaimer.kill()
        for connection in list(self.connections):
            connection.stop_receiving()
        deadline_s = time.monotonic() + timeout_s
        while self.connections and time.monotonic() < deadline_s:
            gevent.sleep(0.01)
        in_time = not self.connections
        for connection in list(self.connections):
            connection.end("the server stopped", reset=True)
        while self.connections and time.monotonic() < deadline_s + GRACE_S:
            gevent.sleep(0.01)
        return in_time


def _nobody() -> bool:
    """Stands for WorkerContext.someone_is_freer if there is only one worker."""
    return False
