"""Records concurrent histories: clients as greenlets on a store, or as threads on servers that may be killed."""

import random
import socket
import threading
import time
from collections.abc import Callable, Sequence
from itertools import count

import gevent
from serving import read_lines
from store_calls import apply

from kvss_gevent.conformance.races.linearizability import UNKNOWN, Operation
from kvss_gevent.protocol.wire import Status, Verb, build_request, parse_reply
from kvss_gevent.stores.base import Store, StoreError

KEYS = (b"a", b"b", b"c")
VERBS = (Verb.GET, Verb.GET, Verb.PUT, Verb.PUT, Verb.DEL)
NO_LIMIT = 1 << 30


def on_store(store: Store, clients: int = 8, each: int = 60, seed: int = 0) -> list[Operation]:
    """Let greenlets run random operations on a store; return the history."""
    ticks = count()
    history: list[Operation] = []

    def client(number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        for serial in range(each):
            verb, key, value = chance.choice(VERBS), chance.choice(KEYS), b"%d-%d" % (number, serial)
            began = next(ticks)
            try:
                (result,) = apply(store, [(verb, key, value if verb is Verb.PUT else b"")], NO_LIMIT)
            except StoreError as fault:
                result = fault
            ended = UNKNOWN if isinstance(result, StoreError) else next(ticks)
            found = result if isinstance(result, bytes) else None
            was_there = result is False if verb is Verb.PUT else result is True
            history.append(Operation(verb, key, began, ended, value, found, was_there))
            gevent.sleep(chance.choice((0, 0, 0.001)))

    gevent.joinall([gevent.spawn(client, number) for number in range(clients)], timeout=50, raise_error=True)
    return history


class Clients:
    """Threads that send random requests, each to one of the ports, until told to stop or the server is gone.

    The history grows from run to run; values never repeat.
    """

    def __init__(self, number: int = 8, seed: int = 0) -> None:
        self.history: list[Operation] = []
        self._chances = [random.Random(f"{seed} {client}") for client in range(number)]
        self._serials = count()

    def run(self, ports: Sequence[int], each: int, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Send `each` requests per client; call `meanwhile` once they are under way."""
        threads = [
            threading.Thread(target=self._client, args=(ports[number % len(ports)], chance, each))
            for number, chance in enumerate(self._chances)
        ]
        for thread in threads:
            thread.start()
        meanwhile()
        for thread in threads:
            thread.join(50)
            assert not thread.is_alive(), "a client got no reply"

    def _client(self, port: int, chance: random.Random, each: int) -> None:
        try:
            with socket.create_connection(("127.0.0.1", port), 10) as sock:
                for _ in range(each):
                    if not self._ask(sock, chance):
                        return
        except OSError:
            return  # the server was killed before we had connected

    def _ask(self, sock: socket.socket, chance: random.Random) -> bool:
        verb, key, value = chance.choice(VERBS), chance.choice(KEYS), b"%d" % next(self._serials)
        began = time.monotonic()
        try:
            sock.sendall(build_request(verb, key, value if verb is Verb.PUT else b""))
            (line,) = read_lines(sock, 1)
        except (OSError, AssertionError):
            self.history.append(Operation(verb, key, began, UNKNOWN, value))
            return False
        ended = time.monotonic()
        status, data = parse_reply(line)
        if status is Status.SERVER_ERROR:
            ended = UNKNOWN
        found = data if verb is Verb.GET and status is Status.OK else None
        was_there = status in (Status.OK, Status.NO_CONTENT)
        self.history.append(Operation(verb, key, began, ended, value, found, was_there))
        return True
