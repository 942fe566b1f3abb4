"""`kvss bench`: sends as many requests to a KV/1.0 server as one process can."""

import json
from argparse import ArgumentParser, Namespace
from dataclasses import asdict, fields

from kvss_gevent.measure import closed_loop
from kvss_gevent.measure.load import BUSY_SHARE, ClosedLoad, LoadOutcome
from kvss_gevent.measure.prepared_connections import Unusable
from kvss_gevent.measure.process_usage import Usage, usage
from kvss_gevent.protocol.wire import MAX_LINE_BYTES
from kvss_gevent.server.accepting.descriptors import raise_limit
from kvss_gevent.settings.addresses import only_endpoint
from kvss_gevent.settings.fail import Exit, Fail
from kvss_gevent.settings.kinds import number, whole

RESERVED_DESCRIPTORS = 64

EPILOG = """\
Each connection sends --depth requests, waits for all replies, and sends again: a closed loop. This finds the highest
rate, but not how long clients wait at a lower rate. The times are those of a packet of --depth requests.

examples:
  kvss bench 127.0.0.1:5050
  kvss bench 127.0.0.1:5050 --depth 16 --seconds 10 --json

exit codes: 0 all requests were answered, 1 some were refused, lost or not answered, 2 wrong usage,
3 there is no server, or it stores no keys, 130 interrupted

A run leaves --keys keys in the server; their names begin with key:.
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `kvss bench`."""
    parser.epilog = EPILOG
    parser.add_argument("target", nargs="+", metavar="HOST:PORT", help="the server, such as 127.0.0.1:5050")
    for flag, kind, default, placeholder, text in (
        ("--seconds", number(0.1, 3600), 5.0, "S", "how long to measure"),
        ("--warmup", number(0, 60), 0.5, "S", "how long to send before the measurement"),
        ("--connections", whole(1, 50_000), 50, "N", "number of connections"),
        ("--depth", whole(1, 10_000), 1, "N", "requests sent together on each connection"),
        ("--get", number(0, 100), 80, "PERCENT", "share of GETs; the others are PUTs"),
        ("--value", whole(1, MAX_LINE_BYTES - 64), 64, "BYTES", "size of a value"),
        ("--keys", whole(1, 1_000_000), 1000, "N", "number of different keys"),
    ):
        parser.add_argument(flag, type=kind, default=default, metavar=placeholder, help=f"{text} (%(default)g)")
    parser.add_argument(
        "--server-pid", type=whole(1, 1 << 22), metavar="PID", help="process of the server, to print its CPU time"
    )
    parser.add_argument(
        "--protocol",
        choices=("kv", "resp"),
        default="kv",
        help="KV/1.0, or RESP for a comparison with redis-server (kv)",
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(args: Namespace) -> int:
    """Load the server and print the results; returns the exit code. Raises Fail."""
    endpoint = only_endpoint(args.target)
    host, port = endpoint.host, endpoint.port
    load = ClosedLoad(
        args.connections,
        args.depth,
        args.get,
        args.value,
        args.keys,
        args.seconds,
        args.warmup,
        protocol=args.protocol,
    )
    if load.depth * load.value_bytes > MAX_PACKET_BYTES:
        raise Fail(
            f"--depth {load.depth} requests with --value {load.value_bytes} make packets over {MAX_PACKET_BYTES} bytes",
            "Give a smaller --depth or --value.",
        )
    _make_room(load.connections)
    readings: list[Usage] = []

    def read_server() -> None:
        readings.append(usage(args.server_pid))

    try:
        outcome = closed_loop.run(host, port, load, read_server if args.server_pid else _nothing)
    except Unusable as unusable:
        raise Fail(
            f"cannot load {host}:{port}: {unusable}", "Start the server first, or check the address.", 3
        ) from None
    except ProcessLookupError as error:
        raise Fail(f"--server-pid: {error}", "Give the id of the server's process, which must be on Linux.") from None
    limited = outcome.cpu_share > BUSY_SHARE
    server = readings[1].since(readings[0]) if readings else None
    if args.json:
        named = {field.name: getattr(load, field.name) for field in fields(load)}
        measured = {**asdict(outcome), "per_second": outcome.per_second, "generator_limited": limited}
        if server:
            measured["server"] = asdict(server)
        print(json.dumps({"target": f"{host}:{port}", "load": named, "outcome": measured}, indent=2))
    else:
        print("\n".join(as_text(load, outcome, limited, server)))
    return Exit.OK if outcome.clean else Exit.FAILED


MAX_PACKET_BYTES = 1 << 22


def as_text(load: ClosedLoad, outcome: LoadOutcome, limited: bool, server: Usage | None) -> list[str]:
    """Return the results as lines of text. limited: the generator was busy all the time."""
    shown = [
        f"requests      {outcome.per_second:.0f} per second: {outcome.requests} in {outcome.seconds:g} s "
        f"on {load.connections} connections, {load.depth} at a time",
        f"times         p50 {_us(outcome.p50_us)}, p99 {_us(outcome.p99_us)}, max {_us(outcome.max_us)}",
        f"generator     {outcome.cpu_share:.0%} of a core"
        + (f", {outcome.cpu_us:.1f} us for each request" if outcome.cpu_us is not None else ""),
    ]
    if limited:
        shown.append("              it was busy all the time: the server may be able to do more")
    if outcome.fairness is not None and load.connections > 1:
        shown.append(f"fairness      {outcome.fairness:.3f} by Jain's index: 1 if all connections got the same")
    if server and outcome.requests:
        shown.append(
            f"server        {server.cpu_ns / 1000 / outcome.requests:.1f} us of CPU for each request, "
            f"{server.system_share:.0%} of it in the kernel"
        )
    for status, times in outcome.refused.items():
        shown.append(f"refused       {times} replies were {status}")
    if outcome.lost:
        shown.append(f"lost          {outcome.lost} connections were refused or ended by the server")
    if outcome.starved:
        shown.append(f"starved       {outcome.starved} connections got no answer at all")
    return shown


def _nothing() -> None:
    """Do nothing: the server's usage is not measured."""


def _us(time_us: int | None) -> str:
    return "none" if time_us is None else f"{time_us} us"


def _make_room(connections: int) -> None:
    """Raise the limit of open files as needed. Raises Fail if that is not allowed."""
    wanted = connections + RESERVED_DESCRIPTORS
    limit = raise_limit(wanted)
    if limit is not None and limit < wanted:
        raise Fail(
            f"--connections {connections} are more than the limit of open files allows, which is {limit}",
            f"Give {limit - RESERVED_DESCRIPTORS} or less, or raise the limit: ulimit -n.",
        )
