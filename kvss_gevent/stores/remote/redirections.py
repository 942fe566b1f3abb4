"""The replies of a node whose command belongs to another node: MOVED from now on, ASK for once."""

from valkey.exceptions import ResponseError

from kvss_gevent.stores.remote.node_connection import Address


def redirection(refusal: ResponseError, asked: Address) -> tuple[Address, bool, int] | None:
    """Return the address for a refused command, whether it is for once (ASK), and the slot; None for other refusals."""
    words = str(refusal).split()
    if len(words) < 3 or words[0] not in ("MOVED", "ASK"):
        return None
    host, _, port = words[2].rpartition(":")
    if not (port.isdigit() and words[1].isdigit()):
        return None
    return (host or asked[0], int(port)), words[0] == "ASK", int(words[1])
