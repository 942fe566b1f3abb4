"""What gathering is worth on a cluster: GETs of many clients beside one round trip for each request.

Run as `python -m bench.cluster`; about two minutes. Three masters run on this machine, once as they are and once behind
proxies that hold each reply back for a millisecond or two, as a network does. Compared are our server; the same server
when every request makes its own round trip; and the textbook: every request calls the client library on a thread, which
is a round trip too. The servers are driven in turn, and the ratio is taken pair by pair. A busy machine moves the rates
a lot and the CPU for each request little.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from bench.processes.generator_process import SERVER_PROCESSORS, result, start
from bench.processes.in_turn import in_turn, middle
from kvss_gevent.measure.launch import kvss, launched
from tests.valkeys import running as valkeys

ONE_BY_ONE = """
import sys
from kvss_gevent.stores.remote.node import Node
from kvss_gevent.core.conversation import Limits
Node._gather = lambda self: [self._waiting.popleft()]
Limits.__init__.__defaults__ = tuple(1 if default == 512 else default for default in Limits.__init__.__defaults__)
from kvss_gevent.cli import main
sys.exit(main(["serve", *sys.argv[1:]]))
"""

TEXTBOOK = """
import sys
import gevent
from kvss_gevent.server import run as server_run
from kvss_gevent.core.conversation import Limits
from kvss_gevent.protocol.wire import GET
from kvss_gevent.stores.base import ReplyTable
Limits.__init__.__defaults__ = tuple(1 if default == 512 else default for default in Limits.__init__.__defaults__)
class PlainStore:
    run = put = None
    blocks = True
    replies = ReplyTable()
    def __init__(self, host, port):
        from valkey.cluster import ValkeyCluster
        self.client = ValkeyCluster(host=host, port=port)
    def apply(self, batch, limit_bytes):
        (verb, key, value), = batch
        call = (self.client.get, key) if verb == GET else (self.client.set, key, value[:-1])
        found = gevent.get_hub().threadpool.apply(call[0], call[1:])
        if verb == GET:
            return [b"404 NOT_FOUND\\n" if found is None else b"200 OK %b\\n" % found]
        return [b"200 OK\\n"]
    def count(self):
        return 0
    def close(self):
        pass
def textbook(store):
    host, port = store._seeds[0]
    store.close()
    gevent.get_hub().threadpool.maxsize = 64
    return PlainStore(host, port)
server_run.for_greenlets = textbook
from kvss_gevent.cli import main
sys.exit(main(["serve", *sys.argv[1:]]))
"""

SERVERS = {"gathered": "", "own round trip each": ONE_BY_ONE, "library call on a thread each": TEXTBOOK}


def main() -> None:
    """Print every figure, one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="runs of each server")
    parser.add_argument("--seconds", type=float, default=1.5, help="per run")
    parser.add_argument("--connections", type=int, default=64, help="clients")
    parser.add_argument(
        "--delay-ms", default="0,1", help="how long replies of the cluster are held back, or a little longer"
    )
    parser.add_argument("--depth", default="1,16", help="requests that a client sends at a time")
    args = parser.parse_args()
    for delay_ms in map(float, args.delay_ms.split(",")):
        print(f"replies held back for {delay_ms:g} ms or a little longer:" if delay_ms else "on this machine:")
        measure(args, delay_ms)


def measure(args: argparse.Namespace, delay_ms: float) -> None:
    """Start a cluster and the servers, and compare them at each depth."""
    with ExitStack() as stack:
        masters = stack.enter_context(valkeys(3, cluster=True))
        if delay_ms:
            for master in masters:
                master.ask(
                    "CONFIG", "SET", "cluster-announce-port", stack.enter_context(delayed(master.port, delay_ms))
                )
            time.sleep(3)  # until each has told the others
        url = "cluster://" + ",".join(f"127.0.0.1:{master.port}" for master in masters)
        pids: dict[str, tuple[int, int]] = {}
        for name, code in SERVERS.items():
            command = kvss("--store", url)
            if code:
                command = [sys.executable, "-c", code, *command[4:]]
            server = stack.enter_context(launched(command, processors=SERVER_PROCESSORS))
            pids[name] = server.port, server.pid
        for depth in map(int, args.depth.split(",")):
            compare(pids, args, depth)


@contextmanager
def delayed(port: int, delay_ms: float) -> Iterator[int]:
    """Run a proxy before a port; yields its own."""
    command = [sys.executable, "-m", "bench.processes.delay", str(port), str(delay_ms / 1000)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
        try:
            assert proxy.stdout
            yield int(proxy.stdout.readline())
        finally:
            proxy.kill()


def compare(servers: dict[str, tuple[int, int]], args: argparse.Namespace, depth: int) -> None:
    """Drive the servers in turn and print what each does and how they compare."""
    runs = in_turn(
        args.pairs, *(partial(one_run, *server, args.connections, depth, args.seconds) for server in servers.values())
    )
    rates: dict[str, tuple[float, ...]] = {}
    for name, found in zip(servers, zip(*runs, strict=True), strict=True):
        rates[name], costs_us = zip(*found, strict=True)
        print(
            f"{name}: {args.connections} clients, depth {depth}, {middle(rates[name], 0)} GETs a second, "
            f"{statistics.median(costs_us):.0f} us of CPU each"
        )
    for name in list(servers)[1:]:
        ratios = [ours / theirs for ours, theirs in zip(rates["gathered"], rates[name], strict=True)]
        print(f"depth {depth}: gathering makes it {middle(ratios, 1)} times the rate of {name}, in {args.pairs} pairs")


def one_run(port: int, pid: int, connections: int, depth: int, seconds: float) -> tuple[float, float]:
    """Read with all connections; return GETs a second and the server's CPU microseconds for each."""
    flags = ["--depth", str(depth), "--connections", str(connections), "--get", "100", "--seconds", str(seconds)]
    measured = result(start(port, *flags, "--server-pid", str(pid)))
    requests = measured["requests"]
    return requests / measured["seconds"], measured["server"]["cpu_ns"] / 1000 / requests


if __name__ == "__main__":
    main()
