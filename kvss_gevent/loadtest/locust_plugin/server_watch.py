"""Measures a server on this machine: CPU and memory of its process and of the process's children."""

import gevent

from kvss_gevent.measure import process_usage
from kvss_gevent.settings.fail import Fail


def check(pid: int) -> None:
    """Raise Fail if there is no process with this id; 0 is allowed."""
    if pid and not _sample(pid):
        raise Fail(f"--kv-server-pid: there is no process {pid}", "Give the server's process id, or remove the option.")


class ServerWatch:
    """Watches the process of `--kv-server-pid`. With 0, or if the process has ended, it has no figures."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._cpu_s_before = 0.0

    def begin_in(self, delay_s: float) -> None:
        """Count CPU from delay_s seconds later on."""
        gevent.spawn_later(delay_s, self.restart)

    def usage(self) -> dict[str, float]:
        """Return cpu_s since the begin and rss_bytes now, of process and children; {} if it has ended."""
        usage = _sample(self._pid)
        if usage:
            usage["cpu_s"] -= self._cpu_s_before
        return usage

    def restart(self) -> None:
        """Count CPU from now on."""
        self._cpu_s_before = _sample(self._pid).get("cpu_s", 0.0)


def _sample(pid: int) -> dict[str, float]:
    try:
        return {
            "cpu_s": process_usage.usage(pid).cpu_ns / 1e9,
            "rss_bytes": sum(map(process_usage.resident_bytes, process_usage.tree(pid))),
        }
    except OSError:  # no such process, or no Linux
        return {}
