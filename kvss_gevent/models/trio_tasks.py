"""trio: a task per connection, inside a nursery. No task outlives the block that started it, and no error is lost.

To stop is to cancel the nursery: every task in it ends where it waits, and `serve` returns when the last has.
"""

import signal

import trio

from kvss_gevent.models.contract import BLOCKING_STORE, RECV_BYTES, Ground

IDEA = "trio: one task per connection, all inside one nursery"
LIMITS = (
    "one core; whatever takes long without await keeps every client waiting",
    BLOCKING_STORE,
    "every receive and send is a point where others may run: fair, and dear",
)
LOSES = ()
SHARED = False


def serve(ground: Ground) -> None:
    """Run trio until stopped."""
    trio.run(main, ground)


async def main(ground: Ground) -> None:
    """Serve until a signal comes."""
    service = ground.open_service()

    async def talk(stream: trio.SocketStream) -> None:
        session = service.open()
        service.stats.connections += 1
        try:
            async with stream:
                while not session.closed and (data := await stream.receive_some(RECV_BYTES)):
                    await stream.send_all(session.receive(data))
                    while session.more:
                        await stream.send_all(session.proceed())
        except trio.BrokenResourceError:
            pass  # the client broke the connection off
        finally:
            service.stats.connections -= 1

    listener = trio.SocketListener(trio.socket.from_stdlib_socket(ground.listener))
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, talk, [listener])
            await anext(signals)
            nursery.cancel_scope.cancel()
