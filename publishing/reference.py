"""`python -m publishing.reference`: makes docs/reference/ and the manual page kvss.1 of the code."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from kvss_gevent.cli import whole_parser
from kvss_gevent.cli.parser import Parser
from publishing import api, man, metrics
from publishing.help_text import SHARED_CODES, Kind, arguments, own_epilog, parts, synopsis

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "reference"
EXIT_CODES = "exit codes"
NUMBER = re.compile(r"(^|[;,] )(\d+(?: \+ N)?)(?= )")
"""An exit code at the begin of what it means."""


def commands(whole: Parser) -> Iterator[str]:
    """Yield the lines of the page of commands."""
    yield "# Commands\n\n`make reference` makes this page from the parsers. `kvss COMMAND --help` prints the same.\n"
    yield "## Exit codes\n"
    yield f"Each command names its own. {SHARED_CODES}\n"
    yield "| command | exit codes |\n|---|---|"
    for name, parser in whole.subcommands().items():
        codes = NUMBER.sub(r"\1**\2**", cell(exit_codes(parser)))
        yield f"| [`kvss {name}`](#kvss-{name}) | {codes} |"
    for parser in whole.walk():
        if parser is not whole:
            yield from _command(parser, whole)


def exit_codes(parser: Parser) -> str:
    """Return what the help of a command says of its exit codes, as one line; "" for nothing."""
    found = list(parts(parser.epilog or ""))
    for label, part in pairwise(found):
        if label.kind is Kind.LABEL and label.text.startswith(EXIT_CODES):
            rows = re.split(r"\n *| {3,}(?=\d)", part.text.strip())
            return "; ".join(re.sub(" {2,}", " ", row) for row in sorted(rows, key=_leading_number))
    return ""


def _leading_number(row: str) -> int:
    number = re.match(r"\d+", row)
    return int(number[0]) if number else 0


def cell(text: str) -> str:
    """Return a text as a cell of a Markdown table."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def _command(parser: Parser, whole: Parser) -> Iterator[str]:
    depth = parser.prog.count(" ")
    yield f"\n{'#' * (depth + 1)} {parser.prog}\n"
    yield f"{parser.description}\n\n```text\n{synopsis(parser)}\n```\n"
    yield "| argument | what it does |\n|---|---|"
    for argument in arguments(parser):
        yield f"| `{argument.shown.replace('|', api.BAR)}` | {cell(argument.says)} |"
    yield from _epilog(own_epilog(parser, whole))


def _epilog(epilog: str) -> Iterator[str]:
    for part in parts(epilog):
        if part.kind is Kind.ROWS:
            yield f"\n```text\n{part.text}\n```"
        else:
            mark = "**" if part.kind is Kind.LABEL else ""
            yield f"\n{mark}{cell(part.text.capitalize() if mark else part.text)}{mark}"


def made() -> dict[Path, str]:
    """Return what is made of the code: files and their content."""
    return {
        FOLDER / "commands.md": "\n".join(commands(whole_parser())) + "\n",
        FOLDER / "api.md": "\n".join(api.page()) + "\n",
        FOLDER / "metrics.md": "\n".join(metrics.page()) + "\n",
        man.PAGE: man.manual(whole_parser()),
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path, content in made().items():
        path.write_text(content, encoding="utf-8")
        print(path.relative_to(ROOT))
