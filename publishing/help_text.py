"""What the parsers say of a command, in parts from which the manual and the reference are made."""

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from kvss_gevent.cli.parser import LABEL, Parser

SHARED_CODES = "All share 130 after Ctrl-C, and 141 where the reader of the output has left."


class Kind(Enum):
    """What a part of a text is."""

    LABEL = auto()
    PARAGRAPH = auto()
    ROWS = auto()
    """Lines that stay as they are."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a text; a label has no colon, rows keep their line feeds."""

    kind: Kind
    text: str


def parts(epilog: str) -> Iterator[Part]:
    """Yield the parts of an epilog: labels such as `examples`, paragraphs, and indented rows."""
    for block in re.split(r"\n\s*\n", epilog.strip("\n")):
        lines = block.splitlines()
        while lines:
            if lines[0].startswith(" "):
                end = next((n for n, line in enumerate(lines) if not line.startswith(" ")), len(lines))
                yield Part(Kind.ROWS, "\n".join(lines[:end]))
                lines = lines[end:]
                continue
            if label := LABEL.match(lines[0]):
                yield Part(Kind.LABEL, label[1])
                lines[0] = lines[0][label.end() :]
                hanging = lines[0] and len(lines) > 1 and lines[1].startswith("   ")
                if hanging:  # `exit codes: 0 done,` goes on in lines of its own
                    lines = [line.strip() for line in lines]
            ends = (n for n, line in enumerate(lines) if n and (line.startswith(" ") or LABEL.match(line)))
            end = next(ends, len(lines))
            if text := " ".join(line.strip() for line in lines[:end]).strip():
                yield Part(Kind.PARAGRAPH, text)
            lines = lines[end:]


@dataclass(frozen=True, slots=True)
class Argument:
    """A row of the arguments of a command: names with what they take, such as `-r N`, and what it does."""

    names: tuple[str, ...]
    takes: str
    says: str

    @property
    def shown(self) -> str:
        """The row's left side."""
        return ", ".join(f"{name} {self.takes}".strip() for name in self.names) or self.takes


def arguments(parser: Parser) -> Iterator[Argument]:
    """Yield the options and words of a command, without its subcommands."""
    formatter = parser._get_formatter()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) or action.help == argparse.SUPPRESS:
            continue
        takes = formatter._format_args(action, str(action.metavar or action.dest.upper())) if action.nargs != 0 else ""
        if action.choices is not None and action.metavar is None:
            takes = "|".join(map(str, action.choices))
        yield Argument(tuple(action.option_strings), takes, formatter._expand_help(action))


def own_epilog(parser: Parser, whole: Parser) -> str:
    """Return the epilog of a command; "" for a subcommand that has its command's."""
    command = whole.subcommands()[parser.prog.split()[1]]
    return "" if parser is not command and parser.epilog == command.epilog else parser.epilog or ""


def synopsis(parser: Parser) -> str:
    """Return how a command is called."""
    if parser.usage:
        return parser.usage
    if parser.subcommands():
        return f"{parser.prog} [options] COMMAND ..."
    words = [argument.takes for argument in arguments(parser) if not argument.names]
    return " ".join((parser.prog, "[options]", *words))
