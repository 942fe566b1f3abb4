"""Several worker processes on one socket: starts them, replaces those that die, ends them all. No event loop here.

The parent accepts nothing and has no clients. It forks before any event loop exists, and waits for signals and
children. It owns one end of a pipe that nobody writes to. When it dies, for any reason, its workers read the end of
that pipe and stop, too.

All workers accept from the same socket. With a socket for each worker (SO_REUSEPORT) the kernel would assign
connections in advance, and those of a worker that hangs would hang with it. With one socket the other workers take
them.
"""

import logging
import math
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from kvss_gevent.core.shared_counters import SharedCounters
from kvss_gevent.server.accepting.listener import BACKLOG
from kvss_gevent.server.service_manager import STOPPING, notify
from kvss_gevent.server.worker_context import WorkerContext
from kvss_gevent.settings.fail import Exit, Fail
from kvss_gevent.settings.log import LAST, NOTICE
from kvss_gevent.settings.signals import Act, handle, numbers, shown

logger = logging.getLogger("kvss")


SIGNALS = (*numbers(), signal.SIGCHLD)


@dataclass(frozen=True, slots=True)
class RestartTimes:
    """When workers are restarted and killed, and how long they are waited for."""

    ready_s: float = 120.0
    """How long a worker may take, at the start of the server, to open its store and to accept."""
    first_delay_s: float = 0.1
    """The delay of the restart after the first death. It doubles with each further death of the same worker."""
    longest_delay_s: float = 5.0
    reset_after_s: float = 10.0
    """A worker that ran this long restarts after the first delay again."""
    kill_grace_s: float = 3.0
    """A worker that still runs this long after the end of the drain is killed."""


@dataclass(slots=True)
class _Worker:
    number: int
    pid: int = 0
    """0 while it does not run."""
    started_s: float = 0.0
    delay_s: float = 0.0
    """The delay before its last restart; 0 if it was never restarted."""
    due_s: float = 0.0


