"""The parser of every `kvss` command: help that fits the terminal, and errors that suggest what was meant."""

import argparse
import re
import textwrap
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from kvss_gevent.settings.fail import Fail

LABEL = re.compile(r"([a-z][a-z0-9 ();`,]*):( |$)")
"""The first words of a section of a help text, such as `examples:`."""
MISTYPED = 0.75
"""A word at least so similar to a subcommand is an error; any other word goes to the default subcommand."""
_TABLE_ROW = re.compile(r" +(?:\S+ )*\S+ {2,}(?=\S)")


class Parser(argparse.ArgumentParser):
    """An argument parser that raises its errors as Fail, with the usage of the command."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "formatter_class": Help, "allow_abbrev": False})
        self._words: Sequence[str] = ()
        self.default_word = ""
        """The subcommand to run if none is named; "" if one must be named."""

    def subcommands(self) -> dict[str, "Parser"]:
        """Return the parsers of the subcommands by name."""
        return {
            name: parser
            for action in self._actions
            if isinstance(action, argparse._SubParsersAction)
            for name, parser in action.choices.items()
        }

    def walk(self) -> Iterator["Parser"]:
        """Yield this parser, then those of all subcommands; a parser comes before those of its own subcommands."""
        yield self
        for parser in self.subcommands().values():
            yield from parser.walk()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and remember the words for `error`."""
        self._words = args or ()
        if self.default_word and (not args or args[0] not in {"-h", "--help", *self.subcommands()}):
            if args and get_close_matches(args[0], self.subcommands(), 1, MISTYPED):
                raise self._no_subcommand(args[0])
            args = [self.default_word, *args]
        return super().parse_known_args(args, namespace)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            raise self._no_subcommand(value)
        if action.choices is not None and value not in action.choices:
            words = [str(choice) for choice in action.choices]
            near = get_close_matches(str(value), words, 1)
            remedy = f"Did you mean {near[0]}?" if near else "Give one of them."
            cause = (
                f"{'/'.join(action.option_strings) or action.metavar} is {value!r}, which is none of {', '.join(words)}"
            )
            raise Fail(cause, remedy, usage=self.format_usage(), command=self.prog)

    def _no_subcommand(self, word: str) -> Fail:
        near = get_close_matches(word, self.subcommands(), 1)
        remedy = f"Did you mean `{self.prog} {near[0]}`?" if near else f"Give one of {', '.join(self.subcommands())}."
        usage = self.subcommands()[near[0]].format_usage() if near else self.format_usage()
        return Fail(f"there is no command {word!r}", remedy, usage=usage, command=self.prog)

    def error(self, message: str) -> NoReturn:
        """Raise the Fail for a message of argparse. An unknown option comes first: it often causes the other errors."""
        named = self  # argparse has the outermost parser report what a subcommand does not know
        for word in self._words:
            named = named.subcommands().get(word, named)
        usage = named.format_usage()
        surplus = message.startswith("unrecognized arguments: ")
        words = message.partition(": ")[2].split() if surplus else self._words if "required" in message else ()
        flags = [word.partition("=")[0] for word in words if word.startswith("-")]
        unknown = next((flag for flag in flags if flag not in named._option_string_actions), None)
        if unknown:
            near = get_close_matches(unknown, named._option_string_actions, 1)
            remedy = f"Did you mean {near[0]}?" if near else f"`{named.prog} --help` lists what it takes."
            raise Fail(f"there is no option {unknown}", remedy, usage=usage, command=named.prog)
        if surplus:
            message = f"{words[0]!r} is one word too many"
        remedy = f"`{named.prog} --help` says what it takes."
        if "required" in message and named.subcommands():
            message, remedy = "a command is missing", f"Give one of {', '.join(named.subcommands())}."
        raise Fail(message, remedy, usage=usage, command=named.prog)


def add_subcommand(words: Any, name: str, summary: str, epilog: str | None = None) -> Parser:
    """Add a subcommand to words, the result of add_subparsers. Its description is the summary as a sentence."""
    parser: Parser = words.add_parser(name, help=summary, description=sentence(summary), epilog=epilog)
    return parser


def sentence(summary: str) -> str:
    """Return a summary as a sentence: with a capital letter and a full stop."""
    return f"{summary[0].upper()}{summary[1:]}."


class Help(argparse.HelpFormatter):
    """Formats help: paragraphs are wrapped at the width of the terminal, tables keep their columns."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines: list[str] = []
        for line in text.splitlines():
            prose = line and not line[0].isspace()
            if prose and lines and lines[-1][:1].strip() and not lines[-1].endswith(":") and not LABEL.match(line):
                lines[-1] += f" {line}"
            else:
                lines.append(line.rstrip())
        return "\n".join(indent + filled for line in lines for filled in _wrapped(line, width - len(indent)))


def _wrapped(line: str, width: int) -> list[str]:
    """Return a paragraph or a table row as lines of at most width characters."""
    if len(line) <= width:
        return [line]
    row = _TABLE_ROW.match(line)
    hanging = len(row[0]) if row and len(row[0]) < width // 2 else len(line) - len(line.lstrip()) + (4 if row else 0)
    if row and len(row[0]) >= width // 2:
        line = " " * (len(line) - len(line.lstrip())) + re.sub(" {2,}", "  ", line.strip())
    return textwrap.wrap(line, width, subsequent_indent=" " * hanging, break_on_hyphens=False, break_long_words=False)
