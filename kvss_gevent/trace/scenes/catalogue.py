"""All scenes. To add one, write it here: `kvss show`, its help, the docs and the tests find it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from kvss_gevent.protocol.wire import Verb, build_request
from kvss_gevent.trace.scenes.scene import Ask, Scene, SceneClient, asking, named

EVERY_MS = 20.0
VALUE_BYTES = 256 << 10


def lab(words: str) -> bytes:
    """Return the request line of a laboratory command."""
    return f"KV/1.0 {words}\n".encode()


def stall_key(number: int, wait_ms: int) -> bytes:
    """Return a key for which the store of a scene waits wait_ms."""
    return b"stall:%d:%d" % (wait_ms, number)


def patient(first: int, last: int, until_ms: float) -> tuple[SceneClient, ...]:
    """Return clients that ask every EVERY_MS, each 3 ms after the one before."""
    return tuple(asking(number, 20 + 3 * (number - 1), EVERY_MS, until_ms) for number in range(first, last + 1))


def busy(ask: Ask) -> SceneClient:
    """Return client 1, the one that makes the others wait."""
    return SceneClient((named(1), ask), busy=True)


def once(number: int, packet: bytes, label: str, at_ms: float = 20.0) -> SceneClient:
    """Return a client that sends one packet after its first request."""
    return SceneClient((named(number, 1 + number / 2), Ask(at_ms, packet, label)))


def at_once(number: int) -> SceneClient:
    """Return a client of the storm: it connects and asks at the same time as all others, and leaves after its reply."""
    return SceneClient((named(number, 50),), connects_ms=50, leaves_ms=50)


_BIG = build_request(Verb.GET, b"big")
_HALF = build_request(Verb.GET, b"client:1")

_ALL = (
    Scene(
        "steady",
        "Four clients ask in turn",
        "clients 1 to 4 ask every 20 ms; nobody asks for anything heavy",
        "Nobody sends anything heavy. In which model does a client wait longest?",
        (
            "A thread for each client: switching threads is expensive",
            "An event loop: all clients share one thread",
            "Nowhere: all answer at once, where they take more than one client",
        ),
        2,
        "While every request is short, all models look alike. They differ when another client does something heavy.",
        patient(1, 4, 300),
        320,
        20,
    ),
    Scene(
        "burn",
        "One client's request computes for 300 ms",
        "client 1 sends BURN 300, clients 2 to 4 ask every 20 ms",
        "While client 1's request computes for 300 ms, what happens to the others?",
        (
            "An event loop interrupts it, so that everybody gets a turn",
            "An event loop makes them wait until it is done",
            "An event loop moves it to another core",
        ),
        1,
        "An event loop never interrupts a handler. The kernel interrupts threads and processes.",
        (busy(Ask(20, lab("BURN 300"), "BURN 300")), *patient(2, 4, 420)),
        440,
        300,
        turn_ms=0.7,  # threads that wait for the interpreter's lock: 10 to 20 ms, on a busy machine 1.3 to 2.8
    ),
    Scene(
        "sleep",
        "One client's request waits 300 ms in a call that blocks",
        "client 1 sends SLEEP 300, clients 2 to 4 ask every 20 ms",
        "Client 1's handler sleeps for 300 ms and needs no processor. Do the others on its event loop get answers?",
        ("Yes: the processor is idle", "No: the thread is asleep, and the loop with it", "Half of them"),
        1,
        "A call that blocks stops its whole thread, and all clients of that thread, although the processor is idle.",
        (busy(Ask(20, lab("SLEEP 300"), "SLEEP 300")), *patient(2, 4, 420)),
        440,
        300,
    ),
    Scene(
        "pool",
        "More clients than threads",
        "a pool of two: clients 1 and 2 ask once and stay until 250 ms, clients 3 to 5 come at 50 ms",
        "Clients 1 and 2 are idle. When does a pool of two threads answer client 3?",
        ("At once: both threads are idle", "When client 1 or 2 leaves", "Never"),
        1,
        "A thread of a pool belongs to one client until that client leaves, however idle it is.",
        (
            SceneClient((named(1),), busy=True, leaves_ms=250),
            SceneClient((named(2, 3),), busy=True, leaves_ms=280),
            *(asking(number, 60 + 3 * number, EVERY_MS, 420, connects_ms=50.0) for number in (3, 4, 5)),
        ),
        440,
        200,
        pool_size=2,
    ),
    Scene(
        "flood",
        "A long pipeline beside single requests",
        "client 1 sends 40,000 requests in one go at 20 ms, clients 2 to 4 ask every 20 ms",
        "Client 1 sends 40,000 requests at once. Must the others wait until all of them are answered?",
        ("Yes: they came first", "No: the server answers a slice of them, then others", "The server refuses them"),
        1,
        "All models answer a pipeline in slices. It is fair, and costs little, to serve others between two slices.",
        (
            busy(Ask(20, build_request(Verb.GET, b"client:1") * 40_000, "40,000 GETs")),
            *patient(2, 4, 200),
        ),
        220,
        200,
    ),
    Scene(
        "slow",
        "A client that does not read",
        "client 1 asks for 12 MiB and reads nothing until 250 ms, clients 2 to 4 ask every 20 ms",
        "Client 1 asks for 12 MiB and does not read them. Whom does that stop?",
        (
            "Everybody: the server cannot send",
            "Only client 1, except where the server takes one client at a time",
            "Nobody: the server drops the replies",
        ),
        1,
        "Replies that nobody takes fill the kernel's buffers. Then the server waits, and it matters who waits with it.",
        (
            replace(busy(Ask(20, _BIG * 48, "48 GETs of 256 KiB")), deaf_ms=(20.0, 250.0), receive_bytes=64 << 10),
            *patient(2, 4, 320),
        ),
        340,
        230,
        setup=build_request(Verb.PUT, b"big", b"x" * VALUE_BYTES),
    ),
    Scene(
        "half",
        "Half a line",
        "client 1 sends half a request at 20 ms and the rest at 250 ms, clients 2 to 4 ask every 20 ms",
        "Client 1 sends half a line and pauses. Does an event loop wait for the other half?",
        ("Yes: it must finish the line first", "No: it keeps the half and serves others", "It answers 400 at once"),
        1,
        "Half a line is kept in the session. Only a server that takes one client at a time waits for the rest.",
        (busy(Ask(20, _HALF, "GET client:1", rest_at_ms=250)), *patient(2, 4, 320)),
        340,
        230,
    ),
    Scene(
        "storm",
        "All connect at once",
        "eight clients connect at 50 ms, ask once and leave",
        "Eight clients connect in the same moment. Where does the last one wait longest?",
        (
            "Where each of them gets a process of its own",
            "Where each of them gets a thread of its own",
            "In an event loop: it has to serve all eight",
        ),
        0,
        "To make a process takes milliseconds, to make a thread a fraction of one; a loop only notes one more socket.",
        tuple(at_once(number) for number in range(1, 9)),
        100,
        75,
        turn_ms=25,  # a process for each: 35 to 100 ms, a thread: 3 to 18
    ),
    Scene(
        "stall",
        "A store that waits",
        "client 1 asks for a key for which the store waits 200 ms, clients 2 to 4 ask for others every 20 ms",
        "The store takes 200 ms for client 1. Whom does an event loop serve meanwhile?",
        (
            "Nobody, unless the store is one that the loop can wait for",
            "All others, always: that is what loops are for",
            "Nobody, in any model",
        ),
        0,
        "A loop goes on only where the store hands control back to it while it waits. A driver that blocks stops it.",
        (
            busy(Ask(20, build_request(Verb.GET, stall_key(1, 200)), "GET of 200 ms")),
            *patient(2, 4, 300),
        ),
        320,
        200,
    ),
    Scene(
        "lock",
        "Threads on one lock",
        "clients 1 to 4 each send a request at 20 ms that takes 50 ms in the store",
        "Four threads each wait 50 ms for the store, at the same moment. When is the last one answered?",
        (
            "After 50 ms: they wait side by side",
            "After 200 ms: they hold one lock while they wait",
            "After 100 ms: there are two cores",
        ),
        1,
        "The lock around the store makes a queue of what could run side by side. Processes share no lock.",
        tuple(
            once(number, build_request(Verb.GET, stall_key(number, 50)), "GET of 50 ms", 20 + number / 2)
            for number in (1, 2, 3, 4)
        ),
        240,
        50,
    ),
    Scene(
        "cores",
        "Four requests that compute",
        "clients 1 to 4 each send BURN 60 at 20 ms",
        "Four requests each compute for 60 ms. When is the last one answered by four threads on two cores?",
        ("After 60 ms", "After 120 ms: two cores", "After 240 ms: one thread runs Python at a time"),
        2,
        "The interpreter's lock lets one thread run Python at a time. Processes use all cores.",
        tuple(once(number, lab("BURN 60"), "BURN 60", 20 + number / 2) for number in (1, 2, 3, 4)),
        290,
        60,
    ),
)

SCENES: Final[Mapping[str, Scene]] = {scene.name: scene for scene in _ALL}