class Supervisor:
    """The parent's side: keeps `count` processes running, which run `work`.

    work is called in each child with its WorkerContext and returns the child's exit code.
    """

    def __init__(
        self,
        count: int,
        work: Callable[[WorkerContext], int],
        listener: socket.socket,
        drain_timeout_s: float,
        times: RestartTimes,
    ) -> None:
        self.shared = SharedCounters(count)
        self._workers = [_Worker(number) for number in range(count)]
        self._work = work
        self._listener = listener
        self.drain_timeout_s = drain_timeout_s
        self._times = times
        self._stops: list[int] = []
        self._pending: list[int] = []
        """Signals for the workers, in the order of their arrival."""
        self._life, self._life_held = os.pipe()
        self._ready, self._ready_sent = os.pipe()
        self._alarm, self._alarm_sent = os.pipe()
        for end in (self._ready, self._alarm, self._alarm_sent):
            os.set_blocking(end, False)

    def run(self, on_ready: Callable[[], None], reload: Callable[[], None]) -> int:
        """Run until SIGTERM or SIGINT. Returns the exit code.

        on_ready is called once, when all workers accept. reload is called at SIGHUP, before the workers get that
        signal. The first worker is started alone: if it cannot start, none can, and its exit code is returned. Raises
        Fail if a worker neither starts nor ends.
        """
        signal.set_wakeup_fd(self._alarm_sent, warn_on_full_buffer=False)
        handle(
            {**dict.fromkeys(Act, self._pending.append), Act.DRAIN: self._stops.append},
            lambda number, note: signal.signal(number, lambda number, _: note(number)),
        )
        signal.signal(signal.SIGCHLD, lambda *_: None)  # it wakes the wait for a descriptor
        for group in (self._workers[:1], self._workers[1:]):
            for worker in group:
                self._start(worker)
            code = self._until_ready(len(group))
            if code is not None:
                return self._end_all() or code
        if not self._stops:
            on_ready()
        while not self._stops:
            self._pass_on(reload)
            self._reap()
            self._start_due()
        return self._end_all()

    def _pass_on(self, reload: Callable[[], None]) -> None:
        """Pass signals on to the workers. Only one worker is told to report, because it knows the counters of all."""
        while self._pending:
            number = self._pending.pop(0)
            running = [worker.pid for worker in self._workers if worker.pid]
            if number in numbers(Act.RELOAD):
                reload()
            elif number in numbers(Act.REPORT):
                running = running[:1]
            elif number in numbers(Act.IGNORE):
                running = []
                logger.log(NOTICE, "%s has no effect here and is ignored", shown(number))
            for pid in running:
                os.kill(pid, number)

    def _until_ready(self, count: int) -> int | None:
        """Wait until this many workers accept; return the exit code of one that ended instead."""
        deadline_s = time.monotonic() + self._times.ready_s
        while count and not self._stops:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                self._end_all()
                raise Fail(
                    f"{count} of the workers did not accept clients within {self._times.ready_s:g} s",
                    "See whether the store answers: its server, or the disk of its file.",
                    Exit.UNREACHABLE,
                )
            count -= self._sleep(left_s)
            for worker, code in self._dead():
                # A worker that ends with an exit code has logged why.
                level = logging.ERROR if code < 0 else logging.INFO
                logger.log(level, "worker %d ended with %s before it was ready", worker.number, _shown(code))
                return code if code > 0 else 128 - code
        return None

    def _reap(self) -> None:
        """Note which workers have died and when to restart them."""
        for worker, code in self._dead():
            now_s = time.monotonic()
            if now_s - worker.started_s >= self._times.reset_after_s:
                worker.delay_s = 0.0
            worker.delay_s = min(worker.delay_s * 2 or self._times.first_delay_s, self._times.longest_delay_s)
            worker.due_s = now_s + worker.delay_s
            self._listener.listen(BACKLOG)  # the dead worker may have made the queue short, see ListenQueue
            logger.warning("worker %d ended with %s; it restarts in %g s", worker.number, _shown(code), worker.delay_s)

    def _start_due(self) -> None:
        """Start the workers that are due, then wait for the next or for a signal."""
        now_s = time.monotonic()
        for worker in self._workers:
            if not worker.pid and worker.due_s <= now_s:
                self._start(worker)
        due = [worker.due_s for worker in self._workers if not worker.pid]
        self._sleep(max(0.0, min(due) - time.monotonic()) if due else None)

    def _dead(self) -> list[tuple[_Worker, int]]:
        """Collect the workers that have ended, with their exit codes. A worker killed by signal N has -N."""
        dead = []
        for worker in self._workers:
            if worker.pid:
                pid, status = os.waitpid(worker.pid, os.WNOHANG)
                if pid:
                    worker.pid = 0
                    self.shared.forget_clients(worker.number)
                    dead.append((worker, os.waitstatus_to_exitcode(status)))
        return dead

    def _start(self, worker: _Worker) -> None:
        # Signals are blocked until the child has removed the parent's handlers, so that none is lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        sys.stdout.flush()
        try:
            pid = os.fork()
        except OSError as error:
            logger.error("cannot start worker %d: %s", worker.number, error.strerror)
            pid = 0
            worker.due_s = time.monotonic() + self._times.longest_delay_s
        else:
            if pid == 0:
                self._be_child(worker.number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        worker.pid = pid
        worker.started_s = time.monotonic()

    def _be_child(self, number: int) -> None:
        """Become a worker; does not return."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for ignored in numbers(Act.RELOAD, Act.REPORT, Act.DUMP, Act.IGNORE):
                signal.signal(ignored, signal.SIG_IGN)  # until the worker has its own handlers
            # Ctrl-C reaches the whole process group. The parent passes it on, and once is enough.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            for end in (self._life_held, self._ready, self._alarm, self._alarm_sent):
                os.close(end)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            code = self._work(WorkerContext(number, self.shared, self._life, self._ready_sent))
        except BaseException:
            logger.exception("worker %d ends because of an error in this server", number)
        finally:
            logging.shutdown()
            sys.stdout.flush()
            os._exit(code)

    def _end_all(self) -> int:
        """Make all workers drain and end; kill those that do not. Return 0, or 128 + N after a second signal N."""
        notify(STOPPING)
        self._listener.close()
        self._kill_all(signal.SIGTERM)
        deadline_s = time.monotonic() + self.drain_timeout_s + self._times.kill_grace_s
        signals = len(self._stops)
        killed = False
        while any(worker.pid for worker in self._workers):
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or len(self._stops) > max(signals, 1):
                self._kill_all(signal.SIGKILL)
                killed = True
                left_s = 1.0
            self._sleep(left_s)
            self._dead()
        if self._stops:
            how = "some workers had to be killed" if killed else "every worker ended in good order"
            logger.log(NOTICE, "stopped by %s; %s", shown(self._stops[0]), how, extra=LAST)
        return 128 + self._stops[-1] if len(self._stops) > max(signals, 1) else 0

    def _kill_all(self, number: int) -> None:
        for worker in self._workers:
            if worker.pid:
                os.kill(worker.pid, number)

    def _sleep(self, limit_s: float | None) -> int:
        """Wait for a signal, for a worker that gets ready, or for limit_s; return how many workers got ready."""
        poller = select.poll()  # select() takes no descriptor above 1023, and a process can inherit many
        poller.register(self._alarm, select.POLLIN)
        poller.register(self._ready, select.POLLIN)
        ready = poller.poll(None if limit_s is None else math.ceil(limit_s * 1000))
        read = {end: os.read(end, 4096) for end, _ in ready}
        return len(read.get(self._ready, b""))


def _shown(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code}"
