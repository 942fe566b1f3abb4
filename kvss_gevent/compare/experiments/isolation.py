"""Experiment 17: a handler that raises an exception, leaks, or does not return: which clients are still served."""

import contextlib
import socket
import time
from collections.abc import Iterator

from kvss_gevent.compare.experiments import Panel, Statement
from kvss_gevent.compare.measuring.contestant import label_of
from kvss_gevent.compare.measuring.experiment_context import ExperimentContext
from kvss_gevent.compare.rows import Point
from kvss_gevent.compare.summary import Seen
from kvss_gevent.compare.words import listed
from kvss_gevent.measure.launch import Launched
from kvss_gevent.measure.process_usage import size

TITLE = "Isolation: a mistake in one handler"
VARIES = "what the handler of one client does"
TEACHES = (
    "A mistake should affect only the client whose request caused it. Processes isolate: when a process ends, its "
    "leaked memory is free. Within one process, the runtime decides how far an exception goes, and nothing can end a "
    "handler that does not return."
)
BY_HAND = "kvss serve --lab & printf 'KV/1.0 SLEEP 10000\\n' | nc -N 127.0.0.1 5050 & kvss client GET a"
CORE = False
REPEATS = 2
PANELS = (
    Panel(
        "go_on",
        "clients that are still answered: 1 old, 2 with a newcomer",
        kind="dots",
        title="Who goes on: clients answered while or after one handler goes wrong",
        log_x=False,
    ),
    Panel(
        "kept_mib",
        "MiB kept of 32 that a handler leaked, after its client has left",
        kind="dots",
        case="leaks",
        title="What a leak leaves behind",
        log_x=False,
    ),
)

RAISES, LEAKS = b"KV/1.0 BURN 6.66\n", b"KV/1.0 BURN 7.77\n"
STAYS = b"KV/1.0 SLEEP 4000\n"
LEAKED_MIB = 32
ANSWER_LIMIT_S = 0.8

MISTAKES = f"""
from kvss_gevent.core.lab_commands import Lab
run, kept = Lab.run, []
def run_or_fail(self, line):
    if b"BURN 6.66" in line:
        raise RuntimeError("a mistake in a handler")
    if b"BURN 7.77" in line:
        kept.append(b"x" * ({LEAKED_MIB} << 20))
    return run(self, line)
Lab.run = run_or_fail
"""
"""Code for the server that turns two requests of the laboratory into mistakes; all else stays the same."""


def measure(context: ExperimentContext) -> Iterator[Point]:
    """Let one client of a new server cause each mistake, then send requests on an old and on a new connection."""
    for case, line in (("raises", RAISES), ("leaks", LEAKS), ("does not return", STAYS)):
        with context.serving("--lab", setup=MISTAKES) as server, contextlib.ExitStack() as stack:
            figures: dict[str, float] = {}
            old = stack.enter_context(server.connect())
            figures["old"] = answers(old)
            before = size(server.pid)
            with server.connect() as victim:
                victim.settimeout(ANSWER_LIMIT_S / 2)
                with contextlib.suppress(OSError):
                    victim.sendall(line)
                    victim.recv(100)
                if case != "does not return":
                    victim.close()
                    time.sleep(0.1)
                figures["old"] = answers(old)
                figures["new"] = newcomer(server)
            if case == "leaks":
                grown = size(server.pid).pss_bytes - before.pss_bytes
                figures["kept_mib"] = max(grown / 2**20, 0.0)
            figures["go_on"] = figures["old"] + figures["new"]
            server.process.kill()
            yield Point(0, figures, case=case)


def answers(sock: socket.socket) -> int:
    """Return 1 if a connection is answered in time, else 0."""
    sock.settimeout(ANSWER_LIMIT_S)
    with contextlib.suppress(OSError):
        sock.sendall(b"KV/1.0 GET nothing\n")
        return int(sock.recv(100) == b"404 NOT_FOUND\n")
    return 0


def newcomer(server: Launched) -> int:
    """Return 1 if a client that connects now is answered, else 0."""
    with contextlib.suppress(OSError), server.connect(ANSWER_LIMIT_S) as sock:
        return answers(sock)
    return 0


def findings(seen: Seen) -> Iterator[Statement]:
    """Say which models still serve clients after each mistake."""
    for case in seen.cases():
        whole = [label_of(name) for name, found in seen.ranking("go_on", at=0, case=case) if found.low >= 2]
        none = [label_of(name) for name, found in seen.ranking("new", at=0, case=case) if found.high < 1]
        yield Statement(
            f"Where one handler {case}: old clients and newcomers go on with {listed(whole) or 'nobody'}; "
            f"newcomers are not served by {listed(none) or 'nobody'}."
        )
