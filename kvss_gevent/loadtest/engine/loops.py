"""The loops that send a virtual user's requests: closed, by schedule, several at a time, one connection for each.

A loop does a burst of requests and returns; a lost connection ends it early, with everything that is owed counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent

from kvss_gevent.loadtest.engine.clock import clock
from kvss_gevent.loadtest.engine.connection import LoadConnection, Lost
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

if TYPE_CHECKING:
    from kvss_gevent.loadtest.workload.arrivals import Schedule

_RMW, _GET, _PUT = int(Op.RMW), int(Op.GET), int(Op.PUT)


def work(user: VirtualUser, stream: RequestStream) -> None:
    """Do one burst of requests, or wait for one to be due; returns soon when the run is closing."""
    connection = user.connect()
    if connection is None:
        return
    if user.depth == 1:
        if user.schedule is None:
            closed(user, connection, stream)
        else:
            open_singly(user, connection, stream, user.schedule)
    elif user.schedule is None:
        closed_deep(user, connection, stream)
    else:
        open_deep(user, connection, stream, user.schedule)


def once(user: VirtualUser, stream: RequestStream) -> None:
    """Connect, send one request and close; connecting is part of its time."""
    due = None
    if user.schedule is not None:
        if not user.wait_due(user.schedule):
            return
        due = user.schedule.take()
    begun = clock()
    connection = user.connect()
    if connection is None:
        return
    [(op, key)] = stream.steps(1)
    line, expectation = stream.prepare(op, key)
    try:
        reply = connection.exchange(line)
    except Lost as lost:
        user.lost(str(lost), [(ERRORS[op], due or begun)], begun)
        return
    series, failure = stream.judge(expectation, reply)
    user.count(series, due or begun, begun, clock())
    if failure:
        user.recorder.fail(failure, due or begun)
    user.connection = None
    connection.close(quit_first=True)
    user.free_at = clock()


def closed(user: VirtualUser, connection: LoadConnection, stream: RequestStream) -> None:  # noqa: PLR0912  written out to be fast
    """Send steps one after the other, each when the one before is answered: the hot loop.

    What can be done for a whole burst is done so: between two system calls the same code is cold, and costs twice.
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
                # What judge_read finds nearly always, without the call.
                if code(reply) == proven[key]:
                    series = GET_HIT
                elif reply == NOT_FOUND and deleted[key] > floor:
                    series = GET_MISS
                else:
                    series, failure = stream.judge_read(key, floor, reply)
            elif op == _RMW:
                _modify(user, connection, stream, key, None)
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
    except Lost as lost:
        user.lost(str(lost), [(ERRORS[op], connection.sent_at)], connection.sent_at)
    finally:
        connection.release()
        user.flush()


def open_singly(user: VirtualUser, connection: LoadConnection, stream: RequestStream, schedule: Schedule) -> None:
    """Send requests one by one, each when it is due and the one before is answered: the hot loop of low depth."""
    recorder, exchange, now = user.recorder, connection.exchange, clock
    prepare, judge = stream.prepare, stream.judge
    op, due = _GET, 0.0
    connection.attend()
    try:
        for op, key in stream.steps(stream.ahead):
            while not (due := schedule.take_due(now())):
                if schedule.finished():
                    gevent.sleep(0.02)
                    return
                user.run.alarm.sleep_until(schedule.next_due)
            if op == _RMW:
                _modify(user, connection, stream, key, due)
                if user.connection is None:
                    return
                continue
            line, expectation = prepare(op, key)
            reply = exchange(line)
            sent, done = connection.sent_at, connection.done_at
            series, failure = judge(expectation, reply)
            free_at = user.free_at
            recorder.count(series, due, sent, done, sent - (due if due > free_at else free_at))
            user.free_at = done
            if failure:
                recorder.fail(failure, due)
                if failure is NOT_KV:
                    user.drop()
                    return
    except Lost as lost:
        user.lost(str(lost), [(ERRORS[op], due)], connection.sent_at)
    finally:
        connection.release()


def closed_deep(user: VirtualUser, connection: LoadConnection, stream: RequestStream) -> None:
    """Send several requests together, and the next when all of them are answered."""
    for _ in range(max(BURST // user.depth, 1)):
        _send(user, connection, stream, [(op, key, 0.0) for op, key in stream.steps(user.depth)])
        if user.connection is None or user.run.closing:
            return


def open_deep(user: VirtualUser, connection: LoadConnection, stream: RequestStream, schedule: Schedule) -> None:
    """Send what is due, several together; where nothing is, wait until something is."""
    for _ in range(BURST):
        backlog = user.wait_due(schedule)
        if not backlog:
            return
        items = [(op, key, schedule.take()) for op, key in stream.steps(min(backlog, user.depth))]
        _send(user, connection, stream, items)
        if user.connection is None:
            return


def _send(
    user: VirtualUser, connection: LoadConnection, stream: RequestStream, items: list[tuple[int, int, float]]
) -> None:
    """Send (op, key, due) items: together what goes together, then the read-modify-writes one by one."""
    plain = [item for item in items if item[0] != _RMW]
    if plain:
        _batch(user, connection, stream, plain)
    for op, key, due in items:
        if op == _RMW and user.connection is not None:
            connection.hold()
            try:
                _modify(user, connection, stream, key, due or None)
            finally:
                connection.release()


def _batch(
    user: VirtualUser, connection: LoadConnection, stream: RequestStream, items: list[tuple[int, int, float]]
) -> None:
    """Send (op, key, due) items together and read their replies; in closed loop they are due when they are sent."""
    prepared = [stream.prepare(op, key) for op, key, _ in items]
    is_open = user.schedule is not None
    free_at = user.free_at
    position = 0
    done = 0.0
    connection.hold()
    try:
        connection.send(b"".join([line for line, _ in prepared]), len(items))
        sent = connection.sent_at
        for (_, expectation), (_, _, due) in zip(prepared, items, strict=True):
            reply = connection.reply()
            done = clock()
            position += 1
            series, failure = stream.judge(expectation, reply)
            if is_open:
                user.recorder.count(series, due, sent, done, sent - max(due, free_at))
            else:
                user.recorder.count_closed(series, sent, done)
            if failure:
                user.recorder.fail(failure, due if is_open else sent)
            if failure is NOT_KV:
                raise Lost(NOT_KV)
        user.free_at = done
    except Lost as lost:
        sent = connection.sent_at
        owed = [(ERRORS[op], due if is_open else sent) for op, _, due in items[position:]]
        user.lost(str(lost), owed, sent)
    finally:
        connection.release()


def _modify(user: VirtualUser, connection: LoadConnection, stream: RequestStream, key: int, due: float | None) -> None:
    """Read a key and write it: counted as GET, as PUT, and together as RMW from the GET's due time."""
    failures = 0
    first = start = 0.0
    for op in (_GET, _PUT):
        line, expectation = stream.prepare(op, key)
        try:
            reply = connection.exchange(line)
        except Lost as lost:
            user.lost(str(lost), [(ERRORS[op], due or connection.sent_at)], connection.sent_at)
            return
        done, sent = clock(), connection.sent_at
        if op == _GET:
            first, start = sent, due or sent
        series, failure = stream.judge(expectation, reply)
        user.count(series, start if op == _GET else sent, sent, done)
        if failure:
            failures += 1
            user.recorder.fail(failure, sent)
    user.count(RMW_ERROR if failures else RMW_HIT, start, first, done)
    user.free_at = done
