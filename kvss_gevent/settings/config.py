"""The server's configuration: one frozen dataclass whose fields carry their own kind, help text, and what SIGHUP does.

A field's name is its name everywhere: `max_line_bytes` is --max-line, KVSS_MAX_LINE, and max-line in a file. Command
line, environment, file, help, `--print-config` and the table in docs/serve.md are derived from the fields.
"""

import re
from dataclasses import Field, dataclass, field, fields
from typing import Any

from kvss_gevent.protocol.wire import DEFAULT_HOST, DEFAULT_PORT, MAX_LINE_BYTES
from kvss_gevent.settings import kinds
from kvss_gevent.settings.kinds import STORE_FORMS, Kind

REMOTE_STORES = ("redis", "rediss", "cluster", "clusters")
TLS_STORES = ("rediss", "clusters")


def option(default: Any, kind: Kind, help_text: str, *, reload: bool = False, stores: tuple[str, ...] = ()) -> Any:
    """Declare a field of Config.

    reload: SIGHUP changes it in a running server. stores: the schemes of the stores for which it has an effect; empty
    if it has nothing to do with the store.
    """
    if stores:
        help_text += f" ({', '.join(f'{scheme}:' for scheme in stores)})"
    return field(default=default, metadata={"kind": kind, "help": help_text, "reload": reload, "stores": stores})


