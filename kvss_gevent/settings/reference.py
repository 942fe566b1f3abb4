"""What is shown of the settings: --print-config, and the tables of docs/serve.md.

`python -m kvss_gevent.settings.reference docs/serve.md` makes the tables in the document anew.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kvss_gevent.settings.config import flag, key, options, variable
from kvss_gevent.settings.signals import TABLE
from kvss_gevent.settings.sources import Settings


def print_config(settings: Settings) -> Iterator[str]:
    """Yield the lines of a TOML file with every value, each followed by where the value comes from."""
    for option in options():
        value = option.metadata["kind"].show(getattr(settings.config, option.name))
        yield f"{f'{key(option.name)} = {_quoted(value)}':<40} # {settings.origins[option.name]}"


def options_table() -> Iterator[str]:
    """Yield a Markdown table of all settings."""
    yield "| flag | variable | key in a file | default | what it is | SIGHUP |"
    yield "|---|---|---|---|---|---|"
    for option in options():
        kind: Any = option.metadata["kind"]
        word = "HOST" if option.name == "host" else flag(option.name)
        takes = "" if option.name == "host" or not kind.placeholder else f" {kind.placeholder}".replace("|", "\\|")
        yield (
            f"| `{word}{takes}` | `{variable(option.name)}` | `{key(option.name)}` "
            f"| {(kind.says or kind.show)(option.default)} | {option.metadata['help']} "
            f"| {'changes' if option.metadata['reload'] else 'stays'} |"
        )


def signals_table() -> Iterator[str]:
    """Yield a Markdown table of all signals."""
    yield "| signal | what the server does |"
    yield "|---|---|"
    for row in TABLE:
        yield f"| {', '.join(f'`{name}`' for name in row.names)} | {row.says} |"


def with_tables(document: str) -> str:
    """Return a Markdown document with its tables of settings and signals made anew."""
    for table in (options_table(), signals_table()):
        lines = list(table)
        made = "".join(f"{line}\n" for line in lines).replace("\\", r"\\")
        document = re.sub(re.escape(lines[0]) + r"\n(?:\|.*\n)*", made, document)
    return document


def _quoted(text: str) -> str:
    escaped = "".join(
        f"\\u{ord(character):04x}" if ord(character) < 32 or ord(character) == 127 else character
        for character in text.replace("\\", "\\\\").replace('"', '\\"')
    )
    return f'"{escaped}"'


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
