"""Runs tshark with the dissector on a capture."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from kvss_gevent.wire_tools.install import dissector

TSHARK = shutil.which("tshark")
CLIENT = 40000


def shark(path: Path, *words: str, limit_s: float = 50) -> str:
    """Run tshark with the dissector; fail for a Lua error, wherever it is told."""
    assert TSHARK, "CI needs tshark"
    done = subprocess.run(
        [TSHARK, "-n", "-X", f"lua_script:{dissector()}", "-r", str(path), *words],
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "lua" not in (done.stdout + done.stderr).lower().replace(str(dissector()), ""), done.stderr
    return done.stdout


def fields(path: Path, *names: str, words: tuple[str, ...] = (), limit_s: float = 50) -> Iterator[list[list[str]]]:
    """Yield for each packet of KV/1.0 the values of each field."""
    chosen = [word for name in names for word in ("-e", name)]
    lines = shark(path, *words, "-Y", "kv", "-T", "fields", *chosen, "-e", "_ws.lua.text", limit_s=limit_s).splitlines()
    for line in lines:
        *values, error = line.split("\t")
        assert not error
        yield [value.split(",") if value else [] for value in values]


def experts(path: Path, *words: str) -> list[str]:
    """Return what experts say of the requests and replies."""
    found = shark(path, *words, "-Y", "kv", "-T", "fields", "-e", "_ws.expert.message")
    every = [one for line in found.splitlines() if line for one in line.split(",")]
    return [one for one in every if not one.startswith(("Connection ", "This frame "))]  # TCP's own
