"""The stores on Valkey or Redis: redis:// is one server, cluster:// many. A Node has the connection of each server.

A batch is split by node. Its parts travel at the same time, each in the next pipeline of its node, together with parts
of other callers. apply() may be called from any number of threads. submit() is for callers that wait in their own way.
"""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from kvss_gevent.protocol.wire import GET
from kvss_gevent.stores.base import Batch, ReplyTable, StoreError
from kvss_gevent.stores.remote.access import Access
from kvss_gevent.stores.remote.batch_run import NOT_FOUND, BatchRun
from kvss_gevent.stores.remote.node import Node
from kvss_gevent.stores.remote.node_connection import PACKED_GET, Address, pack
from kvss_gevent.stores.remote.request import NodeLimits, NodeRequest
from kvss_gevent.stores.remote.runtimes import Runner, Runtime, Threads
from kvss_gevent.stores.remote.slots import SLOTS, Owners, find_owners, slot_of

Done = Callable[[list[bytes] | StoreError], None]

REFRESH_INTERVAL_S = 0.25
"""The slots are asked for at most this often, however many calls fail."""

LARGEST_FADES = 0.9
"""The largest value size is remembered. With each batch of smaller values it shrinks by this factor."""


class RemoteStore:
    """Keys and values on the server at the address, or on the cluster that the addresses belong to.

    With `cluster`, the addresses are those of some nodes; the others are found. To open the store waits for nobody;
    check() waits. A batch that fails may have taken effect in part, also on a single server (rule 10).
    """

    run = put = None
    blocks = True

    def __init__(
        self,
        addresses: Sequence[Address],
        limits: NodeLimits | None = None,
        access: Access | None = None,
        *,
        cluster: bool = False,
        runtime: Runtime | None = None,
    ) -> None:
        self.replies = ReplyTable()
        self.limits = limits or NodeLimits()
        self.cluster = cluster
        self.wait_s = 3 * self.limits.timeout_s
        """The longest time for a batch: waiting in the queue, its own round trip, and one redirection."""
        self._runtime = runtime = runtime or Threads()
        self._seeds = tuple(addresses)
        self._access = access or Access()
        self._lock = threading.Lock()
        self._nodes: dict[Address, Node] = {}
        self._owners: list[Node | None] = [None] * SLOTS
        self._place_of: Callable[[bytes], int] = slot_of if cluster else _first
        self._largest_bytes = 0.0
        self._closing = runtime.signal()
        self._stale = runtime.signal()
        self._refresher: Runner | None = None
        if not cluster:
            self._owners = [self.node(self._seeds[0])]
            return
        self._refresher = runtime.spawn(self._refresh_when_stale, "kvss cluster slots")

    def check(self) -> None:
        """Ask whether the server or cluster is there and usable. Raises StoreError with the reason if not."""
        if self.cluster:
            self._refresh()
            missing = self._owners.count(None)
            if missing:
                raise StoreError(f"no node serves {missing} of the cluster's {SLOTS} slots")
        self.count()

    def running_on(self, runtime: Runtime) -> "RemoteStore":
        """Return another store that does the same on another runtime; this one can be closed."""
        other = RemoteStore(self._seeds, self.limits, self._access, cluster=self.cluster, runtime=runtime)
        if self.cluster:  # so that the first clients do not wait for what is already known
            other.assign([None if owner is None else owner.address for owner in self._owners])
        return other

    def assign(self, owners: Owners) -> None:
        """Take over the owners of the slots."""
        serving = {address: self.node(address) for address in set(owners) if address is not None}
        self._owners = [None if address is None else serving[address] for address in owners]

    def submit(self, batch: Batch, limit_bytes: int, done: Done) -> None:
        """Start a batch (see Store.apply) and return; done is called once, on any thread, with reply lines or an error.

        done must not wait. If a node hangs, it may never be called, so the caller waits at most wait_s.
        """
        batch = batch[: self._how_many(batch, limit_bytes)]
        parts: dict[tuple[Node, bool], list[int]] = {}
        for number, (_, key, _) in enumerate(batch):
            node = self._owners[self._place_of(key)]
            if node is None:
                self.refresh_soon()
                done(StoreError("no node of the cluster serves the key's slot"))
                return
            parts.setdefault((node, False), []).append(number)
        BatchRun(self, batch, limit_bytes, done, time.monotonic() + self.wait_s).send(parts)

    def submit_get(self, key: bytes, limit_bytes: int, done: Done) -> None:
        """Do the same for a single GET, the most frequent batch, without the cost of a BatchRun."""
        node = self._owners[self._place_of(key)]
        if node is None:
            self.submit([(GET, key, b"")], limit_bytes, done)
            return

        def take(work: NodeRequest) -> None:
            if work.error:
                done(work.error)
                return
            value = work.replies[0]
            if value is None:
                done([NOT_FOUND])
            elif type(value) is bytes and value and b"\n" not in value:
                size_bytes, faded_bytes = len(value), self._largest_bytes * LARGEST_FADES
                self._largest_bytes = faded_bytes if faded_bytes > size_bytes else size_bytes
                done([b"200 OK %b\n" % value])
            else:  # a redirection, or a value of another program: to ask once more does no harm
                self.submit([(GET, key, b"")], limit_bytes, done)

        work = NodeRequest()
        work.commands = ((b"GET", key),)
        work.packed = PACKED_GET % (len(key), key)
        work.done = take
        work.deadline_s = time.monotonic() + self.wait_s
        node.submit(work)

    def apply(self, batch: Batch, limit_bytes: int) -> list[bytes]:
        """Run commands in order and return their reply lines; see Store. Waits at most wait_s."""
        replies: list[bytes] = self._wait_for(lambda done: self.submit(batch, limit_bytes, done))
        return replies

    def submit_count(self, done: Callable[[int | StoreError], None]) -> None:
        """Start counting the keys, with one DBSIZE for each master. done is as in submit."""
        nodes = {owner for owner in self._owners if owner is not None}
        if not nodes:
            self.refresh_soon()
            done(StoreError("no node of the cluster is known"))
            return
        lock = threading.Lock()
        replies: list[Any] = []

        def add_up(work: NodeRequest) -> None:
            with lock:
                replies.append(work.error or work.replies[0])
                if len(replies) < len(nodes):
                    return
            fault = next((reply for reply in replies if not isinstance(reply, int)), None)
            done(sum(replies) if fault is None else StoreError(str(fault)))

        for node in nodes:
            work = NodeRequest()
            work.commands = ((b"DBSIZE",),)
            work.packed = pack(work.commands)
            work.done = add_up
            work.deadline_s = time.monotonic() + self.wait_s
            node.submit(work)

    def count(self) -> int:
        """Return the number of keys on all masters. Raises StoreError."""
        number: int = self._wait_for(self.submit_count)
        return number

    def close(self) -> None:
        """End the threads. Work under way is waited for, within the time limit."""
        with self._lock:
            self._closing.set()
            nodes = list(self._nodes.values())
        self._stale.set()
        for node in nodes:
            node.close()
        for node in nodes:
            node.close(self.limits.timeout_s)
        if self._refresher:
            self._refresher.join(self.limits.timeout_s)

    # What a BatchRun needs.

    def owner_of(self, key: bytes) -> Node | None:
        """Return the node that serves a key, as far as it is known."""
        return self._owners[self._place_of(key)]

    def node(self, address: Address) -> Node:
        """Return the node at an address, known before or not. Raises StoreError once the store is closed."""
        with self._lock:
            if self._closing.is_set():
                raise StoreError("the store is closed")
            known = self._nodes.get(address)
            if known is None:
                known = self._nodes[address] = Node(address, self.limits, self._runtime, self._access)
                known.on_failure = self.refresh_soon
            return known

    def moved(self, slot: int, node: Node) -> None:
        """Note that a slot has a new owner. If one has moved, others may have moved, too."""
        self._owners[slot] = node
        self.refresh_soon()

    def refresh_soon(self) -> None:
        """Have the owners of all slots asked for, on another thread."""
        self._stale.set()

    def note_largest(self, size_bytes: int) -> None:
        """Remember how large values are, for _how_many."""
        faded = self._largest_bytes * LARGEST_FADES
        self._largest_bytes = faded if faded > size_bytes else size_bytes

    def _how_many(self, batch: Batch, limit_bytes: int) -> int:
        """Return how many commands of a batch to run. If values are as large as lately, they stay within limit_bytes.

        A network store learns a value's size only when it arrives, and a write cannot be taken back.
        """
        largest = max(self._largest_bytes, 1.0)
        if len(batch) * largest <= limit_bytes:
            return len(batch)
        gets = limit_bytes // largest + 1
        for number, command in enumerate(batch):
            gets -= command[0] == GET
            if gets <= 0:
                return number + 1
        return len(batch)

    def _refresh_when_stale(self) -> None:
        """Run the thread that keeps the owners of slots up to date."""
        self._stale.set()
        while True:
            self._stale.wait()
            self._stale.clear()
            if self._closing.is_set():
                return
            with contextlib.suppress(StoreError):  # whoever needs a slot gets an error; the next failure asks again
                self._refresh()
            self._closing.wait(REFRESH_INTERVAL_S)

    def _refresh(self) -> None:
        if not self.cluster:
            return
        with self._lock:
            known = list(self._nodes)
        # The order is random, so that a node that is cut off is not believed again and again.
        random.shuffle(known)
        everyone = dict.fromkeys((*known, *self._seeds))
        owners = find_owners(everyone, min(self.limits.timeout_s, 1.0), self._runtime, self._access)
        self.assign(owners)
        with self._lock:
            gone = [self._nodes.pop(address) for address in set(known).difference(owners)]
        for node in gone:
            node.close()

    def _wait_for(self, start: Callable[[Callable[[Any], None]], None]) -> Any:
        """Call start with a done, wait until that is called, and return what it was given. Raises StoreError."""
        finished = self._runtime.signal()
        outcome: list[Any] = []

        def done(result: Any) -> None:
            outcome.append(result)
            finished.set()

        start(done)
        finished.wait(self.wait_s)
        if not outcome:
            raise StoreError(f"no answer within {self.wait_s:g} s")
        if isinstance(outcome[0], StoreError):
            raise StoreError(str(outcome[0]))
        return outcome[0]


def _first(_: bytes) -> int:
    """The slot of every key if there is only one server."""
    return 0
