"""`kvss client`: interactive, a script, or one command, with the exit codes. What a line becomes is repl.py's."""

import argparse
import base64
import json
import os
import re
import sys
from enum import IntEnum
from typing import Final, NoReturn

from kvss_gevent.client.options import MAX_TIMEOUT_S
from kvss_gevent.client.sync import KVClient
from kvss_gevent.client.terminal.repl import HELP, Act, Conversation, printable, read_line, with_version
from kvss_gevent.protocol.errors import KVConnectError, KVError, KVProtocolError, KVTimeout, server_name
from kvss_gevent.protocol.wire import DEFAULT_HOST, DEFAULT_PORT, shorten
from kvss_gevent.settings.fail import Fail

SUMMARY = "talk to a server: interactive, from a script, or one command"

EPILOG: Final = """\
HOST and PORT default to $KVSS_HOST and $KVSS_PORT, else to 127.0.0.1 and 5050. Options stand before COMMAND: behind
it, every word belongs to it (PUT balance -5). Its words are joined by one space. `KV/1.0 ` is put before a line unless
its first word looks like a version.

Without COMMAND, lines are read from standard input: at a prompt where it is a terminal, else as a script. In a script
blank lines and lines beginning with # are skipped, QUIT and EXIT end it, and each reply is one line on standard output.

--json prints one object: code and phrase of the reply; data, or data_base64 where the data is not UTF-8; error, a
sentence where there was no KV/1.0 reply. What does not apply is null.

examples:
  kvss client                           a conversation with 127.0.0.1:5050
  kvss client 127.0.0.1 5050 PUT name An
  kvss client <script.txt

exit codes (a script: the highest of its replies; it stops at 3):
  0  done                          3  no connection, or no reply in time
  1  404, not found                4  another 4xx: the server refused it
  2  usage                         5  5xx, or the reply is not KV/1.0"""

_MAX_SCRIPT_LINE_BYTES: Final = 64 << 20
_REPLY: Final = re.compile(rb"(\d\d\d) (\S+)(?: (.*))?", re.DOTALL)


