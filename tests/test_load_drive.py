"""loadtest/drive.py, run.py and preflight.py against servers in threads: what is counted when connections are lost."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import gevent
import pytest
from load_servers import Answer, right, serving

from kvss_gevent.loadtest.engine import load_run, loops, preflight
from kvss_gevent.loadtest.engine.clock import clock
from kvss_gevent.loadtest.engine.load_run import NO_REPLY, Run
from kvss_gevent.loadtest.engine.loops import NEVER_SENT
from kvss_gevent.loadtest.engine.messages import RunPlan, Update
from kvss_gevent.loadtest.engine.recorder import ERROR, HIT, MISS, RESPONSE, Tally
from kvss_gevent.loadtest.engine.request_stream import BURST, NOT_KV, RequestStream
from kvss_gevent.loadtest.engine.virtual_user import VirtualUser
from kvss_gevent.loadtest.load_options import read_options
from kvss_gevent.loadtest.workload.mix import Mix, Workload, parse_mix
from kvss_gevent.settings.fail import Fail


class Bench:
    """One user with a run of its own, counting from now on."""

    def __init__(self, port: int, mix: str, **texts: str) -> None:
        gevent.get_hub().loop.update_now()
        self.updates: list[Update] = []
        options = read_options({"keys": "20", **texts})
        now = clock()
        with pytest.MonkeyPatch.context() as patch:  # the schedule and the window begin at the same moment
            patch.setattr(load_run, "clock", lambda: now)
            self.run = Run(options, RunPlan("0a1b2c3d"), "local", self.updates.append)
            self.run.open_window(now, 60)
        self.user = VirtualUser(self.run, ("127.0.0.1", port))
        self.user.depth = options.depth
        shares: Mix = parse_mix(mix)
        workload = Workload(shares, options.key_dist)
        self.stream = RequestStream(workload, options.value_size, options.keys, self.user.rng, self.run.ledger)
        self.user.start()

    def work(self, bursts: int = 1) -> None:
        with gevent.Timeout(20):
            for _ in range(bursts):
                loops.work(self.user, self.stream)

    def finish(self) -> Tally:
        self.user.stop()
        return self.close()

    def close(self) -> Tally:
        self.run.close()
        self.run.close()
        part = Tally()
        for update in self.updates:
            if update.reset == self.run.resets:
                part.merge(update.tally)
        return part


@contextmanager
def bench(mix: str, answer: Answer = right, **texts: str) -> Iterator[Bench]:
    with serving(answer) as port:
        yield Bench(port, mix, **texts)


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


def test_a_run_that_is_closed_counts_what_was_left() -> None:
    with bench("1:0:0", rate="1000", backlog="5") as one:
        gevent.sleep(0.1)
        part = one.close()
    assert part.unsent == 5
    assert part.dropped > 50
    assert part.unaccounted == 0
    assert part.censored.total == part.unsent, "what was never sent has waited, too"


def test_what_was_counted_before_a_server_hangs_is_told_while_it_hangs() -> None:
    """The closed loop counts a burst at a time: a burst that does not end must not keep its counts to itself."""
    hung = threading.Event()
    seen = 0

    def hanging(data: dict[bytes, bytes], words: list[bytes]) -> bytes:
        nonlocal seen
        seen += 1
        if seen == 20:
            hung.wait(30)
        return right(data, words)

    with bench("1:0:0", hanging) as one:
        worker = gevent.spawn(one.work)
        with gevent.Timeout(20):
            while sum(update.tally.requests() for update in one.updates) < 19:  # they may come in two parts
                gevent.sleep(0.05)
        assert sum(update.tally.requests() for update in one.updates) == 19
        hung.set()
        worker.join(10)
        assert one.finish().requests() == BURST


def test_a_finished_schedule_lets_the_user_rest() -> None:
    begun = clock()
    with bench("1:0:0", rate="1000") as one:
        one.run.end_window()
        ended = clock()
        one.work(1)
        loops.once(one.user, one.stream)
        one.finish()
    assert one.run.summary()["measured_s"] <= ended - begun


def test_a_reset_begins_the_window_anew_and_leaves_its_end() -> None:
    with bench("1:0:0") as one:
        end = one.run.recorder.end
        one.work(3)
        begun = clock()
        one.run.reset(1)
        assert begun <= one.run.recorder.begin <= clock()
        one.work(2)
        part = one.finish()
    assert part.requests() == 2 * BURST
    assert one.run.recorder.end <= end
    assert one.updates[-1].reset == 1


def test_a_reset_outside_of_the_window_changes_nothing() -> None:
    with bench("1:0:0") as one:
        one.run.open_window(clock() + 60, 60)
        one.run.reset(1)
        assert one.run.recorder.begin > clock() + 50
        one.run.open_window(clock(), 60)
        one.work(2)
        one.run.end_window()
        one.run.reset(2)
        assert one.finish().requests() == 2 * BURST


def test_a_shape_goes_on_over_a_reset() -> None:
    with bench("1:0:0", shape="steps:100,3000:100ms") as one:
        gevent.sleep(0.15)
        one.run.reset(1)
        assert one.run.arrival_queue is not None
        now = clock()
        assert one.run.arrival_queue.arrivals.expected(now, now + 0.1) == pytest.approx(300)
        one.finish()


def test_a_summary_tells_what_is_under_way() -> None:
    hung = threading.Event()

    def hanging(data: dict[bytes, bytes], words: list[bytes]) -> bytes:
        hung.wait(30)
        return right(data, words)

    with bench("1:0:0", hanging) as one:
        begun = clock()
        worker = gevent.spawn(one.work)
        with gevent.Timeout(20):
            while (summary := one.run.summary())["under_way_s"] <= 0.2:
                gevent.sleep(0.05)
        took_s = clock() - begun
        hung.set()
        worker.join(10)
        one.finish()
    assert (summary["owed"], summary["concurrency"]) == (1, 1)
    assert summary["under_way_s"] <= min(summary["measured_s"], took_s)


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
        preflight.check_server(("127.0.0.1", port))
    assert "End each reply in LF alone" in told.value.remedy


@pytest.mark.parametrize("texts", [{}, {"depth": "5"}, {"rate": "3000"}, {"rate": "3000", "depth": "5"}], ids=str)
def test_requests_that_a_server_never_answered_fail_also_where_they_were_due_before_the_window(
    texts: dict[str, str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        one = Bench(silent.getsockname()[1], "get=100", drain="0.1", **texts)
        working = gevent.spawn(one.work)
        gevent.sleep(0.02)
        one.updates.clear()
        one.run.measure(clock() + 0.02, 0.15, lambda: False)
        part = one.finish()
        working.kill()
    assert part.failures == {NO_REPLY: part.unanswered}
    assert 1 <= part.unanswered <= one.user.depth
    assert part.censored.total == part.unanswered + part.unsent
    assert part.due == part.unanswered + part.unsent
    assert part.unaccounted == 0


def test_a_port_that_the_page_cannot_have_is_refused_before_locust_tries_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Fail, match=rf"the web page cannot listen on 127\.0\.0\.1:{port}: Address already in use"):
            preflight.check_web_port("127.0.0.1", port)
    preflight.check_web_port("127.0.0.1", port)
    with pytest.raises(Fail, match="there is no such port"):
        preflight.check_web_port("", 70000)
