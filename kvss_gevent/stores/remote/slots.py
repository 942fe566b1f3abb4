"""Asks the nodes of a cluster which of them serves which slot."""

from collections.abc import Iterable

from valkey.crc import VALKEY_CLUSTER_HASH_SLOTS, key_slot
from valkey.exceptions import ResponseError, ValkeyError

from kvss_gevent.stores.base import StoreError
from kvss_gevent.stores.remote.access import Access
from kvss_gevent.stores.remote.node_connection import Address, pack
from kvss_gevent.stores.remote.runtimes import Runtime

SLOTS = VALKEY_CLUSTER_HASH_SLOTS

slot_of = key_slot
"""Return the slot of a key: CRC16 of the key, or of the part in its first braces."""

Owners = list[Address | None]
"""For each slot the address of the node that serves it."""


def find_owners(addresses: Iterable[Address], timeout_s: float, runtime: Runtime, access: Access) -> Owners:
    """Ask one node after the other for the owners of all slots, and return the first good answer.

    A node that is cut off from the others says that the cluster is not ok. Its answer is used only if no node has a
    better one. Each node has timeout_s for each of its two answers. Raises StoreError when nobody answers.
    """
    doubtful: Owners | None = None
    faults: list[str] = []
    for address in addresses:
        connection = runtime.connect_to(address, timeout_s, access)
        try:
            connection.connect()
            connection.socket().sendall(pack([(b"CLUSTER", b"SLOTS"), (b"CLUSTER", b"INFO")]))
            slots, info = connection.read_reply(), connection.read_reply()
            for reply in (slots, info):
                if isinstance(reply, ResponseError):
                    raise reply
            owners = parse_slots(slots, address)
            if b"cluster_state:ok" in info:
                return owners
            doubtful = owners
        except (ValkeyError, OSError, ValueError) as fault:
            faults.append(f"{address[0]}:{address[1]}: {fault}")
        finally:
            connection.disconnect()
    if doubtful is None:
        raise StoreError(f"no node of the cluster answers ({'; '.join(faults)})")
    return doubtful


def parse_slots(reply: object, asked: Address) -> Owners:
    """Turn the reply to CLUSTER SLOTS into owners. Raises ValueError for what is no such reply."""
    owners: Owners = [None] * SLOTS
    try:
        for first, last, master, *_ in reply:  # type: ignore[attr-defined]
            host, port = master[:2]
            # A node that does not know its own address gives none: then it is the node that was asked.
            address = (host.decode() if host else asked[0], int(port))
            owners[first : last + 1] = [address] * (last + 1 - first)
    except (TypeError, ValueError, AttributeError):
        raise ValueError("not an answer to CLUSTER SLOTS") from None
    if len(owners) != SLOTS:
        raise ValueError("slots out of range")
    return owners
