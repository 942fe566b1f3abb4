"""A TCP proxy on loopback for tests: passes bytes on, and can swallow what one side says."""

import contextlib
import selectors
import socket
import threading
import time


class Proxy:
    """Stands before a server until closed. With `swallow_replies` the server hears everything and is not heard."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.swallow_replies = False
        self.pause_s = 0.0
        """Before each 64 KiB of replies."""
        self.accepted = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._peers: dict[socket.socket, tuple[socket.socket, bool]] = {}
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._listener.getsockname()
        return host, port

    def _run(self) -> None:
        while not self._stop:
            for key, _ in self._selector.select(0.05):
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._pass_on(key.fileobj)  # type: ignore[arg-type]

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        self.accepted += 1
        try:
            server = socket.create_connection(self.target, 5)
        except OSError:
            client.close()
            return
        for one, other, is_server in ((client, server, False), (server, client, True)):
            self._peers[one] = (other, is_server)
            self._selector.register(one, selectors.EVENT_READ)

    def _pass_on(self, one: socket.socket) -> None:
        if one not in self._peers:
            return
        other, is_server = self._peers[one]
        data = b""
        with contextlib.suppress(OSError):
            data = one.recv(1 << 16)
        if not data:
            for each in (one, other):
                self._peers.pop(each, None)
                self._selector.unregister(each)
                each.close()
        elif not (is_server and self.swallow_replies):
            if is_server and self.pause_s:
                time.sleep(self.pause_s)
            with contextlib.suppress(OSError):
                other.sendall(data)

    def close(self) -> None:
        """End all connections."""
        self._stop = True
        self._thread.join(5)
        for one in (*self._peers, self._listener):
            one.close()
        self._selector.close()
