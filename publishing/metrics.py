"""The page of the metrics of `kvss serve --metrics`, made of what the metrics page itself says of each."""

import re
from collections.abc import Iterator

from kvss_gevent.observe.openmetrics import render
from kvss_gevent.observe.shared_figures import SharedFigures

FAMILY = re.compile(r"^# TYPE (\w+) (\w+)\n(?:# UNIT \w+ (\w+)\n)?# HELP \w+ (.+)$", re.MULTILINE)


def page() -> Iterator[str]:
    """Yield the lines of the page."""
    yield "# Metrics\n\n`make reference` makes this page from the code. [Running the server](../serve.md#metrics)"
    yield "says how to ask for metrics. The page is made at most every 0.1 s."
    yield "The name of a counter has `_total` behind it on the metrics page.\n"
    yield "| metric | kind | unit | what it tells |\n|---|---|---|---|"
    text = render(SharedFigures(1), 0, 0, 0.0)
    for name, kind, unit, says in FAMILY.findall(text):
        yield f"| `{name}` | {kind} | {unit} | {says} |"
