"""Opens redis://USER@HOST:PORT/DB and cluster://USER@HOST:PORT,HOST:PORT, and rediss: and clusters: over TLS.

Reads the address, and checks that a server is there and accepts the login.
"""

from collections.abc import Iterator
from urllib.parse import unquote

from kvss_gevent.settings.config import Config
from kvss_gevent.stores.base import CannotOpen, StoreError
from kvss_gevent.stores.remote.access import VARIABLE, access_of
from kvss_gevent.stores.remote.node_connection import Address
from kvss_gevent.stores.remote.remote_store import RemoteStore
from kvss_gevent.stores.remote.request import NodeLimits

REDIS_FORM = "Give {}://HOST:PORT/DB, such as {}://127.0.0.1:6379/0, with USER@ before the host for a user."
CLUSTER_FORM = "Give {}://HOST:PORT,HOST:PORT with one node of the cluster or several, USER@ before them for a user."
OVER_TLS = ("rediss", "clusters")
START_IT = "Start it, or give the address of a running server; docs/stores-cluster.md explains how."
PASSWORD = f"Give --store-password-file FILE or ${VARIABLE}"
WRONG = f"{PASSWORD} the right password; without USER@ in the address it is the one of the user default."
COMMANDS = (
    "The user needs GET, SET, GETEX, DEL, EXPIRE, PTTL, DBSIZE, SELECT and WAIT, in a cluster CLUSTER and ASKING."
)
OWN = "Give --store-cert and --store-key: this server wants a certificate of its clients."

REMEDIES = {
    "CERTIFICATE_VERIFY_FAILED": "Give --store-ca the certificate that signed the server's, and a name that is in it.",
    "WRONG_VERSION_NUMBER": "Give the TLS port of the server, or redis:// or cluster:// for one without TLS.",
    "certificate required": OWN,
    "EOF occurred": OWN,
    "username-password": WRONG,
    "invalid password": WRONG,
    "without any password configured": "Leave the password away: the server has none.",
    "Authentication required": f"{PASSWORD}, and USER@ in the address where it is a user's.",
    "no permissions": COMMANDS,
    "reset by peer": "Give rediss:// or clusters:// where the server speaks TLS; else look at its log.",
    "closed by server": "Give rediss:// or clusters:// where the server speaks TLS; else look at its log.",
}
"""What to do about a fault whose text has these words. The first match is used."""


def open_redis(rest: str, config: Config) -> RemoteStore:
    """Open the store on one server. Raises CannotOpen."""
    scheme = config.store.partition(":")[0]
    try:
        user, places = _split_user(rest)
        place, slash, db = places.partition("/")
        (address,) = parse_addresses(place)
        if slash and not (db.isascii() and db.isdigit()):
            raise ValueError("not an address and a number")
    except ValueError:
        raise _unreadable(scheme, rest, REDIS_FORM) from None
    return _open([address], config, user, db=int(db or 0), cluster=False)


def open_cluster(rest: str, config: Config) -> RemoteStore:
    """Open the store on a cluster. Raises CannotOpen."""
    scheme = config.store.partition(":")[0]
    try:
        user, places = _split_user(rest)
        addresses = list(parse_addresses(places))
    except ValueError:
        raise _unreadable(scheme, rest, CLUSTER_FORM) from None
    return _open(addresses, config, user, db=0, cluster=True)


def parse_addresses(text: str) -> Iterator[Address]:
    """Read `HOST:PORT,HOST:PORT`; raises ValueError."""
    for part in text.split(","):
        host, _, port = part.rpartition(":")
        if not host or "@" in host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"{part!r} is not HOST:PORT")
        yield host.removeprefix("[").removesuffix("]"), int(port)


def _split_user(rest: str) -> tuple[str, str]:
    """Return the user, which may be empty, and the rest. Raises ValueError."""
    if not rest.startswith("//"):
        raise ValueError("not an address")
    user, at, places = rest[2:].rpartition("@")
    if ":" in user or (at and not user):
        raise ValueError("not a user")
    return unquote(user), places


def _unreadable(scheme: str, rest: str, form: str) -> CannotOpen:
    return CannotOpen(f"cannot read the store's address {scheme}:{rest}", form.format(scheme, scheme), usage=True)


def _open(addresses: list[Address], config: Config, user: str, *, db: int, cluster: bool) -> RemoteStore:
    limits = NodeLimits(timeout_s=config.store_timeout_s, replicas_ack=config.replicas_ack)
    tls = config.store.partition(":")[0] in OVER_TLS
    store = RemoteStore(addresses, limits, access_of(config, user, db, tls=tls), cluster=cluster)
    try:
        store.check()
    except StoreError as error:
        store.close()
        remedy = next((remedy for words, remedy in REMEDIES.items() if words in str(error)), START_IT)
        raise CannotOpen(f"cannot use the store {config.store}: {error}", remedy) from None
    return store
