"""A fixed number of processes, forked before any client comes, all accepting on one socket: Apache's first model.

The kernel hands each connection to one process that waits for it. Python runs on every core, despite the GIL.
"""

import time

from kvss_gevent.models.contract import Ground, clients, converse
from kvss_gevent.models.processes import Children

IDEA = "a fixed number of processes, each with one client at a time"
LIMITS = (
    "--pool-size clients at a time; those that idle count, the others wait unanswered",
    "needs a store that processes share",
    "STATS counts the requests and connections of one process",
)
LOSES = ("hundred-clients", "stats-connections")
SHARED = True

RESPAWN_S = 0.1
"""The pause before a dead process is replaced, so that one that always dies does not keep the machine busy."""


def serve(ground: Ground) -> None:
    """Keep the processes running until stopped."""

    def work() -> None:
        service = ground.open_service()
        for sock in clients(ground.listener):
            converse(sock, service)

    children = Children()
    try:
        while True:
            while len(children.pids) < ground.config.pool_size:
                children.start(work)
            children.wait()
            time.sleep(RESPAWN_S)
    finally:
        children.end()
