"""The cells of the table of known truths: servers, loads, and the expected results."""

from collections.abc import Iterator
from dataclasses import dataclass

from kvss_gevent.loadtest.engine.load_run import NO_REPLY
from kvss_gevent.loadtest.truth.behaviours import BEHAVIOURS
from kvss_gevent.loadtest.workload.proving_values import LOST, STALE, TORN, WRONG_KEY

USERS = 4
RATE = 300.0
OVERLOAD = 1000.0
SECONDS = 2
WARMUP_S = 0.4

_LOST_CONNECTIONS = (
    "connection closed by the server",
    "connection lost: Connection reset by peer",
    "connection lost: Broken pipe",
)


@dataclass(frozen=True, slots=True)
class Load:
    """How a server is loaded."""

    loop: str
    processes: int
    depth: int

    @property
    def is_open(self) -> bool:
        """Whether requests are sent at a fixed rate."""
        return self.loop != "closed"

    def __str__(self) -> str:
        return f"{self.loop}, {self.processes} process{'es' if self.processes > 1 else ''}, depth {self.depth}"


@dataclass(frozen=True, slots=True)
class Truth:
    """The expected results for a server.

    failures: the names that its faults may have. exact: every fault is exactly one failure; else a fault ends a
    connection and with it all requests under way on it. keeps_up: the server can answer the whole offered rate.
    """

    failures: tuple[str, ...] = ()
    exact: bool = True
    keeps_up: bool = True

    @property
    def exit_code(self) -> int:
        """The exit code of the load tester."""
        return 1 if self.failures else 0


LOADS = tuple(
    Load(loop, processes, depth)
    for loop in ("closed", "constant", "poisson")
    for processes in (1, 2)
    for depth in (1, 16)
)

TRUTHS = {
    "fixed delay of 2 ms": Truth(),
    "1 ms, every 20th 20 ms": Truth(),
    "stands still 0.2 s a second": Truth(),
    "does 500/s": Truth(keeps_up=False),
    "replies in pieces": Truth(),
    "replies byte by byte": Truth(),
    "torn values": Truth((TORN,)),
    "swapped values": Truth((WRONG_KEY,)),
    "stale values": Truth((STALE,)),
    "vanished values": Truth((LOST,)),
    "loses every 10th value": Truth((LOST,)),
    "values nobody wrote": Truth((TORN,)),
    "500 once in 50": Truth(("500 SERVER_ERROR",)),
    "resets once in 200": Truth(_LOST_CONNECTIONS, exact=False),
    "closes after 100": Truth(_LOST_CONNECTIONS, exact=False),
    "hangs after 1 s": Truth((NO_REPLY,), exact=False, keeps_up=False),
    "silence": Truth((NO_REPLY,), exact=False, keeps_up=False),
}
assert TRUTHS.keys() == BEHAVIOURS.keys()

FIXED = "fixed delay of 2 ms"
USER_CLASSES = ("YcsbA", "YcsbB", "YcsbC", "YcsbD", "YcsbF", "Pipelining", "ConnectPerRequest", "Idle")
"""User classes that run against the server with a fixed delay: it must receive exactly what they send."""

QUICK = (
    ("fixed delay of 2 ms", Load("constant", 1, 1)),
    ("does 500/s", Load("constant", 1, 1)),
    ("vanished values", Load("closed", 2, 1)),
    ("hangs after 1 s", Load("poisson", 1, 16)),
)
"""The cells of --quick, also for a test."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One server under one load, sent by KvssMix or by another user class."""

    server: str
    load: Load
    user: str = ""

    @property
    def row(self) -> str:
        """The name of the cell's row in the table."""
        return f"{self.user} on {self.server}" if self.user else self.server

    @property
    def truth(self) -> Truth:
        """The expected results."""
        return TRUTHS[self.server]

    @property
    def rate(self) -> float:
        """The offered rate; 0 in a closed loop."""
        if not self.load.is_open:
            return 0.0
        return OVERLOAD if self.server == "does 500/s" else RATE

    @property
    def users(self) -> int:
        """The number of users. In a closed loop there are so few that neither server nor generator is ever busy.

        A request that waits in the socket of a busy server is not in its log yet.
        """
        return USERS if self.load.is_open or self.user else self.load.processes

    def options(self) -> list[str]:
        """Return the load tester's options."""
        load = self.load
        options = [self.user] if self.user else []
        options += ["-u", str(self.users), "-r", "100", "-t", str(SECONDS), "--kv-warmup", f"{WARMUP_S}s"]
        options += ["--kv-drain", "1s", "--kv-keys", "200", "--kv-mix", "80:20:0", "--kv-depth", str(load.depth)]
        if load.is_open:
            options += ["--kv-rate", f"{self.rate:g}", "--kv-arrival", load.loop]
        return options


def all_cells() -> Iterator[Cell]:
    """Yield the cells of the whole table."""
    for server in TRUTHS:
        for load in LOADS:
            yield Cell(server, load)
    for user in USER_CLASSES:
        for load in LOADS:
            if load.depth == 1 and load.loop != "poisson":
                yield Cell(FIXED, load, user)
