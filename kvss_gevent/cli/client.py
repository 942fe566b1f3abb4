"""`kvss client`: connects as its options say, and runs one command, a script, or an interactive session."""

import argparse
import getpass
import os
import re
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Final, Unpack

from kvss_gevent.client.authorities import client_context
from kvss_gevent.client.client_options import MAX_TIMEOUT_S, UNIX, ClientOptions
from kvss_gevent.client.sync import KVClient
from kvss_gevent.client.terminal import script as batch
from kvss_gevent.client.terminal.printing import Code, fail, note, show
from kvss_gevent.client.terminal.repl import TerminalConversation
from kvss_gevent.protocol.errors import KVError, server_name
from kvss_gevent.settings.addresses import FORMS, Endpoint, take_endpoint
from kvss_gevent.settings.fail import Fail
from kvss_gevent.settings.kinds import seconds, whole
from kvss_gevent.settings.named_files import UnreadableFile, read_parsed

if TYPE_CHECKING:
    import ssl


MAX_PASSWORD_FILE_BYTES: Final = 64 << 10
PASSWORD_WAIT_S: Final = 60.0
"""The program behind a pipe, as in `--password-file <(pass show kvss)`, may ask for another password first."""

EPILOG: Final = f"""\
examples:
  kvss client                               interactive; HELP lists commands
  kvss client GET name                      one command
  kvss client 127.0.0.1:5050 PUT name John  one command for this server
  kvss client < commands.txt                a script, each reply on a line
  kvss client --pipe < many.txt             as fast as possible; a summary
  kvss client -r 10 -i 1 STATS              ten times, once a second
  kvss client --tls --user ann kvss.example.org:5050

ADDRESS is unix:PATH, {FORMS}.
Without it, $KVSS_HOST and $KVSS_PORT are used, or else 127.0.0.1:5050. Options
must come before COMMAND: every word after it belongs to it (PUT balance -5).
Its words are joined by one space. The client puts `KV/1.0 ` before a line,
unless its first word looks like a version. Commands are upper case.

Without COMMAND, the client reads lines from standard input: at a prompt if it
is a terminal, or else as a script. In a script blank lines and lines beginning with #
are skipped, QUIT and EXIT end it, and each reply is one line on standard
output.

The password for --user is the first line of --password-file, else
$KVSS_PASSWORD, else the client asks for it. It is never an argument, because
other users of the machine can see arguments, and it is never in the history.

--json prints one object: code and phrase of the reply; data, or data_base64
if the data is not UTF-8; error, a sentence if there was no KV/1.0 reply.
Fields that do not apply are null.

exit codes (with several replies, the highest; a script stops at 3):
  0  done                          3  no connection, or no reply in time
  1  404, not found                4  another 4xx: the server refused it
  2  wrong usage                   5  5xx, or the reply is not KV/1.0"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `kvss client` takes."""
    parser.usage = "kvss client [options] [ADDRESS] [COMMAND ...]"
    parser.epilog = EPILOG
    parser.add_argument(
        "--timeout",
        type=seconds(0.001, MAX_TIMEOUT_S),
        metavar="S",
        help="seconds to wait for the connection and for each reply (5 and 30)",
    )
    parser.add_argument("--json", action="store_true", help="print the reply to COMMAND as JSON")
    parser.add_argument(
        "-r", dest="times", type=whole(1, 999_999_999), metavar="N", default=1, help="run COMMAND N times"
    )
    parser.add_argument(
        "-i",
        dest="pause_s",
        type=seconds(0, MAX_TIMEOUT_S),
        metavar="S",
        default=0.0,
        help="wait S seconds between these",
    )
    parser.add_argument("--pipe", action="store_true", help="send all of standard input and print a summary")
    add_connection_options(parser)
    parser.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.set_defaults(options=parser)


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options for login and TLS; see password_of and tls_of."""
    parser.add_argument("--user", metavar="NAME", help="log in as NAME")
    parser.add_argument("--password-file", type=Path, metavar="FILE", help="file whose first line is the password")
    parser.add_argument("--tls", action="store_true", help="use TLS, and check the server's certificate")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="use TLS, and trust the authorities in FILE")
    parser.add_argument("--insecure", action="store_true", help="use TLS, but check no certificate")


def run(args: argparse.Namespace) -> int:
    """Run one command, a script or a conversation; returns the exit code."""
    try:
        endpoint, command = _address_and_command(args)
        if not command and (args.json or args.times > 1 or args.pause_s):
            raise Fail("--json, -r and -i are for one command", "Give COMMAND after the address, such as STATS.")
        if command and args.pipe:
            raise Fail("--pipe reads commands from standard input", f"Remove {command[0]!r}, or remove --pipe.")
        with client_of(endpoint, args) as client:
            if command:
                line = os.fsencode(" ".join(command))
                return batch.repeat(client, line, json=args.json, times=args.times, pause_s=args.pause_s)
            if args.pipe:
                return batch.stream(client)
            if sys.stdin is not None and sys.stdin.isatty():
                return _converse(client)
            return batch.script(client)
    except KeyboardInterrupt:
        return Code.INTERRUPTED


def _converse(client: KVClient) -> int:
    from kvss_gevent.client.terminal.line_editor import line_editor

    try:
        client.connect()
    except KVError as error:
        fail(error)
    conversation = TerminalConversation(client, show, note)
    ask = line_editor(conversation.keys, note)
    note(f"Connected to {server_name(client.host, client.port)}. HELP lists the commands, QUIT leaves.")
    conversation.run(ask)
    return Code.DONE


def _is_request(word: str) -> bool:
    """Tell whether one word is a whole request, such as `GET a`, and not an address such as `127.0.0.1 5050`."""
    return " " in word and not re.fullmatch(r"(?![A-Z]+ )\S+ \d+", word)


def _address_and_command(args: argparse.Namespace) -> tuple[Endpoint, list[str]]:
    """Return the server's address and the words of COMMAND; options may stand before each of them."""
    places: list[str] = []
    options = True
    while args.words:
        words = args.words
        if options and words[0] == "--":
            args.words, options = words[1:], False
        elif options and words[0].startswith("-"):
            args.options.parse_args(words, args)
            options = args.words != words  # argparse does not take -5 for an option
        elif len(places) == 2 or _is_request(words[0]) or take_endpoint([*places, words[0]])[1]:
            break
        else:
            places.append(words[0])
            args.words = words[1:]
    return take_endpoint(places)[0], args.words


