"""Makes sentences from an analysis: which client waited, how long, for which client, and why."""

from collections.abc import Mapping, Sequence
from typing import Final

from kvss_gevent.trace.analysis.causes import Why
from kvss_gevent.trace.analysis.scene_verdict import SHORT_WAIT_NS, SceneAnalysis, SceneVerdict

KEPT: Final[Mapping[str, str]] = {
    "sequential": "the only place there is",
    "threads": "its thread",
    "pool": "a thread of the pool",
    "fork": "the parent process",
    "prefork": "a process of the pool",
    "select": "the only loop",
    "asyncio": "the event loop",
    "protocol": "the event loop",
    "uvloop": "the event loop",
    "twisted": "the reactor",
    "trio": "the event loop",
    "gevent-plain": "the only greenlet that runs",
    "gevent": "the only greenlet that runs",
}
"""What a client occupies in a model while it is served."""


MADE: Final[Mapping[str, str]] = {"threads": "thread"}
"""What a model makes for each client, if it is not a process."""


def milliseconds(ns: float) -> str:
    """Return a time in words: 297 ms, 5.7 ms, 0.3 ms."""
    ms = ns / 1e6
    return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"


def whose(analysis: SceneAnalysis, client: int) -> str:
    """Return a client with its request during the longest wait, such as `client 1's BURN 300`."""
    waiting = analysis.requests[analysis.longest].asked
    best, label = 0, ""
    for request in analysis.requests:
        asked = request.asked
        shared = min(asked.received_ns, waiting.received_ns) - max(asked.began_ns, waiting.began_ns)
        if asked.client == client and shared > best:
            best, label = shared, asked.label
    return f"client {client}'s {label}" if label else f"client {client}"


def others(analysis: SceneAnalysis) -> str:
    """Return the clients for which the longest wait was; a single one with its request: `client 1's BURN 300`."""
    return whose(analysis, analysis.who[0]) if len(analysis.who) == 1 else clients(analysis.who)


def row_label(analysis: SceneAnalysis) -> tuple[str, str]:
    """Return the text at the right end of a model's row, in two lines."""
    wait = milliseconds(analysis.wait_ns)
    if analysis.wait_ns < SHORT_WAIT_NS:
        return f"longest wait {wait}", ""
    reasons = {
        Why.TURN: f"for {others(analysis)}",
        Why.HELD: f"until {clients(analysis.who)} left",
        Why.LOCK: f"for the lock: {others(analysis)}",
        Why.CORE: "for a core: all were taken",
        Why.START: f"for its own {MADE.get(analysis.model, 'process')}",
        Why.LOOP: "for the loop's own work",
        Why.OFF: "while the server was stopped",
    }
    return f"longest wait {wait}", reasons.get(analysis.why, "at the client's own side")


def clients(who: Sequence[int]) -> str:
    """Return `client 1`, or `clients 1, 2 and 3`."""
    *most, last = map(str, who or (0,))
    if not most:
        return f"client {last}"
    if len(who) > 3:
        return f"{len(who)} clients"
    return f"clients {', '.join(most)} and {last}"


def sentence(analysis: SceneAnalysis) -> str:
    """Return one sentence about a model."""
    client = analysis.requests[analysis.longest].asked.client
    wait, model = milliseconds(analysis.wait_ns), analysis.model
    if analysis.wait_ns < SHORT_WAIT_NS:
        return f"With {model} nobody waited longer than {wait}."
    left, thread = ("it left", "the thread") if len(analysis.who) == 1 else ("they left", "the threads")
    reasons = {
        Why.TURN: f"because {others(analysis)} had {KEPT[model]}",
        Why.HELD: f"because {clients(analysis.who)}, busy or idle, kept {KEPT[model]} until {left}",
        Why.LOCK: f"for the lock, which {thread} of {clients(analysis.who)} had",
        Why.CORE: "for a core: all of them were taken",
        Why.START: f"while its own {MADE.get(model, 'process')} was made",
        Why.LOOP: "while the server accepted, received and sent for others",
        Why.OFF: "while the server's process did not run at all",
    }
    return f"With {model} client {client} waited {wait} {reasons.get(analysis.why, 'on its own side and on the way')}."


def summary(analyses: Sequence[SceneAnalysis]) -> list[str]:
    """Return the two sentences below the picture: about the model with the longest wait, and that with the shortest."""
    ranked = sorted(analyses, key=lambda analysis: analysis.wait_ns)
    if len(ranked) == 1:
        return [sentence(ranked[0])]
    return [sentence(ranked[-1]), sentence(ranked[0])]


def counted(analyses: Sequence[SceneAnalysis]) -> str:
    """Return a sentence that names the models in which the patient clients were held up."""
    held = [analysis.model for analysis in analyses if analysis.verdict is SceneVerdict.HELD]
    if not held:
        return "No model held the others up."
    return f"Held up for at least half of the time: {', '.join(held)} ({len(held)} of {len(analyses)})."
