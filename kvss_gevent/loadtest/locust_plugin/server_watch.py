"""The server's own cost where it runs on this machine: CPU and memory of a process and its children."""

import gevent
import psutil

from kvss_gevent.settings.fail import Fail


def check(pid: int) -> None:
    """Raise Fail where a process is asked for that there is not."""
    if pid and not psutil.pid_exists(pid):
        raise Fail(f"--kv-server-pid: there is no process {pid}", "give the server's process id, or leave it out")


class ServerWatch:
    """Watches the process of `--kv-server-pid`; with 0, or a process that is gone, there is nothing to tell."""

    def __init__(self, pid: int) -> None:
        self._process: psutil.Process | None = None
        self._cpu_s_before = 0.0
        if pid:
            try:
                self._process = psutil.Process(pid)
            except psutil.Error:
                pass  # It was there when the options were checked; a server that has ended shows in other ways.

    def begin_in(self, delay_s: float) -> None:
        """Count CPU from a time to come on."""
        gevent.spawn_later(delay_s, self.restart)

    def usage(self) -> dict[str, float]:
        """Return cpu_s since the beginning and rss_bytes now, of process and children; nothing if it is gone."""
        usage = self._sample()
        if usage:
            usage["cpu_s"] -= self._cpu_s_before
        return usage

    def restart(self) -> None:
        """Count CPU from now on."""
        self._cpu_s_before = self._sample().get("cpu_s", 0.0)

    def _sample(self) -> dict[str, float]:
        if self._process is None:
            return {}
        cpu_s, rss_bytes = 0.0, 0
        try:
            for one in [self._process, *self._process.children(recursive=True)]:
                times = one.cpu_times()
                cpu_s += times.user + times.system
                rss_bytes += one.memory_info().rss
        except psutil.Error:
            return {}
        return {"cpu_s": cpu_s, "rss_bytes": rss_bytes}
