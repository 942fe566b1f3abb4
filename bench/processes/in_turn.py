"""What benchmarks share: servers driven in turn, figures as text, and room for many connections."""

import resource
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from statistics import median
from typing import TypeVar

from bench.processes.generator_process import SERVER_PROCESSORS, cpu_us
from kvss_gevent.measure.launch import free_port, kvss, launched, redis

SPARE_DESCRIPTORS = 200
"""For all that is no connection."""

T = TypeVar("T")


def in_turn(pairs: int, *measured: Callable[[], T]) -> list[tuple[T, ...]]:
    """Call the functions in turn so many times, after once to warm up; return what they returned each time."""
    return [tuple(one() for one in measured) for _ in range(pairs + 1)][1:]


def middle(values: Sequence[float], digits: int = 2) -> str:
    """Return the median with the least and the most, such as `1.22 (1.21 to 1.30)`."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def beside_redis(name: str, flags: Sequence[str], pairs: int, seconds: float, depths: Sequence[int]) -> None:
    """Print CPU per request at several pipeline depths: 50 connections, 80 % GET, 64-byte values."""
    with ExitStack() as stack:
        ours = stack.enter_context(launched(kvss(*flags), processors=SERVER_PROCESSORS))
        servers = [(ours.pid, "kv", ours.port)]
        if shutil.which("redis-server"):
            port = free_port()
            theirs = stack.enter_context(launched(redis(port), port=port, processors=SERVER_PROCESSORS))
            servers.append((theirs.pid, "resp", port))
        else:
            print("redis-server is not installed: only our own cost is measured (Debian: apt-get install redis-server)")
        for depth in depths:
            costs_us = in_turn(pairs, *(partial(cpu_us, *server, depth, seconds) for server in servers))
            line = f"depth {depth:3}: {name} {median(pair[0] for pair in costs_us):.2f} us CPU per request"
            if len(servers) > 1:
                line += f", redis-server {median(pair[1] for pair in costs_us):.2f} us"
                line += f", ratio {middle([ours_us / theirs_us for ours_us, theirs_us in costs_us])} in {pairs} pairs"
            print(line, flush=True)


def room_for(connections: int) -> int:
    """Let this process open so many connections, or as many as the system allows; return how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_DESCRIPTORS
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit - SPARE_DESCRIPTORS
