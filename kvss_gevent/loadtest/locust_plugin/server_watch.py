"""The server's own cost where it runs on this machine: CPU and memory of a process and its children."""

import gevent

from kvss_gevent.measure import process_usage
from kvss_gevent.settings.fail import Fail


def check(pid: int) -> None:
    """Raise Fail where a process is asked for that there is not."""
    if pid and not _sample(pid):
        raise Fail(f"--kv-server-pid: there is no process {pid}", "Give the server's process id, or remove the option.")


class ServerWatch:
    """Watches the process of `--kv-server-pid`; with 0, or a process that is gone, there is nothing to tell."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._cpu_s_before = 0.0

    def begin_in(self, delay_s: float) -> None:
        """Count CPU from a time to come on."""
        gevent.spawn_later(delay_s, self.restart)

    def usage(self) -> dict[str, float]:
        """Return cpu_s since the beginning and rss_bytes now, of process and children; nothing if it is gone."""
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
