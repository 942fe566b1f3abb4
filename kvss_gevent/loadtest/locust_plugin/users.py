"""Locust users for KV/1.0 to build on: KvssUser for tasks written by hand, WorkloadUser for a stream of requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import gevent
from locust import User, constant, task

from kvss_gevent.loadtest.engine import loops
from kvss_gevent.loadtest.engine.clock import clock
from kvss_gevent.loadtest.engine.connection import Lost, parse_host
from kvss_gevent.loadtest.engine.recorder import ERROR, HIT, MISS, SERIES_INDEX
from kvss_gevent.loadtest.engine.request_stream import RequestStream
from kvss_gevent.loadtest.engine.virtual_user import VirtualUser
from kvss_gevent.loadtest.locust_plugin import listeners
from kvss_gevent.loadtest.workload.mix import YCSB, YCSB_VALUE_BYTES, Sizes, Workload
from kvss_gevent.protocol import wire
from kvss_gevent.protocol.wire import Status, Verb

if TYPE_CHECKING:
    from kvss_gevent.loadtest.options import Options


class RequestFailed(Exception):
    """A request of a hand-written task got no reply, or one that is an error; it has been counted as a failure."""


class KvssClient:
    """get, put, delete and stats for tasks written by hand; every call is counted, and waits for its reply.

    In open loop the first request of a task is due when the schedule says so; the following ones when they are sent.
    """

    def __init__(self, virtual_user: VirtualUser) -> None:
        self._user = virtual_user
        self.due: float | None = None

    def get(self, key: str | bytes) -> bytes | None:
        """Return the value, or None where there is none. Raises RequestFailed, ValueError for an impossible key."""
        status, value = self.request(Verb.GET, _bytes(key))
        return value if status is Status.OK else None

    def put(self, key: str | bytes, value: str | bytes) -> bool:
        """Store a value; returns whether the key is new. Raises RequestFailed, ValueError."""
        return self.request(Verb.PUT, _bytes(key), _bytes(value))[0] is Status.CREATED

    def delete(self, key: str | bytes) -> bool:
        """Forget a key; returns whether it was there. Raises RequestFailed, ValueError."""
        return self.request(Verb.DEL, _bytes(key))[0] is Status.NO_CONTENT

    def stats(self) -> bytes:
        """Return the data of STATS. Raises RequestFailed."""
        return self.request(Verb.STATS)[1]

    def request(self, verb: Verb, key: bytes = b"", value: bytes = b"") -> tuple[Status, bytes]:
        """Send one request and return its reply. Raises RequestFailed, ValueError."""
        line = wire.build_request(verb, key, value)
        user = self._user
        while user.run.closing and self.due is None:
            gevent.sleep(0.05)  # The window is over: nothing is counted any more, Locust is about to stop the user.
        connection = user.connect()
        if connection is None:
            raise RequestFailed("not connected")
        command = verb.name if verb in (Verb.GET, Verb.PUT, Verb.DEL) else "OTHER"
        failure = ""
        status, data = Status.SERVER_ERROR, b""
        try:
            status, data = wire.parse_reply(connection.exchange(line))
        except (Lost, ValueError) as error:
            failure = str(error)
            user.drop()
        done, sent = clock(), connection.sent_at
        if not failure and status not in (Status.OK, Status.CREATED, Status.NO_CONTENT, Status.NOT_FOUND):
            failure = wire.REPLY[status].decode()
        outcome = ERROR if failure else MISS if status is Status.NOT_FOUND else HIT
        due, self.due = self.due, None
        user.count(SERIES_INDEX[command, outcome], due or sent, sent, done)
        user.free_at = done
        if failure:
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
    """Whether the keys of the workload options must be there before the user starts."""
    by_name_only: ClassVar[bool] = False
    """Whether the user runs only when the command line names its class."""

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.run_state = listeners.run_of(environment)
        self.virtual_user = VirtualUser(self.run_state, parse_host(self.host or ""))
        self.number, self.rng = self.run_state.next_user()
        self.client = KvssClient(self.virtual_user)

    def on_start(self) -> None:
        """Connect; a failure is counted and tried again, since an exception here would end the user for good."""
        self.virtual_user.connect()
        self.virtual_user.schedule = self.run_state.schedule_for(self.number, self.rng)
        if self.virtual_user.schedule is not None:
            self.follow_schedule()

    def on_stop(self) -> None:
        """Say QUIT and close."""
        self.virtual_user.stop()

    def follow_schedule(self) -> None:
        """Start tasks when the open-loop schedule says so and not when `wait_time` does."""
        self.wait_time = self._until_due  # type: ignore[method-assign]  # Locust asks the instance
        self._until_due()

    def _until_due(self) -> float:
        schedule = self.virtual_user.schedule
        assert schedule is not None
        while not self.virtual_user.wait_due(schedule):
            pass
        self.client.due = schedule.take()
        return 0.0


class WorkloadUser(KvssUser):
    """A user that draws its requests from a workload and not from tasks written by hand."""

    abstract = True
    uses_keys = True
    ycsb: ClassVar[str] = ""
    depth: ClassVar[int] = 1
    """Requests sent together where `--kv-depth` asks for no more."""
    connects_per_request: ClassVar[bool] = False
    """Whether each request has a connection of its own."""

    @classmethod
    def sizes(cls, options: Options) -> Sizes:
        """Return the sizes of the values this user writes, and finds when it starts."""
        return Sizes(((YCSB_VALUE_BYTES, YCSB_VALUE_BYTES),), (1,)) if cls.ycsb else options.value_size

    def on_start(self) -> None:
        """Set up the stream of requests and connect."""
        options = self.run_state.options
        self.virtual_user.depth = options.depth if options.depth > 1 else self.depth
        workload = YCSB[self.ycsb] if self.ycsb else Workload(options.mix, options.key_dist)
        self.stream = RequestStream(workload, self.sizes(options), options.keys, self.rng, self.run_state.ledger)
        super().on_start()

    def follow_schedule(self) -> None:
        """Nothing to do: the engine follows the schedule request by request."""

    @task
    def requests(self) -> None:
        """Send one burst of requests, or nothing more where the run is closing."""
        if self.run_state.closing and self.virtual_user.schedule is None:
            gevent.sleep(0.05)
        elif self.connects_per_request:
            loops.once(self.virtual_user, self.stream)
        else:
            self.burst()

    def burst(self) -> None:
        """Send a few requests, and return often, so that Locust can stop the user."""
        loops.work(self.virtual_user, self.stream)
