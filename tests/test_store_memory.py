"""The memory store: its two ways in agree, and its bound on memory holds and gives room back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvss_gevent.protocol.wire import Verb, parse_request
from kvss_gevent.stores.base import QUICK_LINE_BYTES, StoreError
from kvss_gevent.stores.memory import ENTRY_OVERHEAD_BYTES, MemoryStore

NO_LIMIT = 1 << 30
words = st.sampled_from([b"KV/1.0", b"PUT", b"GET", b"a", b"b", b"", b"k" * 511, b"k" * 512, b"v" * 2100, b"KV/1.1"])
put_lines = st.tuples(st.sampled_from([b"a", b"b"]), st.binary(min_size=1, max_size=5)).map(
    lambda pair: b"KV/1.0 PUT %s %s" % (pair[0], pair[1].replace(b"\n", b"-"))
)


@given(st.lists(put_lines | st.lists(words, max_size=5).map(b" ".join), max_size=20))
def test_put_line_does_what_parse_and_put_do_or_nothing(lines: list[bytes]) -> None:
    quick, slow = MemoryStore(), MemoryStore()
    for line in lines:
        reply = quick.put_line(line)
        verb, key, value = parse_request(line)
        if verb is Verb.PUT and len(line) <= QUICK_LINE_BYTES:
            assert reply == (b"201 CREATED" if slow.put(key, value) else b"200 OK")
        else:
            assert reply is None
        assert quick.replies == slow.replies
        assert quick.used_bytes == slow.used_bytes
        assert quick.largest_reply_bytes == slow.largest_reply_bytes


@given(
    st.lists(
        st.tuples(st.sampled_from([Verb.PUT, Verb.DEL]), st.sampled_from([b"a", b"bb"]), st.binary(min_size=1)),
        max_size=30,
    )
)
def test_used_bytes_are_the_sum_of_the_entries(commands: list[tuple[Verb, bytes, bytes]]) -> None:
    store = MemoryStore()
    store.apply(commands, NO_LIMIT)
    entries = sum(len(request) + len(reply) + ENTRY_OVERHEAD_BYTES for request, reply in store.replies.items())
    assert store.used_bytes == entries


def test_a_full_store_takes_a_smaller_value_in_place_of_a_larger_and_room_freed_is_room_again() -> None:
    store = MemoryStore(max_bytes=2 * (ENTRY_OVERHEAD_BYTES + 200))
    assert store.put(b"a", b"x" * 150)
    assert store.put(b"b", b"x" * 150)
    for attempt in (lambda: store.put(b"c", b"x"), lambda: store.put(b"a", b"x" * 300)):
        with pytest.raises(StoreError, match="full"):
            attempt()
    assert store.put_line(b"KV/1.0 PUT c x") is None
    assert store.get(b"a") == b"x" * 150
    assert store.get(b"c") is None
    assert not store.put(b"a", b"small")
    assert store.delete(b"b")
    assert store.put(b"c", b"x")
    assert store.count() == 2
    store.close()


def test_apply_stops_once_enough_is_fetched() -> None:
    store = MemoryStore()
    store.put(b"big", b"x" * 100)
    assert store.apply([(Verb.GET, b"big", b"")] * 5, 150) == [b"x" * 100] * 2
