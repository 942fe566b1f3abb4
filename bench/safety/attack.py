"""How long an honest client waits while others attack: `python -m bench.safety.attack`, 40 s.

The server has users and TLS. At once there are 1,000 connections that never shake hands, 200 wrong passwords a second,
1,000 lines that are begun and not ended, 8 clients that ask for 1 MiB values and do not read, and 3 floods of
pipelines. The attackers come from other loopback addresses than the honest client, who logs in once and then asks 20
times a second. Printed are its percentiles before and during the attack, counted from when a request was due, and what
the attackers achieved.
"""

import argparse
import contextlib
import resource
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import gevent
import gevent.event
from gevent import monkey

from bench.processes.generator_process import SERVER_PROCESSORS
from kvss_gevent import KVClient
from kvss_gevent.cli import main as run_command
from kvss_gevent.core.password_hash import hash_password
from kvss_gevent.core.user_file import Role, User, change_users
from kvss_gevent.measure.launch import kvss, launched
from kvss_gevent.measure.process_usage import resident_bytes

SILENT, HALF_LINES, GUESSES_PER_S, NON_READERS, FLOODS = 1000, 1000, 200, 8, 3
PASSWORD = "open sesame"
INTERVAL_S = 0.05
WARM_UP_S = 5.0


def main() -> int:
    """Measure, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each of both measurements")
    parser.add_argument("--attack", nargs=3, metavar=("PORT", "CA", "KIND"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if args.attack:
        monkey.patch_all()
        port, ca, kind = args.attack
        Attack(int(port), ca).run(kind)
        return 0
    with tempfile.TemporaryDirectory(prefix="kvss-attack-") as name:
        folder = Path(name)
        with contextlib.redirect_stdout(sys.stderr):
            run_command(["tls", "make-dev", name])
        change_users(folder / "users", "alice", User("alice", Role.WRITE, hash_password(PASSWORD.encode())))
        flags = ["--users", str(folder / "users"), "--tls-cert", str(folder / "server.pem")]
        flags += ["--tls-key", str(folder / "server-key.pem")]
        with launched(kvss(*flags), processors=SERVER_PROCESSORS) as server:
            ca = str(folder / "ca.pem")
            with KVClient("127.0.0.1", server.port, user="alice", password=PASSWORD, tls=ca) as kv:
                kv.put(b"large", b"x" * ((1 << 20) - 100))
                print(f"alone: {percentiles(kv, args.seconds)}", flush=True)
                command = [sys.executable, "-m", "bench.safety.attack", "--attack", str(server.port), ca]
                attackers = [subprocess.Popen([*command, kind]) for kind in ("crowd", "readers")]
                try:
                    time.sleep(WARM_UP_S)
                    print(f"attacked: {percentiles(kv, args.seconds)}", flush=True)
                    print(
                        f"server: {resident_bytes(server.pid) >> 20} MiB resident, {kv.stats().connections} connected"
                    )
                finally:
                    for attacker in attackers:
                        attacker.terminate()
                        attacker.wait()
    return 0


def percentiles(kv: KVClient[bytes], seconds: float) -> str:
    """Ask at a steady rate, and tell how long replies took, counted from when each request was due."""
    took_ms: list[float] = []
    began_s = time.perf_counter()
    for number in range(int(seconds / INTERVAL_S)):
        due_s = began_s + number * INTERVAL_S
        time.sleep(max(0.0, due_s - time.perf_counter()))
        if number % 5:
            kv.get(b"honest")
        else:
            kv.put(b"honest", b"%d" % number)
        took_ms.append((time.perf_counter() - due_s) * 1000)
    return waits_shown(took_ms)


def waits_shown(took_ms: list[float]) -> str:
    """Return the percentiles of times as text."""
    ordered, last = sorted(took_ms), len(took_ms) - 1
    shown = {"p50": last // 2, "p99": last * 99 // 100, "longest": last}
    values = (f"{name} {ordered[place]:.1f} ms" for name, place in shown.items())
    return f"{len(took_ms)} requests, {', '.join(values)}"


class Attack:
    """The attackers of one process, a greenlet each, until SIGTERM; each comes back when it is cut off."""

    def __init__(self, port: int, ca: str) -> None:
        self._port = port
        self._ca = ca
        self._counts: Counter[str] = Counter()

    def run(self, kind: str) -> None:
        """Attack; kind is "crowd" for those who never log in, "readers" for those who do."""
        groups = {
            "crowd": (
                (SILENT, "127.0.0.2", self._silent),
                (HALF_LINES, "127.0.0.3", self._half_line),
                (GUESSES_PER_S // 2, "127.0.0.4", self._guess),
            ),
            "readers": ((NON_READERS, "127.0.0.5", self._deaf), (FLOODS, "127.0.0.6", self._flood)),
        }
        stop = gevent.event.Event()
        gevent.signal_handler(signal.SIGTERM, stop.set)
        self._trust = ssl.create_default_context(cafile=self._ca)
        for number, address, act in groups[kind]:
            for _ in range(number):
                gevent.spawn(self._again_and_again, address, act)
        stop.wait()
        print(f"{kind}: {dict(self._counts)}", flush=True)

    def _again_and_again(self, address: str, act: Callable[[socket.socket], None]) -> None:
        while True:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self._port), 30, (address, 0)) as sock,
            ):
                self._counts[f"{act.__name__[1:]} connected"] += 1
                act(sock)
            time.sleep(0.5)

    def _secured(self, sock: socket.socket) -> socket.socket:
        return self._trust.wrap_socket(sock, server_hostname="127.0.0.1")

    def _logged_in(self, sock: socket.socket) -> socket.socket:
        secured = self._secured(sock)
        secured.sendall(f"KV/1.0 AUTH alice {PASSWORD}\n".encode())
        if not secured.recv(100).startswith(b"200"):
            raise ConnectionError
        return secured

    def _silent(self, sock: socket.socket) -> None:
        sock.recv(1)

    def _half_line(self, sock: socket.socket) -> None:
        secured = self._secured(sock)
        secured.sendall(b"KV/1.0 PUT half " + b"x" * 3000)
        secured.recv(1)

    def _guess(self, sock: socket.socket) -> None:
        secured = self._secured(sock)
        while True:
            self._counts["guesses sent"] += 1
            secured.sendall(b"KV/1.0 AUTH alice wrong\n")
            if not secured.recv(100):
                return
            self._counts["guesses answered"] += 1
            time.sleep(0.5)

    def _deaf(self, sock: socket.socket) -> None:
        secured = self._logged_in(sock)
        secured.sendall(b"KV/1.0 GET large\n" * 100)
        time.sleep(60)

    def _flood(self, sock: socket.socket) -> None:
        secured = self._logged_in(sock)
        packet = b"KV/1.0 PUT flood v\nKV/1.0 GET flood\n" * 200
        while True:
            secured.sendall(packet)
            lines = 0
            while lines < 400:
                lines += secured.recv(1 << 16).count(b"\n")
            self._counts["flood requests"] += 400


if __name__ == "__main__":
    sys.exit(main())
