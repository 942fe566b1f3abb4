"""The loops that send a virtual user's requests: closed or open, one or several at a time.

A loop sends a burst of requests and returns. A lost connection ends it early; all its open requests are counted then.
"""

from __future__ import annotations

import gevent

from kvss_gevent.loadtest.engine.clock import clock
from kvss_gevent.loadtest.engine.load_connection import ConnectionLost, LoadConnection
from kvss_gevent.loadtest.engine.recorder import ERROR, HIT, SERIES_INDEX
from kvss_gevent.loadtest.engine.request_stream import (
    BURST,
    ERRORS,
    GET_HIT,
    GET_MISS,
    NOT_FOUND,
    NOT_KV,
    RMW_ERROR,
    RMW_HIT,
    RequestStream,
)
from kvss_gevent.loadtest.engine.virtual_user import VirtualUser
from kvss_gevent.loadtest.workload.mix import Op

Item = tuple[int, int, float]
"""Op, key number and due time of a request."""

NEVER_SENT = "connection lost before the request was sent"

_RMW, _GET, _PUT = int(Op.RMW), int(Op.GET), int(Op.PUT)
_PART_HIT = {_GET: SERIES_INDEX["RMW GET", HIT], _PUT: SERIES_INDEX["RMW PUT", HIT]}
_PART_ERROR = {_GET: SERIES_INDEX["RMW GET", ERROR], _PUT: SERIES_INDEX["RMW PUT", ERROR]}


def work(user: VirtualUser, stream: RequestStream) -> None:
    """Send one burst of requests, or wait for a due one; returns soon when the run is closing."""
    if user.queue is None:
        connection = user.connect()
        if connection is not None:
            (closed if user.depth == 1 else closed_deep)(user, connection, stream)
        return
    if user.connection is None and user.run.options.shares_queue and not user.queue.due:
        due = user.take_due()  # A connection is opened only if no other is free for a due request.
        if not due:
            gevent.sleep(0.02)
            return
        user.queue.due.appendleft(due)
        user.due = 0.0
    connection = user.connect()
    if connection is not None:
        (open_singly if user.depth == 1 else open_deep)(user, connection, stream)


def once(user: VirtualUser, stream: RequestStream) -> None:
    """Connect, send one request and close; the time to connect is part of the request."""
    due = 0.0
    if user.queue is not None:
        due = user.take_due()
        if not due:
            gevent.sleep(0.02)
            return
    begun = clock()
    free_at = user.free_at
    connection = user.connect()
    user.free_at = free_at  # The time to connect is part of this request, and not a wait before it.
    if connection is None:
        user.connect_failed(due or begun)
        return
    [(op, key)] = stream.steps(1)
    line, expectation = stream.prepare(op, key)
    try:
        reply = connection.exchange(line)
    except ConnectionLost as lost:
        user.lost(str(lost), [(ERRORS[op], due or begun)], begun)
        return
    series, failure = stream.judge(expectation, reply)
    done = clock()
    user.count(series, due or begun, begun, done)
    if failure:
        user.recorder.fail(failure, due or begun)
    user.recorder.tally.bytes += connection.received_bytes
    user.connection = None
    connection.close(quit_first=True)
    user.free_at += clock() - done


def closed(user: VirtualUser, connection: LoadConnection, stream: RequestStream) -> None:  # noqa: PLR0912  written out to be fast
    """Send steps one after the other, each after the reply to the one before: the hot loop.

    All possible work is done for a whole burst: between two system calls the same code is cold and costs twice as much.
    """
    run, ledger, many = user.run, stream.ledger, stream.first_new
    exchange, code = connection.exchange, hash
    floors, proven, deleted = ledger.floor, ledger.proven, ledger.deleted
    count, note_sent, note_done = user.series.append, user.sent.append, user.done.append
    op, failure = _GET, ""
    connection.hold()
    try:
        for op, key, line in stream.burst():
            if op == _GET and key < many:
                floor = floors[key]
                reply = exchange(line)
                # The usual results of judge_read, without the call.
                if code(reply) == proven[key]:
                    series = GET_HIT
                elif reply == NOT_FOUND and deleted[key] > floor:
                    series = GET_MISS
                else:
                    series, failure = stream.judge_read(key, floor, reply)
            elif op == _RMW:
                _modify(user, connection, stream, key, 0.0)
                if run.closing or user.connection is None:
                    return
                continue
            else:
                line, expectation = stream.prepare(op, key)  # noqa: PLW2901  a write has another line
                series, failure = stream.judge(expectation, exchange(line))
            count(series)
            note_sent(connection.sent_at)
            note_done(connection.done_at)
            if failure:
                user.recorder.fail(failure, connection.sent_at)
                if failure is NOT_KV:
                    user.drop()
                    return
                failure = ""
            if run.closing:
                return
    except ConnectionLost as lost:
        user.lost(str(lost), [(ERRORS[op], connection.sent_at)], connection.sent_at)
    finally:
        connection.release()
        user.flush()


