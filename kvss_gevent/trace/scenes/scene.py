"""What a scene is: clients with their requests, a question whose answer students predict, and the server's settings."""

from dataclasses import dataclass

from kvss_gevent.protocol.wire import Verb, build_request

HOUR_MS = 3_600_000.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One packet of whole request lines with the time at which it is sent. The client waits for its replies.

    rest_at_ms: when the second half of the packet is sent; None sends it whole. optional: left out if the client still
    waits for an earlier reply at this time.
    """

    at_ms: float
    packet: bytes
    label: str
    rest_at_ms: float | None = None
    optional: bool = False


@dataclass(frozen=True, slots=True)
class SceneClient:
    """One client with one connection. It leaves at leaves_ms or at the end of the scene, but only after its replies.

    busy: it is the client that makes others wait; the others are patient, and the scene is about their waits.
    deaf_ms: from when until when it does not read. receive_bytes: the size of its receive buffer; 0 for the kernel's
    default.
    """

    asks: tuple[Ask, ...]
    busy: bool = False
    connects_ms: float = 0.0
    leaves_ms: float = HOUR_MS
    deaf_ms: tuple[float, float] = (HOUR_MS, HOUR_MS)
    receive_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Scene:
    """One workload. right: the number, from 0, of the answer that is right for most event loops.

    description: what happens, in one line. hold_ms: how long the busy client's request holds the thread, lock or place
    in a pool; waits are compared with it. turn_ms: the median wait, run delay left out, from which on the patient
    clients are delayed. It lies far from the waits of every model, so that a slow machine gives no other verdict.
    setup: packets that are answered before the scene starts. pool_size: for the models that have a pool.
    """

    name: str
    title: str
    description: str
    question: str
    answers: tuple[str, str, str]
    right: int
    because: str
    clients: tuple[SceneClient, ...]
    length_ms: float
    hold_ms: float
    setup: bytes = b""
    pool_size: int = 8
    turn_ms: float = 6.0


def named(number: int, at_ms: float = 2.0) -> Ask:
    """Return the first request of a client: a GET of its own name, by which the recording knows it."""
    return Ask(at_ms, build_request(Verb.GET, b"client:%d" % number), f"GET client:{number}")


def asking(number: int, first_ms: float, every_ms: float, until_ms: float, connects_ms: float = 0.0) -> SceneClient:
    """Return a patient client that sends a GET of its name every every_ms, one request at a time."""
    packet = named(number).packet
    count = int((until_ms - first_ms) / every_ms) + 1
    times = [first_ms + turn * every_ms for turn in range(count)]
    asks = [Ask(at_ms, packet, f"GET client:{number}", optional=True) for at_ms in times]
    return SceneClient((named(number, connects_ms + 1 + number / 2), *asks), connects_ms=connects_ms)