@dataclass(frozen=True, slots=True)
class Config:
    """What `kvss serve` can be told. Times are in seconds, sizes in bytes; 0 switches a time limit off."""

    host: str = option(DEFAULT_HOST, kinds.HOST, "address to listen on")
    port: int = option(DEFAULT_PORT, kinds.PORT, "TCP port to listen on; 0 picks a free one")
    unix: str = option("", kinds.UNIX_PATH, "path of a Unix socket to listen on instead")
    open: bool = option(
        False, kinds.SWITCH, "accept clients from other machines without users, or without TLS for their passwords"
    )
    users: str = option("", kinds.PATH, "file of users who must log in; `kvss user` makes it")
    tls_cert: str = option("", kinds.PATH, "certificate of the server; all clients then speak TLS")
    tls_key: str = option("", kinds.PATH, "private key of the certificate")
    tls_client_ca: str = option(
        "", kinds.PATH, "certificate of the authority that must have signed each client's certificate"
    )
    store: str = option(
        "memory:",
        kinds.STORE,
        f"where keys and values live: {STORE_FORMS}",
    )
    max_memory_bytes: int = option(
        0, kinds.BOUND, "most memory for keys and values; above it PUT gets 500", stores=("memory",)
    )
    sync: str = option(
        "always",
        kinds.one_of("always", "interval", "none"),
        "when writes are synced to the disk: before the reply, once a second, or never",
        stores=("disk",),
    )
    max_disk_bytes: int = option(0, kinds.BOUND, "largest size of the file; above it PUT gets 500", stores=("disk",))
    store_password_file: str = option(
        "",
        kinds.PATH,
        "file whose first line is the store's password; without it, KVSS_STORE_PASSWORD is used",
        stores=REMOTE_STORES,
    )
    store_ca: str = option(
        "",
        kinds.PATH,
        "authority that signed the store's certificate; without it, those of the system",
        stores=TLS_STORES,
    )
    store_cert: str = option("", kinds.PATH, "certificate that kvss shows to the store", stores=TLS_STORES)
    store_key: str = option("", kinds.PATH, "private key of the certificate", stores=TLS_STORES)
    replicas_ack: int = option(
        0, kinds.NUMBER, "number of replicas that must have a write before it is acknowledged", stores=REMOTE_STORES
    )
    store_timeout_s: float = option(
        2.0, kinds.WAIT, "seconds for the store's server to accept a connection or to answer", stores=REMOTE_STORES
    )
    workers: int = option(
        1, kinds.WORKERS, "number of processes that share the port; more than one needs a shared store"
    )
    model: str = option("gevent", kinds.NAME, "concurrency model; `kvss models` lists them")
    strict: bool = option(False, kinds.SWITCH, "accept only the five commands of the course document")
    lab: bool = option(
        False, kinds.SWITCH, "also accept BURN ms and SLEEP ms, with which any client can block the server"
    )
    pool_size: int = option(32, kinds.POOL, "most clients at the same time, with --model pool or prefork")
    max_connections: int = option(
        0,
        kinds.NUMBER,
        "most clients at the same time; one more gets 500 and is closed; 0: as many as the limit of open files allows",
        reload=True,
    )
    max_per_address: int = option(
        0,
        kinds.NUMBER,
        "most clients from one address, and most new ones a second; loopback has no limit; 0: a tenth of all",
        reload=True,
    )
    max_line_bytes: int = option(
        MAX_LINE_BYTES, kinds.SIZE, "longest request line, in bytes; a longer one gets 400", reload=True
    )
    max_unsent_bytes: int = option(
        1 << 20, kinds.SIZE, "most bytes of unsent replies to one client, plus one reply", reload=True
    )
    max_client_memory_bytes: int = option(
        0,
        kinds.CLIENT_MEMORY,
        "most bytes of half lines, waiting requests and unsent replies of all clients together; above it the largest "
        "clients are disconnected",
        reload=True,
    )
    line_timeout_s: float = option(
        30.0, kinds.LIMIT, "seconds in which a client must finish a line that it has begun; 0: no limit", reload=True
    )
    idle_timeout_s: float = option(
        0.0, kinds.LIMIT, "seconds that a client may stay without a request; 0: no limit", reload=True
    )
    hibernate_s: float = option(
        60.0, kinds.LIMIT, "seconds after which a quiet client is kept with very little memory; 0: never", reload=True
    )
    write_timeout_s: float = option(
        30.0, kinds.LIMIT, "seconds in which a client must read some of its replies; 0: no limit", reload=True
    )
    drain_timeout_s: float = option(
        5.0, kinds.DRAIN, "seconds to answer received requests after a signal to stop", reload=True
    )
    stats_format: str = option(
        "readme",
        kinds.one_of("readme", "lab"),
        "form of the STATS reply: of the course document or of the lab sheet",
    )
    metrics: str = option(
        "", kinds.ADDRESS, "address of the metrics page, /metrics, /healthz and /readyz; a port alone is on loopback"
    )
    flight_recorder_s: float = option(
        0.0,
        kinds.LIMIT,
        "seconds of events to keep in memory, which show who held the loop; SIGUSR2 writes them for `kvss show`",
    )
    slow_ms: int = option(
        0,
        kinds.MILLISECONDS,
        "milliseconds; the slow log records what holds the loop or the store for longer, "
        "and a flight recorder then writes its file",
    )
    watch_blocking: int = option(
        0,
        kinds.MILLISECONDS,
        "milliseconds; when the event loop has not run for that long, log the stack that holds it",
    )
    log_level: str = option(
        "warning",
        kinds.one_of("error", "warning", "info", "debug"),
        "what is logged: info adds connections, debug adds requests; values are never logged",
        reload=True,
    )
    log_format: str = option("text", kinds.one_of("text", "json"), "form of a log line", reload=True)


def stem(name: str) -> str:
    """Return a field's name without its unit: max_line for max_line_bytes."""
    return re.sub("_(bytes|s)$", "", name)


def key(name: str) -> str:
    """Return the name of a field in a file, such as max-line for max_line_bytes."""
    return stem(name).replace("_", "-")


def flag(name: str) -> str:
    """Return the flag of a field, such as --max-line."""
    return f"--{key(name)}"


def variable(name: str) -> str:
    """Return the environment variable of a field, such as KVSS_MAX_LINE."""
    return f"KVSS_{stem(name).upper()}"


def options() -> tuple[Field[Any], ...]:
    """Return the fields of Config."""
    return fields(Config)
