"""Base classes of Locust users for KV/1.0: KvssUser for hand-written tasks, WorkloadUser for a stream of requests."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import gevent
from locust import User, constant, task

from kvss_gevent.loadtest.engine import loops
from kvss_gevent.loadtest.engine.clock import clock
from kvss_gevent.loadtest.engine.load_connection import ConnectionLost, address_of
from kvss_gevent.loadtest.engine.recorder import ERROR, HIT, MISS, SERIES_INDEX
from kvss_gevent.loadtest.engine.request_stream import RequestStream
from kvss_gevent.loadtest.engine.virtual_user import VirtualUser
from kvss_gevent.loadtest.load_options import Options
from kvss_gevent.loadtest.locust_plugin import listeners
from kvss_gevent.loadtest.workload.mix import YCSB, YCSB_VALUE_BYTES, Sizes, Workload
from kvss_gevent.protocol import wire
from kvss_gevent.protocol.wire import Status, Verb


class RequestFailed(Exception):
    """A request of a hand-written task got no reply or an error; it has been counted as a failure."""


class KvssClient:
    """get, put, delete and stats for hand-written tasks. Every call waits for its reply and is counted.

    In an open loop the schedule says when the first request of a task is due; further requests are due when sent.
    """

    def __init__(self, user: VirtualUser) -> None:
        self._user = user

    def get(self, key: str | bytes) -> bytes | None:
        """Return the value, or None if there is none. Raises RequestFailed, ValueError for an impossible key."""
        status, value = self.request(Verb.GET, _bytes(key))
        return value if status is Status.OK else None

    def put(self, key: str | bytes, value: str | bytes) -> bool:
        """Store a value; returns whether the key is new. Raises RequestFailed, ValueError."""
        return self.request(Verb.PUT, _bytes(key), _bytes(value))[0] is Status.CREATED

    def delete(self, key: str | bytes) -> bool:
        """Delete a key; returns whether it existed. Raises RequestFailed, ValueError."""
        return self.request(Verb.DEL, _bytes(key))[0] is Status.NO_CONTENT

    def stats(self) -> bytes:
        """Return the data of STATS. Raises RequestFailed."""
        return self.request(Verb.STATS)[1]

    def request(self, verb: Verb, key: bytes = b"", value: bytes = b"") -> tuple[Status, bytes]:
        """Send one request and return its reply. Raises RequestFailed, ValueError."""
        line = wire.build_request(verb, key, value)
        user = self._user
        while user.run.closing and not user.due:
            gevent.sleep(0.05)  # After the window nothing is counted, and Locust is about to stop the user.
        connection = user.connect()
        if connection is None:
            raise RequestFailed("not connected")
        if user.queue is not None and not user.due:
            user.due = clock()
            user.recorder.tally.due += user.recorder.counts(user.due)
        command = verb.name if verb in (Verb.GET, Verb.PUT, Verb.DEL) else "OTHER"
        error = SERIES_INDEX[command, ERROR]
        due = user.due
        try:
            reply = connection.exchange(line)
        except ConnectionLost as lost:
            user.lost(str(lost), [(error, due or connection.sent_at)], connection.sent_at)
            raise RequestFailed(str(lost)) from None
        sent, done = connection.sent_at, connection.done_at
        try:
            status, data = wire.parse_reply(reply)
        except ValueError as wrong:
            user.lost(str(wrong), [(error, due or sent)], sent)
            raise RequestFailed(str(wrong)) from None
        good = status in (Status.OK, Status.CREATED, Status.NO_CONTENT, Status.NOT_FOUND)
        outcome = (MISS if status is Status.NOT_FOUND else HIT) if good else ERROR
        user.count(SERIES_INDEX[command, outcome], due or sent, sent, done)
        if not good:
            failure = wire.REPLY[status].decode()
            user.recorder.fail(failure, due or sent)
            raise RequestFailed(failure)
        return status, data


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


class KvssUser(User):
    """One connection to a KV/1.0 server; `self.client` is a KvssClient. Subclass it and write tasks."""

    abstract = True
    wait_time = constant(0)
    uses_keys: ClassVar[bool] = False
    """Whether the keys of the workload options must be stored before the user starts."""
    by_name_only: ClassVar[bool] = False
    """Whether the user runs only if the command line names its class."""

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.run_state = listeners.run_of(environment)
        self.virtual_user = VirtualUser(self.run_state, address_of(self.host or ""))
        self.client = KvssClient(self.virtual_user)
        # _begin and _end also run if a subclass defines on_start or on_stop and does not call those of this class.
        self.on_start = partial(self._begin, self.on_start)  # type: ignore[method-assign]
        self.on_stop = partial(self._end, self.on_stop)  # type: ignore[method-assign]

    def _begin(self, on_start: Callable[[], None]) -> None:
        self.virtual_user.start()
        on_start()
        if self.virtual_user.queue is not None:
            self.follow_schedule()

    def _end(self, on_stop: Callable[[], None]) -> None:
        try:
            on_stop()
        finally:
            self.virtual_user.stop()

    def follow_schedule(self) -> None:
        """Start each task when a request is due, instead of after `wait_time`."""
        self.wait_time = self._until_due  # type: ignore[method-assign]  # Locust asks the instance
        self._until_due()

    def _until_due(self) -> float:
        user = self.virtual_user
        if user.due:
            # The task before sent nothing for its due request.
            user.unused()
        while not user.take_due():
            gevent.sleep(0.02)
        return 0.0


class WorkloadUser(KvssUser):
    """A user that draws its requests from a workload instead of hand-written tasks."""

    abstract = True
    uses_keys = True
    ycsb: ClassVar[str] = ""
    depth: ClassVar[int] = 1
    """Requests sent together, unless `--kv-depth` is above 1."""
    connects_per_request: ClassVar[bool] = False
    """Whether each request uses a new connection."""

    @classmethod
    def sizes(cls, options: Options) -> Sizes:
        """Return the sizes of the values that this user writes and that are stored before it starts."""
        return Sizes(((YCSB_VALUE_BYTES, YCSB_VALUE_BYTES),), (1,)) if cls.ycsb else options.value_size

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        options = self.run_state.options
        user = self.virtual_user
        user.depth = options.depth if options.depth > 1 else self.depth
        workload = YCSB[self.ycsb] if self.ycsb else Workload(options.mix, options.key_dist)
        ledger = self.run_state.ledger
        self.stream = RequestStream(workload, self.sizes(options), options.keys, user.rng, ledger, options.ttl)

    def follow_schedule(self) -> None:
        """Do nothing: the engine follows the schedule for each request."""

    @task
    def requests(self) -> None:
        """Send one burst of requests; send none if the run is closing."""
        if self.run_state.closing and self.virtual_user.queue is None:
            gevent.sleep(0.05)
        elif self.connects_per_request:
            loops.once(self.virtual_user, self.stream)
        else:
            self.burst()

    def burst(self) -> None:
        """Send a few requests and return, so that Locust can stop the user."""
        loops.work(self.virtual_user, self.stream)
