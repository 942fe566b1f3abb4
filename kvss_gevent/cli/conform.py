"""`kvss conform`: grades any KV/1.0 server over the network. The folder conformance/ has the cases and runs them."""

import json
import os
import socket
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kvss_gevent.cli.client import add_connection_options, password_of, tls_of
from kvss_gevent.client.client_connection import reason
from kvss_gevent.client.client_options import ClientConfig, ClientOptions
from kvss_gevent.client.terminal.printing import tls_remedy
from kvss_gevent.conformance import export, report, transcript
from kvss_gevent.conformance.case import PROFILES, PROJECT
from kvss_gevent.conformance.case_plan import (
    DEFAULT_BUDGET_S,
    DEFAULT_TIMEOUT_S,
    Plan,
    check_weights,
    check_words,
    planned,
)
from kvss_gevent.conformance.cases import EXTENSION_GROUPS, GROUPS
from kvss_gevent.conformance.process.shell_command import ShellCommand
from kvss_gevent.conformance.process.submission import Submission
from kvss_gevent.conformance.running.opening import ClientRefused
from kvss_gevent.conformance.running.probe import Unreachable
from kvss_gevent.conformance.running.runner import grade, grade_submission
from kvss_gevent.conformance.score import Scorecard
from kvss_gevent.conformance.stats_forms import ANY, LAB, README
from kvss_gevent.conformance.translation import LANGUAGES, from_environment, speaker
from kvss_gevent.settings.addresses import Endpoint, only_endpoint
from kvss_gevent.settings.fail import Exit, Fail
from kvss_gevent.settings.kinds import seconds
from kvss_gevent.settings.named_files import UnreadableFile, read_parsed

if TYPE_CHECKING:
    import ssl

INTERRUPTED = 130
MAX_WEIGHTS_BYTES = 1 << 20
WEIGHTS = '{"framing": 2, "put-new": 3}'

_EPILOG = f"""\
examples:
  kvss conform 127.0.0.1:5050
  kvss conform 127.0.0.1:5050 --group STATS --json
  kvss conform --user ann 127.0.0.1:5050
  kvss conform --ca ca.pem localhost:5050
  kvss conform --list

groups: {", ".join(GROUPS)};
        only if named: {", ".join(EXTENSION_GROUPS)}
exit codes: 0 every case passed, 1 a case failed, 2 wrong usage,
            3 nothing answers at HOST:PORT, its TLS or the login fails, or
              the command does not start,
            130 interrupted (the results so far are printed and written)

A run leaves about 1,500 small keys in the server; their names begin with
conform-. Every run uses new keys.

With --user every connection logs in first, unseen by the cases. The password is
the first line of --password-file, else $KVSS_PASSWORD, else you are asked for it.
A run has about 400 logins: for this project's server it takes 20 seconds.
Over TLS the three cases that close the sending side alone are not run."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `kvss conform`."""
    parser.epilog = _EPILOG
    parser.add_argument("target", nargs="*", metavar="HOST:PORT", help="the server, such as [::1]:5050")
    parser.add_argument(
        "--command",
        metavar="CMD",
        help="start this server and grade it, such as 'java Server {port}'; without {port} it must listen on 5050. "
        "The checker restarts it after a crash, limits it, and at the end stops all its processes. This is no sandbox",
    )
    parser.add_argument("--in", dest="directory", type=Path, metavar="DIR", help="the working directory of --command")
    parser.add_argument(
        "--profile",
        choices=tuple(PROFILES),
        default=PROJECT,
        help="the document that decides which cases give points; the others are advice (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the scorecard as JSON")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="also write the scorecard to FILE as JUnit XML")
    parser.add_argument("--group", nargs="+", action="extend", default=[], metavar="NAME", help="only these groups")
    for flag, what in (("--only", "only these cases"), ("--exclude", "all but these cases")):
        parser.add_argument(
            flag, nargs="+", action="extend", default=[], metavar="WHAT", help=f"{what}: ids, groups, or 'rule N'"
        )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="points from a JSON file, by id or group")
    parser.add_argument(
        "--stats-format", choices=(README, LAB, ANY), default=ANY, help="the form of STATS (default: either of the two)"
    )
    parser.add_argument(
        "--timeout",
        type=seconds(0.01, 3600),
        default=DEFAULT_TIMEOUT_S,
        metavar="S",
        help="seconds for a case (default: %(default)g)",
    )
    parser.add_argument(
        "--time-limit",
        type=seconds(0.01, 3600),
        default=DEFAULT_BUDGET_S,
        metavar="S",
        help="seconds after which no further case is begun; on a busy machine up to four times as many "
        "(default: %(default)g)",
    )
    add_connection_options(parser)
    add_language(parser)
    parser.add_argument("--verbose", action="store_true", help="show the bytes of every case on standard error")
    parser.add_argument("--list", action="store_true", help="list the cases instead of running them")


def add_language(parser: ArgumentParser) -> None:
    """Add the option for the language of all texts that a student reads."""
    parser.add_argument(
        "--lang",
        choices=LANGUAGES,
        default=from_environment(os.environ),
        help="the language of titles, causes and hints: English or Vietnamese (default: that of the locale)",
    )


