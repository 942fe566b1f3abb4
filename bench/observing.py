"""What it costs to observe a server: CPU per request with and without, and how long a scrape of metrics holds it.

Run as `python -m bench.observing`; about two minutes. Both servers run side by side and are driven in turn; the ratio
is taken pair by pair, from CPU time as the kernel counts it. A scrape is seen by a client that asks all the time.
`--instructions` counts instead, in a minute, the instructions of a request in the server's process; other programs do
not change these. It needs valgrind.
"""

import argparse
import contextlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from bench.processes.generator_process import SERVER_PROCESSORS, cpu_us
from bench.processes.in_turn import in_turn, middle, room_for
from bench.processes.observed_server import MODES
from kvss_gevent.measure.launch import Launched, kvss, launched

METRICS = ("--metrics", "0")
WARM_CONNECTIONS = 20
"""Python makes a function quicker after some calls."""
COUNTED = 1000
"""Requests of each kind whose instructions are counted."""
FLAGS = (*METRICS, "--slow-ms", "20", "--watch-blocking", "100")


def main() -> None:
    """Print every figure, one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9, help="pairs of runs")
    parser.add_argument("--seconds", type=float, default=1.0, help="per run")
    parser.add_argument("--depth", type=int, default=1, help="pipeline depth")
    parser.add_argument("--connections", type=int, default=10_000, help="while the page is scraped")
    parser.add_argument(
        "--instructions", action="store_true", help="count instructions with valgrind, and nothing else"
    )
    args = parser.parse_args()
    if args.instructions:
        if not shutil.which("valgrind"):
            sys.exit("bench: --instructions needs valgrind\n  Install the package valgrind.")
        for mode in MODES:
            print(f"{mode}: {instructions(mode)}", flush=True)
        return
    for flags in (METRICS, FLAGS):
        cost(args.pairs, args.seconds, args.depth, flags)
    scrape(args.connections)


def cost(pairs: int, seconds: float, depth: int, flags: Sequence[str]) -> None:
    """CPU per request of a server that is observed beside one that is not."""
    with observed(*flags) as (seen, _), launched(kvss(), processors=SERVER_PROCESSORS) as plain:
        costs = in_turn(
            pairs, *(partial(cpu_us, server.pid, "kv", server.port, depth, seconds) for server in (plain, seen))
        )
    plain_us, seen_us = zip(*costs, strict=True)
    print(
        f"{' '.join(flags)}, depth {depth}: {statistics.median(plain_us):.2f} us CPU per request, observed "
        f"{statistics.median(seen_us):.2f} us, ratio {middle([more / less for less, more in costs], 3)} in {pairs} "
        f"pairs; least of each, which noise moves less: {min(plain_us):.2f} and {min(seen_us):.2f} us, ratio "
        f"{min(seen_us) / min(plain_us):.3f}",
        flush=True,
    )


def instructions(mode: str) -> str:
    """Return how many instructions a GET and a PUT of the same key take at depth 1, in user space."""
    get, put = b"KV/1.0 GET key\n", b"KV/1.0 PUT key %b\n" % (b"v" * 64)
    with tempfile.TemporaryDirectory() as folder:
        valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/all"]
        server_words = [sys.executable, "-m", "bench.processes.observed_server", mode]
        with (
            launched([*valgrind, *server_words], env={"PYTHONHASHSEED": "0"}) as server,
            contextlib.ExitStack() as stack,
        ):

            def control(word: str) -> None:
                words = ["callgrind_control", word, *(["on"] if word == "-i" else []), str(server.pid)]
                subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)

            def ask(client: socket.socket, line: bytes, times: int) -> None:
                for _ in range(times):
                    client.sendall(line)
                    client.recv(1000)

            for _ in range(WARM_CONNECTIONS):
                client = stack.enter_context(server.connect(60))
                for line in (put, get):
                    ask(client, line, 50)
            control("-i")
            counts: list[str] = []
            for name, line in (("GET", get), ("PUT", put)):
                ask(client, line, 100)
                control("-z")
                ask(client, line, COUNTED)
                control("-d")
                text = Path(folder, f"all.{len(counts) + 1}").read_text(encoding="utf-8")
                total = re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)
                assert total, "valgrind counted nothing"
                counts.append(f"{name} {int(total[1]) / COUNTED:,.0f}")
    return ", ".join(counts)


def scrape(connections: int) -> None:
    """How much longer a client waits at most while the page is scraped, many connections being open."""
    connections = room_for(connections)
    flags = (*FLAGS, "--max-connections", str(connections + 10))
    with observed(*flags) as (server, page), contextlib.ExitStack() as stack:
        for _ in range(connections):
            stack.enter_context(server.connect(10))
        time.sleep(1)
        longest_ms: dict[bool, list[float]] = {False: [], True: []}
        with server.connect(10) as client:
            for number in range(60):
                scraped = number % 2 == 1
                longest_ms[scraped].append(longest_wait_ms(client, page if scraped else None))
        plain, seen = (statistics.median(longest_ms[scraped]) for scraped in (False, True))
        print(
            f"scrape: with {connections} connections a client's longest wait is {plain:.2f} ms without a scrape and "
            f"{seen:.2f} ms with one (medians of 30); the difference is {seen - plain:.2f} ms",
            flush=True,
        )


def longest_wait_ms(client: socket.socket, page: tuple[str, int] | None) -> float:
    """Ask for 100 ms; return the longest wait for a reply. Scrape in the middle where page is given."""
    began_s = time.perf_counter()
    longest_s = 0.0
    scraping: socket.socket | None = None
    while (now_s := time.perf_counter()) - began_s < 0.1:
        if page and scraping is None and now_s - began_s > 0.03:
            scraping = socket.create_connection(page, 5)
            scraping.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        asked_s = time.perf_counter()
        client.sendall(b"KV/1.0 GET none\n")
        client.recv(100)
        longest_s = max(longest_s, time.perf_counter() - asked_s)
    if scraping:
        with scraping:
            assert scraping.recv(100).startswith(b"HTTP/1.1 200 OK")
    return longest_s * 1000


@contextlib.contextmanager
def observed(*flags: str) -> Iterator[tuple[Launched, tuple[str, int]]]:
    """Run a server with flags, --metrics among them; gives it and the address of its page."""
    with launched(kvss(*flags), processors=SERVER_PROCESSORS) as server:
        deadline_s = time.monotonic() + 5
        while not (found := re.search(r"metrics at http://([\d.]+):(\d+)/", server.logged())):
            assert time.monotonic() < deadline_s, "the page does not come"
            time.sleep(0.05)
        yield server, (found[1], int(found[2]))


if __name__ == "__main__":
    main()
