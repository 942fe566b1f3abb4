"""The same objects as in asyncio_protocol.py on another event loop: uvloop, which is libuv's, in Cython.

The two models differ in the event loop alone. So the difference in cost is asyncio's own Python.
"""

import asyncio

import uvloop

from kvss_gevent.models import asyncio_protocol
from kvss_gevent.models.contract import Ground

IDEA = "the protocol model on libuv's event loop instead of asyncio's"
LIMITS = (*asyncio_protocol.LIMITS, "where descriptors run out, libuv accepts clients and cuts them off")
LOSES = ()
SHARED = False


def serve(ground: Ground) -> None:
    """Run an event loop until stopped."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio_protocol.main(ground))