def open_singly(user: VirtualUser, connection: LoadConnection, stream: RequestStream) -> None:
    """Send requests one by one, each when it is due and the one before is answered: the hot loop at depth 1."""
    recorder, exchange = user.recorder, connection.exchange
    prepare, judge, take_due = stream.prepare, stream.judge, user.take_due
    op, due = _GET, 0.0
    connection.attend()
    try:
        for op, key in stream.steps(stream.ahead):
            due = take_due()
            if not due:
                connection.release()
                gevent.sleep(0.02)
                return
            if op == _RMW:
                _modify(user, connection, stream, key, due)
                if user.connection is None:
                    return
                continue
            line, expectation = prepare(op, key)
            reply = exchange(line)
            series, failure = judge(expectation, reply)
            user.count(series, due, connection.sent_at, connection.done_at)
            if failure:
                recorder.fail(failure, due)
                if failure is NOT_KV:
                    user.drop()
                    return
    except ConnectionLost as lost:
        user.lost(str(lost), [(ERRORS[op], due)], connection.sent_at)
    finally:
        connection.release()


def closed_deep(user: VirtualUser, connection: LoadConnection, stream: RequestStream) -> None:
    """Send several requests together, and the next ones when all of them are answered."""
    for _ in range(max(BURST // user.depth, 1)):
        _send(user, connection, stream, [(op, key, 0.0) for op, key in stream.steps(user.depth)])
        if user.connection is None or user.run.closing:
            return


def open_deep(user: VirtualUser, connection: LoadConnection, stream: RequestStream) -> None:
    """Send due requests, several together; if none is due, wait for one."""
    assert user.queue is not None
    for _ in range(BURST):
        due = user.take_due()
        if not due:
            gevent.sleep(0.02)
            return
        waiting = user.queue.due
        user.batch = [due, *(waiting.popleft() for _ in range(min(len(waiting), user.depth - 1)))]
        user.ended, user.due = 0, 0.0
        steps = stream.steps(len(user.batch))
        _send(user, connection, stream, [(op, key, due) for (op, key), due in zip(steps, user.batch, strict=True)])
        if user.connection is None:
            return


def _send(user: VirtualUser, connection: LoadConnection, stream: RequestStream, items: list[Item]) -> None:
    """Send items: first the plain requests together, then the read-modify-writes one by one."""
    single = [item for item in items if item[0] == _RMW]
    plain = [item for item in items if item[0] != _RMW] if single else items
    if user.queue is not None:
        user.batch = [due for _, _, due in plain + single]
    if plain:
        _batch(user, connection, stream, plain)
    for position, (_, key, due) in enumerate(single):
        if user.connection is None:
            user.lost(
                NEVER_SENT,
                [(RMW_ERROR, at) for _, _, at in single[position:]],
                clock(),
            )
            break
        connection.hold()
        try:
            _modify(user, connection, stream, key, due)
        finally:
            connection.release()
        user.ended += 1
    user.batch = []


def _batch(user: VirtualUser, connection: LoadConnection, stream: RequestStream, items: list[Item]) -> None:
    """Send items together and read their replies; in a closed loop they are due when they are sent."""
    prepared = [stream.prepare(op, key) for op, key, _ in items]
    is_open = user.queue is not None
    free_at = user.free_at
    position = 0
    connection.hold()
    try:
        connection.send(b"".join([line for line, _ in prepared]), len(items))
        sent = connection.sent_at
        for (_, expectation), (_, _, due) in zip(prepared, items, strict=True):
            reply = connection.reply()
            # done_at and not now: the time for judging earlier replies is not the server's.
            done = connection.done_at
            position += 1
            series, failure = stream.judge(expectation, reply)
            user.free_at = free_at  # The whole batch is sent at once: no request in it waits for another.
            user.count(series, due if is_open else sent, sent, done)
            user.ended += 1
            if failure:
                user.recorder.fail(failure, due if is_open else sent)
            if failure is NOT_KV:
                raise ConnectionLost(NOT_KV)
    except ConnectionLost as lost:
        sent = connection.sent_at
        owed = [(ERRORS[op], due if is_open else sent) for op, _, due in items[position:]]
        rest = user.batch[len(items) :]
        user.free_at = free_at
        user.lost(str(lost), owed, sent)
        user.batch, user.ended = rest, 0
    finally:
        connection.release()


def _modify(user: VirtualUser, connection: LoadConnection, stream: RequestStream, key: int, due: float) -> None:
    """Read a key and write it: counted as one RMW from the GET's due time, and its two requests as parts."""
    failed = ""
    first = 0.0
    for op in (_GET, _PUT):
        line, expectation = stream.prepare(op, key)
        try:
            reply = connection.exchange(line)
        except ConnectionLost as lost:
            sent = connection.sent_at
            user.lost(str(lost), [(RMW_ERROR, due or first or sent)], first or sent)
            return
        done, sent = clock(), connection.sent_at
        first = first or sent
        _, failure = stream.judge(expectation, reply)
        start = (due or sent) if op == _GET else sent
        user.recorder.count_part((_PART_ERROR if failure else _PART_HIT)[op], due or first, start, done)
        failed = failed or failure
    user.count(RMW_ERROR if failed else RMW_HIT, due or first, first, done)
    if failed:
        user.recorder.fail(failed, due or first)
    if failed is NOT_KV:
        user.drop()
