"""The memory store: what it counts, and that its bound on memory holds and gives room back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_calls import Result, apply

from kvss_gevent.protocol.wire import Verb
from kvss_gevent.stores.base import StoreError
from kvss_gevent.stores.memory import ENTRY_OVERHEAD_BYTES, MemoryStore

NO_LIMIT = 1 << 30


@given(
    st.lists(
        st.tuples(st.sampled_from([Verb.PUT, Verb.DEL]), st.sampled_from([b"a", b"bb"]), st.binary(min_size=1)),
        max_size=30,
    )
)
def test_used_bytes_are_the_sum_of_the_entries(commands: list[tuple[Verb, bytes, bytes]]) -> None:
    store = MemoryStore()
    apply(store, commands, NO_LIMIT)
    entries = sum(len(request) + len(reply) + ENTRY_OVERHEAD_BYTES for request, reply in store.replies.items())
    assert store.used_bytes == entries


def test_a_full_store_takes_a_smaller_value_in_place_of_a_larger_and_room_freed_is_room_again() -> None:
    store = MemoryStore(max_bytes=2 * (ENTRY_OVERHEAD_BYTES + 200))

    def put(key: bytes, value: bytes) -> Result:
        return apply(store, [(Verb.PUT, key, value)], NO_LIMIT)[0]

    assert put(b"a", b"x" * 150) is True
    assert put(b"b", b"x" * 150) is True
    for key, value in ((b"c", b"x"), (b"a", b"x" * 300)):
        with pytest.raises(StoreError, match="full"):
            put(key, value)
    assert apply(store, [(Verb.GET, b"a", b""), (Verb.GET, b"c", b"")], NO_LIMIT) == [b"x" * 150, None]
    assert put(b"a", b"small") is False
    assert apply(store, [(Verb.DEL, b"b", b"")], NO_LIMIT) == [True]
    assert put(b"c", b"x") is True
    assert store.count() == 2
    store.close()


def test_a_batch_with_a_put_that_does_not_fit_fails_whole() -> None:
    store = MemoryStore(max_bytes=ENTRY_OVERHEAD_BYTES + 100)
    with pytest.raises(StoreError, match="full"):
        apply(store, [(Verb.PUT, b"a", b"1"), (Verb.PUT, b"b", b"x" * 300)], NO_LIMIT)


def test_apply_stops_once_enough_is_fetched() -> None:
    store = MemoryStore()
    apply(store, [(Verb.PUT, b"big", b"x" * 100)], NO_LIMIT)
    assert apply(store, [(Verb.GET, b"big", b"")] * 5, 150) == [b"x" * 100] * 2


def test_the_table_says_how_large_its_replies_can_be() -> None:
    store = MemoryStore()
    apply(store, [(Verb.PUT, b"a", b"x" * 5000), (Verb.PUT, b"a", b"x")], NO_LIMIT)
    assert store.replies == {b"KV/1.0 GET a\n": b"200 OK x\n"}
    assert store.replies.largest_bytes == len(b"200 OK \n") + 5000
