"""The data of a scene's page, made from its analyses: plain lists and numbers, so that a script can check them.

Times are microseconds from the scene's start, rounded to a tenth. Each boundary between two parts of a request is
rounded once, so that the parts still sum to the request's time.
"""

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from kvss_gevent import models
from kvss_gevent.trace.analysis.causes import Why
from kvss_gevent.trace.analysis.parts import Call, Owner, calls_of
from kvss_gevent.trace.analysis.scene_verdict import SceneAnalysis
from kvss_gevent.trace.analysis.sentences import counted, row_label, sentence, summary
from kvss_gevent.trace.page.code_lines import line_of

BUSY_SHARE = 0.1
"""The page warns if requests had no core for more than this share of their time."""


def page_data(analyses: Sequence[SceneAnalysis]) -> dict[str, Any]:
    """Return the data of a page about one scene, with the models sorted by their longest wait, longest first."""
    scene = analyses[0].recording.scene
    ranked = sorted(analyses, key=lambda analysis: -analysis.wait_ns)
    return {
        "scene": {
            "name": scene.name,
            "title": scene.title,
            "description": scene.description,
            "question": scene.question,
            "answers": list(scene.answers),
            "right": scene.right,
            "because": scene.because,
        },
        "summary": [*summary(ranked), counted(ranked)],
        "conditions": conditions(analyses),
        "warning": warning(analyses),
        "cores": os.cpu_count() or 1,
        "end_us": max(_us(analysis, analysis.recording.played.end_ns) for analysis in analyses),
        "clients": [
            {"number": number, "busy": client.busy, "asks": max((ask.label for ask in client.asks), key=len)}
            for number, client in enumerate(scene.clients, 1)
        ],
        "models": [_model(analysis) for analysis in ranked],
    }


def conditions(analyses: Sequence[SceneAnalysis]) -> str:
    """Return a sentence about the machine and how busy it was."""
    python, cores = platform.python_version(), os.cpu_count()
    machine = f"Python {python} on {platform.system()}, {cores} cores, clients and server on one machine"
    return f"{machine}; requests were ready without a core for {coreless_share(analyses):.1%} of their time"


def warning(analyses: Sequence[SceneAnalysis]) -> str:
    """Return a warning if the machine was busy with other work, else "".

    If the requests of as many clients compute as there are cores, they take cores from each other: then no warning.
    """
    share = coreless_share(analyses)
    clients = analyses[0].recording.scene.clients
    computing = sum(any(b" BURN " in ask.packet for ask in client.asks) for client in clients)
    if share < BUSY_SHARE or computing >= (os.cpu_count() or 1):
        return ""
    return (
        f"This machine was busy: requests were ready without a core for {share:.0%} of their time, hatched in grey. "
        "Bars are longer than they should be. Measure again when nothing else runs."
    )


def coreless_share(analyses: Sequence[SceneAnalysis]) -> float:
    """Return the share of their time in which requests were ready but had no core; it is high on a busy machine."""
    stretches = [one for analysis in analyses for request in analysis.stretches for one in request]
    shares = sum(ns for one in stretches for owner, ns, _ in one.shares if owner is Owner.CORE)
    return (shares + sum(one.ns for one in stretches if one.why is Why.CORE)) / max(sum(one.ns for one in stretches), 1)


def _model(analysis: SceneAnalysis) -> dict[str, Any]:
    module = models.load(analysis.model)
    threads: dict[tuple[int, int], int] = {}
    calls = [call for call in calls_of(analysis.recording) if call.client]
    for call in calls:
        threads.setdefault(call.place, len(threads))
    return {
        "name": analysis.model,
        "idea": module.IDEA,
        "label": row_label(analysis),
        "sentence": sentence(analysis),
        "verdict": str(analysis.verdict),
        "wait_us": round(analysis.wait_ns / 1e3, 1),
        "longest": analysis.longest,
        "code": asdict(line_of(analysis.model)),
        "requests": [_request(analysis, number) for number in range(len(analysis.requests))],
        "processes": len({process for process, _ in threads}),
        "calls": [_call(analysis, call, threads) for call in calls],
    }


def _request(analysis: SceneAnalysis, number: int) -> dict[str, Any]:
    asked = analysis.requests[number].asked
    return {
        "client": asked.client,
        "asks": asked.label,
        "began_us": _us(analysis, asked.began_ns),
        "ended_us": _us(analysis, asked.received_ns),
        "bytes": asked.end_byte - asked.first_byte,
        "reply_bytes": asked.reply_end_byte - asked.reply_first_byte,
        "codes": " ".join(asked.codes),
        "parts": [
            [
                str(one.owner),
                str(one.why),
                one.who,
                _us(analysis, one.began_ns),
                _us(analysis, one.ended_ns),
                *([[[str(owner), round(ns / 1e3, 1), who] for owner, ns, who in one.shares]] if one.shares else []),
            ]
            for one in analysis.stretches[number]
            if one.ns
        ],
    }


def _call(analysis: SceneAnalysis, call: Call, threads: dict[tuple[int, int], int]) -> list[float]:
    """Return [process, thread, client, began, ended, CPU time], times in us."""
    noted = call.noted
    return [
        noted.process,
        threads[call.place],
        call.client,
        _us(analysis, noted.began_ns),
        _us(analysis, noted.ended_ns),
        round(max(call.own_cpu_ns, 0) / 1e3, 1),
    ]


def _us(analysis: SceneAnalysis, ns: int) -> float:
    return round((ns - analysis.recording.played.start_ns) / 1e3, 1)
