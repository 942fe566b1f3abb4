"""Runs kvss bench for a test."""

import json
import subprocess
import sys
from typing import Any

import in_process

QUICK = ("--seconds", "0.5", "--warmup", "0")


def bench(port: int, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run it in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "kvss_gevent", "bench", f"127.0.0.1:{port}", *flags],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def refused(port: int, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run it in this process, for what ends before anything is measured."""
    return in_process.kvss("bench", f"127.0.0.1:{port}", *flags)


def outcome(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return what it measured."""
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["outcome"]
    return found
