"""What `kvss client` prints, and the exit code that a reply or an error stands for."""

import base64
import json
import re
import sys
from enum import IntEnum
from typing import Final, NoReturn

from kvss_gevent.client.terminal.repl import printable
from kvss_gevent.protocol.errors import KVConnectError, KVError, KVProtocolError, KVStatusError, KVTimeout, server_name
from kvss_gevent.protocol.wire import shorten
from kvss_gevent.settings.fail import Fail

REPLY: Final = re.compile(rb"(\d\d\d) (\S+)(?: (.*))?", re.DOTALL)


class Code(IntEnum):
    """The exit codes."""

    DONE = 0
    NOT_FOUND = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    SERVER = 5
    INTERRUPTED = 130


def reply_code(reply: bytes) -> Code:
    """Return the exit code that a reply stands for."""
    match = REPLY.fullmatch(reply)
    if match is None:
        return Code.SERVER
    if match[1] == b"404":
        return Code.NOT_FOUND
    return {b"2": Code.DONE, b"4": Code.REFUSED}.get(match[1][:1], Code.SERVER)


def fail(error: KVError, where: str = "") -> NoReturn:
    """End the command with what went wrong and what to do."""
    if isinstance(error, KVStatusError):
        code, remedy = Code.REFUSED, "Check the name and the password; without users on the server leave --user away."
    elif isinstance(error, KVConnectError):
        remedy = tls_remedy(error.detail) or "Is a server running there? `kvss serve` starts one."
        code, remedy = Code.UNREACHABLE, f"Nothing was sent. {remedy}"
    elif isinstance(error, KVProtocolError):
        code, remedy = Code.SERVER, "Is it a KV/1.0 server? `kvss conform HOST:PORT` tells where one goes wrong."
    else:
        wait = ", --timeout S waits longer" if isinstance(error, KVTimeout) else ""
        code, remedy = Code.UNREACHABLE, f"A command that writes may have taken effect; GET tells{wait}."
        if "before the reply" in error.detail:
            remedy += " A server with TLS needs --tls."
    raise Fail(where + str(error), remedy, code) from error


def tls_remedy(cause: str) -> str:
    """Return what to do about a TLS handshake that has failed; an empty text for any other cause."""
    if "certificate" in cause:
        return "--ca FILE names an authority to trust, --insecure trusts anybody."
    return "Leave --tls away, or ask for the port that speaks TLS." if "TLS" in cause else ""


def as_json(reply: bytes, host: str, port: int) -> str:
    """Return a reply as one JSON object."""
    match = REPLY.fullmatch(reply)
    if match is None:
        return error_as_json(f"{server_name(host, port)} does not keep to KV/1.0: not a reply: {shorten(reply)}")
    code, phrase, data = match.groups()
    fields: dict[str, object] = {
        "code": int(code),
        "phrase": phrase.decode(errors="replace"),
        "data": None,
        "data_base64": None,
        "error": None,
    }
    if data is not None:
        try:
            fields["data"] = data.decode()
        except UnicodeDecodeError:
            fields["data_base64"] = base64.b64encode(data).decode()
    return json.dumps(fields)


def error_as_json(error: str) -> str:
    """Return the object for where there was no KV/1.0 reply."""
    return json.dumps({"code": None, "phrase": None, "data": None, "data_base64": None, "error": error})


def write(reply: bytes) -> None:
    """Put a reply on standard output: made harmless for a terminal, byte for byte for everything else."""
    if sys.stdout.isatty():
        show(printable(reply))
    else:
        sys.stdout.buffer.write(reply + b"\n")
        sys.stdout.buffer.flush()


def show(text: str) -> None:
    """Print a line of a result; what the terminal cannot show is written out."""
    encoding = sys.stdout.encoding
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def note(text: str) -> None:
    """Print a line about the conversation itself, on standard error."""
    print(text, file=sys.stderr, flush=True)
