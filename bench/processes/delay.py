"""A TCP proxy that holds replies back for a fixed time: the network that a benchmark on one machine lacks.

Run as `python -m bench.processes.delay TARGET_PORT DELAY_S`; prints its own port. Ends with whoever started it.
"""

import selectors
import socket
import sys
import time
from collections import deque


def main() -> None:
    """Pass bytes on until killed."""
    target, delay_s = ("127.0.0.1", int(sys.argv[1])), float(sys.argv[2])
    selector = selectors.DefaultSelector()
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    selector.register(listener, selectors.EVENT_READ)
    held: deque[tuple[float, socket.socket, bytes]] = deque()
    while True:
        wait_s = max(0.0, held[0][0] - time.monotonic()) if held else None
        for key, _ in selector.select(wait_s):
            if key.fileobj is listener:
                client, server = listener.accept()[0], socket.create_connection(target)
                for one in (client, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(client, selectors.EVENT_READ, (client, server, 0.0))
                selector.register(server, selectors.EVENT_READ, (server, client, delay_s))
                continue
            source, sink, hold_s = key.data
            data = source.recv(1 << 18)
            if not data:
                for one in (source, sink):
                    selector.unregister(one)
                    one.close()
                break  # the other side's turn may be among those selected
            if hold_s:
                held.append((time.monotonic() + hold_s, sink, data))
            else:
                sink.sendall(data)
        while held and held[0][0] <= time.monotonic():
            _, sink, data = held.popleft()
            if sink.fileno() >= 0:
                sink.sendall(data)


if __name__ == "__main__":
    main()
