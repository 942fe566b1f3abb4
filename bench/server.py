"""What the server costs: CPU per request beside redis-server, memory per connection, memory of a burst, fairness.

Run as `python -m bench.server`; about a minute. CPU time is the server's own, as the kernel counts it, so that a busy
machine moves it little; the two servers are driven in turn and the ratio is taken pair by pair. Below 1 is cheaper.
"""

import argparse
import contextlib
import subprocess
import sys
import time

from bench.processes.generator_process import SERVER_PROCESSORS
from bench.processes.in_turn import beside_redis, room_for
from kvss_gevent.measure.launch import kvss, launched
from kvss_gevent.measure.process_usage import resident_bytes

IDLE_CONNECTIONS = 9000


def main() -> None:
    """Print every figure, one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="pairs of runs per depth")
    parser.add_argument("--seconds", type=float, default=1.0, help="per run")
    parser.add_argument("--depth", default="1,16,64", help="pipeline depths")
    args = parser.parse_args()
    beside_redis("kvss", (), args.pairs, args.seconds, [int(depth) for depth in args.depth.split(",")])
    idle_memory()
    burst_memory()
    fairness()


def idle_memory() -> None:
    """Resident memory for each of many connections that have sent one request and wait."""
    connections = room_for(IDLE_CONNECTIONS)
    with launched(kvss(), processors=SERVER_PROCESSORS) as server, contextlib.ExitStack() as stack:
        before = resident_bytes(server.pid)
        socks = [stack.enter_context(server.connect(10)) for _ in range(connections)]
        for sock in socks:
            sock.sendall(b"KV/1.0 GET a\n")
        answered = sum(sock.recv(100) == b"404 NOT_FOUND\n" for sock in socks)
        each = (resident_bytes(server.pid) - before) / connections / 1024
        print(f"idle: {connections} connections, {answered} answered, {each:.1f} KiB resident each", flush=True)


def burst_memory() -> None:
    """Growth of resident memory while 64 KiB of GETs for one 900 KiB value are answered."""
    requests = (64 << 10) // len(b"KV/1.0 GET big\n")
    with launched(kvss(), processors=SERVER_PROCESSORS) as server, server.connect(30) as sock:
        pid = server.pid
        sock.sendall(b"KV/1.0 PUT big " + b"x" * (900 << 10) + b"\n")
        sock.recv(100)
        before = peak = resident_bytes(pid)
        sock.sendall(b"KV/1.0 GET big\n" * requests)
        left = requests * (len(b"200 OK \n") + (900 << 10))
        while left > 0:
            left -= len(sock.recv(1 << 20))
            peak = max(peak, resident_bytes(pid))
        print(
            f"burst: {requests} GETs of 900 KiB in one go, {(peak - before) / (1 << 20):.1f} MiB more resident",
            flush=True,
        )


def fairness() -> None:
    """Percentiles of one client's single requests while three others flood the server with pipelines."""
    flood = b"KV/1.0 PUT k vvvvvvvv\nKV/1.0 GET k\n" * 2000
    with launched(kvss(), processors=SERVER_PROCESSORS) as server:
        command = [sys.executable, "-c", FLOOD, str(server.port), flood.decode()]
        floods = [subprocess.Popen(command) for _ in range(3)]
        try:
            time.sleep(1)
            took_ms = []
            with server.connect(30) as sock:
                while len(took_ms) < 500:
                    began_s = time.perf_counter()
                    sock.sendall(b"KV/1.0 GET k\n")
                    sock.recv(100)
                    took_ms.append((time.perf_counter() - began_s) * 1000)
        finally:
            for process in floods:
                process.kill()
                process.wait()
        took_ms.sort()
        print(
            f"fair: beside 3 floods a single request takes {took_ms[250]:.1f} ms at p50, {took_ms[494]:.1f} ms at p99",
            flush=True,
        )


FLOOD = """
import socket, sys, threading
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def drain():
    while sock.recv(1 << 20): pass
threading.Thread(target=drain, daemon=True).start()
flood = sys.argv[2].encode() + b"\\n"
try:
    while True: sock.sendall(flood)
except OSError: pass
"""

if __name__ == "__main__":
    main()
