"""The loops of users against servers in threads: what is counted when replies are odd and connections are lost."""

import socket

import gevent
import pytest
from load_drive import Bench, bench
from load_servers import Answer, right, serving

from kvss_gevent.loadtest.engine import loops, preflight
from kvss_gevent.loadtest.engine.clock import clock
from kvss_gevent.loadtest.engine.loops import NEVER_SENT
from kvss_gevent.loadtest.engine.recorder import ERROR, HIT, MISS, RESPONSE
from kvss_gevent.loadtest.engine.request_stream import BURST, NOT_KV
from kvss_gevent.loadtest.load_options import read_options
from kvss_gevent.settings.fail import Fail


def failing(every: int, reply: bytes) -> Answer:
    """Return an answer that is `reply` once in a while."""
    seen = 0

    def answer(data: dict[bytes, bytes], words: list[bytes]) -> bytes:
        nonlocal seen
        seen += 1
        return reply if seen % every == 0 else right(data, words)

    return answer


LOOPS = [{}, {"depth": "5"}, {"rate": "3000"}, {"rate": "3000", "depth": "5"}, {"rate": "3000", "arrival": "poisson"}]


@pytest.mark.parametrize("texts", LOOPS, ids=str)
def test_every_loop_counts_what_it_sends(texts: dict[str, str]) -> None:
    with bench("get=40,put=40,del=10,rmw=10", **texts) as one:
        one.work(2)
        part = one.finish()
    assert part.failures == {}
    assert part.requests((ERROR,)) == 0
    rmw = part.histogram(RESPONSE, "RMW", HIT).total + part.histogram(RESPONSE, "RMW", MISS).total
    assert rmw > 0
    assert part.requests() >= BURST
    assert part.unaccounted == 0


@pytest.mark.parametrize("texts", LOOPS, ids=str)
def test_a_reply_that_is_no_kv_costs_the_connection(texts: dict[str, str]) -> None:
    with bench("get=50,put=30,rmw=20", failing(60, b"HTTP/1.1 200 OK"), **texts) as one:
        one.work(5)
        part = one.finish()
    assert set(part.failures) <= {NOT_KV, NEVER_SENT}
    assert part.failures[NOT_KV] >= 1
    assert part.reconnects >= 1
    assert part.requests((ERROR,)) == sum(part.failures.values())
    assert part.unaccounted == 0


@pytest.mark.parametrize("texts", LOOPS, ids=str)
def test_a_closed_connection_fails_what_was_under_way_and_is_made_anew(texts: dict[str, str]) -> None:
    with bench("get=50,put=30,rmw=20", failing(60, b"200 OK bye"), **texts) as one:
        one.work(6)
        part = one.finish()
    lost = {name: count for name, count in part.failures.items() if name.startswith("connection")}
    assert sum(lost.values()) >= 1
    assert part.reconnects >= 1
    assert part.requests((HIT,)) > 100
    assert part.unaccounted == 0


def test_refusals_have_their_names() -> None:
    with bench("get=50,put=30,del=10,rmw=10", failing(10, b"500 SERVER_ERROR")) as one:
        one.work(3)
        part = one.finish()
    assert set(part.failures) == {"500 SERVER_ERROR"}
    assert part.histogram(RESPONSE, "RMW", ERROR).total > 0


def test_connecting_for_each_request_counts_connecting() -> None:
    for texts in ({}, {"rate": "1000"}):
        with bench("1:1:0", **texts) as one:
            with gevent.Timeout(20):
                for _ in range(5):
                    loops.once(one.user, one.stream)
            part = one.finish()
        assert part.requests() == 5
        assert part.unaccounted == 0
    with bench("1:0:0", failing(3, b"HTTP/1.1 400")) as one:
        with gevent.Timeout(20):
            for _ in range(4):
                loops.once(one.user, one.stream)
        assert one.finish().failures == {NOT_KV: 1}, "every other request is QUIT"


def test_nothing_listening_is_counted_and_waited_off() -> None:
    with serving() as port:
        pass
    one = Bench(port, "1:0:0")
    begun = clock()
    one.work(3)
    with gevent.Timeout(20):
        loops.once(one.user, one.stream)
    assert clock() - begun > 0.1
    part = one.finish()
    assert part.connect_errors["cannot connect: Connection refused"] >= 4
    assert (part.due, part.connect_failed, part.failures) == (1, 1, {}), "only the last attempt had a request to send"


def test_a_finished_schedule_lets_the_user_rest() -> None:
    begun = clock()
    with bench("1:0:0", rate="1000") as one:
        one.run.end_window()
        ended = clock()
        one.work(1)
        loops.once(one.user, one.stream)
        one.finish()
    assert one.run.summary()["measured_s"] <= ended - begun


def test_keys_are_loaded_before_anything_else() -> None:
    stored: dict[bytes, bytes] = {}

    def keeping(data: dict[bytes, bytes], words: list[bytes]) -> bytes:
        reply = right(data, words)
        stored.update(data)
        return reply

    options = read_options({"keys": "250"})
    with serving(keeping) as port:
        preflight.load_keys(("127.0.0.1", port), options, options.value_size, "0a1b2c3d")
    assert set(stored) == {b"user%d" % number for number in range(250)}
    assert {len(value) for value in stored.values()} == {100}


def test_a_server_that_will_not_store_ends_the_loading() -> None:
    options = read_options({"keys": "250"})
    with (
        serving(failing(120, b"500 SERVER_ERROR")) as port,
        pytest.raises(Fail, match=r"storing 250 keys at .* failed: the server answered '500 SERVER_ERROR'"),
    ):
        preflight.load_keys(("127.0.0.1", port), options, options.value_size, "0a1b2c3d")


def test_a_server_whose_lines_end_in_cr_lf_is_told_so_before_anything_is_measured() -> None:
    with serving(lambda *_: b"200 OK keys=0\r") as port, pytest.raises(Fail, match="end in CR LF") as told:
        preflight.check_server(("127.0.0.1", port), read_options({}))
    assert "End each reply in LF alone" in told.value.remedy


def test_a_port_that_the_page_cannot_have_is_refused_before_locust_tries_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Fail, match=rf"the web page cannot listen on 127\.0\.0\.1:{port}: Address already in use"):
            preflight.check_web_port("127.0.0.1", port)
    preflight.check_web_port("127.0.0.1", port)
    with pytest.raises(Fail, match="there is no such port"):
        preflight.check_web_port("", 70000)
