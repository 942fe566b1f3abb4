"""gevent as in its tutorial: a greenlet per connection, code that looks as if it blocks, and no `await`.

`sock.recv` lets other greenlets run until bytes have come. The top of connection_loop.py says what that costs, and how
the product avoids most of it.
"""

import signal
from typing import Any

import gevent
from gevent.server import StreamServer

from kvss_gevent.models.contract import BLOCKING_STORE, RECV_BYTES, Ground

IDEA = "gevent: one greenlet per connection, with recv and sendall"
LIMITS = (
    "one core; whatever takes long without waiting keeps every client waiting",
    BLOCKING_STORE,
    "each wait for bytes starts and stops a watcher",
)
LOSES = ()
SHARED = False


def serve(ground: Ground) -> None:
    """Run a StreamServer until stopped."""
    service = ground.open_service()

    def talk(sock: Any, _: Any) -> None:
        session = service.open()
        service.stats.connections += 1
        try:
            while not session.closed and (data := sock.recv(RECV_BYTES)):
                sock.sendall(session.receive(data))
                while session.more:
                    gevent.sleep(0)  # while the kernel takes everything, sendall lets no other client run
                    sock.sendall(session.proceed())
        except OSError:
            pass  # the client broke the connection off
        finally:
            service.stats.connections -= 1

    server = StreamServer(ground.listener, talk)
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, server.stop)
    server.serve_forever()
