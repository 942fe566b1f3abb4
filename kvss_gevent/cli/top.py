"""`kvss top`: shows figures of a running server again and again, on a screen or as lines."""

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Iterator

from kvss_gevent.cli.client import add_connection_options, client_of
from kvss_gevent.client.terminal.printing import fail
from kvss_gevent.protocol.errors import KVConnectError, KVError, KVStatusError
from kvss_gevent.settings.addresses import Endpoint, only_endpoint
from kvss_gevent.settings.fail import Exit, Fail
from kvss_gevent.settings.kinds import seconds, whole
from kvss_gevent.top.metrics_client import page_address
from kvss_gevent.top.rates import LEAST_S, Figures, RateWindow, compare
from kvss_gevent.top.readings import MAX_REPLY_BYTES, Reader, ServerReading
from kvss_gevent.top.screen import plain, screen

EPILOG = """\
examples:
  kvss top                                      what STATS and SLOWLOG return
  kvss top 127.0.0.1:5050 --metrics 9100        also reads its metrics page
  kvss top --plain --interval 1                 a line a second
  kvss top --plain --count 1                    one line

The server shows more if it was started with --metrics and --slow-ms. For
another KV/1.0 server, only what STATS returns is shown. If the server has
users, only the role admin sees the slow log.

exit codes:
  0    q was pressed, or --count lines are printed
  2    wrong usage
  3    the server, or at the start its metrics page, does not answer
  4    the server refused the login
  130  Ctrl-C
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kvss top`."""
    parser.usage = "kvss top [options] [HOST:PORT | HOST PORT | unix:PATH]"
    parser.epilog = EPILOG
    parser.add_argument("words", nargs="*", metavar="HOST:PORT", help="the server (127.0.0.1:5050)")
    parser.add_argument(
        "--metrics", metavar="URL", help="address of the server's metrics page: http://HOST:PORT/metrics, or a port"
    )
    parser.add_argument(
        "--interval", type=seconds(0.1, 3600), metavar="S", default=1.0, help="seconds between two readings (1)"
    )
    parser.add_argument("--plain", action="store_true", help="print one line for each interval; needs no terminal")
    parser.add_argument(
        "--count", type=whole(1, 999_999_999), metavar="N", default=0, help="with --plain: end after N lines"
    )
    add_connection_options(parser)


def run(args: argparse.Namespace) -> int:
    """Show a server until the user or an error ends it; returns the exit code."""
    endpoint = only_endpoint(args.words, unix=True)
    if not args.plain and not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise Fail("there is no terminal", "Give --plain to print one line for each interval.")
    args.timeout = 5.0
    try:
        with client_of(endpoint, args, max_reply_bytes=MAX_REPLY_BYTES) as client:
            reader = Reader(client, _page(args.metrics))
            first = reader.read()
            if first.no_page:
                raise Fail(
                    f"no metrics page at {args.metrics}: {first.no_page}",
                    "Give the address of --metrics.",
                    Exit.UNREACHABLE,
                )
            if args.plain:
                if first.samples and args.interval < LEAST_S:
                    time.sleep(LEAST_S - args.interval)
                _print_lines(_intervals(reader, first, args.count, lambda: time.sleep(args.interval)))
            else:
                _show(reader, first, str(endpoint), args.interval)
    except (KVConnectError, KVStatusError) as error:
        fail(error)
    except KVError as error:
        remedy = "Check the address, and whether the server runs. A server with TLS needs --tls."
        raise Fail(str(error), remedy, Exit.UNREACHABLE) from None
    return Exit.OK


def _intervals(reader: Reader, first: ServerReading, count: int, wait: Callable[[], object]) -> Iterator[Figures]:
    """Yield the figures of each interval."""
    window = RateWindow(first)
    for _ in range(count) if count else itertools.count():
        wait()
        yield window.take(reader.read())


def _print_lines(intervals: Iterator[Figures]) -> None:
    for figures in intervals:
        print(plain(figures, _clock()), flush=True)


def _show(reader: Reader, first: ServerReading, server: str, interval_s: float) -> None:
    from kvss_gevent.top.terminal import opened

    window, figures = RateWindow(first), compare(first, first)
    with opened() as terminal:
        due_s = time.monotonic() + interval_s
        while True:
            terminal.draw(screen(figures, server, *terminal.size(), _clock()))
            key = terminal.wait(max(due_s - time.monotonic(), 0))
            if key in ("q", "Q"):
                return
            if key is None:
                figures = window.take(reader.read())
                due_s = time.monotonic() + interval_s


def _page(text: str | None) -> Endpoint | None:
    if text is None:
        return None
    try:
        return page_address(text)
    except ValueError as error:
        raise Fail(str(error), "Give --metrics a port, HOST:PORT or http://HOST:PORT/metrics.") from None


def _clock() -> str:
    return time.strftime("%H:%M:%S")
