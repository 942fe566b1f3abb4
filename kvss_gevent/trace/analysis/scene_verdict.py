"""Analyses one recording: the longest wait, its cause, and whether the busy client held the others up."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from kvss_gevent.trace.analysis.causes import Causes, Stretch, Why
from kvss_gevent.trace.analysis.parts import Owner, TracedRequest, calls_of, requests_of
from kvss_gevent.trace.scenes.recording import Recording

SHORT_WAIT_NS = 1_000_000


class SceneVerdict(StrEnum):
    """How long the patient clients waited, by thresholds that give the same verdict in every repeat."""

    HELD = "held up"
    """The longest wait took at least half as long as the busy client's request."""
    TURNS = "in turns"
    """Half of the waits are at least the scene's turn_ms, but none is as long as that."""
    FREE = "hardly delayed"


@dataclass(frozen=True, slots=True)
class SceneAnalysis:
    """A recording with all results of its analysis."""

    recording: Recording
    requests: list[TracedRequest]
    stretches: list[list[Stretch]]
    """The stretches of each request, in the order of `requests`."""
    longest: int
    """The index in `requests` of the request that waited longest."""
    wait_ns: int
    why: Why
    who: tuple[int, ...]
    verdict: SceneVerdict

    @property
    def model(self) -> str:
        """The model's name."""
        return self.recording.model


def analyse(recording: Recording) -> SceneAnalysis:
    """Analyse a recording. Raises UnpairedError."""
    calls = calls_of(recording)
    requests = requests_of(recording, calls)
    causes = Causes(recording, calls)
    stretches = [causes.stretches(request) for request in requests]
    watched = [
        number
        for number in _watched(recording, requests)
        if not (_is_greeting(recording, requests[number]) and any(one.why is Why.START for one in stretches[number]))
    ]
    waits = {number: wait_ns(stretches[number]) for number in watched or range(len(requests))}
    longest = max(waits, key=lambda number: waits[number])
    why, who = blame(stretches[longest])
    delays = _Delays(stretches, requests)
    verdict = _verdict(recording, [delays.caused_ns(stretches[number]) for number in waits])
    return SceneAnalysis(recording, requests, stretches, longest, waits[longest], why, who, verdict)


def _waits(stretches: list[Stretch]) -> Iterator[tuple[Why, int, int]]:
    """Yield why a request waited, for which client, and how many nanoseconds.

    Its time on a processor, in the store, or in its own calls is no wait.
    """
    for one in stretches:
        if one.owner in (Owner.SERVED, Owner.STORE, Owner.BLOCKED, Owner.UNSENT):
            yield from ((_SHARES[owner], who, ns) for owner, ns, who in one.shares)
        else:
            yield one.why, one.who, one.ns


def wait_ns(stretches: list[Stretch]) -> int:
    """Return how long a request waited."""
    return sum(ns for _, _, ns in _waits(stretches))


def blame(stretches: list[Stretch]) -> tuple[Why, tuple[int, ...]]:
    """Return the main cause for which a request waited, and the clients with more than an eighth of that wait."""
    found: Counter[tuple[Why, int]] = Counter()
    by_why: Counter[Why] = Counter()
    for why, who, ns in _waits(stretches):
        found[why, who] += ns
        by_why[why] += ns
    why, ns = by_why.most_common(1)[0]
    return why, tuple(sorted(who for (one, who), part in found.items() if one is why and who and part > ns / 8))


_SHARES = {Owner.LOCK: Why.LOCK, Owner.CORE: Why.CORE, Owner.STOPPED: Why.OFF}


def _watched(recording: Recording, requests: list[TracedRequest]) -> list[int]:
    """Return the indexes of the requests that a scene is about: those of patient clients while a busy one is served."""
    clients = recording.scene.clients
    busy = [request.asked for request in requests if clients[request.asked.client - 1].busy]
    if not busy:
        return [*range(len(requests))]
    last_asks = {one.client: one for one in busy}.values()
    from_ns = min(one.began_ns for one in last_asks)
    to_ns = max(
        recording.played.left_ns[one.client]
        if clients[one.client - 1].leaves_ms < recording.scene.length_ms
        else one.received_ns
        for one in last_asks
    )
    return [
        number
        for number, request in enumerate(requests)
        if not clients[request.asked.client - 1].busy
        and request.asked.received_ns >= from_ns
        and request.asked.began_ns <= to_ns
    ]


def _is_greeting(recording: Recording, request: TracedRequest) -> bool:
    """Tell whether a request is the first of several of its client; its wait for a new process is not the scene's."""
    return request.asked.first_byte == 0 and len(recording.scene.clients[request.asked.client - 1].asks) > 1


class _Delays:
    """Computes how long the waits would be on an otherwise idle machine, by leaving out the measured run delay.

    A verdict is about the model. If a client waits for another one that has no core, the model is not the cause.
    """

    def __init__(self, stretches: list[list[Stretch]], requests: list[TracedRequest]) -> None:
        self._coreless = [
            (request.asked.client, one, core_ns / max(one.ns, 1))
            for request, some in zip(requests, stretches, strict=True)
            for one in some
            if (core_ns := sum(ns for owner, ns, _ in one.shares if owner is Owner.CORE))
        ]

    def caused_ns(self, stretches: list[Stretch]) -> float:
        """Return how long a request waited for another client or for the server's own work."""
        caused = 0.0
        for one in stretches:
            if one.owner in (Owner.QUEUE, Owner.SLICE, Owner.REPLY) and one.why is not Why.CORE:
                caused += one.ns - sum(
                    share * max(min(one.ended_ns, held.ended_ns) - max(one.began_ns, held.began_ns), 0)
                    for client, held, share in self._coreless
                    if client == one.who
                )
            caused += sum(ns for owner, ns, _ in one.shares if owner is Owner.LOCK)
        return caused


def _verdict(recording: Recording, waits: list[float]) -> SceneVerdict:
    if max(waits) >= recording.scene.hold_ms * 1e6 / 2:
        return SceneVerdict.HELD
    return SceneVerdict.TURNS if median(waits) >= recording.scene.turn_ms * 1e6 else SceneVerdict.FREE
