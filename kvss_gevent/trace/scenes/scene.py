"""What a scene is: clients that do what is written for them, a question to predict, and what the server is given."""

from dataclasses import dataclass

from kvss_gevent.protocol.wire import Verb, build_request

HOUR_MS = 3_600_000.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One packet of whole request lines, sent at a time, to be answered before the client sends its next.

    rest_at_ms: from when on the second half of the packet is sent; None sends it whole. optional: left out where the
    client is still waiting when its time has come.
    """

    at_ms: float
    packet: bytes
    label: str
    rest_at_ms: float | None = None
    optional: bool = False


@dataclass(frozen=True, slots=True)
class SceneClient:
    """One connection. It leaves at leaves_ms, or when the scene is over, but not before it has its replies.

    busy: it is the one to whom something happens; the others are patient, and the scene is about their wait.
    deaf_ms: from when until when it does not read. receive_bytes: the size of its receive buffer; 0 is the kernel's.
    """

    asks: tuple[Ask, ...]
    busy: bool = False
    connects_ms: float = 0.0
    leaves_ms: float = HOUR_MS
    deaf_ms: tuple[float, float] = (HOUR_MS, HOUR_MS)
    receive_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Scene:
    """One workload. The first of the answers that `right` counts from 0 is the right one for most event loops.

    hold_ms: how long the busy client's request holds what it holds; waits are judged against it. setup: packets that
    are answered before the clock starts. pool_size: for the models that have one. told: what is happening, in a line.
    """

    name: str
    title: str
    told: str
    question: str
    answers: tuple[str, str, str]
    right: int
    because: str
    clients: tuple[SceneClient, ...]
    length_ms: float
    hold_ms: float
    setup: bytes = b""
    pool_size: int = 8


def named(number: int, at_ms: float = 2.0) -> Ask:
    """Return the first request of a client: it asks for its own name, by which the recording knows it."""
    return Ask(at_ms, build_request(Verb.GET, b"client:%d" % number), f"GET client:{number}")


def asking(number: int, first_ms: float, every_ms: float, until_ms: float, connects_ms: float = 0.0) -> SceneClient:
    """Return a patient client that asks for its name at a steady pace, one request at a time."""
    packet = named(number).packet
    count = int((until_ms - first_ms) / every_ms) + 1
    times = [first_ms + turn * every_ms for turn in range(count)]
    asks = [Ask(at_ms, packet, f"GET client:{number}", optional=True) for at_ms in times]
    return SceneClient((named(number, connects_ms + 1 + number / 2), *asks), connects_ms=connects_ms)
