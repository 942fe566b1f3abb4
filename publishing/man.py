"""The manual page kvss.1, made of the parsers; `man kvss` shows it where the wheel is installed."""

import re
from collections.abc import Iterator
from pathlib import Path

from kvss_gevent import __version__
from kvss_gevent.cli import COMMANDS
from kvss_gevent.cli.parser import Parser
from kvss_gevent.settings.config import options, variable
from kvss_gevent.settings.variables import OTHERS
from publishing.help_text import SHARED_CODES, Kind, arguments, own_epilog, parts, synopsis

ROOT = Path(__file__).parent.parent
RELEASED = re.search(r"^## \[\d.*\] - (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
PAGE = Path(__file__).with_name("kvss.1")


def roff(text: str) -> str:
    """Return a text as roff prints it, with `code` in bold."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = re.sub("`([^`]*)`", r"\\fB\1\\fR", text)
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in text.splitlines())


def manual(parser: Parser) -> str:
    """Return the manual page of a whole parser."""
    return "\n".join([*_head(parser), *_commands(parser), *_tail()]) + "\n"


def _head(parser: Parser) -> Iterator[str]:
    date = RELEASED[1] if RELEASED else ""
    yield f'.TH KVSS 1 "{date}" "kvss {__version__}" "User Commands"'
    yield ".SH NAME"
    yield roff("kvss") + " \\- " + roff("a KV/1.0 key-value server on gevent, and what goes with it")
    yield ".SH SYNOPSIS"
    yield ".B kvss\n.I COMMAND\n[options]"
    yield ".SH DESCRIPTION"
    yield roff(str(parser.description))
    for name, summary in COMMANDS.items():
        yield f".TP\n.B {roff(name)}\n{roff(summary)}"


def _commands(whole: Parser) -> Iterator[str]:
    for parser in whole.walk():
        if parser is whole:
            continue
        depth = parser.prog.count(" ")
        yield f".{'SH' if depth == 1 else 'SS'} {roff(parser.prog if depth > 1 else parser.prog.upper())}"
        yield f".nf\n{roff(synopsis(parser))}\n.fi"
        yield f".PP\n{roff(str(parser.description))}"
        for argument in arguments(parser):
            yield f".TP\n.B {roff(argument.shown)}\n{roff(argument.says)}"
        yield from _epilog(own_epilog(parser, whole))


def _epilog(epilog: str) -> Iterator[str]:
    for part in parts(epilog):
        if part.kind is Kind.LABEL:
            yield f".PP\n.B {roff(part.text.capitalize())}"
        elif part.kind is Kind.ROWS:
            yield f".RS 2\n.nf\n{roff(part.text)}\n.fi\n.RE"
        else:
            yield f".PP\n{roff(part.text)}"


def _tail() -> Iterator[str]:
    yield ".SH ENVIRONMENT"
    yield f".TP\n.B {roff('KVSS_HOST, KVSS_PORT')}\n{roff('the address that commands use where none is given')}"
    for name, says in OTHERS.items():
        yield f".TP\n.B {name}\n{roff(says)}"
    names = ", ".join(variable(option.name) for option in options())
    yield f".PP\n{roff(f'Every setting of `kvss serve` has a variable, too: {names}.')}"
    yield ".SH EXIT STATUS"
    yield roff(f"Each command names its own. {SHARED_CODES}")
