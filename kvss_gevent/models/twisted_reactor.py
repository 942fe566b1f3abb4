"""Twisted: a reactor calls an object when bytes have come. asyncio's protocols are this idea, ten years later.

The transport keeps what a client does not take, and tells its producer, which is the protocol, to pause. A transport
with a producer that is still registered does not close.
"""

import signal
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from kvss_gevent.core.service import Service
from kvss_gevent.models.contract import BLOCKING_STORE, Ground

IDEA = "Twisted: one object per connection, called when bytes have come"
LIMITS = (
    "one core; whatever takes long keeps every client waiting",
    BLOCKING_STORE,
    "where descriptors run out, Twisted accepts clients and cuts them off",
)
LOSES = ()
SHARED = False


@implementer(IPushProducer, IHalfCloseableProtocol)
class TwistedClient(Protocol):
    """One connection."""

    transport: Any  # Twisted's types know few of its methods.

    def __init__(self, service: Service) -> None:
        self.service = service
        self.session = service.open()
        self.blocked = False
        """The client does not read, so replies are still waiting here."""

    def connectionMade(self) -> None:
        """Begin."""
        self.service.stats.connections += 1
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        """Answer the first slice of the requests that have come. Other slices come later."""
        self.answer(self.session.receive(data))

    def answer(self, replies: bytes) -> None:
        """Send replies, and decide what comes next."""
        self.transport.write(replies)
        if self.session.closed and not self.session.more:
            self.readConnectionLost()
        elif self.session.more or self.blocked:
            self.transport.pauseProducing()
            if not self.blocked:
                self.transport.reactor.callLater(0, self.proceed)
        else:
            self.transport.resumeProducing()

    def proceed(self) -> None:
        """Answer the next slice, if there is one."""
        if self.transport.connected and not self.blocked:
            self.answer(self.session.proceed())

    def pauseProducing(self) -> None:
        """Note that the client does not read; `answer` then waits."""
        self.blocked = True

    def resumeProducing(self) -> None:
        """Go on: the client has read."""
        self.blocked = False
        self.transport.reactor.callLater(0, self.proceed)

    def stopProducing(self) -> None:
        """Do nothing: the connection is lost."""

    def readConnectionLost(self) -> None:
        """End after all replies are sent, because no more requests come or the client has said QUIT."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Do nothing: only this side ends it."""

    def connectionLost(self, _: object = None) -> None:
        """End: the client has left, or the connection broke."""
        self.service.stats.connections -= 1


def serve(ground: Ground) -> None:
    """Run the reactor until stopped. It handles signals in its own way."""
    from twisted.internet import reactor as installed  # the import makes the one reactor of the process

    reactor: Any = installed
    service = ground.open_service()
    factory = Factory.forProtocol(lambda: TwistedClient(service))
    reactor.adoptStreamPort(ground.listener.fileno(), ground.listener.family, factory)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Twisted replaces no other handler of SIGINT
    reactor.run()
