"""A fixed number of threads that share one queue of clients, for a server that must not grow without bound.

A thread serves its client to the end before it takes the next. The queue is the kernel's: a client is accepted when a
thread is free, and waits in the backlog until then.
"""

from threading import Event, Lock, Thread

from kvss_gevent.core.lab_commands import Unlocked
from kvss_gevent.models.contract import Ground, clients, gil_is_on
from kvss_gevent.models.threads import converse_locked, keep_threads_out

IDEA = "a fixed number of threads, each with one client at a time"
LIMITS = (
    "--pool-size clients at a time; those that idle count, the others wait unanswered",
    f"the GIL is {'on: one thread runs Python at a time' if gil_is_on() else 'off: threads run on several cores'}",
    "the lock is held while a store blocks: every client waits",
)
LOSES = ("hundred-clients",)
SHARED = False


def serve(ground: Ground) -> None:
    """Have every thread of the pool accept and serve clients until stopped."""
    service, lock = ground.open_service(), Lock()
    if service.lab:
        service.lab.apart = Unlocked(lock)

    def work() -> None:
        for sock in clients(ground.listener):
            converse_locked(sock, service, lock)

    try:
        for _ in range(ground.config.pool_size):
            Thread(target=work, daemon=True).start()
        Event().wait()  # for the signal; if a signal interrupts join, Python 3.11 believes that the thread has ended
    finally:
        keep_threads_out(lock)
