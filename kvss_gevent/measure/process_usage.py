"""What the kernel has counted for a process and its children: CPU, memory, threads, descriptors, context switches.

Linux only, from /proc. A process or thread that has ended takes its counts with it: compare two readings between which
none ends.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_SWITCHES = re.compile(r"^(?:non)?voluntary_ctxt_switches:\s*(\d+)", re.MULTILINE)
_PSS = re.compile(r"^Pss:\s*(\d+) kB", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Usage:
    """Sums over a process and its children. CPU in seconds, of which `user_s` is known to 10 ms only."""

    cpu_s: float
    user_s: float
    system_s: float
    voluntary_switches: int
    involuntary_switches: int

    def since(self, before: "Usage") -> "Usage":
        """Return what was used after an earlier reading."""
        return Usage(
            self.cpu_s - before.cpu_s,
            self.user_s - before.user_s,
            self.system_s - before.system_s,
            self.voluntary_switches - before.voluntary_switches,
            self.involuntary_switches - before.involuntary_switches,
        )


@dataclass(frozen=True, slots=True)
class Size:
    """What a process and its children hold now; pss_bytes counts a page that n processes share as 1/n for each."""

    processes: int
    threads: int
    descriptors: int
    pss_bytes: int


def tree(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    pids = [pid]
    for one in pids:
        for children in _files(one, "children"):
            pids += map(int, children.split())
    return pids


def usage(pid: int) -> Usage:
    """Read what a process and its children have used so far. Raises ProcessLookupError where there is none."""
    cpu_ns = voluntary = involuntary = 0
    user_s = system_s = 0.0
    for one in tree(pid):
        for schedstat in _files(one, "schedstat"):
            cpu_ns += int(schedstat.split()[0])
        for status in _files(one, "status"):
            first, second = _SWITCHES.findall(status)
            voluntary, involuntary = voluntary + int(first), involuntary + int(second)
        fields = _text(Path(f"/proc/{one}/stat")).rpartition(")")[2].split()
        if fields:
            user_s += int(fields[11]) * _TICK_S
            system_s += int(fields[12]) * _TICK_S
    if not cpu_ns:
        raise ProcessLookupError(f"there is no process {pid}")
    return Usage(cpu_ns / 1e9, user_s, system_s, voluntary, involuntary)


def size(pid: int) -> Size:
    """Read what a process and its children hold. Raises ProcessLookupError where there is none."""
    pids = tree(pid)
    threads = sum(len(list(_files(one, "comm"))) for one in pids)
    if not threads:
        raise ProcessLookupError(f"there is no process {pid}")
    descriptors = pss_kib = 0
    for one in pids:
        try:
            descriptors += len(list(Path(f"/proc/{one}/fd").iterdir()))
        except OSError:
            continue
        pss_kib += sum(map(int, _PSS.findall(_text(Path(f"/proc/{one}/smaps_rollup")))))
    return Size(len(pids), threads, descriptors, pss_kib << 10)


def _files(pid: int, name: str) -> Iterator[str]:
    """Yield a file of every thread of a process; a thread may end meanwhile."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return
    for task in tasks:
        if text := _text(task / name):
            yield text


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
