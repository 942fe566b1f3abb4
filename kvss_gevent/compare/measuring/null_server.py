"""A server that answers every line with `200 OK` without reading it. No server can be faster.

The laboratory measures it together with the models. If it is not clearly faster than a model, the figures are those of
the generator. Run as `python -m kvss_gevent.compare.measuring.null_server`, it listens on a free port of loopback and
prints it.
"""

import select
import signal
import socket

OK = b"200 OK\n"
RECV_BYTES = 1 << 18


def main() -> None:
    """Serve until SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # no handler: Python can miss one that comes just before poll
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    listener.setblocking(False)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # its connections inherit that
    print(f"null: listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    clients: dict[int, socket.socket] = {}
    while True:
        for number, _ in epoll.poll():
            sock = clients.get(number)
            if sock is None:
                accept(listener, epoll, clients)
                continue
            try:
                data = sock.recv(RECV_BYTES)
                if data:
                    # Replies are short, and all clients read them, so they always fit into the socket's buffer.
                    sock.send(OK * data.count(b"\n"))
                    continue
            except OSError:
                pass  # the client reset the connection
            del clients[number]
            sock.close()


def accept(listener: socket.socket, epoll: select.epoll, clients: dict[int, socket.socket]) -> None:
    """Accept one client."""
    try:
        sock, _ = listener.accept()
    except OSError:
        return
    sock.setblocking(False)
    clients[sock.fileno()] = sock
    epoll.register(sock, select.EPOLLIN)


if __name__ == "__main__":
    main()
