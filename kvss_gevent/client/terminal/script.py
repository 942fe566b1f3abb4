"""`kvss client` without a prompt: one command, once or again and again, a script, or a stream of commands."""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Final

from kvss_gevent.client.sync import KVClient
from kvss_gevent.client.terminal.hints import HELP, help_for, hint
from kvss_gevent.client.terminal.printing import Code, as_json, error_as_json, fail, note, reply_code, show, write
from kvss_gevent.client.terminal.repl import LineAct, printable, read_line, waiting, with_version
from kvss_gevent.protocol.errors import KVError, server_name
from kvss_gevent.protocol.wire import shorten
from kvss_gevent.settings.fail import Fail

_MAX_LINE_BYTES: Final = 64 << 20
_BATCH_LINES: Final = 1000
_BATCH_BYTES: Final = 1 << 20
_REFUSALS_SHOWN: Final = 10


def repeat(client: KVClient, line: bytes, *, json: bool, times: int, pause_s: float) -> int:
    """Run one command, several times with a pause between them if so told; return the highest exit code."""
    if b"\n" in line:
        raise Fail(f"the command contains a line feed: {shorten(line)}", "Give one line: a KV/1.0 request is one line.")
    request = with_version(line)
    worst = Code.DONE
    for number in range(times):
        if number:
            time.sleep(pause_s)
        worst = max(worst, _once(client, request, json=json))
    return worst


def script(client: KVClient) -> int:
    """Run the lines of standard input one by one; return the highest exit code."""
    worst = Code.DONE
    for number, act, request in _requests():
        try:
            reply = client.request(request)
        except KVError as error:
            for reply in error.results:
                write(reply)
            fail(error, f"line {number}: ")
        write(reply)
        worst = max(worst, reply_code(reply))
        if act is LineAct.SEND_AND_LEAVE:
            break
    return worst


def stream(client: KVClient) -> int:
    """Send the lines of standard input, many before their replies, and print a summary; return the highest exit code.

    Replies are counted, not printed; the first refusals are told with the number of their line.
    """
    counts: Counter[bytes] = Counter()
    worst = Code.DONE
    refused = 0
    begin = time.monotonic()
    for batch in _batches():
        try:
            replies = client.requests([request for _, request in batch])
        except KVError as error:
            sure = sum(counts.values()) + len(error.results)
            fail(error, f"{sure} replies came, then line {batch[min(len(error.results), len(batch) - 1)][0]}: ")
        for (number, request), reply in zip(batch, replies, strict=True):
            counts[b" ".join(reply.split(b" ", 2)[:2])[:40]] += 1
            code = reply_code(reply)
            worst = max(worst, code)
            refused += code >= Code.REFUSED
            if code >= Code.REFUSED and refused <= _REFUSALS_SHOWN:
                note(f"line {number}: {printable(reply[:80])} to {shorten(request)}")
    took_s = time.monotonic() - begin
    total = sum(counts.values())
    kinds = ", ".join(f"{printable(kind)}: {count}" for kind, count in counts.most_common())
    rate = total / took_s if total else 0
    show(f"{total} replies in {took_s:.2f} s ({rate:,.0f} a second); {kinds or 'nothing was sent'}")
    return worst


def _once(client: KVClient, request: bytes, *, json: bool) -> Code:
    name = server_name(client.host, client.port)
    watched = sys.stderr is not None and sys.stderr.isatty()
    try:
        with waiting(name, note) if watched else nullcontext():
            reply = client.request(request)
    except KVError as error:
        if json:
            show(error_as_json(str(error)))
        for reply in error.results if not json else ():
            write(reply)
        fail(error)
    if json:
        show(as_json(reply, client.host, client.port))
    else:
        write(reply)
        text = hint(request, reply) if watched else ""
        if text:
            note(f"({printable(text.encode())})")
    return reply_code(reply)


def _requests() -> Iterator[tuple[int, LineAct, bytes]]:
    """Yield number, act and request of the lines of standard input that are sent, up to one that leaves."""
    number = 0
    while sys.stdin is not None and (line := sys.stdin.buffer.readline(_MAX_LINE_BYTES)):
        number += 1
        if len(line) == _MAX_LINE_BYTES:
            raise Fail(f"line {number} is over {_MAX_LINE_BYTES} bytes long", "Is this file a script?")
        act, request = read_line(line.removesuffix(b"\n").removesuffix(b"\r"))
        if act is LineAct.LEAVE:
            return
        if act is LineAct.HELP:
            note(help_for(printable(request)) if request else HELP)
        elif request:
            yield number, act, request


def _batches() -> Iterator[list[tuple[int, bytes]]]:
    batch: list[tuple[int, bytes]] = []
    size = 0
    for number, act, request in _requests():
        batch.append((number, request))
        size += len(request)
        if act is LineAct.SEND_AND_LEAVE:
            break
        if len(batch) == _BATCH_LINES or size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
