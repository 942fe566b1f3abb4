"""Opens redis://HOST:PORT/DB and cluster://HOST:PORT,HOST:PORT: reads the address, looks whether anyone is there."""

from collections.abc import Iterator

from kvss_gevent.settings.config import Config
from kvss_gevent.stores.base import CannotOpen, StoreError
from kvss_gevent.stores.remote.node_connection import Address
from kvss_gevent.stores.remote.remote_store import RemoteStore
from kvss_gevent.stores.remote.request import NodeLimits

REDIS_FORM = "Give redis://HOST:PORT/DB, such as redis://127.0.0.1:6379/0."
CLUSTER_FORM = "Give cluster://HOST:PORT,HOST:PORT with one node of the cluster or several."
START_IT = "Start it, or give the address of one that runs; docs/stores-cluster.md says how."


def open_redis(rest: str, config: Config) -> RemoteStore:
    """Open the store on one server. Raises CannotOpen."""
    try:
        place, slash, db = rest.removeprefix("//").partition("/")
        (address,) = parse_addresses(place)
        if not rest.startswith("//") or (slash and not (db.isascii() and db.isdigit())):
            raise ValueError("not an address and a number")
    except ValueError:
        raise _unreadable("redis", rest, REDIS_FORM) from None
    return _open([address], config, db=int(db or 0), cluster=False)


def open_cluster(rest: str, config: Config) -> RemoteStore:
    """Open the store on a cluster. Raises CannotOpen."""
    try:
        if not rest.startswith("//"):
            raise ValueError("not an address")
        addresses = list(parse_addresses(rest[2:]))
    except ValueError:
        raise _unreadable("cluster", rest, CLUSTER_FORM) from None
    return _open(addresses, config, db=0, cluster=True)


def parse_addresses(text: str) -> Iterator[Address]:
    """Read `HOST:PORT,HOST:PORT`; raises ValueError."""
    for part in text.split(","):
        host, _, port = part.rpartition(":")
        if not host or "@" in host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"{part!r} is not HOST:PORT")
        yield host.removeprefix("[").removesuffix("]"), int(port)


def _unreadable(scheme: str, rest: str, form: str) -> CannotOpen:
    if "@" in rest:  # it is not shown: there may be a password in it
        return CannotOpen(f"{scheme}: takes no user and no password yet", form, usage=True)
    return CannotOpen(f"cannot read the store's address {scheme}:{rest}", form, usage=True)


def _open(addresses: list[Address], config: Config, *, db: int, cluster: bool) -> RemoteStore:
    limits = NodeLimits(timeout_s=config.store_timeout_s, replicas_ack=config.replicas_ack)
    store = RemoteStore(addresses, limits, db=db, cluster=cluster)
    try:
        store.check()
    except StoreError as error:
        store.close()
        raise CannotOpen(f"cannot use the store {config.store}: {error}", START_IT) from None
    return store
