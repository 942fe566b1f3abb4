"""loadtest/recorder.py and collector.py: what is counted where, and that parts add up."""

from collections import Counter

import msgpack
import pytest

from kvss_gevent.loadtest.engine.histogram import index_of
from kvss_gevent.loadtest.engine.messages import Update
from kvss_gevent.loadtest.engine.recorder import ERROR, HIT, LAG, MISS, RESPONSE, SERIES_INDEX, SERVICE, Recorder, Tally
from kvss_gevent.loadtest.report.collector import Collector

GET_HIT = SERIES_INDEX["GET", HIT]


def opened(begin: float = 10.0, end: float = 20.0) -> Recorder:
    recorder = Recorder()
    recorder.begin, recorder.end = begin, end
    return recorder


def test_response_counts_from_the_intended_start_and_service_from_the_send() -> None:
    recorder = opened()
    recorder.count(GET_HIT, due=11.0, sent=11.5, done=11.75, lag_s=0.25)
    part = recorder.take()
    assert part.histogram(RESPONSE, "GET", HIT).percentile(50) == pytest.approx(750_000, rel=0.001)
    assert part.histogram(SERVICE, "GET", HIT).percentile(50) == pytest.approx(250_000, rel=0.001)
    assert part.histogram(LAG, "GET", HIT).percentile(50) == pytest.approx(250_000, rel=0.001)


def test_only_requests_due_in_the_window_count() -> None:
    recorder = opened()
    for due in (9.99, 10.0, 19.99, 20.0):
        recorder.count(GET_HIT, due, due, due + 1, 0)
        recorder.count_closed(GET_HIT, due, due + 1)
        recorder.fail("broken", due)
    part = recorder.take()
    assert part.histogram(RESPONSE, "GET", HIT).total == 4
    assert part.failures == {"broken": 2}


def test_nothing_counts_before_the_window_is_opened() -> None:
    recorder = Recorder()
    recorder.count_closed(GET_HIT, 5.0, 6.0)
    assert recorder.take().requests() == 0


def test_take_begins_anew() -> None:
    recorder = opened()
    recorder.count_closed(GET_HIT, 11, 12)
    assert [recorder.take().requests() for _ in range(2)] == [1, 0]


def part_of(values: dict[tuple[str, str], list[int]]) -> Tally:
    part = Tally(failures=Counter({"x": 1}), aborted=1, dropped=2, unsent=3, reconnects=4)
    for (command, outcome), us in values.items():
        for value in us:
            part.histogram(RESPONSE, command, outcome).record(value)
    return part


def test_a_part_survives_locusts_messages() -> None:
    part = part_of({("GET", HIT): [5, 5, 70_000], ("PUT", ERROR): [1]})
    summary = {"measured_s": 1.5}
    sent = msgpack.loads(msgpack.dumps(Update(3, part, 7, 8, 0.5, 2, summary).pack()), raw=False, strict_map_key=False)
    update = Update.unpack(sent)
    assert (update.second, update.backlog, update.users, update.down_s) == (3, 7, 8, 0.5)
    assert (update.reset, update.summary) == (2, summary)
    assert update.tally.pack() == part.pack()


def test_parts_of_two_processes_are_exactly_the_sum() -> None:
    left, right = part_of({("GET", HIT): [1, 2, 3000]}), part_of({("GET", HIT): [2], ("DEL", MISS): [9]})
    collector = Collector()
    collector.add("a", Update(0, left))
    collector.add("b", Update(0, right))
    whole = collector.whole
    assert whole.histogram(RESPONSE, "GET", HIT).counts == {1: 1, 2: 2, index_of(3000): 1}
    assert whole.requests() == 5
    assert sum(collector.counted.values()) == 5
    assert (whole.aborted, whole.dropped, whole.unsent, whole.reconnects) == (2, 4, 6, 8)
    assert whole.failures == {"x": 2}


def test_rmw_is_one_request_whose_parts_are_no_others() -> None:
    part = part_of({("RMW GET", HIT): [1], ("RMW PUT", HIT): [1], ("RMW", HIT): [2]})
    assert part.requests() == 1


def test_errors_are_no_part_of_the_good_requests_times() -> None:
    part = part_of({("GET", HIT): [10], ("GET", ERROR): [1_000_000]})
    assert part.together(RESPONSE).max_us == 10
    assert part.requests((ERROR,)) == 1


def test_rows_are_seconds() -> None:
    collector = Collector()
    for second in range(15):
        collector.add("a", Update(second, part_of({("GET", HIT): [100] * (second + 1)}), backlog=second, users=2))
        collector.add("b", Update(second, part_of({("GET", ERROR): [50]}), backlog=1, users=3))
    assert len(collector.rows) == 4, "older rows are boiled down while the run goes on"
    collector.add("a", Update(-1, part_of({})))
    collector.finish()
    assert [row.second for row in collector.rows] == list(range(15))
    row = collector.rows[9]
    assert (row.answered, row.failed, row.p50_us, row.backlog, row.users) == (10, 1, 100, 10, 5)
    assert collector.max_backlog == 15
    assert len(collector.log) == 15


def test_the_last_seconds_are_at_hand() -> None:
    collector = Collector()
    for second in range(5):
        collector.add("a", Update(second, part_of({("GET", HIT): [100]})))
    assert collector.recent(2).requests() == 2
