"""asyncio as in its tutorial: a coroutine per connection, with a stream to read from and one to write to.

It reads like threads, and every place where another client may run is marked with `await`.
"""

import asyncio
import signal
from asyncio import StreamReader, StreamWriter
from contextlib import suppress

from kvss_gevent.models.contract import BACKLOG, BLOCKING_STORE, RECV_BYTES, Ground

IDEA = "asyncio: one coroutine per connection, with streams"
LIMITS = (
    "one core; whatever takes long without await keeps every client waiting",
    BLOCKING_STORE,
    "streams copy and wake twice: the price of their comfort",
)
LOSES = ()
SHARED = False


def serve(ground: Ground) -> None:
    """Run an event loop until stopped."""
    asyncio.run(main(ground))


async def main(ground: Ground) -> None:
    """Serve until a signal comes. asyncio.run then cancels what is still open."""
    service = ground.open_service()

    async def talk(reader: StreamReader, writer: StreamWriter) -> None:
        session = service.open()
        service.stats.connections += 1
        try:
            while not session.closed and (data := await reader.read(RECV_BYTES)):
                writer.write(session.receive(data))
                await writer.drain()  # waits while the client does not read
                while session.more:
                    await asyncio.sleep(0)  # while the kernel takes everything, drain lets no other client run
                    writer.write(session.proceed())
                    await writer.drain()
            writer.close()
            await writer.wait_closed()
        except OSError:  # the client broke the connection off
            with suppress(OSError):
                await writer.wait_closed()  # takes the error from asyncio, which may log it otherwise
        except asyncio.CancelledError:
            pass  # the server stops; Python 3.11 logs a cancelled handler
        finally:
            service.stats.connections -= 1
            writer.close()

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = await asyncio.start_server(talk, sock=ground.listener)
    # asyncio's own number also says how often it tries again without descriptors, so only the queue is made longer.
    ground.listener.listen(BACKLOG)
    await stop.wait()
    server.close()
