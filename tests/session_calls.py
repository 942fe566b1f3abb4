"""Conversations fed with packets."""

from kvss_gevent.core.conversation import Conversation


def feed(session: Conversation, *packets: bytes) -> bytes:
    """Return all replies to packets, in the slices in which a conversation gives them."""
    out = b""
    for packet in packets:
        out += session.receive(packet)
        while session.more:
            out += session.proceed()
    return out
