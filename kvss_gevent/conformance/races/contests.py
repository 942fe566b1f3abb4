"""The contests: in each, many clients send at the same moment. It raises ContestLost if their replies are impossible.

One thread sends for all clients, which takes about 10 us for each, and reads the replies afterwards. So the requests
meet in the server, and no contest depends on how threads of this program are scheduled.
"""

import random
import time
from collections.abc import Callable
from typing import Final

from kvss_gevent.conformance.peer import Peer
from kvss_gevent.conformance.races.diagram import spans
from kvss_gevent.conformance.races.linearizability import Operation, is_linearizable
from kvss_gevent.conformance.score import TimedRequest
from kvss_gevent.protocol.wire import OK_PREFIX, REPLY, Status, Verb, shorten

Open = Callable[[str], Peer]
"""Returns the connection of the client with this name."""

_CLIENTS: Final = 10
_ROUNDS: Final = 12
_TORN_BYTES: Final = 30_000
_HISTORY_CLIENTS: Final = 4
_HISTORY_ROUNDS: Final = 30


class ContestLost(Exception):
    """The replies cannot all be correct."""

    def __init__(
        self, sent: tuple[str, ...], expected: str, received: str, picture: tuple[TimedRequest, ...] = ()
    ) -> None:
        super().__init__(received)
        self.sent = sent
        self.expected = expected
        self.received = received
        self.picture = picture


def _clients(connect: Open, number: int) -> list[Peer]:
    """Connect clients. Each is served once before the next connects, so that the shortest backlog is enough."""
    peers: list[Peer] = []
    for one in range(1, number + 1):
        peers.append(connect(f"client {one}"))
        _at_once(peers[-1:], [b"KV/1.0 GET nothing"])
    return peers


def _at_once(peers: list[Peer], lines: list[bytes]) -> list[bytes]:
    """Send a line for each client, then read the replies."""
    for peer, line in zip(peers, lines, strict=True):
        peer.send(line + b"\n")
    return [peer.line() for peer in peers]


def _code(peer: Peer, status: Status) -> bytes:
    """Return the code that the server uses for a status: some servers use another code for a success."""
    return peer.dialect.successes.instead.get(REPLY[status], REPLY[status])[:3]


def _exactly_one(connect: Open, key: bytes, verb: bytes, one: Status, all_others: Status) -> None:
    peers = _clients(connect, _CLIENTS)
    first, others = _code(peers[0], one), _code(peers[0], all_others)
    if first == others:
        return  # its replies never say who was first; another case judges that
    for turn in range(_ROUNDS):
        name = b"%b-%d" % (key, turn)
        if verb == b"DEL":
            _at_once(peers[:1], [b"KV/1.0 PUT %b v" % name])
        line = b"KV/1.0 %b %b" % (verb, name) + (b" v" if verb == b"PUT" else b"")
        replies = _at_once(peers, [line] * _CLIENTS)
        codes = [reply[:3] for reply in replies]
        if codes.count(first) != 1 or codes.count(others) != _CLIENTS - 1:
            counts = ", ".join(
                f"{codes.count(code)} times {code.decode(errors='replace')}" for code in sorted(set(codes))
            )
            expected = f"once {first.decode()}, {_CLIENTS - 1} times {others.decode()}"
            raise ContestLost((f"{shorten(line)} by {_CLIENTS} clients at once",), expected, counts)


def created(connect: Open, key: bytes) -> None:
    """When clients PUT one new key at the same time, exactly one creates it."""
    _exactly_one(connect, key, b"PUT", Status.CREATED, Status.OK)


def deleted(connect: Open, key: bytes) -> None:
    """When clients DEL one key at the same time, exactly one deletes it."""
    _exactly_one(connect, key, b"DEL", Status.NO_CONTENT, Status.NOT_FOUND)


def own_replies(connect: Open, key: bytes) -> None:
    """Each client gets the value of its own key, while the others GET other keys."""
    peers = _clients(connect, _CLIENTS)
    values = [b"value-%d-" % number * 20 for number in range(_CLIENTS)]
    _at_once(peers, [b"KV/1.0 PUT %b-%d %b" % (key, number, value) for number, value in enumerate(values)])
    for _ in range(_ROUNDS):
        lines = [b"KV/1.0 GET %b-%d" % (key, number) for number in range(_CLIENTS)]
        for line, value, reply in zip(lines, values, _at_once(peers, lines), strict=True):
            if reply[len(OK_PREFIX) :] != value:
                raise ContestLost(
                    (f"{shorten(line)} while others ask for other keys",), shorten(OK_PREFIX + value), shorten(reply)
                )


