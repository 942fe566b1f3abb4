"""Experiment 22: the lines of code of each model."""

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

import kvss_gevent
from kvss_gevent import models
from kvss_gevent.compare.experiments import Panel, Statement
from kvss_gevent.compare.measuring.contestant import label_of, model_of
from kvss_gevent.compare.measuring.experiment_context import ExperimentContext
from kvss_gevent.compare.rows import Point
from kvss_gevent.compare.summary import Seen

TITLE = "Lines of code of each model"
VARIES = "nothing"
TEACHES = (
    "A model also differs in how hard it is to write and read. Blocking code is the shortest; callbacks cost lines; "
    "and most of the product's lines are for limits and an orderly end, not for speed."
)
BY_HAND = "wc -l kvss_gevent/models/*.py"
CORE = True
REPEATS = 1
PANELS = (
    Panel(
        "lines",
        "lines of code, without comments, docstrings and blank lines",
        kind="dots",
        title="What each model is in lines, the session and the store apart",
        log_x=False,
    ),
)

SHARED = {
    "threads": ("contract.py",),
    "sequential": ("contract.py",),
    "pool": ("contract.py", "threads.py"),
    "fork": ("contract.py", "processes.py"),
    "prefork": ("contract.py", "processes.py"),
    "uvloop": ("asyncio_protocol.py",),
}
"""Other files of the folder of models that a model uses."""

PRODUCT = (
    "server/gevent_server.py",
    "server/connection_loop.py",
    "server/connection.py",
    "server/accepting/listener.py",
)


def measure(context: ExperimentContext) -> Iterator[Point]:
    """Count the lines of the contestant's files."""
    root = Path(kvss_gevent.__file__).parent
    model = model_of(context.contestant)
    if model == models.DEFAULT:
        files = [root / name for name in PRODUCT]
    else:
        files = [root / "models" / name for name in (f"{models.MODULES[model]}.py", *SHARED.get(model, ()))]
    yield Point(0, {"lines": sum(count(file.read_text()) for file in files), "files": len(files)})


def count(source: str) -> int:
    """Return how many lines have code on them."""
    code = {
        line
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type in (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING)
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            code -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(code)


def findings(seen: Seen) -> Iterator[Statement]:
    """Say which model is the shortest and which the longest."""
    ranked = seen.ranking("lines", at=0)
    if len(ranked) > 1:
        (short, least), (long, most) = ranked[0], ranked[-1]
        yield Statement(
            f"{label_of(short)} is {least.median:.0f} lines and {label_of(long)} {most.median:.0f}, with what they "
            "share with other models."
        )
