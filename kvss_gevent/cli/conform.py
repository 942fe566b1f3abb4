"""`kvss conform`: grades any KV/1.0 server from outside. The cases and their running are in conformance/."""

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from kvss_gevent.conformance import export, report
from kvss_gevent.conformance.cases import GROUPS
from kvss_gevent.conformance.runner import DEFAULT_TIMEOUT_S, Plan, Unreachable, choose, grade, join_address
from kvss_gevent.conformance.stats_forms import ANY, LAB, README
from kvss_gevent.settings.fail import Exit, Fail

SUMMARY = "grade any KV/1.0 server"

INTERRUPTED = 130

_EPILOG = f"""\
examples:
  kvss conform 127.0.0.1:5050
  kvss conform 127.0.0.1:5050 --group STATS --json
  kvss conform --list

groups: {", ".join(GROUPS)}
exit codes: 0 every case passed, 1 a case failed, 2 usage,
            3 nothing answers at HOST:PORT, 130 interrupted

A run leaves some 200 small keys in the server, all beginning with conform-;
every run uses new ones."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `kvss conform`."""
    parser.epilog = _EPILOG
    parser.add_argument("target", nargs="?", type=_target, metavar="HOST:PORT", help="the server, such as [::1]:5050")
    parser.add_argument("--json", action="store_true", help="print the scorecard as JSON")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="also write it to FILE as JUnit XML")
    parser.add_argument("--group", nargs="+", action="extend", default=[], metavar="NAME", help="only these groups")
    parser.add_argument(
        "--stats-format", choices=(README, LAB, ANY), default=ANY, help="the form of STATS (default: any of the two)"
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=DEFAULT_TIMEOUT_S,
        metavar="S",
        help="seconds for a case (default: %(default)g)",
    )
    parser.add_argument("--list", action="store_true", help="list the cases instead of running them")


def run(args: Namespace) -> int:
    """Grade the server, or list the cases; returns the exit code."""
    groups = tuple(_group(name) for name in args.group)
    if args.list:
        cases = choose(groups, README if args.stats_format == ANY else args.stats_format)
        print(export.cases_as_json(cases) if args.json else report.list_cases(cases), end="")
        return Exit.OK
    if args.target is None:
        raise Fail("HOST:PORT is missing", "give the address of the server, such as: kvss conform 127.0.0.1:5050")
    if args.junit:
        _write(args.junit, b"", "ab")
    try:
        return _grade(args, Plan(groups, args.stats_format, args.timeout))
    except KeyboardInterrupt:
        raise Fail("interrupted", "nothing was graded", INTERRUPTED) from None


def _grade(args: Namespace, plan: Plan) -> int:
    host, port = args.target
    try:
        card = grade(host, port, plan, _show_progress)
    except Unreachable as unreachable:
        where = join_address(host, port)
        if args.junit:
            _write(args.junit, export.unreachable_as_junit(where, str(unreachable)))
        if args.json:
            print(export.unreachable_as_json(where, str(unreachable)), end="")
        cause = f"nothing answers at {where}: {unreachable}"
        raise Fail(cause, "start the server first, or check the address", Exit.UNREACHABLE) from None
    if args.junit:
        _write(args.junit, export.as_junit(card))
    print(export.as_json(card) if args.json else report.as_text(card), end="")
    return Exit.FAILED if card.failures else Exit.OK


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\r" + " " * 20 + "\r" if done == total else ""
        print(f"\r{done} of {total} cases", end=end, file=sys.stderr, flush=True)


def _write(file: Path, data: bytes, mode: str = "wb") -> None:
    try:
        with file.open(mode) as stream:
            stream.write(data)
    except OSError as error:
        raise Fail(
            f"cannot write {file}: {(error.strerror or str(error)).lower()}", "give --junit another file"
        ) from None


def _group(name: str) -> str:
    found = next((group for group in GROUPS if group.lower() == name.lower()), None)
    if found is None:
        raise Fail(f"there is no group {name!r}", f"the groups are: {', '.join(GROUPS)}; HOST:PORT goes before --group")
    return found


def _target(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ArgumentTypeError(f"{text!r} is ambiguous: write an IPv6 address in brackets, such as [::1]:5050")
    if not (colon and host and port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise ArgumentTypeError(f"{text!r} is no HOST:PORT, such as 127.0.0.1:5050")
    return host, int(port)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.01 <= seconds <= 3600:
        raise ArgumentTypeError(f"{text!r} is no number of seconds from 0.01 to 3600")
    return seconds
