"""The page of a flight recording: the calls that held the loop longest, a picture of them, and the calls after them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from typing import Any

from kvss_gevent.pages.tables import Cell, table
from kvss_gevent.trace.events import Event, What
from kvss_gevent.trace.flight import Flight
from kvss_gevent.trace.page.code_lines import line_of
from kvss_gevent.trace.page.scene_page import BUTTONS, page, picture

AROUND_NS = 60_000_000
"""How long before and after the longest hold the picture begins and ends."""
MOST_CALLS = 3000
NAMED = 6
"""The number of connections with their own colour, those that held the loop longest; the others share one colour."""
LISTED = 20

BUTTONS_OF_ONE = tuple(button for button in BUTTONS if button[0] in ("in", "out", "reset"))

Hold = tuple[int, Event]
"""The time for which a call held its thread, in ns, and the call."""


def holds_of(flight: Flight) -> list[Hold]:
    """Return all calls, each with the time for which it held its thread: its length less its waits for the store."""
    waited_ns: defaultdict[int, int] = defaultdict(int)
    found = []
    for event in flight.events:
        if event[0] is What.STORE:  # it ended before the call that it is in
            waited_ns[event[1]] += event[3] - event[2]
        elif event[0] in (What.RECEIVE, What.PROCEED):
            found.append((event[3] - event[2] - waited_ns.pop(event[1], 0), event))
    return found


def taken_up_after(hold: Hold, holds: Sequence[Hold]) -> list[Event]:
    """Return the calls that began soon after a hold, within a tenth of its length: most of them waited for it."""
    held_ns, event = hold
    until_ns = event[3] + max(held_ns // 10, 1_000_000)
    return [one for _, one in holds if event[3] <= one[2] <= until_ns and one[1] != event[1]]


def render(flight: Flight) -> str:
    """Return the page of a recording that has at least one call."""
    holds = holds_of(flight)
    longest = longest_of(flight)
    description = f"{flight.model}, process {flight.process}, written {flight.written}: {flight.why}"
    sentence = said(flight)
    head = ("held the loop, ms", "request", "connection", "began right after")
    body = f"""
<h1>Who held the loop</h1>
<p class="description">{escape(description)}</p>
{picture(BUTTONS_OF_ONE)}
<div class="after">
<p>{escape(sentence)}</p>
<h2>The longest of {len(holds):,} calls in the last {flight.seconds:g} s</h2>
{table(head, [_row(hold, holds) for hold in longest], sortable=True)}
<div class="code"></div>
<p class="lead">A server does not know when a request arrived. It only knows when it began to handle it. Most requests
that it began to handle right after a long call had waited for that call.</p></div>
<div class="tip" role="tooltip"></div>
"""
    return page("Who held the loop", body, _data(flight, holds, longest, sentence))


def _row(hold: Hold, holds: Sequence[Hold]) -> tuple[Cell, ...]:
    held_ns, event = hold
    after = len(taken_up_after(hold, holds))
    return (f"{held_ns / 1e6:.2f}", held_ns / 1e6), event[6].decode(), str(event[1]), (str(after), after)


def longest_of(flight: Flight) -> list[Hold]:
    """Return the calls that held their thread longest, the longest first; none if there was no request."""
    return sorted(holds_of(flight), key=lambda one: -one[0])[:LISTED]


def said(flight: Flight) -> str:
    """Return the sentences about the longest hold."""
    held_ns, event = hold = longest_of(flight)[0]
    after = taken_up_after(hold, holds_of(flight))
    text = f"{event[6].decode()} of connection {event[1]} held the loop for {held_ns / 1e6:.1f} ms."
    if not after:
        return f"{text} No other request began right after it."
    others = len({one[1] for one in after})
    first_ms = (min(one[2] for one in after) - event[3]) / 1e6
    served = "1 connection was served" if others == 1 else f"{others} connections were served"
    return f"{text} Right after it {served}, the first {first_ms:.1f} ms later."


def _data(flight: Flight, holds: Sequence[Hold], longest: Sequence[Hold], sentence: str) -> dict[str, Any]:
    """Return the page's data in the form of page_data, with connections instead of clients."""
    held_ns, event = longest[0]
    start_ns, end_ns = event[2] - AROUND_NS, event[3] + AROUND_NS
    shown = [hold for hold in holds if hold[1][3] >= start_ns and hold[1][2] <= end_ns][:MOST_CALLS]
    named = list(dict.fromkeys(one[1] for _, one in longest))[:NAMED]
    others = len(named) + 1

    def us(ns: float) -> float:
        return float(round((ns - start_ns) / 1000, 1))

    requests, calls = [], []
    for _, (_, connection, began, ended, bytes_in, bytes_out, words) in shown:
        client = named.index(connection) + 1 if connection in named else others
        request = {"client": client, "asks": words.decode(), "began_us": us(began), "ended_us": us(ended)}
        request |= {"bytes": bytes_in, "reply_bytes": bytes_out, "codes": f"connection {connection}"}
        requests.append({**request, "parts": [["served", "self", client, us(began), us(ended)]]})
        calls.append([0, 0, client, us(began), us(ended), us(ended) - us(began)])
    model = {
        "name": flight.model,
        "idea": "",
        "label": [f"held for {held_ns / 1e6:.0f} ms", event[6].decode()],
        "sentence": sentence,
        "code": asdict(line_of(flight.model)),
        "requests": requests,
        "calls": calls,
    }
    return {
        "flight": True,
        "scene": {"name": f"flight-{flight.process}", "title": "Who held the loop", "description": flight.why},
        "conditions": f"process {flight.process}, {flight.written}",
        "cores": 1,
        "end_us": us(end_ns),
        "clients": [
            *({"number": number, "busy": True, "name": str(one)} for number, one in enumerate(named, 1)),
            {"number": others, "busy": False, "name": "others"},
        ],
        "models": [model],
    }
