"""What the kernel counts for a process and its descendants: CPU, memory, threads, descriptors, context switches.

Linux only. CPU is a sum of two parts: the CPU clock of each living process, in nanoseconds, which includes its ended
threads; and the times of children that have ended and been waited for, which the kernel tells to 10 ms each. Three
things are missing: a child for which its parent never waits, because SIGCHLD is ignored; a child that ends after its
parent was read and before it is read itself; and the context switches of threads and processes that have ended.
"""

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

TICK_NS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_SWITCHES = re.compile(r"^(?:non)?voluntary_ctxt_switches:\s*(\d+)", re.MULTILINE)
_PSS = re.compile(r"^Pss:\s*(\d+) kB", re.MULTILINE)
_SCHEDULED_CLOCK: Final = 2
"""The kind of clock in the number of a process's CPU clock; the rest is the complement of its id
(clock_getcpuclockid(3))."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Sums over a process and its descendants. user_ns and system_ns are known to 10 ms only; cpu_ns is exact."""

    cpu_ns: int = 0
    user_ns: int = 0
    system_ns: int = 0
    voluntary_switches: int = 0
    involuntary_switches: int = 0

    @property
    def switches(self) -> int:
        """Context switches of either kind."""
        return self.voluntary_switches + self.involuntary_switches

    @property
    def system_share(self) -> float:
        """The kernel's part of the CPU time."""
        return self.system_ns / ((self.user_ns + self.system_ns) or 1)

    def since(self, before: "Usage") -> "Usage":
        """Return what was used after an earlier reading."""
        return Usage(*(getattr(self, one.name) - getattr(before, one.name) for one in fields(Usage)))


@dataclass(frozen=True, slots=True)
class Size:
    """What a process and its descendants hold now. pss_bytes counts 1/n of a page that n processes share."""

    processes: int
    threads: int
    descriptors: int
    pss_bytes: int


def tree(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    pids = [pid]
    for one in pids:
        for _, children in _of_threads(one, "children"):
            pids += map(int, children.split())
    return pids


def usage(pid: int) -> Usage:
    """Read what a process and its descendants have used so far. Raises ProcessLookupError if there is none."""
    cpu_ns = user = system = ended = voluntary = involuntary = 0
    for one in tree(pid):
        cpu_ns += _clock_ns(one)
        if stat := _text(f"/proc/{one}/stat"):
            times = [int(field) for field in stat.rpartition(")")[2].split()[11:15]]
            user, system = user + times[0] + times[2], system + times[1] + times[3]
            ended += times[2] + times[3]
        for _, status in _of_threads(one, "status"):
            first, second = _SWITCHES.findall(status)
            voluntary, involuntary = voluntary + int(first), involuntary + int(second)
    if not cpu_ns:
        raise ProcessLookupError(f"there is no process {pid}")
    return Usage(cpu_ns + ended * TICK_NS, user * TICK_NS, system * TICK_NS, voluntary, involuntary)


def cpu_ns(pid: int) -> int:
    """Read the CPU time alone, which is quicker. Raises ProcessLookupError if there is no such process."""
    pids = tree(pid)
    total = sum(map(_clock_ns, pids))
    if not total:
        raise ProcessLookupError(f"there is no process {pid}")
    for one in pids:
        if stat := _text(f"/proc/{one}/stat"):
            total += sum(map(int, stat.rpartition(")")[2].split()[13:15])) * TICK_NS
    return total


def size(pid: int) -> Size:
    """Read what a process and its descendants hold. Raises ProcessLookupError if there is no such process."""
    pids = tree(pid)
    threads = sum(len(list(_of_threads(one, "comm"))) for one in pids)
    if not threads:
        raise ProcessLookupError(f"there is no process {pid}")
    descriptors = pss_kib = 0
    for one in pids:
        try:
            descriptors += len(list(Path(f"/proc/{one}/fd").iterdir()))
        except OSError:
            continue
        pss_kib += sum(map(int, _PSS.findall(_text(f"/proc/{one}/smaps_rollup"))))
    return Size(len(pids), threads, descriptors, pss_kib << 10)


def thread_times(pid: int) -> dict[int, tuple[int, int]]:
    """Return (run delay, CPU time) in nanoseconds of every thread of a process and its descendants, by thread id.

    Run delay is how long the thread was ready to run and had no core.
    """
    found = {}
    for one in tree(pid):
        for thread, schedstat in _of_threads(one, "schedstat"):
            cpu, delay, _ = map(int, schedstat.split())
            found[thread] = (delay, cpu)
    return found


def resident_bytes(pid: int) -> int:
    """Return the resident memory of one process. Raises OSError where there is none."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_wait_s() -> float:
    """Return how long this process's main thread was ready to run while others held the processor; 0 if unknown."""
    words = _text("/proc/self/schedstat").split()
    return int(words[1]) / 1e9 if len(words) > 1 else 0.0


def _clock_ns(pid: int) -> int:
    try:
        return time.clock_gettime_ns((~pid << 3) | _SCHEDULED_CLOCK)
    except (OSError, OverflowError):
        return 0  # it has ended, or no process can have this id


def _of_threads(pid: int, name: str) -> Iterator[tuple[int, str]]:
    """Yield (thread id, a file of it) for every thread of a process; a thread may end meanwhile."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - a Path for each thread takes longer than all the rest
    except OSError:
        return
    for thread in threads:
        if text := _text(f"/proc/{pid}/task/{thread}/{name}"):
            yield int(thread), text


def _text(path: str) -> str:
    try:
        # Unbuffered, which costs half. It is read to the end, because one read returns at most 4 KiB of a file of
        # /proc.
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            return file.readall().decode()
    except OSError:
        return ""
