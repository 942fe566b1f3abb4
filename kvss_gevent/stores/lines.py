"""Request lines as commands, and results as reply lines: where lines must be taken apart, and put together again."""

from collections.abc import Sequence
from typing import Any

from kvss_gevent.protocol.wire import DEL, GET, OK_PREFIX, PUT, REPLY, Status, parse_request
from kvss_gevent.stores.base import Command, LinesDone, Result, StoreError

OK, CREATED, NO_CONTENT = REPLY[Status.OK], REPLY[Status.CREATED], REPLY[Status.NO_CONTENT]
NOT_FOUND, SERVER_ERROR = REPLY[Status.NOT_FOUND], REPLY[Status.SERVER_ERROR]


def commands_of(lines: Sequence[bytes]) -> list[Command]:
    """Return the commands of the lines in front that are GET, PUT or DEL."""
    batch: list[Command] = []
    for line in lines:
        request = parse_request(line)
        if request[0] not in (GET, PUT, DEL):
            break
        batch.append(request)
    return batch


def lines_done(batch: Sequence[Command], results: Sequence[Result]) -> LinesDone:
    """Return what run_lines would have for commands that were run as such; a command that failed gets 500."""
    replies = []
    for (verb, _, _), result in zip(batch, results, strict=False):
        if isinstance(result, StoreError):
            replies.append(SERVER_ERROR)
        elif verb is GET:
            replies.append(OK_PREFIX + result if isinstance(result, bytes) else NOT_FOUND)
        elif verb is PUT:
            replies.append(CREATED if result else OK)
        else:
            replies.append(NO_CONTENT if result else NOT_FOUND)
    verbs = [verb for verb, _, _ in batch[: len(results)]]
    return replies, verbs.count(PUT), verbs.count(DEL)


class Replay:
    """Hands out the results of a batch, in order, as if the store were asked only now."""

    def __init__(self, results: Sequence[Result | Exception]) -> None:
        self.left = len(results)
        self._results = iter(results)

    def _next(self, *_: bytes) -> Any:
        self.left -= 1
        result = next(self._results)
        if isinstance(result, Exception):
            raise result
        return result

    get = put = delete = _next
