"""Real locust processes for tests: start one against a port, read what it wrote."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Finished:
    """A locust process that has ended."""

    code: int
    out: str
    err: str
    results: dict[str, Any]


def command(port: int | str, *options: str, locustfile: str = "loadtest/kvss_locust.py") -> list[str]:
    """Return the command line of a headless run."""
    host = [] if port == "" else ["-H", port if isinstance(port, str) else f"127.0.0.1:{port}"]
    return [
        sys.executable,
        "-m",
        "locust",
        "-f",
        locustfile,
        "--headless",
        "--only-summary",
        "-r",
        "100",
        *host,
        *options,
    ]


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment without what would set options of the load tester."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KVSS_LOAD_", "LOCUST_"))}
    return {**kept, **more}


def run(
    port: int | str,
    *options: str,
    out: Path | None = None,
    cwd: Path = ROOT,
    env: dict[str, str] | None = None,
    locustfile: str = "loadtest/kvss_locust.py",
) -> Finished:
    """Run locust to its end, 100 s at most, and read results.json where `out` is given."""
    extra = ["--kv-out", str(out)] if out else []
    done = subprocess.run(
        command(port, *options, *extra, locustfile=locustfile),
        cwd=cwd,
        env=environment(**(env or {})),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    results = json.loads((out / "results.json").read_text()) if out and (out / "results.json").exists() else {}
    return Finished(done.returncode, done.stdout, done.stderr, results)
