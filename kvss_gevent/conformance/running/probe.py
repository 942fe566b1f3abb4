"""Learns about a server before the first case: whether it answers, its dialect, and whether it serves two clients."""

import socket
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from typing import Final

from kvss_gevent.conformance.case_plan import STATS_OF, Plan
from kvss_gevent.conformance.deadline import Deadline
from kvss_gevent.conformance.dialect import PLAIN, Dialect, Successes, learn
from kvss_gevent.conformance.peer import Address, Gone, NoReply, Peer, describe
from kvss_gevent.conformance.process.kernel import busyness
from kvss_gevent.conformance.running.opening import ClientRefused, open_peer
from kvss_gevent.conformance.stats_forms import ANY, README, form_of

_BESIDE_S: Final = 0.5
_GREETING_S: Final = 0.08
_QUIET_S: Final = 0.04
_PIECE_S: Final = 0.3
"""How long the rest of a reply may take, if it arrived without its line feed."""


class Unreachable(Exception):
    """Nothing answers at the address, so no case was run. The message says why; tail: the end of a command's stderr."""

    def __init__(self, why: str, tail: str = "") -> None:
        super().__init__(why)
        self.tail = tail


@dataclass(frozen=True, slots=True)
class Target:
    """A server under test, and what was learnt about it before the first case.

    marker: its reply line to `GET end_key`, which marks the end of a case; None if it does not reply. odd_stats: its
    STATS has neither form, so that counters are found by their names. one_at_a_time: a second client waits until the
    first one leaves. first_stats: its reply line to a STATS that was its first request, if that is the line to judge.
    """

    address: Address
    stats_form: str
    end_key: bytes
    marker: bytes | None = None
    dialect: Dialect = PLAIN
    odd_stats: bool = False
    one_at_a_time: bool = False
    first_stats: bytes | None = None


def probe(host: str, port: int, end_key: bytes, plan: Plan) -> Target:
    """Return the target with what was learnt. Raises Unreachable, and ClientRefused."""
    timeout_s = plan.timeout_s * busyness()
    address, first = _reach(host, port, timeout_s, Dialect(login=plan.login, secure=plan.secure))
    question = b"KV/1.0 GET " + end_key
    with closing(first):
        dialect = replace(_learn(first, question), login=plan.login, secure=plan.secure)
    marker = ask_anew(address, question, timeout_s, dialect) if dialect.sample else None
    if marker is not None:
        ask = partial(_store_twice, address, end_key + b"-success", timeout_s, dialect)
        dialect = replace(dialect, successes=Successes(ask))
    # Twice, because a server that is wrongly classified as serving one client at a time loses many points.
    one_at_a_time = marker is not None and all(_keeps_waiting(address, question, timeout_s, dialect) for _ in range(2))
    line = ask_anew(address, b"KV/1.0 STATS", timeout_s, dialect) if dialect.sample else None
    found = form_of(line or b"")
    form = found or STATS_OF.get(plan.profile, README if plan.stats_form == ANY else plan.stats_form)
    if plan.stats_form != ANY:
        form = plan.stats_form
    return Target(address, form, end_key, marker, dialect, line is not None and found != form, one_at_a_time)


def first_stats(host: str, port: int, plan: Plan) -> bytes:
    """Return the reply of a new server whose first request is STATS; b"" if there is none. Raises Unreachable."""
    _, peer = _reach(host, port, plan.timeout_s * busyness())
    with closing(peer):
        try:
            peer.send(b"KV/1.0 STATS\n")
            peer.rest()
        except NoReply:
            return b""
        return peer.listen(_QUIET_S)


def _keeps_waiting(address: Address, line: bytes, timeout_s: float, dialect: Dialect) -> bool:
    """Tell whether a client gets no reply while another one, which was served before, is connected."""
    try:
        with closing(open_peer(address, Deadline(timeout_s), dialect)) as first:
            first.send(line + b"\n")
            first.line()
            return ask_anew(address, line, min(timeout_s, _BESIDE_S * busyness()), dialect) is None
    except (Gone, NoReply):
        return True


def _store_twice(address: Address, key: bytes, timeout_s: float, dialect: Dialect) -> list[bytes]:
    """Store a new key, store it again and delete it; return the replies until one is missing."""
    lines = (b"KV/1.0 PUT " + key + b" 1", b"KV/1.0 PUT " + key + b" 2", b"KV/1.0 DEL " + key)
    replies = takewhile(bool, (ask_anew(address, line, timeout_s, dialect) for line in lines))
    return [reply for reply in replies if reply]


def _learn(peer: Peer, question: bytes) -> Dialect:
    """Return the dialect that the bytes before and after the reply to a question show."""
    greeting = peer.listen(_GREETING_S)
    try:
        peer.send(question + b"\n")
        peer.rest()
    except NoReply:
        return PLAIN
    reply = peer.listen(_QUIET_S)
    if b"\n" not in reply:
        reply += peer.listen(_PIECE_S)
    return learn(greeting, reply) if reply else PLAIN


def _reach(host: str, port: int, timeout_s: float, dialect: Dialect = PLAIN) -> tuple[Address, Peer]:
    """Return the first address of the host that accepts a connection, and the connection.

    Raises Unreachable, and ClientRefused.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unreachable(describe(error) if isinstance(error, OSError) else "no such host name") from None
    why = "no address"
    for address in dict.fromkeys(entry[4] for entry in found):
        try:
            return address, open_peer(address, Deadline(timeout_s), dialect)
        except ClientRefused:
            raise
        except Gone as gone:
            why = str(gone)
    raise Unreachable(why)


def ask_anew(address: Address, line: bytes, timeout_s: float, dialect: Dialect) -> bytes | None:
    """Return the reply line to one request on a new connection, None if there is none."""
    try:
        with closing(open_peer(address, Deadline(timeout_s), dialect)) as peer:
            peer.send(line + b"\n")
            return peer.line()
    except (Gone, NoReply):
        return None
