"""Divides the processors between server and generator, and describes the machine."""

import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from kvss_gevent.models.contract import gil_is_on

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")

PACKAGES = ("kvss-gevent", "gevent", "greenlet", "uvloop", "twisted", "trio", "lmdb", "locust", "matplotlib")


@dataclass(frozen=True, slots=True)
class Cores:
    """The processors of the server and those of the generator; the same one if there is only one."""

    server: frozenset[int]
    generator: frozenset[int]

    @property
    def apart(self) -> bool:
        """Whether server and generator do not share a processor."""
        return self.server.isdisjoint(self.generator)


def divide(server_cores: int = 1) -> Cores:
    """Give the first processors to the server and the others to the generator. Raises ValueError for too many."""
    mine = sorted(os.sched_getaffinity(0))
    if len(mine) == 1:
        return Cores(frozenset(mine), frozenset(mine))
    if not 1 <= server_cores < len(mine):
        raise ValueError(f"there are {len(mine)} processors, and one at least is the generator's")
    return Cores(frozenset(mine[:server_cores]), frozenset(mine[server_cores:]))


def busy_s(processors: frozenset[int]) -> float:
    """Return the total time for which these processors were busy or taken by a hypervisor, exact to 10 ms each."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return 0.0
    found = 0.0
    for line in lines:
        name, *fields = line.split()
        if name.removeprefix("cpu").isdigit() and int(name[3:]) in processors:
            user, nice, system, _, _, irq, softirq, steal = map(int, fields[:8])
            found += (user + nice + system + irq + softirq + steal) * _TICK_S
    return found


def describe(cores: Cores) -> dict[str, Any]:
    """Return machine, kernel and versions, on which the figures depend."""
    return {
        "processor": _processor(),
        "processors": os.cpu_count(),
        "server_processors": sorted(cores.server),
        "generator_processors": sorted(cores.generator),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "gil": "on" if gil_is_on() else "off",
        "compiler": platform.python_compiler(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "began": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "revision": _revision(),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _revision() -> str:
    """Return the revision of this checkout, with a + if files were changed; "" if there is none."""
    if not shutil.which("git"):
        return ""
    where = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=where, capture_output=True, text=True, timeout=10, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    head = git("rev-parse", "--short=12", "HEAD")
    return head + ("+" if head and git("status", "--porcelain", "-uno") else "")


def quietly(command: list[str]) -> str:
    """Return a command as a person types it."""
    words = ["python" if word == sys.executable else word for word in command]
    return " ".join(f"'{word}'" if " " in word else word for word in words)
