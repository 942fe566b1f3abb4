"""A server on a free port whose requests valgrind can count; its argument is one of MODES.

Nothing here runs by a timer to observe it: valgrind slows the requests, but not the clock, so timers would count for
far more than they cost.
"""

import socket
import sys
from typing import Final

import gevent

from kvss_gevent.core.service import Service
from kvss_gevent.observe.server_observer import ServerObserver
from kvss_gevent.server.gevent_server import KVServer
from kvss_gevent.settings.config import Config
from kvss_gevent.stores.memory import MemoryStore

MODES: Final = {"not observed": None, "metrics": 0, "metrics and slow log": 2000}
"""By name: milliseconds of the slow log, 0 without one, None for no observer. With valgrind a turn of the event loop
may take longer than 20 ms; then every packet would be timed for a while."""
LONGEST_S: Final = 300


def main() -> None:
    """Serve until it is ended, at most LONGEST_S."""
    slow_ms = MODES[sys.argv[1]]
    observer = None if slow_ms is None else ServerObserver(1, None, slow_ms).observer(0)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    service = Service(MemoryStore(), tally=observer)
    server = KVServer(listener, service, Config(), observer=observer)
    if observer:
        observer.begin_slow_log(service, may_wait=False)
    server.start()
    print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    gevent.sleep(LONGEST_S)


if __name__ == "__main__":
    main()
