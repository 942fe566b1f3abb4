"""`kvss models`: lists the concurrency models. Their descriptions come from their files in models/."""

import json
import platform
import shutil
import textwrap
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import asdict

from kvss_gevent.models import DEFAULT, HONOURED_BY_PRODUCT_ALONE, MODULES, ModelCard, describe
from kvss_gevent.models.contract import gil_is_on
from kvss_gevent.settings.fail import Exit

INDENT = 14
WIDEST = 100

EPILOG = """\
examples:
  kvss models
  kvss serve --model threads

`kvss serve --model NAME` uses one of them. "loses" lists the cases of `kvss conform` that a model fails because of how
it works; `kvss conform --list` explains the cases.

exit codes: 0 printed, 2 wrong usage
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `kvss models`."""
    parser.epilog = EPILOG
    parser.add_argument("--json", action="store_true", help="print them as JSON")


def run(args: Namespace) -> int:
    """Print every model, whether or not it can run here; returns the exit code."""
    rows = [describe(name) for name in MODULES]
    if args.json:
        print(json.dumps(as_data(rows), indent=2))
    else:
        width = min(WIDEST, shutil.get_terminal_size().columns)
        print("\n".join(line for row in rows for line in as_text(row, width)))
        print(f"\nPython {platform.python_version()}, the GIL is {'on' if gil_is_on() else 'off'}.")
        print(textwrap.fill(NOTE, width))
    return Exit.OK


NOTE = (
    f"All share the session and the stores, and keep every rule of the protocol. Only {DEFAULT} refuses clients over "
    "--max-connections, ends those that are idle or slow, and answers received requests before it stops."
)


def as_data(rows: list[ModelCard]) -> dict[str, object]:
    """Return the models as data for JSON."""
    return {
        "python": platform.python_version(),
        "gil": gil_is_on(),
        "default": DEFAULT,
        "honoured_by_default_model_alone": list(HONOURED_BY_PRODUCT_ALONE),
        "models": [{**asdict(row), "available": not row.why_not} for row in rows],
    }


def as_text(row: ModelCard, width: int) -> Iterator[str]:
    """Yield the lines of one model: its name and idea first, the rest below."""
    yield from _item(row.name, row.idea or f"not available: {row.why_not}", width)
    yield from _item("", row.file, width)
    for limit in row.limits:
        yield from _item("", f"- {limit}", width)
    if row.loses:
        yield from _item("", f"loses {', '.join(row.loses)}", width)


def _item(name: str, text: str, width: int) -> list[str]:
    indent = " " * INDENT
    hanging = indent + "  " * text.startswith("- ")
    return textwrap.wrap(
        text, width, initial_indent=name.ljust(INDENT), subsequent_indent=hanging, break_on_hyphens=False
    )
