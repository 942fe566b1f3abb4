"""The loops that send a user's requests: closed, by schedule, several at a time. What a user is, is for drive.py.

A loop does a burst of requests and returns; a lost connection ends it early, with everything that is owed counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent

from kvss_gevent.loadtest.engine.clock import clock
from kvss_gevent.loadtest.engine.connection import Connection, Lost
from kvss_gevent.loadtest.engine.requests import (
    BURST,
    ERRORS,
    GET_HIT,
    GET_MISS,
    NOT_FOUND,
    NOT_KV,
    RMW_ERROR,
    RMW_HIT,
    Traffic,
)
from kvss_gevent.loadtest.workload.mix import Op

if TYPE_CHECKING:
    from kvss_gevent.loadtest.engine.user import Driver
    from kvss_gevent.loadtest.workload.arrivals import Schedule

_RMW, _GET, _PUT = int(Op.RMW), int(Op.GET), int(Op.PUT)


def closed(driver: Driver, connection: Connection, traffic: Traffic) -> None:  # noqa: PLR0912  written out to be fast
    """Send steps one after the other, each when the one before is answered: the hot loop.

    What can be done for a whole burst is done so: between two system calls the same code is cold, and costs twice.
    """
    run, ledger, many = driver.run, traffic.ledger, traffic.first_new
    exchange, code = connection.exchange, hash
    floors, proven, deleted = ledger.floor, ledger.proven, ledger.deleted
    count, note_sent, note_done = driver.series.append, driver.sent.append, driver.done.append
    op, failure = _GET, ""
    connection.hold()
    try:
        for op, key, line in traffic.burst():
            if op == _GET and key < many:
                floor = floors[key]
                reply = exchange(line)
                # What judge_read finds nearly always, without the call.
                if code(reply) == proven[key]:
                    series = GET_HIT
                elif reply == NOT_FOUND and deleted[key] > floor:
                    series = GET_MISS
                else:
                    series, failure = traffic.judge_read(key, floor, reply)
            elif op == _RMW:
                _modify(driver, connection, traffic, key, None)
                if run.closing or driver.connection is None:
                    return
                continue
            else:
                line, ticket = traffic.prepare(op, key)  # noqa: PLW2901  a write has another line
                series, failure = traffic.judge(ticket, exchange(line))
            count(series)
            note_sent(connection.sent_at)
            note_done(connection.done_at)
            if failure:
                driver.recorder.fail(failure, connection.sent_at)
                if failure is NOT_KV:
                    driver.drop()
                    return
                failure = ""
            if run.closing:
                return
    except Lost as lost:
        driver.lost(str(lost), [(ERRORS[op], connection.sent_at)], connection.sent_at)
    finally:
        connection.release()
        driver.flush()


def open_singly(driver: Driver, connection: Connection, traffic: Traffic, schedule: Schedule) -> None:
    """Send requests one by one, each when it is due and the one before is answered: the hot loop of low depth."""
    recorder, exchange, now = driver.recorder, connection.exchange, clock
    prepare, judge = traffic.prepare, traffic.judge
    op, due = _GET, 0.0
    connection.attend()
    try:
        for op, key in traffic.steps(traffic.ahead):
            while not (due := schedule.take_due(now())):
                if schedule.finished():
                    gevent.sleep(0.02)
                    return
                driver.run.alarm.sleep_until(schedule.next_due)
            if op == _RMW:
                _modify(driver, connection, traffic, key, due)
                if driver.connection is None:
                    return
                continue
            line, ticket = prepare(op, key)
            reply = exchange(line)
            sent, done = connection.sent_at, connection.done_at
            series, failure = judge(ticket, reply)
            free_at = driver.free_at
            recorder.count(series, due, sent, done, sent - (due if due > free_at else free_at))
            driver.free_at = done
            if failure:
                recorder.fail(failure, due)
                if failure is NOT_KV:
                    driver.drop()
                    return
    except Lost as lost:
        driver.lost(str(lost), [(ERRORS[op], due)], connection.sent_at)
    finally:
        connection.release()


def closed_deep(driver: Driver, connection: Connection, traffic: Traffic) -> None:
    """Send several requests together, and the next when all of them are answered."""
    for _ in range(max(BURST // driver.depth, 1)):
        _send(driver, connection, traffic, [(op, key, 0.0) for op, key in traffic.steps(driver.depth)])
        if driver.connection is None or driver.run.closing:
            return


def open_deep(driver: Driver, connection: Connection, traffic: Traffic, schedule: Schedule) -> None:
    """Send what is due, several together; where nothing is, wait until something is."""
    for _ in range(BURST):
        backlog = driver.wait_due(schedule)
        if not backlog:
            return
        items = [(op, key, schedule.take()) for op, key in traffic.steps(min(backlog, driver.depth))]
        _send(driver, connection, traffic, items)
        if driver.connection is None:
            return


def _send(driver: Driver, connection: Connection, traffic: Traffic, items: list[tuple[int, int, float]]) -> None:
    """Send (op, key, due) items: together what goes together, then the read-modify-writes one by one."""
    plain = [item for item in items if item[0] != _RMW]
    if plain:
        _batch(driver, connection, traffic, plain)
    for op, key, due in items:
        if op == _RMW and driver.connection is not None:
            connection.hold()
            try:
                _modify(driver, connection, traffic, key, due or None)
            finally:
                connection.release()


def _batch(driver: Driver, connection: Connection, traffic: Traffic, items: list[tuple[int, int, float]]) -> None:
    """Send (op, key, due) items together and read their replies; in closed loop they are due when they are sent."""
    prepared = [traffic.prepare(op, key) for op, key, _ in items]
    is_open = driver.schedule is not None
    free_at = driver.free_at
    position = 0
    done = 0.0
    connection.hold()
    try:
        connection.send(b"".join([line for line, _ in prepared]), len(items))
        sent = connection.sent_at
        for (_, ticket), (_, _, due) in zip(prepared, items, strict=True):
            reply = connection.reply()
            done = clock()
            position += 1
            series, failure = traffic.judge(ticket, reply)
            if is_open:
                driver.recorder.count(series, due, sent, done, sent - max(due, free_at))
            else:
                driver.recorder.count_closed(series, sent, done)
            if failure:
                driver.recorder.fail(failure, due if is_open else sent)
            if failure is NOT_KV:
                raise Lost(NOT_KV)
        driver.free_at = done
    except Lost as lost:
        sent = connection.sent_at
        owed = [(ERRORS[op], due if is_open else sent) for op, _, due in items[position:]]
        driver.lost(str(lost), owed, sent)
    finally:
        connection.release()


def _modify(driver: Driver, connection: Connection, traffic: Traffic, key: int, due: float | None) -> None:
    """Read a key and write it: counted as GET, as PUT, and together as RMW from the GET's due time."""
    failures = 0
    first = start = 0.0
    for op in (_GET, _PUT):
        line, ticket = traffic.prepare(op, key)
        try:
            reply = connection.exchange(line)
        except Lost as lost:
            driver.lost(str(lost), [(ERRORS[op], due or connection.sent_at)], connection.sent_at)
            return
        done, sent = clock(), connection.sent_at
        if op == _GET:
            first, start = sent, due or sent
        series, failure = traffic.judge(ticket, reply)
        driver.count(series, start if op == _GET else sent, sent, done)
        if failure:
            failures += 1
            driver.recorder.fail(failure, sent)
    driver.count(RMW_ERROR if failures else RMW_HIT, start, first, done)
    driver.free_at = done