def client_of(endpoint: Endpoint, args: argparse.Namespace, **more: Unpack[ClientOptions]) -> KVClient:
    """Return the client that the options describe; args.timeout is in seconds, or None. Raises Fail."""
    options: ClientOptions = {
        "connect_timeout_s": args.timeout or 5.0,
        "timeout_s": args.timeout or 30.0,
        "tls": tls_of(args),
        **more,
    }
    user = args.user or endpoint.user
    if user:
        options["user"], options["password"] = user, password_of(user, args.password_file)
    try:
        if endpoint.path:
            return KVClient(f"{UNIX}{endpoint.path}", 0, **options)
        return KVClient(endpoint.host, endpoint.port, **options)
    except ValueError as error:
        raise Fail(str(error), "Give another name or password.") from None


def tls_of(args: argparse.Namespace) -> "bool | ssl.SSLContext":
    """Return what the options say about TLS, as ClientOptions has it. Raises Fail."""
    if args.insecure:
        note("(--insecure: anyone in the network can read and change what is sent)")
    elif not args.ca:
        return bool(args.tls)
    try:
        return client_context(args.ca, insecure=args.insecure)
    except ValueError as error:
        raise Fail(str(error), "Give --ca a file of certificates, such as the ca.pem of `kvss tls make-dev`.") from None


def password_of(user: str, file: Path | None) -> str:
    """Return the password in the file, else in the environment, else ask for it. Raises Fail."""
    try:
        if file is not None:
            text = read_parsed(file, MAX_PASSWORD_FILE_BYTES, str, PASSWORD_WAIT_S)
            return text.split("\n")[0].removesuffix("\r")
        return os.environ.get("KVSS_PASSWORD") or _asked(f"Password of {user}: ")
    except (UnreadableFile, EOFError, getpass.GetPassWarning) as error:
        why = f"{file}: {error}" if isinstance(error, UnreadableFile) else "none was given"
        raise Fail(
            f"no password for {user}: {why}",
            "Give --password-file FILE or $KVSS_PASSWORD, or type it at a terminal.",
        ) from None


def _asked(prompt: str) -> str:
    """Ask at the terminal. Raises GetPassWarning if there is none: standard input may hold the commands."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)
        return getpass.getpass(prompt)
