"""A user at work: sends steps over one connection, in closed or open loop, and counts. Users are for users.py."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import gevent

from loadtest.connection import Connection, Lost
from loadtest.timer import clock
from loadtest.traffic import GET_HIT, NOT_KV, RMW_ERROR, RMW_HIT, Ticket, Traffic
from loadtest.workload import Op

if TYPE_CHECKING:
    from loadtest.run import Run
    from loadtest.schedule import Schedule

BURST = 64
"""Requests between two looks at whether the user is to stop, and between two switches of Locust's own."""

_BACKOFF_LEAST_S, _BACKOFF_MOST_S = 0.05, 1.0
_RMW, _GET, _PUT = int(Op.RMW), int(Op.GET), int(Op.PUT)


class Driver:
    """The connection, the counters and, in open loop, the schedule of one user."""

    def __init__(self, run: Run, address: tuple[str, int]) -> None:
        self.run = run
        self.address = address
        self.recorder = run.recorder
        self.connection: Connection | None = None
        self.down_since: float | None = None
        self.free_at = 0.0
        self.schedule: Schedule | None = None
        self.depth = 0
        self._backoff_s = _BACKOFF_LEAST_S
        self._rng = Random()
        run.drivers.add(self)

    def connect(self) -> Connection | None:
        """Return the connection, made anew where there is none; None after a failure, counted and waited off."""
        if self.connection is not None:
            return self.connection
        try:
            self.connection = Connection(self.address, self.run.options.timeout)
        except Lost as lost:
            now = clock()
            self.down_since = self.down_since or now
            self.recorder.fail(str(lost), now)
            # Users that lost one server at the same moment must not all come back at the same moment.
            gevent.sleep(self._backoff_s * (0.5 + self._rng.random()))
            self._backoff_s = min(self._backoff_s * 2, _BACKOFF_MOST_S)
            return None
        if self.down_since is not None:
            self.recorder.reconnects += 1
        self.down_since = None
        self._backoff_s = _BACKOFF_LEAST_S
        self.free_at = clock()
        return self.connection

    def stop(self) -> None:
        """Say QUIT, count what is still owed as aborted, and leave the run."""
        self.run.drivers.discard(self)
        connection, self.connection = self.connection, None
        if connection is not None:
            self.run.abort(connection)
            connection.close(quit_first=True)

    def drop(self) -> None:
        """Give up the connection: nothing that still comes on it can be trusted."""
        connection, self.connection = self.connection, None
        if connection is not None:
            self.down_since = clock()
            connection.close()

    def work(self, traffic: Traffic) -> None:
        """Do one burst of requests, or wait for one to be due; returns soon when the run is closing."""
        connection = self.connect()
        if connection is None:
            return
        if self.schedule is not None:
            self._open(connection, traffic, self.schedule)
        elif self.depth == 1:
            self._closed(connection, traffic)
        else:
            for _ in range(max(BURST // self.depth, 1)):
                self._send(connection, traffic, [(op, key, 0.0) for op, key in traffic.steps(self.depth)])
                if self.connection is None or self.run.closing:
                    return

    def wait_due(self, schedule: Schedule) -> int:
        """Wait until a request is due; returns the length of the backlog, 0 when nothing will be due any more."""
        while not (backlog := schedule.advance(clock())):
            if schedule.finished():
                gevent.sleep(0.02)
                return 0
            self.run.alarm.sleep_until(schedule.next_due)
        return backlog

    def once(self, traffic: Traffic) -> None:
        """Connect, send one request and close; connecting is part of its time."""
        due = None
        if self.schedule is not None:
            if not self.wait_due(self.schedule):
                return
            due = self.schedule.take()
        begun = clock()
        connection = self.connect()
        if connection is None:
            return
        [(op, key)] = traffic.steps(1)
        line, ticket = traffic.prepare(op, key)
        try:
            reply = connection.exchange(line)
        except Lost as lost:
            self._lost(str(lost), traffic, [(ticket, due or begun)], begun)
            return
        series, failure = traffic.judge(ticket, reply)
        self.count(series, due or begun, begun, clock())
        if failure:
            self.recorder.fail(failure, due or begun)
        self.connection = None
        connection.close(quit_first=True)
        self.free_at = clock()

    def _closed(self, connection: Connection, traffic: Traffic) -> None:
        """Send steps one after the other, each when the one before is answered: the hot loop, counted in place."""
        recorder, run = self.recorder, self.run
        prepare, judge, exchange, now = traffic.prepare, traffic.judge, connection.exchange, clock
        proven, proven_version = traffic.ledger.proven, traffic.ledger.proven_version
        connection.hold()
        try:
            for op, key in traffic.steps(BURST):
                if op == _RMW:
                    self._modify(connection, traffic, key, None)
                else:
                    line, ticket = prepare(op, key)
                    try:
                        reply = exchange(line)
                    except Lost as lost:
                        self._lost(str(lost), traffic, [(ticket, connection.sent_at)], connection.sent_at)
                        return
                    done = now()
                    # What judge does first, without the call: most replies are known by heart.
                    if reply == proven[ticket[1]] and op == _GET and proven_version[ticket[1]] > ticket[2]:
                        series, failure = GET_HIT, ""
                    else:
                        series, failure = judge(ticket, reply)
                    sent = connection.sent_at
                    if recorder.begin <= sent < recorder.end:
                        recorder.response[series][int((done - sent) * 1e6)] += 1
                        if failure:
                            recorder.failures[failure] += 1
                    if failure is NOT_KV:
                        self.drop()
                if run.closing or self.connection is None:
                    return
        finally:
            connection.release()

    def _open(self, connection: Connection, traffic: Traffic, schedule: Schedule) -> None:
        """Send what is due; where nothing is, wait until something is."""
        for _ in range(BURST):
            backlog = self.wait_due(schedule)
            if not backlog:
                return
            items = [(op, key, schedule.take()) for op, key in traffic.steps(min(backlog, self.depth))]
            self._send(connection, traffic, items)
            if self.connection is None:
                return

    def _send(self, connection: Connection, traffic: Traffic, items: list[tuple[int, int, float]]) -> None:
        """Send (op, key, due) items: together what goes together, then the read-modify-writes one by one."""
        plain = [item for item in items if item[0] != _RMW]
        if plain:
            self._batch(connection, traffic, plain)
        for op, key, due in items:
            if op == _RMW and self.connection is not None:
                connection.hold()
                try:
                    self._modify(connection, traffic, key, due or None)
                finally:
                    connection.release()

    def _batch(self, connection: Connection, traffic: Traffic, items: list[tuple[int, int, float]]) -> None:
        """Send (op, key, due) items together and read their replies; in closed loop they are due when they are sent."""
        prepared = [traffic.prepare(op, key) for op, key, _ in items]
        is_open = self.schedule is not None
        free_at = self.free_at
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
                    self.recorder.count(series, due, sent, done, sent - max(due, free_at))
                else:
                    self.recorder.count_closed(series, sent, done)
                if failure:
                    self.recorder.fail(failure, due if is_open else sent)
                if failure is NOT_KV:
                    raise Lost(NOT_KV)
            self.free_at = done
        except Lost as lost:
            sent = connection.sent_at
            rest = zip(prepared[position:], items[position:], strict=True)
            self._lost(
                str(lost), traffic, [(ticket, due if is_open else sent) for (_, ticket), (_, _, due) in rest], sent
            )
        finally:
            connection.release()

    def _modify(self, connection: Connection, traffic: Traffic, key: int, due: float | None) -> None:
        """Read a key and write it: counted as GET, as PUT, and together as RMW from the GET's due time."""
        failures = 0
        first = start = 0.0
        for op in (_GET, _PUT):
            line, ticket = traffic.prepare(op, key)
            try:
                reply = connection.exchange(line)
            except Lost as lost:
                self._lost(str(lost), traffic, [(ticket, due or connection.sent_at)], connection.sent_at)
                return
            done, sent = clock(), connection.sent_at
            if op == _GET:
                first, start = sent, due or sent
            series, failure = traffic.judge(ticket, reply)
            self.count(series, start if op == _GET else sent, sent, done)
            if failure:
                failures += 1
                self.recorder.fail(failure, sent)
        self.count(RMW_ERROR if failures else RMW_HIT, start, first, done)
        self.free_at = done

    def count(self, series: int, due: float, sent: float, done: float) -> None:
        """Count one request, in seconds; in closed loop it is due when it is sent."""
        if self.schedule is None:
            self.recorder.count_closed(series, due, done)
        else:
            self.recorder.count(series, due, sent, done, sent - max(due, self.free_at) if sent > due else 0.0)

    def _lost(self, reason: str, traffic: Traffic, owed: list[tuple[Ticket, float]], sent: float) -> None:
        done = clock()
        for ticket, start in owed:
            series = traffic.lost(ticket)
            if self.schedule is None:
                self.recorder.count_closed(series, start, done)
            else:
                self.recorder.count(series, start, sent, done, 0.0)
            self.recorder.fail(reason, start)
        self.drop()
