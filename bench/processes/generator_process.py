"""Runs `kvss bench` as a process of its own, on the second processor, and returns what it measured."""

import json
import os
import subprocess
import sys
from typing import Any

from kvss_gevent.measure.launch import two_processors

SERVER_PROCESSORS, GENERATOR_PROCESSORS = two_processors()


def start(port: int, *flags: str, protocol: str = "kv") -> "subprocess.Popen[str]":
    """Start a load without warming up."""

    def pin() -> None:
        if GENERATOR_PROCESSORS:
            os.sched_setaffinity(0, GENERATOR_PROCESSORS)

    words = ["-m", "kvss_gevent", "bench", f"127.0.0.1:{port}", "--protocol", protocol, "--warmup", "0", "--json"]
    return subprocess.Popen(
        [sys.executable, *words, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=pin,  # noqa: PLW1509 - a benchmark has no threads when it starts a load
    )


def result(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """Wait for a load and return its outcome. Ends the program where there is none."""
    out, errors = process.communicate(timeout=90)
    if not out:
        sys.exit(f"bench: the generator failed: {errors.strip().splitlines()[0]}")
    measured: dict[str, Any] = json.loads(out)["outcome"]
    return measured


def cpu_us(pid: int, protocol: str, port: int, depth: int, seconds: float) -> float:
    """Load a server once; return its own CPU microseconds per request."""
    flags = ["--depth", str(depth), "--seconds", str(seconds), "--server-pid", str(pid)]
    measured = result(start(port, *flags, protocol=protocol))
    return float(measured["server"]["cpu_ns"] / 1000 / measured["requests"])
