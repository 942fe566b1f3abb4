"""The server's own cost where it runs on this machine: CPU and memory of a process and its children."""

import logging

import gevent
import psutil

logger = logging.getLogger(__name__)


class ServerWatch:
    """Watches the process of `--kv-server-pid`; with 0, or a process that is gone, there is nothing to tell."""

    def __init__(self, pid: int) -> None:
        self._process: psutil.Process | None = None
        self._cpu_s_before = 0.0
        if pid:
            try:
                self._process = psutil.Process(pid)
            except psutil.Error:
                logger.warning("--kv-server-pid: there is no process %d", pid)

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
