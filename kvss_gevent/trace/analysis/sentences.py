"""Sentences made from a recording's data: who waited, how long, for whom, and what that one had."""

from collections.abc import Mapping, Sequence
from typing import Final

from kvss_gevent.trace.analysis.causes import Why
from kvss_gevent.trace.analysis.scene_verdict import SHORT_WAIT_NS, SceneVerdict, Story

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
"""What a client has of a model while it is served."""


MADE: Final[Mapping[str, str]] = {"threads": "thread"}
"""What is made for a client where it is no process."""


def milliseconds(ns: float) -> str:
    """Return a time as it is read: 297 ms, 5.7 ms, 0.3 ms."""
    ms = ns / 1e6
    return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"


def whose(story: Story, client: int) -> str:
    """Return what a client was about while the longest wait lasted: `client 1's BURN 300`."""
    waiting = story.requests[story.longest].asked
    best, label = 0, ""
    for request in story.requests:
        asked = request.asked
        shared = min(asked.received_ns, waiting.received_ns) - max(asked.began_ns, waiting.began_ns)
        if asked.client == client and shared > best:
            best, label = shared, asked.label
    return f"client {client}'s {label}" if label else f"client {client}"


def others(story: Story) -> str:
    """Return for whom the longest wait was, with what it asked where it is one: `client 1's BURN 300`."""
    return whose(story, story.who[0]) if len(story.who) == 1 else clients(story.who)


def row_label(story: Story) -> tuple[str, str]:
    """Return the few words at the right end of a model's row, in two lines."""
    wait = milliseconds(story.wait_ns)
    if story.wait_ns < SHORT_WAIT_NS:
        return f"longest wait {wait}", ""
    reasons = {
        Why.TURN: f"for {others(story)}",
        Why.HELD: f"until {clients(story.who)} left",
        Why.LOCK: f"for the lock: {others(story)}",
        Why.CORE: "for a core: all were taken",
        Why.START: f"for its own {MADE.get(story.model, 'process')}",
        Why.LOOP: "for the loop's own work",
        Why.OFF: "while the server stood still",
    }
    return f"longest wait {wait}", reasons.get(story.why, "at the client's own side")


def clients(who: Sequence[int]) -> str:
    """Return `client 1`, or `clients 1, 2 and 3`."""
    *most, last = map(str, who or (0,))
    if not most:
        return f"client {last}"
    if len(who) > 3:
        return f"{len(who)} clients"
    return f"clients {', '.join(most)} and {last}"


def sentence(story: Story) -> str:
    """Return one sentence about a model."""
    client = story.requests[story.longest].asked.client
    wait, model = milliseconds(story.wait_ns), story.model
    if story.wait_ns < SHORT_WAIT_NS:
        return f"With {model} nobody waited longer than {wait}."
    left, thread = ("it left", "the thread") if len(story.who) == 1 else ("they left", "the threads")
    reasons = {
        Why.TURN: f"because {others(story)} had {KEPT[model]}",
        Why.HELD: f"because {clients(story.who)}, busy or idle, kept {KEPT[model]} until {left}",
        Why.LOCK: f"for the lock, which {thread} of {clients(story.who)} had",
        Why.CORE: "for a core: all of them were taken",
        Why.START: f"while its own {MADE.get(model, 'process')} was made",
        Why.LOOP: "while the server accepted, received and sent for others",
        Why.OFF: "while the server's process did not run at all",
    }
    return f"With {model} client {client} waited {wait} {reasons.get(story.why, 'on its own side and on the way')}."


def summary(stories: Sequence[Story]) -> list[str]:
    """Return the two sentences below the picture: the model in which somebody waited longest, and the other end."""
    ranked = sorted(stories, key=lambda story: story.wait_ns)
    if len(ranked) == 1:
        return [sentence(ranked[0])]
    return [sentence(ranked[-1]), sentence(ranked[0])]


def counted(stories: Sequence[Story]) -> str:
    """Return how many models held their patient clients up."""
    held = [story.model for story in stories if story.verdict is SceneVerdict.HELD]
    if not held:
        return "No model held the others up."
    return f"Held up for at least half of the time: {', '.join(held)} ({len(held)} of {len(stories)})."
