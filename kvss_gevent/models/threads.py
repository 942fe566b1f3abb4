"""One thread per connection and one lock: the server of the course document. The kernel decides who runs.

A thread receives and sends without the lock, so a slow client holds only its own thread. It uses the store and the
counters, which threads share, with the lock: `n += 1` in two threads may count once.
"""

import logging
import socket
from threading import Lock, Thread

from kvss_gevent.core.lab_commands import Unlocked
from kvss_gevent.core.service import Service
from kvss_gevent.models.contract import RECV_BYTES, Ground, clients, gil_is_on

logger = logging.getLogger("kvss")

IDEA = "one thread per connection, one lock around the store"
LIMITS = (
    f"the GIL is {'on: one thread runs Python at a time' if gil_is_on() else 'off: threads run on several cores'}",
    "memory and a kernel thread for every connection, busy or idle",
    "the lock is held while a store blocks: every client waits",
)
LOSES = ()
SHARED = False

STORE_GRACE_S = 3.0
"""The time for a store that blocks to answer when the server stops."""


def serve(ground: Ground) -> None:
    """Give every client a thread of its own until stopped."""
    service, lock = ground.open_service(), Lock()
    if service.lab:
        service.lab.apart = Unlocked(lock)
    try:
        for sock in clients(ground.listener):
            try:
                # A daemon: the process does not wait for it when it ends.
                Thread(target=converse_locked, args=(sock, service, lock), daemon=True).start()
            except RuntimeError as error:
                logger.warning("a client was refused: %s", error)
                sock.close()
    finally:
        keep_threads_out(lock)


def keep_threads_out(lock: Lock) -> None:
    """Wait until no thread is inside the store, and let none in again, because it will be closed."""
    lock.acquire(timeout=STORE_GRACE_S)


def converse_locked(sock: socket.socket, service: Service, lock: Lock) -> None:
    """Run the thread of one client."""
    session = service.open()
    with lock:
        service.stats.connections += 1
    try:
        while not session.closed and (data := sock.recv(RECV_BYTES)):
            with lock:
                replies = session.receive(data)
            sock.sendall(replies)
            while session.more:
                with lock:
                    replies = session.proceed()
                sock.sendall(replies)
    except OSError:
        pass  # the client broke the connection off
    finally:
        with lock:
            service.stats.connections -= 1
        sock.close()
