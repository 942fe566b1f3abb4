"""The server's configuration: one frozen dataclass whose fields carry their own flag, unit, check and help text.

The command line, the KVSS_* variables and the help are derived from the fields; see cli/options.py.
"""

from dataclasses import dataclass, field
from typing import Any

from kvss_gevent.protocol.wire import DEFAULT_HOST, DEFAULT_PORT, MAX_LINE_BYTES


def option(default: Any, help_text: str, *, flag: str, kind: str) -> Any:
    """Declare a field of Config; kind names a parser of cli/options.py."""
    return field(default=default, metadata={"help": help_text, "flag": flag, "kind": kind})


@dataclass(frozen=True, slots=True)
class Config:
    """What `kvss serve` can be told. Times are in seconds, sizes in bytes; 0 switches a time limit off."""

    host: str = option(DEFAULT_HOST, "address to listen on", flag="HOST", kind="host")
    port: int = option(DEFAULT_PORT, "TCP port to listen on; 0 picks a free one", flag="--port", kind="port")
    store: str = option(
        "memory:",
        "where keys and values live: memory:, disk:PATH, redis://HOST:PORT/DB or cluster://HOST:PORT,HOST:PORT",
        flag="--store",
        kind="store",
    )
    max_memory_bytes: int = option(0, "PUT past it gets 500 (memory:)", flag="--max-memory", kind="bound")
    sync: str = option(
        "always",
        "when writes are synced: before the reply, once a second, or never (disk:)",
        flag="--sync",
        kind="sync",
    )
    max_disk_bytes: int = option(0, "PUT past it gets 500 (disk:)", flag="--max-disk", kind="bound")
    replicas_ack: int = option(
        0,
        "replicas that must have a write before it is acknowledged (redis:, cluster:)",
        flag="--replicas-ack",
        kind="whole",
    )
    store_timeout_s: float = option(
        2.0, "for a server of the store to connect or answer (redis:, cluster:)", flag="--store-timeout", kind="wait"
    )
    workers: int = option(
        1, "processes that share the port; more than one need a shared store", flag="--workers", kind="count"
    )
    model: str = option(
        "gevent", "how clients are served; `kvss models` tells them apart", flag="--model", kind="model"
    )
    lab: bool = option(
        False, "also answer BURN ms and SLEEP ms: any client can keep the server busy", flag="--lab", kind="switch"
    )
    pool_size: int = option(32, "clients at once with --model pool or prefork", flag="--pool-size", kind="pool")
    max_connections: int = option(
        10_000, "clients at once; one too many gets 500 and is closed", flag="--max-connections", kind="count"
    )
    max_line_bytes: int = option(
        MAX_LINE_BYTES, "longest request line, in bytes; a longer one gets 400", flag="--max-line", kind="bytes"
    )
    max_unsent_bytes: int = option(
        1 << 20, "bytes of unsent replies to one client; one reply more may wait", flag="--max-unsent", kind="bytes"
    )
    line_timeout_s: float = option(
        30.0, "seconds to finish a line once begun, 0 for no limit", flag="--line-timeout", kind="seconds"
    )
    idle_timeout_s: float = option(
        0.0, "seconds a client may stay without a request", flag="--idle-timeout", kind="seconds"
    )
    write_timeout_s: float = option(
        30.0,
        "seconds in which a client must take some of its replies, 0 for no limit",
        flag="--write-timeout",
        kind="seconds",
    )
    drain_timeout_s: float = option(
        5.0, "seconds to answer what was read when told to stop", flag="--drain-timeout", kind="drain"
    )
    stats_format: str = option(
        "readme",
        "form of the STATS reply, the course document's or the lab sheet's",
        flag="--stats-format",
        kind="format",
    )
