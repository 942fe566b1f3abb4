"""What the disk store costs: gathered commits beside one commit per request, with GETs meanwhile; and without syncs.

Run as `python -m bench.disk`; about a minute. In the first part every reply waits for its sync (--sync always); in the
second none does (--sync none), and CPU per request is compared with redis-server's, as bench.server does for memory.
The two servers are driven in turn, and the ratio is taken pair by pair.
"""

import argparse
import socket
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench.processes.generator_process import SERVER_PROCESSORS, result, start
from bench.processes.in_turn import beside_redis, in_turn, middle
from kvss_gevent.measure.launch import kvss, launched

START_S = 0.5
"""Until the generator writes."""

ONE_BY_ONE = """
import sys
import kvss_gevent.stores.disk.group_commit
kvss_gevent.stores.disk.group_commit.MAX_TRANSACTION_JOBS = 1
from kvss_gevent.cli import main
sys.exit(main(["serve", *sys.argv[1:]]))
"""


def main() -> None:
    """Print every figure, one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="pairs of runs")
    parser.add_argument("--seconds", type=float, default=2.5, help="per run")
    parser.add_argument("--connections", type=int, default=64, help="clients that write, one request at a time each")
    parser.add_argument("--reads", type=float, default=500.0, help="GETs a second beside them")
    parser.add_argument("--directory", type=Path, help="where the files go: the disk to measure")
    args = parser.parse_args()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kvss-bench-", dir=args.directory)))
        synced(args, directory)
        unsynced(args, directory)


def synced(args: argparse.Namespace, directory: Path) -> None:
    """Synced PUTs a second, gathered and one by one, and how long a GET takes beside them."""
    with ExitStack() as stack:
        ports = {}
        for name in ("gathered", "one by one"):
            command = kvss("--store", f"disk:{directory / name}.kv")
            if name == "one by one":
                command = [sys.executable, "-c", ONE_BY_ONE, *command[4:]]
            ports[name] = stack.enter_context(launched(command, processors=SERVER_PROCESSORS)).port
        runs = in_turn(
            args.pairs,
            *(partial(one_run, port, args.connections, args.seconds, args.reads) for port in ports.values()),
        )
    whole = [pair for pair in runs if not any(refused for _, _, refused in pair)]
    if len(whole) < len(runs):
        print(f"pairs left out: {len(runs) - len(whole)}, for writes were refused: the disk hung or is full")
    if not whole:
        sys.exit("bench: no pair was left: measure on a disk that is not in use")
    for name, found in zip(ports, zip(*whole, strict=True), strict=True):
        rates, reads_ms, _ = zip(*found, strict=True)
        print(
            f"{name}: {args.connections} clients, {middle(rates, 0)} synced PUTs a second; "
            f"beside them one client's GETs take {statistics.median(reads_ms):.2f} ms at p99 "
            f"({max(reads_ms):.2f} at worst)"
        )
    ratios = [gathered[0] / single[0] for gathered, single in whole]
    print(f"gathering makes it {middle(ratios, 1)} times the rate, in {len(whole)} pairs")


def unsynced(args: argparse.Namespace, directory: Path) -> None:
    """CPU per request without syncs, beside redis-server where it is installed."""
    flags = ("--store", f"disk:{directory / 'unsynced'}.kv", "--sync", "none")
    beside_redis("disk, --sync none,", flags, args.pairs, 1.0, (1, 16, 64))


def one_run(port: int, connections: int, seconds: float, reads: float) -> tuple[float, float, float]:
    """Write with all connections, read with one more; return PUTs a second, the p99 of a GET in ms, and refusals."""
    writing = start(port, "--connections", str(connections), "--get", "0", "--seconds", str(seconds))
    time.sleep(START_S)
    reads_ms, refused = read(port, reads, seconds - START_S)
    written = result(writing)
    refused += sum(written["refused"].values())
    return written["requests"] / written["seconds"], reads_ms[int((len(reads_ms) - 1) * 0.99)], refused


def read(port: int, rate: float, seconds: float) -> tuple[list[float], int]:
    """Send GETs at a fixed rate: a reader at full speed would take the writers' processor from them.

    Return, sorted, the milliseconds from when each was due until its reply, and the number of refusals.
    """
    took_ms = []
    refused = 0
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began_s = time.perf_counter()
        for number in range(max(1, int(seconds * rate))):
            due_s = began_s + number / rate
            time.sleep(max(0.0, due_s - time.perf_counter()))
            sock.sendall(b"KV/1.0 GET key:%08d\n" % (number % 1000))
            reply = sock.recv(1000)
            if not reply:
                sys.exit("bench: the server closed the reader's connection")
            took_ms.append((time.perf_counter() - due_s) * 1000)
            refused += reply.startswith(b"500")
    return sorted(took_ms), refused


if __name__ == "__main__":
    main()
