"""asyncio at a low level: the event loop calls a method when bytes have come. No coroutine, no stream, no await.

The control flow is inverted: the event loop decides which method runs next.
"""

import asyncio
import signal
from asyncio import Protocol, Transport
from typing import cast

from kvss_gevent.core.service import Service
from kvss_gevent.models.contract import BACKLOG, BLOCKING_STORE, Ground

IDEA = "asyncio: one object per connection, called when bytes have come"
LIMITS = ("one core; whatever takes long keeps every client waiting", BLOCKING_STORE)
LOSES = ()
SHARED = False


class ProtocolClient(Protocol):
    """One connection."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.session = service.open()
        self.loop = asyncio.get_running_loop()
        self.blocked = False
        """The client does not read, so replies are still waiting here."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("Transport", transport)
        self.service.stats.connections += 1

    def data_received(self, data: bytes) -> None:
        """Answer the first slice of the requests that have come. Other slices come later."""
        self.answer(self.session.receive(data))

    def answer(self, replies: bytes) -> None:
        """Send replies, and decide what comes next."""
        if replies:
            self.transport.write(replies)
        if self.session.more:
            self.transport.pause_reading()
            if not self.blocked:
                self.loop.call_soon(self.proceed)
        elif self.session.closed:
            self.transport.close()  # it first sends the replies it has
        elif self.blocked:
            self.transport.pause_reading()
        elif not self.transport.is_reading():
            self.transport.resume_reading()

    def proceed(self) -> None:
        """Answer the next slice, if there is one."""
        if not self.transport.is_closing():
            self.answer(self.session.proceed())

    def pause_writing(self) -> None:
        """Note that the client does not read; `answer` then waits."""
        self.blocked = True

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        self.blocked = False
        self.loop.call_soon(self.proceed)

    def connection_lost(self, _: Exception | None) -> None:
        """End: the client has left, or the connection broke."""
        self.service.stats.connections -= 1


def serve(ground: Ground) -> None:
    """Run an event loop until stopped."""
    asyncio.run(main(ground))


async def main(ground: Ground) -> None:
    """Serve until a signal comes."""
    service = ground.open_service()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(lambda: ProtocolClient(service), sock=ground.listener)
    # asyncio's own number also says how often it tries again without descriptors, so only the queue is made longer.
    ground.listener.listen(BACKLOG)
    await stop.wait()
    server.close()
