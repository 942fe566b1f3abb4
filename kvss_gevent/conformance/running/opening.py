"""Opens the connections of a run. TLS and a login come first, unseen by the case and its transcript."""

import time
from typing import Final

from kvss_gevent.conformance.deadline import Deadline
from kvss_gevent.conformance.dialect import PLAIN, Dialect
from kvss_gevent.conformance.peer import Address, Gone, NoReply, Note, Peer
from kvss_gevent.protocol.wire import OK_PREFIX, shorten

_LOGIN_S: Final = 15.0
"""A server that slows guesses down may answer late. This project's server answers within 10 s and a hash of 40 ms."""


class ClientRefused(Gone):
    """The server does not let this client in, for its TLS or its login; the message says why."""


def open_peer(address: Address, deadline: Deadline, dialect: Dialect = PLAIN, note: Note | None = None) -> Peer:
    """Return a new connection, logged in if the dialect has a login. Raises Gone, also as ClientRefused.

    The deadline moves by the time of the login. note: see Peer.
    """
    peer = Peer(address, deadline, dialect)
    if dialect.login:
        started = time.monotonic()
        peer.deadline = Deadline(_LOGIN_S)
        try:
            peer.send(dialect.login)
            reply = peer.line()
        except NoReply as silence:
            peer.close()
            raise ClientRefused(f"no answer to the login: {silence.why}", waited=True) from None
        if not reply.startswith(OK_PREFIX):
            peer.close()
            raise ClientRefused(f"it answers the login with {shorten(reply)}", waited=True)
        deadline.extend(time.monotonic() - started)
        peer.deadline, peer.heard_bytes = deadline, 0
    if note is not None:
        peer.note = note
    return peer
