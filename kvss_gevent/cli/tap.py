"""`kvss tap`: a proxy in front of a server that shows the conversation, or records it for Wireshark."""

import argparse
import errno
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kvss_gevent.protocol.errors import server_name
from kvss_gevent.settings.addresses import Endpoint, parse_endpoint
from kvss_gevent.settings.fail import Exit, Fail
from kvss_gevent.settings.kinds import read_size
from kvss_gevent.settings.named_files import LOOK_S

if TYPE_CHECKING:
    from kvss_gevent.wire_tools.output import Output
    from kvss_gevent.wire_tools.tap import RecorderFactory
    from kvss_gevent.wire_tools.tap_pair import TapRecorder

CANNOT_LISTEN = 3
EXAMPLES = """\
examples:
  kvss tap 5051 5050
      show what clients of port 5051 send to the server at 5050
  kvss tap 5051 5050 -w talk.pcapng
      record it for Wireshark
  kvss tap 5051 5050 -w - | wireshark -k -i -
      see it in Wireshark as it happens
  kvss tap 5051 5050 -w talk.pcapng --keylog keys.txt
      record TLS: SSLKEYLOGFILE=keys.txt kvss client ... writes the keys, and
      the capture contains them. Everyone who has this file can read the
      conversation, passwords included.

Bytes are passed on unchanged, also with TLS. The times in a capture are when the tap received the bytes. The
handshake, the acknowledgements and the borders of segments are invented. `make capture` makes real captures.

exit codes: 0 stopped by Ctrl-C or SIGTERM, 1 the output is not complete, 2 wrong usage, 3 cannot listen
"""
LEAST_BYTES = 1 << 18
READER_S = 60.0
"""The longest wait for the reader of a pipe: time to start Wireshark by hand."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "listen", metavar="LISTEN", help="where clients connect: PORT or HOST:PORT; port 0 picks a free one"
    )
    parser.add_argument("target", metavar="TARGET", help="the server: PORT or HOST:PORT")
    parser.add_argument("-w", dest="file", metavar="FILE", help="record into a pcapng file; - is standard output")
    parser.add_argument(
        "--max-size",
        type=_size,
        default=64 << 20,
        metavar="SIZE",
        help="size of FILE and the older file beside it together; older data is dropped (64M)",
    )
    parser.add_argument("--keylog", type=Path, metavar="FILE", help="a TLS key log to put into the capture")


def run(args: argparse.Namespace) -> int:
    """Pass bytes on until a signal comes; returns the exit code."""
    if not hasattr(select, "epoll"):
        raise Fail("it needs epoll, which this system does not have", "Run it on Linux.")
    from kvss_gevent.wire_tools.tap import Tap

    listen, target = _endpoint(args.listen, "LISTEN", 0), _endpoint(args.target, "TARGET", 1)
    if args.keylog and not args.file:
        raise Fail("--keylog needs a capture, and -w is missing", "Give also -w FILE.")
    if args.file == "-" and sys.stdout.isatty():
        raise Fail(
            "a capture cannot be written to a terminal",
            "Give -w FILE, or pipe it: kvss tap ... -w - | wireshark -k -i -",
        )
    if listen.port and str(listen) == str(target):
        raise Fail(f"LISTEN and TARGET are both {target}", "Give another port to listen on.")
    with _listener(listen) as listener:
        output = _output(args)
        signals: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: signals.append(number))
        try:
            tap = Tap(listener, target, _recorder_factory(output, target, args), _tell)
        except OSError as error:
            raise Fail(f"TARGET: {target.host}: {error.strerror}", "Give an address that this machine knows.") from None
        _tell(f"listening on {server_name(*listener.getsockname()[:2])}, for {target}")
        tap.run(lambda: bool(signals) or output.failure is not None)
    output.close()
    return _exit_code(output)


def _recorder_factory(output: "Output", target: Endpoint, args: argparse.Namespace) -> "RecorderFactory":
    """Return the function that makes the recorder of each connection."""
    from kvss_gevent.wire_tools.tap_recorders import Capture, KeyLog, Screen

    key_log = KeyLog(args.keylog) if args.keylog else None

    def make_recorder(client: tuple[str, int], server: tuple[str, int]) -> "TapRecorder":
        if not args.file:
            return Screen(output, client)
        # The target's port, and not the tap's: Wireshark recognises the protocol by it.
        return Capture(output, client, (server[0], target.port), key_log)

    return make_recorder


def _output(args: argparse.Namespace) -> "Output":
    from kvss_gevent.wire_tools.output import Output
    from kvss_gevent.wire_tools.tap_recorders import HEAD

    if not args.file:
        return Output(sys.stdout.fileno())
    if args.file == "-":
        return Output(sys.stdout.fileno(), HEAD)
    return _to_file(Path(args.file), args.max_size)


def _to_file(path: Path, max_bytes: int) -> "Output":
    """Open the file, or the pipe once it has a reader. Raises Fail, also if it has none for READER_S."""
    from kvss_gevent.wire_tools.output import Output
    from kvss_gevent.wire_tools.tap_recorders import HEAD

    until_s = None
    while True:
        try:
            return Output.to_file(path, HEAD, max_bytes)
        except OSError as error:
            if error.errno != errno.ENXIO or not path.is_fifo():
                raise Fail(f"cannot write {path}: {error.strerror}", "Give another file.") from None
        if until_s is None:
            until_s = time.monotonic() + READER_S
            _tell(f"waiting for a program that reads the pipe {path}, for at most {READER_S:g} s")
        if time.monotonic() >= until_s:
            raise Fail(f"nothing reads the pipe {path}", f"Start the reader first, such as wireshark -k -i {path}.")
        time.sleep(LOOK_S)


def _exit_code(output: "Output") -> int:
    """Return the exit code. Raises Fail if something is missing in the output."""
    if output.failure and not isinstance(output.failure, BrokenPipeError):
        raise Fail(f"the output ended too early: {output.failure.strerror}", "Is the disk full?", Exit.FAILED)
    if output.dropped:
        raise Fail(
            f"{output.dropped} pieces are missing in the output: its reader or disk was too slow",
            "Give a file with -w, or a faster disk.",
            Exit.FAILED,
        )
    return Exit.OK


def _tell(line: str) -> None:
    print(f"kvss tap: {line}", file=sys.stderr, flush=True)


def _endpoint(text: str, name: str, least_port: int) -> Endpoint:
    try:
        endpoint = parse_endpoint(text, least_port=least_port)
    except ValueError as error:
        raise Fail(f"{name}: {error}", "Give PORT or HOST:PORT, such as 5051.") from None
    if endpoint.path:
        raise Fail(f"{name} is a Unix socket, which a tap does not use", "Give PORT or HOST:PORT, such as 5051.")
    return endpoint


def _listener(endpoint: Endpoint) -> socket.socket:
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    try:
        return socket.create_server((endpoint.host, endpoint.port), family=family, backlog=1024)
    except OSError as error:
        why, _, _ = str(error.strerror).partition(" (while ")  # Python adds: attempting to bind on address ...
        raise Fail(
            f"cannot listen on {endpoint}: {why}",
            "Give an address of this machine, or another port: 0 picks a free one.",
            CANNOT_LISTEN,
        ) from None


def _size(text: str) -> int:
    try:
        return read_size(text, LEAST_BYTES)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size of at least 256K, such as 64M") from None
