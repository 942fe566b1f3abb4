"""Whether a server stays the same size under odd traffic: `python -m bench.safety.soak --minutes 5`.

Clients put, get and delete a fixed set of keys, send pipelines, begin lines and go, speak HTTP, and ask for large
values that they do not read. Once a second the server's resident memory, descriptors and threads are noted, and of each
20 seconds the least is kept: what grows is seen there, too, and what is busy for the moment is not. Printed is the
slope of each in an hour, by least squares over the last two thirds, and the slope's standard error: what is constant
has a slope of less than two or three of these.
"""

import argparse
import contextlib
import math
import random
import socket
import statistics
import struct
import threading
import time
from pathlib import Path

from kvss_gevent.measure.launch import Launched, kvss, launched
from kvss_gevent.measure.process_usage import resident_bytes

CLIENTS = 6
KEYS = 500
LARGE_BYTES = 900_000
STRETCH = 20
"""Of so many samples the least is kept: the server gives memory back only every 10 s."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: close sends a reset."""


def main() -> None:
    """Load, sample, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (60)")
    parser.add_argument("--seed", type=int, default=1, help="of the traffic")
    parser.add_argument("serve", nargs="*", help="flags for `kvss serve`, behind --")
    args = parser.parse_args()
    ended = threading.Event()
    counts = [0] * CLIENTS
    with launched(kvss(*args.serve)) as server:
        clients = [
            threading.Thread(target=be_odd, args=(server, random.Random(args.seed + number), counts, number, ended))
            for number in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        samples: list[tuple[float, ...]] = []
        try:
            ends_s = time.monotonic() + args.minutes * 60
            while time.monotonic() < ends_s:
                time.sleep(1)
                samples.append((time.monotonic(), *sizes_of(server.pid)))
        finally:
            ended.set()
            for client in clients:
                client.join()
    stretches = [samples[first : first + STRETCH] for first in range(len(samples) // 3, len(samples), STRETCH)]
    hours = [stretch[0][0] / 3600 for stretch in stretches]
    print(f"{sum(counts)} odd conversations in {args.minutes:g} minutes")
    for place, (name, unit, scale) in enumerate(
        (("memory", "MiB", 1 << 20), ("descriptors", "", 1), ("threads", "", 1))
    ):
        values = [min(sample[place + 1] for sample in stretch) / scale for stretch in stretches]
        grows, error = slope(hours, values)
        print(
            f"{name}: {values[0]:.1f} to {values[-1]:.1f} {unit}, "
            f"slope {grows:.2f} {unit} in an hour, standard error {error:.2f}"
        )


def sizes_of(pid: int) -> tuple[int, int, int]:
    """Return resident bytes, open descriptors and threads of a process."""
    process = Path(f"/proc/{pid}")
    return resident_bytes(pid), len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))


def slope(xs: list[float], ys: list[float]) -> tuple[float, float]:
    """Return the slope of the line that fits best, and its standard error; infinite where two points say nothing."""
    if len(xs) < 3:
        return 0.0, math.inf
    fitted, start = statistics.linear_regression(xs, ys)
    left = sum((y - start - fitted * x) ** 2 for x, y in zip(xs, ys, strict=True))
    return fitted, math.sqrt(left / (len(xs) - 2) / (statistics.pvariance(xs) * len(xs)))


def be_odd(server: Launched, chance: random.Random, counts: list[int], number: int, ended: threading.Event) -> None:
    """Have one conversation after another until told to end."""
    while not ended.is_set():
        key = b"%d" % chance.randrange(KEYS)
        put = b"KV/1.0 PUT %b %b\n" % (key, b"x" * chance.choice((10, 300, 5000)))
        packets = [
            put + b"KV/1.0 GET %b\n" % key,
            put * 100,
            b"KV/1.0 DEL %b\nKV/1.0 STATS\n" % key,
            put[:-1],
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            chance.randbytes(200) + b"\n",
            b"KV/1.0 PUT large " + b"x" * LARGE_BYTES + b"\n" + b"KV/1.0 GET large\n" * 5,
        ]
        with contextlib.suppress(OSError), server.connect(10) as sock:
            sock.sendall(chance.choice(packets))
            if chance.random() < 0.5:
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(1 << 16):
                    pass
            else:
                sock.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    sock.recv(10)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        counts[number] += 1


if __name__ == "__main__":
    main()
