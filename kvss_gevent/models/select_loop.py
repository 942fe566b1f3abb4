"""One loop over all sockets: ask the kernel which are ready, do a little for each, ask again. All is explicit.

No call waits but `select`. So an object keeps what a thread keeps on its stack: the bytes to be sent, and whether to
wait for reading or for writing.
"""

import selectors
import socket
from selectors import EVENT_READ, EVENT_WRITE
from typing import NoReturn

from kvss_gevent.core.service import Service
from kvss_gevent.models.contract import BLOCKING_STORE, RECV_BYTES, Ground, rest_after

IDEA = "one loop over all sockets, a buffer of replies for each"
LIMITS = ("one core; whatever takes long keeps every client waiting", BLOCKING_STORE)
LOSES = ()
SHARED = False


class SelectClient:
    """One connection: its conversation and the replies that the kernel has not taken yet."""

    def __init__(self, sock: socket.socket, service: Service) -> None:
        self.sock = sock
        self.session = service.open()
        self.unsent = memoryview(b"")
        self.wants = EVENT_READ

    def is_ready(self) -> bool:
        """Do one step, and set in `wants` what to wait for; return False at the end. Raises OSError."""
        session = self.session
        if self.wants == EVENT_READ:
            data = self.sock.recv(RECV_BYTES)
            if not data:
                return False
            self.unsent = memoryview(session.receive(data))
        elif not self.unsent:
            self.unsent = memoryview(session.proceed())
        if self.unsent:
            try:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]
            except BlockingIOError:
                pass  # its buffer is full
        # The server reads from a client again only after the client has taken its replies. So memory is bounded.
        waiting = bool(self.unsent) or session.more
        self.wants = EVENT_WRITE if waiting else EVENT_READ
        return waiting or not session.closed


def serve(ground: Ground) -> NoReturn:
    """Run the loop until stopped."""
    service = ground.open_service()
    selector = selectors.DefaultSelector()
    selector.register(ground.listener, EVENT_READ)
    while True:
        for key, _ in selector.select():
            client: SelectClient | None = key.data
            if client is None:
                welcome(ground.listener, service, selector)
                continue
            wanted = client.wants
            try:
                stays = client.is_ready()
            except BlockingIOError:
                continue
            except OSError:
                stays = False  # the client broke the connection off
            if not stays:
                selector.unregister(client.sock)
                client.sock.close()
                service.stats.connections -= 1
            elif client.wants != wanted:
                selector.modify(client.sock, client.wants, client)


def welcome(listener: socket.socket, service: Service, selector: selectors.BaseSelector) -> None:
    """Accept one client."""
    try:
        sock, _ = listener.accept()
    except OSError as error:
        rest_after(error)
        return
    sock.setblocking(False)
    selector.register(sock, EVENT_READ, SelectClient(sock, service))
    service.stats.connections += 1
