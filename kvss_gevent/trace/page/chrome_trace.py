"""A scene as a trace in Chrome's JSON format, which Perfetto (ui.perfetto.dev) and chrome://tracing open.

In the trace, every model is a process. Each client has a track with its requests and their parts; each thread of the
server has a track with its calls. Times are microseconds, as the format requires.
"""

from collections.abc import Iterator, Mapping
from typing import Any

SERVER_TRACK = 100
"""The number of the first track of the server's threads; a client's track has the client's number."""


def chrome_trace(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the trace of a page's data; see page_data."""
    events = [event for number, model in enumerate(data["models"], 1) for event in _events(number, model, data)]
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {
            "scene": data["scene"]["name"],
            "description": data["scene"]["description"],
            "conditions": data["conditions"],
        },
    }


def _events(process: int, model: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield _named("process_name", process, 0, model["name"])
    yield {"name": "process_sort_index", "ph": "M", "pid": process, "tid": 0, "args": {"sort_index": process}}
    for client in data["clients"]:
        yield _named("thread_name", process, client["number"], f"client {client['number']}")
    for request in model["requests"]:
        args = {name: request[name] for name in ("bytes", "reply_bytes", "codes")}
        track = request["client"]
        yield _slice((process, track), request["asks"], (request["began_us"], request["ended_us"]), args)
        for owner, why, who, began_us, ended_us, *shares in request["parts"]:
            part: dict[str, Any] = {"why": why}
            if who != track:
                part["waits for client"] = who
            part |= {f"without {name}, us": us for share in shares for name, us, _ in share}
            name = f"{owner} ({why})" if why != "self" else owner
            yield _slice((process, track), name, (began_us, ended_us), part)
    for thread in sorted({call[1] for call in model["calls"]}):
        yield _named("thread_name", process, SERVER_TRACK + thread, f"server's thread {thread + 1}")
    for _, thread, client, began_us, ended_us, cpu_us in model["calls"]:
        place = (process, SERVER_TRACK + thread)
        yield _slice(place, f"serves client {client}", (began_us, ended_us), {"processor, us": cpu_us})


def _named(what: str, process: int, track: int, name: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": process, "tid": track, "args": {"name": name}}


def _slice(place: tuple[int, int], name: str, times_us: tuple[float, float], args: Mapping[str, Any]) -> dict[str, Any]:
    (process, track), (began_us, ended_us) = place, times_us
    duration_us = max(round(ended_us - began_us, 1), 0)
    return {"name": name, "ph": "X", "pid": process, "tid": track, "ts": began_us, "dur": duration_us, "args": args}
