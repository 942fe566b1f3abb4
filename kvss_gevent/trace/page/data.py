"""A scene's stories as the data that its page holds: plain lists and numbers, so that a script can check them.

Times are microseconds from the scene's start. A request's boundaries are rounded once, each to a tenth: the parts of a
request lie end to end, so they sum to its time.
"""

import os
import platform
from collections.abc import Sequence
from typing import Any

from kvss_gevent import models
from kvss_gevent.trace.analysis.causes import Why
from kvss_gevent.trace.analysis.parts import Call, Owner, calls_of
from kvss_gevent.trace.analysis.scene_verdict import Story
from kvss_gevent.trace.analysis.sentences import counted, row_label, sentence, summary
from kvss_gevent.trace.page.code_lines import line_of

BUSY_SHARE = 0.1
"""From here on a page warns."""


def page_data(stories: Sequence[Story]) -> dict[str, Any]:
    """Return the data of a page about one scene, with the models sorted by their longest wait, longest first."""
    scene = stories[0].recording.scene
    ranked = sorted(stories, key=lambda story: -story.wait_ns)
    return {
        "scene": {
            "name": scene.name,
            "title": scene.title,
            "told": scene.told,
            "question": scene.question,
            "answers": list(scene.answers),
            "right": scene.right,
            "because": scene.because,
        },
        "summary": [*summary(ranked), counted(ranked)],
        "conditions": conditions(stories),
        "warning": warning(stories),
        "cores": os.cpu_count() or 1,
        "end_us": max(_us(story, story.recording.played.end_ns) for story in stories),
        "clients": [
            {"number": number, "busy": client.busy, "asks": max((ask.label for ask in client.asks), key=len)}
            for number, client in enumerate(scene.clients, 1)
        ],
        "models": [_model(story) for story in ranked],
    }


def conditions(stories: Sequence[Story]) -> str:
    """Return on what recordings were made, and how busy the machine was."""
    python, cores = platform.python_version(), os.cpu_count()
    machine = f"Python {python} on {platform.system()}, {cores} cores, clients and server on one machine"
    return f"{machine}; requests were ready without a core for {coreless_share(stories):.1%} of their time"


def warning(stories: Sequence[Story]) -> str:
    """Return what to say of a machine that did other things meanwhile; nothing where it was quiet.

    Where as many clients have something computed as there are cores, they take each other's: nothing is said.
    """
    share = coreless_share(stories)
    clients = stories[0].recording.scene.clients
    computing = sum(any(b" BURN " in ask.packet for ask in client.asks) for client in clients)
    if share < BUSY_SHARE or computing >= (os.cpu_count() or 1):
        return ""
    return (
        f"This machine was busy: requests were ready without a core for {share:.0%} of their time, hatched in grey. "
        "Bars are longer than they should be. Measure again when nothing else runs."
    )


def coreless_share(stories: Sequence[Story]) -> float:
    """Return for which share of their time requests had no core although they were ready: a busy machine has much."""
    stretches = [one for story in stories for request in story.stretches for one in request]
    shares = sum(ns for one in stretches for owner, ns, _ in one.shares if owner is Owner.CORE)
    return (shares + sum(one.ns for one in stretches if one.why is Why.CORE)) / max(sum(one.ns for one in stretches), 1)


def _model(story: Story) -> dict[str, Any]:
    module = models.load(story.model)
    threads: dict[tuple[int, int], int] = {}
    calls = [call for call in calls_of(story.recording) if call.client]
    for call in calls:
        threads.setdefault((call.noted.process, call.thread), len(threads))
    return {
        "name": story.model,
        "idea": module.IDEA,
        "label": row_label(story),
        "sentence": sentence(story),
        "verdict": str(story.verdict),
        "wait_us": round(story.wait_ns / 1e3, 1),
        "longest": story.longest,
        "code": line_of(story.model).as_data(),
        "requests": [_request(story, number) for number in range(len(story.requests))],
        "processes": len({process for process, _ in threads}),
        "calls": [_call(story, call, threads) for call in calls],
    }


def _request(story: Story, number: int) -> dict[str, Any]:
    asked = story.requests[number].asked
    return {
        "client": asked.client,
        "asks": asked.label,
        "began_us": _us(story, asked.began_ns),
        "ended_us": _us(story, asked.received_ns),
        "bytes": asked.end_byte - asked.first_byte,
        "reply_bytes": asked.reply_end_byte - asked.reply_first_byte,
        "codes": " ".join(asked.codes),
        "parts": [
            [
                str(one.owner),
                str(one.why),
                one.who,
                _us(story, one.began_ns),
                _us(story, one.ended_ns),
                *([[[str(owner), round(ns / 1e3, 1), who] for owner, ns, who in one.shares]] if one.shares else []),
            ]
            for one in story.stretches[number]
            if one.ns
        ],
    }


def _call(story: Story, call: Call, threads: dict[tuple[int, int], int]) -> list[float]:
    """Return [process, thread, client, began, ended, processor time], times in us."""
    noted = call.noted
    return [
        noted.process,
        threads[noted.process, call.thread],
        call.client,
        _us(story, noted.began_ns),
        _us(story, noted.ended_ns),
        round(max(call.own_cpu_ns, 0) / 1e3, 1),
    ]


def _us(story: Story, ns: int) -> float:
    return round((ns - story.recording.played.start_ns) / 1e3, 1)