class Code(IntEnum):
    """The exit codes."""

    DONE = 0
    NOT_FOUND = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    SERVER = 5
    INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `kvss client` takes."""
    parser.usage = "kvss client [--timeout S] [--json] [HOST [PORT [COMMAND ...]]]"
    parser.epilog = EPILOG
    parser.add_argument(
        "--timeout",
        type=_seconds,
        metavar="S",
        help="seconds to wait for the connection and for each reply (default: 5 and 30)",
    )
    parser.add_argument("--json", action="store_true", help="print the reply to COMMAND as JSON")
    parser.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.set_defaults(options=parser)


def run(args: argparse.Namespace) -> int:
    """Run one command, a script or a conversation; returns the exit code."""
    try:
        client, command = _client(args)
        if args.json and not command:
            raise Fail("--json is for one command", "Give HOST PORT COMMAND behind it; a script prints plain replies.")
        with client:
            if command:
                return _one_command(client, os.fsencode(" ".join(command)), as_json=args.json)
            if sys.stdin is not None and sys.stdin.isatty():
                return _converse(client)
            return _script(client)
    except KeyboardInterrupt:
        return Code.INTERRUPTED


def reply_code(reply: bytes) -> Code:
    """Return the exit code that a reply stands for."""
    match = _REPLY.fullmatch(reply)
    if match is None:
        return Code.SERVER
    if match[1] == b"404":
        return Code.NOT_FOUND
    return {b"2": Code.DONE, b"4": Code.REFUSED}.get(match[1][:1], Code.SERVER)


def _one_command(client: KVClient, line: bytes, *, as_json: bool) -> int:
    try:
        reply = client.request(with_version(line))
    except ValueError:
        raise Fail(
            f"the command has a line feed in it: {shorten(line)}", "Give one line: KV/1.0 has no other."
        ) from None
    except KVError as error:
        if as_json:
            print(_as_json(b"", str(error)))
        for reply in error.results if not as_json else ():
            _write(reply)
        _fail(error)
    if not as_json:
        _write(reply)
    elif _REPLY.fullmatch(reply):
        print(_as_json(reply, None))
    else:
        print(
            _as_json(
                b"", f"{server_name(client.host, client.port)} does not keep to KV/1.0: not a reply: {shorten(reply)}"
            )
        )
    return reply_code(reply)


def _script(client: KVClient) -> int:
    worst = Code.DONE
    number = 0
    while sys.stdin is not None and (line := sys.stdin.buffer.readline(_MAX_SCRIPT_LINE_BYTES)):
        number += 1
        if len(line) == _MAX_SCRIPT_LINE_BYTES:
            raise Fail(f"line {number} is over {_MAX_SCRIPT_LINE_BYTES} bytes long", "Is this file a script?")
        act, request = read_line(line.removesuffix(b"\n").removesuffix(b"\r"))
        if act is Act.LEAVE:
            break
        if act is Act.HELP:
            print(HELP, file=sys.stderr)
        if not request:
            continue
        try:
            reply = client.request(request)
        except KVError as error:
            for reply in error.results:
                _write(reply)
            _fail(error, f"line {number}: ")
        _write(reply)
        worst = max(worst, reply_code(reply))
        if act is Act.SEND_AND_LEAVE:
            break
    return worst


def _converse(client: KVClient) -> int:
    from kvss_gevent.client.terminal.line_editor import line_editor

    try:
        client.connect()
    except KVError as error:
        _fail(error)
    conversation = Conversation(client, _show, _note)
    ask = line_editor(conversation.keys, _note)
    _note(f"Connected to {server_name(client.host, client.port)}. HELP lists the commands, QUIT leaves.")
    conversation.run(ask)
    return Code.DONE


def _fail(error: KVError, where: str = "") -> NoReturn:
    if isinstance(error, KVConnectError):
        code, remedy = Code.UNREACHABLE, "Nothing was sent. Is a server running there? `kvss serve` starts one."
    elif isinstance(error, KVProtocolError):
        code, remedy = Code.SERVER, "Is it a KV/1.0 server? `kvss conform HOST:PORT` tells where one goes wrong."
    else:
        wait = ", --timeout S waits longer" if isinstance(error, KVTimeout) else ""
        code, remedy = Code.UNREACHABLE, f"Whether the command took effect is unknown; GET tells{wait}."
    raise Fail(where + str(error), remedy, code) from error


def _as_json(reply: bytes, error: str | None) -> str:
    match = _REPLY.fullmatch(reply)
    code, phrase, data = match.groups() if match else (None, None, None)
    fields: dict[str, object] = {
        "code": code and int(code),
        "phrase": phrase and phrase.decode(errors="replace"),
        "data": None,
        "data_base64": None,
        "error": error,
    }
    if data is not None:
        try:
            fields["data"] = data.decode()
        except UnicodeDecodeError:
            fields["data_base64"] = base64.b64encode(data).decode()
    return json.dumps(fields)


def _client(args: argparse.Namespace) -> tuple[KVClient, list[str]]:
    """Return a client for HOST and PORT, and the words of COMMAND; options may stand before each of them."""
    places: list[str] = []
    options = True
    while args.words:
        words = args.words
        if options and words[0] == "--":
            args.words, options = words[1:], False
        elif options and words[0].startswith("-"):
            args.options.parse_args(words, args)
            options = args.words != words  # -5 is no option to argparse
        elif len(places) < 2:
            places.append(words[0])
            args.words = words[1:]
        else:
            break
    host, port, *_ = *places, "", ""
    client = KVClient(
        host or os.environ.get("KVSS_HOST") or DEFAULT_HOST,
        _port("PORT", port) if port else _port("KVSS_PORT", os.environ.get("KVSS_PORT") or str(DEFAULT_PORT)),
        connect_timeout_s=args.timeout or 5.0,
        timeout_s=args.timeout or 30.0,
    )
    return client, args.words


def _port(name: str, text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or not 0 < int(text) < 1 << 16:
        raise Fail(
            f"{name} is a number from 1 to 65535, not {text!r}", "The order is: kvss client HOST PORT COMMAND ..."
        )
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds <= MAX_TIMEOUT_S:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0 and at most {MAX_TIMEOUT_S:.0f}")
    return seconds


def _write(reply: bytes) -> None:
    """Put a reply on standard output: made harmless for a terminal, byte for byte for everything else."""
    if sys.stdout.isatty():
        _show(printable(reply))
    else:
        sys.stdout.buffer.write(reply + b"\n")
        sys.stdout.buffer.flush()


def _show(text: str) -> None:
    encoding = sys.stdout.encoding
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
