"""One process per connection, as the first Unix servers had it.

Nothing is shared, so nothing needs a lock. The data of all clients must live outside: the store must be one that
several processes can open, and every process opens it anew.
"""

import logging

from kvss_gevent.models.contract import Ground, clients, converse
from kvss_gevent.models.processes import Children

logger = logging.getLogger("kvss")

IDEA = "one process per connection, nothing shared but the store"
LIMITS = (
    "a fork, and the store opened, for every connection; a process for every client that stays",
    "needs a store that processes share",
    "STATS counts the client's own requests and connection",
)
LOSES = ("stats-connections", "stats-second")
SHARED = True


def serve(ground: Ground) -> None:
    """Fork a child for every client until stopped."""
    children = Children()
    try:
        for sock in clients(ground.listener):

            def talk() -> None:
                ground.listener.close()
                converse(sock, ground.open_service())  # noqa: B023 - called in the child, before the loop goes on

            try:
                children.start(talk)
            except OSError as error:
                logger.warning("a client was refused: %s", error.strerror)
            sock.close()  # the child has its own copy; the connection is open while one copy is
            children.reap()
    finally:
        children.end()