def run(args: Namespace) -> int:
    """Grade the server, or list the cases; returns the exit code."""
    plan = make_plan(args)
    if args.list:
        cases = planned(plan, README if args.stats_format == ANY else args.stats_format)
        print(export.cases_as_json(cases) if args.json else report.list_cases(cases, speaker(args.lang)), end="")
        return Exit.OK
    if bool(args.target) == bool(args.command):
        cause = "HOST:PORT and --command cannot be used together" if args.target else "HOST:PORT is missing"
        raise Fail(cause, "Give the address of the server, as in `kvss conform 127.0.0.1:5050`.")
    if args.command and (args.user or args.tls or args.ca or args.insecure):
        option = "--user" if args.user else "TLS"
        raise Fail(f"{option} and --command cannot be used together", "Start the server yourself, and give HOST:PORT.")
    if args.junit:
        _write(args.junit, b"", "ab")
    card = _grade(args, plan)
    if args.junit:
        _write(args.junit, export.as_junit(card))
    if args.verbose:
        print(*transcript.whole(card), sep="\n", file=sys.stderr)
    print(export.as_json(card) if args.json else report.as_text(card, speaker(args.lang)), end="")
    if not card.complete:
        raise Fail("interrupted", f"{len(card.verdicts)} cases ran", INTERRUPTED)
    return Exit.FAILED if card.failures else Exit.OK


def make_plan(args: Namespace) -> Plan:
    """Return the plan that the options describe. Raises Fail."""
    groups = tuple(_group(name) for name in args.group)
    try:
        check_words((*args.only, *args.exclude))
    except ValueError as error:
        raise Fail(str(error), "`kvss conform --list` shows all cases.") from None
    return Plan(
        groups,
        args.stats_format,
        args.timeout,
        args.profile,
        tuple(args.only),
        tuple(args.exclude),
        read_weights(args.weights) if args.weights else {},
        args.time_limit,
    )


def read_weights(file: Path) -> dict[str, int]:
    """Read the points of cases or groups. Raises Fail."""
    try:
        weights = read_parsed(file, MAX_WEIGHTS_BYTES, json.loads)
    except UnreadableFile as error:
        raise Fail(f"cannot read the weights in {file}: {error}", f"Write JSON, such as {WEIGHTS}.") from None
    try:
        check_weights(weights)
    except ValueError as error:
        raise Fail(f"{file} does not contain weights: {error}", f"Write ids or groups, such as {WEIGHTS}.") from None
    return dict(weights)


def _grade(args: Namespace, plan: Plan) -> Scorecard:
    try:
        if args.command:
            where = args.command
            directory = args.directory or Path.cwd()
            if not directory.is_dir():
                raise Fail(f"there is no folder {directory}", "Give --in the folder in which the command runs.")
            command = ShellCommand(args.command, directory)
            return grade_submission(Submission(command), plan, _show_progress)
        endpoint = only_endpoint(args.target)
        where = str(endpoint)
        return grade(endpoint.host, endpoint.port, _opening(plan, endpoint, args), _show_progress)
    except ClientRefused as refused:
        cause, remedy = f"{where}: {refused}", tls_remedy(str(refused)) or "Check --user and the password."
        _write_error(args, where, cause, str(refused))
        raise Fail(cause, remedy, Exit.UNREACHABLE) from None
    except Unreachable as unreachable:
        cause = f"nothing answers at {where}: {unreachable}"
        _write_error(args, where, cause, str(unreachable))
        if args.command:
            print(unreachable.tail, end="", file=sys.stderr)
            raise Fail(
                f"the command does not start: {unreachable}", "Run it yourself first.", Exit.UNREACHABLE
            ) from None
        raise Fail(cause, "Start the server first, or check the address.", Exit.UNREACHABLE) from None


def _opening(plan: Plan, endpoint: Endpoint, args: Namespace) -> Plan:
    """Return the plan with the login and the TLS that the options ask for. Raises Fail."""
    options: ClientOptions = {"tls": tls_of(args)}
    user = args.user or endpoint.user
    if user:
        options["user"], options["password"] = user, password_of(user, args.password_file)
    try:
        config = ClientConfig(endpoint.host, endpoint.port, **options)
    except ValueError as error:
        raise Fail(str(error), "Give another name or password.") from None
    command, context = config.login(), config.tls_context()
    secure = partial(_secured, context, endpoint.host) if context else None
    return replace(plan, login=command.line if command else b"", secure=secure)


def _secured(context: "ssl.SSLContext", host: str, sock: socket.socket) -> socket.socket:
    """Return the socket with TLS. Raises ClientRefused, and OSError for a connection that ends or takes too long."""
    try:
        return context.wrap_socket(sock, server_hostname=host)
    except (ConnectionError, TimeoutError):
        raise
    except (OSError, ValueError) as error:  # ValueError: a host that no certificate can name
        raise ClientRefused(f"TLS failed: {reason(error)}", waited=True) from None


def _write_error(args: Namespace, where: str, cause: str, error: str) -> None:
    """Write the forms for programs if no case could be run."""
    if args.junit:
        _write(args.junit, export.failed_as_junit("connect", cause))
    if args.json:
        print(export.unreachable_as_json(where, error), end="")


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
            f"cannot write {file}: {(error.strerror or str(error)).lower()}", "Give --junit another file."
        ) from None


def _group(name: str) -> str:
    groups = (*GROUPS, *EXTENSION_GROUPS)
    found = next((group for group in groups if group.lower() == name.lower()), None)
    if found is None:
        raise Fail(f"there is no group {name!r}", f"Give some of {', '.join(groups)}; HOST:PORT goes before --group.")
    return found
