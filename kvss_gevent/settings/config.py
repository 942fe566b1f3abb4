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


def option(default: Any, kind: Kind, help_text: str, *, reload: bool = False) -> Any:
    """Declare a field of Config; reload says that SIGHUP changes it in a running server."""
    return field(default=default, metadata={"kind": kind, "help": help_text, "reload": reload})


@dataclass(frozen=True, slots=True)
class Config:
    """What `kvss serve` can be told. Times are in seconds, sizes in bytes; 0 switches a time limit off."""

    host: str = option(DEFAULT_HOST, kinds.HOST, "address to listen on")
    port: int = option(DEFAULT_PORT, kinds.PORT, "TCP port to listen on; 0 picks a free one")
    unix: str = option("", kinds.UNIX_PATH, "path of a Unix socket to listen on instead")
    open: bool = option(
        False, kinds.SWITCH, "let strangers from other machines in: without users, or without TLS for their passwords"
    )
    users: str = option("", kinds.PATH, "file of users who must log in; `kvss user` makes it")
    tls_cert: str = option("", kinds.PATH, "certificate of the server; all clients then speak TLS")
    tls_key: str = option("", kinds.PATH, "its private key")
    tls_client_ca: str = option("", kinds.PATH, "certificate that must have signed each client's own")
    store: str = option(
        "memory:",
        kinds.STORE,
        f"where keys and values live: {STORE_FORMS}",
    )
    max_memory_bytes: int = option(0, kinds.BOUND, "PUT past it gets 500 (memory:)")
    sync: str = option(
        "always",
        kinds.one_of("always", "interval", "none"),
        "when writes are synced: before the reply, once a second, or never (disk:)",
    )
    max_disk_bytes: int = option(0, kinds.BOUND, "PUT past it gets 500 (disk:)")
    store_password_file: str = option(
        "",
        kinds.PATH,
        "file whose first line is the password of the store, else KVSS_STORE_PASSWORD is (redis:, cluster:)",
    )
    store_ca: str = option(
        "",
        kinds.PATH,
        "certificate that must have signed the store's; else the system's are trusted (rediss:, clusters:)",
    )
    store_cert: str = option("", kinds.PATH, "certificate that is shown to the store (rediss:, clusters:)")
    store_key: str = option("", kinds.PATH, "its private key")
    replicas_ack: int = option(
        0, kinds.NUMBER, "replicas that must have a write before it is acknowledged (redis:, cluster:)"
    )
    store_timeout_s: float = option(
        2.0, kinds.WAIT, "for a server of the store to connect or answer (redis:, cluster:)"
    )
    workers: int = option(1, kinds.WORKERS, "processes that share the port; more than one need a shared store")
    model: str = option("gevent", kinds.NAME, "how clients are served; `kvss models` tells them apart")
    strict: bool = option(False, kinds.SWITCH, "know the five commands of the course document and no others")
    lab: bool = option(False, kinds.SWITCH, "also answer BURN ms and SLEEP ms: any client can keep the server busy")
    pool_size: int = option(32, kinds.POOL, "clients at once with --model pool or prefork")
    max_connections: int = option(
        0,
        kinds.NUMBER,
        "clients at once; one too many gets 500 and is closed; 0 for as many as the limit of open files has room for",
        reload=True,
    )
    max_per_address: int = option(
        0,
        kinds.NUMBER,
        "of them from one address but loopback, and as many new ones a second; 0 for a tenth of all",
        reload=True,
    )
    max_line_bytes: int = option(
        MAX_LINE_BYTES, kinds.SIZE, "longest request line, in bytes; a longer one gets 400", reload=True
    )
    max_unsent_bytes: int = option(
        1 << 20, kinds.SIZE, "bytes of unsent replies to one client; one reply more may wait", reload=True
    )
    max_client_memory_bytes: int = option(
        0,
        kinds.BOUND,
        "half lines and unsent replies of all clients together; the largest are cut off, "
        "0 for a quarter of the machine's memory",
        reload=True,
    )
    line_timeout_s: float = option(
        30.0, kinds.LIMIT, "seconds to finish a line once begun, 0 for no limit", reload=True
    )
    idle_timeout_s: float = option(0.0, kinds.LIMIT, "seconds a client may stay without a request", reload=True)
    hibernate_s: float = option(
        60.0, kinds.LIMIT, "seconds after which a quiet client costs next to no memory, 0 for never", reload=True
    )
    write_timeout_s: float = option(
        30.0, kinds.LIMIT, "seconds in which a client must take some of its replies, 0 for no limit", reload=True
    )
    drain_timeout_s: float = option(5.0, kinds.DRAIN, "seconds to answer what was read when told to stop", reload=True)
    stats_format: str = option(
        "readme",
        kinds.one_of("readme", "lab"),
        "form of the STATS reply, the course document's or the lab sheet's",
    )
    metrics: str = option(
        "", kinds.ADDRESS, "address of the metrics page, /metrics, /healthz and /readyz; a port alone is on loopback"
    )
    flight_recorder_s: float = option(
        0.0, kinds.LIMIT, "seconds of who had the loop to keep in memory; SIGUSR2 writes them for `kvss show`"
    )
    slow_ms: int = option(
        0,
        kinds.MILLISECONDS,
        "note what holds the loop or the store for longer, in milliseconds, in the slow log; "
        "a flight recorder writes then, too",
    )
    watch_blocking: int = option(
        0, kinds.MILLISECONDS, "log where the event loop is held as soon as it has not turned for so many milliseconds"
    )
    log_level: str = option(
        "warning",
        kinds.one_of("error", "warning", "info", "debug"),
        "what is logged: info adds connections, debug adds requests, never values",
        reload=True,
    )
    log_format: str = option("text", kinds.one_of("text", "json"), "form of a line of the log", reload=True)


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