def own_keys(connect: Open, key: bytes) -> None:
    """When clients PUT different keys at the same time, all values are stored."""
    peers = _clients(connect, _CLIENTS)
    for turn in range(_ROUNDS):
        names = [b"%b-%d-%d" % (key, turn, number) for number in range(_CLIENTS)]
        _at_once(peers, [b"KV/1.0 PUT %b v" % name for name in names])
        for name in names:
            (reply,) = _at_once(peers[:1], [b"KV/1.0 GET " + name])
            if reply[len(OK_PREFIX) :] != b"v":
                sent = f"PUTs of {_CLIENTS} keys by {_CLIENTS} clients at once, then {shorten(b'KV/1.0 GET ' + name)}"
                raise ContestLost((sent,), "'200 OK v'", shorten(reply))


def whole_values(connect: Open, key: bytes) -> None:
    """A GET during a PUT returns the old value or the new one, never a mixture."""
    peers = _clients(connect, 6)
    values = [letter * _TORN_BYTES for letter in (b"a", b"b")]
    _at_once(peers[:1], [b"KV/1.0 PUT %b %b" % (key, values[0])])
    for turn in range(_ROUNDS):
        put = b"KV/1.0 PUT %b %b" % (key, values[turn % 2])
        replies = _at_once(peers, [put] + [b"KV/1.0 GET " + key] * 5)
        for reply in replies[1:]:
            got = reply[len(OK_PREFIX) :]
            if got not in values:
                sent = f"PUT of {_TORN_BYTES} letters by one client, GET by 5 others at once"
                counts = f"{len(got)} bytes, {got.count(b'a')} of them a and {got.count(b'b')} b"
                raise ContestLost((sent,), f"{_TORN_BYTES} times a, or {_TORN_BYTES} times b", counts)


def history(connect: Open, key: bytes) -> None:
    """Some order of all operations on a key explains all replies (linearizability)."""
    peers = _clients(connect, _HISTORY_CLIENTS)
    chance = random.Random(1)
    done: list[Operation] = []
    created, replaced, deleted = (_code(peers[0], one) for one in (Status.CREATED, Status.OK, Status.NO_CONTENT))
    for turn in range(_HISTORY_ROUNDS):
        verbs = [chance.choice((Verb.GET, Verb.GET, Verb.PUT, Verb.PUT, Verb.DEL)) for _ in peers]
        values = [b"%d.%d" % (turn, number) for number in range(len(peers))]
        began = []
        for peer, verb, value in zip(peers, verbs, values, strict=True):
            began.append(time.monotonic())
            peer.send(b"KV/1.0 %b %b" % (verb.name.encode(), key) + (b" " + value if verb is Verb.PUT else b"") + b"\n")
        for peer, verb, value, start in zip(peers, verbs, values, began, strict=True):
            reply = peer.line()
            found = reply[len(OK_PREFIX) :] if verb is Verb.GET and reply[:3] == b"200" else None
            was_there: bool | None = reply[:3] == (replaced if verb is Verb.PUT else deleted)
            if verb is Verb.PUT and created == replaced:
                was_there = None
            done.append(Operation(verb, key, start, time.monotonic(), value, found, was_there))
    if not is_linearizable(done):
        sent = f"{len(done)} requests for one key by {_HISTORY_CLIENTS} clients, up to {_HISTORY_CLIENTS} at once"
        expected = "replies that some order of the requests explains"
        raise ContestLost(
            (sent,), expected, "replies that no order explains", spans(_smallest(done), _HISTORY_CLIENTS, done)
        )


def _smallest(done: list[Operation]) -> list[Operation]:
    """Return the operations up to the first that no order explains, without the GETs that are not needed for that."""
    end = next(n for n in range(1, len(done) + 1) if not is_linearizable(done[:n]))
    few = done[:end]
    for operation in [one for one in few if one.verb is Verb.GET]:
        fewer = [one for one in few if one is not operation]
        if not is_linearizable(fewer):
            few = fewer
    return few


CONTESTS: Final[dict[str, Callable[[Open, bytes], None]]] = {
    "created": created,
    "deleted": deleted,
    "own-replies": own_replies,
    "own-keys": own_keys,
    "whole-values": whole_values,
    "history": history,
}
