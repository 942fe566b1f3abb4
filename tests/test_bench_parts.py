"""The parts of `kvss bench`: percentiles, packets, fairness, what processes used, and what benchmarks add to it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from benching import QUICK, bench, outcome, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import serving

from bench.safety import storm
from kvss_gevent.measure.load import COARSE_BITS, EXACT_US, PACKETS, ClosedLoad, Times, jain, make_packets
from kvss_gevent.protocol.wire import Verb, parse_request


@settings(deadline=None)
@given(st.lists(st.integers(0, 100 * EXACT_US), min_size=1), st.sampled_from([1, 50, 99, 99.9, 100]))
def test_percentiles_are_those_of_the_sorted_times(took_us: list[int], percent: float) -> None:
    times = Times()
    for one in took_us:
        times.add(one)
    exact = next(one for n, one in enumerate(sorted(took_us), 1) if n >= len(took_us) * percent / 100)
    found = times.percentile(percent)
    assert found is not None
    assert exact <= found < exact + (1 << COARSE_BITS)
    assert found == exact or exact >= EXACT_US
    assert found <= max(took_us)
    assert times.count == len(took_us)


def test_no_times_have_no_percentile() -> None:
    assert Times().percentile(50) is None


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 20), st.integers(1, 5))
def test_packets_hold_whole_requests_for_the_keys_there_are(depth: int, keys: int) -> None:
    load = ClosedLoad(depth=depth, keys=keys, value_bytes=3)
    packets = make_packets(load)
    assert packets == make_packets(load)
    assert len(packets) == PACKETS
    for packet, line_feeds in packets[:10]:
        *lines, rest = packet.split(b"\n")
        assert (len(lines), rest, line_feeds) == (depth, b"", depth)
        for verb, key, value in map(parse_request, lines):
            assert 0 <= int(key.removeprefix(b"key:")) < keys
            assert (verb, value) in ((Verb.GET, b""), (Verb.PUT, b"xxx"))


@pytest.mark.server
def test_a_server_process_that_is_not_there_is_an_error() -> None:
    with serving() as server:
        done = refused(server.port, *QUICK, "--server-pid", "4194303")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("kvss bench: --server-pid: there is no process 4194303\n")


@given(st.lists(st.integers(0, 1000), min_size=1))
def test_fairness_is_jains_index(shares: list[int]) -> None:
    index = jain(shares)
    if not any(shares):
        assert index is None
    else:
        assert index is not None
        assert 1 / len(shares) - 1e-9 <= index <= 1 + 1e-9
        assert jain([share * 3 for share in shares]) == pytest.approx(index)


def test_fairness_of_one_who_gets_all_and_of_all_who_get_the_same() -> None:
    assert jain([5, 0, 0, 0]) == 0.25
    assert jain([7, 7, 7]) == 1


@pytest.mark.server
def test_what_threads_used_that_end_with_their_connection_is_told_too() -> None:
    with serving("--model", "threads") as server:
        told = outcome(bench(server.port, "--seconds", "1", "--server-pid", str(server.process.pid), "--json"))
    # A thread that serves one request at a time waits for each, and waiting is a switch.
    assert told["server"]["voluntary_switches"] > told["requests"] / 2


@pytest.mark.server
@pytest.mark.timing
def test_a_server_is_given_the_time_to_make_what_it_needs_for_each_client(tmp_path: Path) -> None:
    # A process for each of a hundred clients takes longer to make than the time that counts.
    store = f"disk:{tmp_path}/kv"
    with serving("--model", "fork", "--store", store, "--sync", "none") as server:
        got = outcome(bench(server.port, "--seconds", "0.2", "--warmup", "0", "--connections", "100", "--json"))
    assert (got["starved"], got["lost"]) == (0, 0)


@pytest.mark.parametrize(("median_ms", "others", "code"), [(20.0, 0.1, 0), (20.1, 0.1, 1), (1.0, 0.11, 3), (90, 9, 3)])
def test_a_storm_is_judged_by_the_median_and_only_on_a_quiet_machine(
    median_ms: float, others: float, code: int
) -> None:
    text, found = storm.verdict(median_ms, others)
    assert found == code
    assert text.startswith({0: "the claim holds", 1: "the claim does not hold", 3: "no claim"}[code])


@pytest.mark.full
@pytest.mark.server
def test_a_storm_of_clients_that_leave_is_made_and_measured() -> None:
    command = [sys.executable, "-m", "bench.safety.storm", "--seconds", "1", "--workers", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    assert done.returncode in (0, 1, 3)
    alone, stormed, connected, verdict = done.stdout.splitlines()
    for line in (alone, stormed):
        assert re.fullmatch(r"[a-z ]+: \d+ requests, p50 [\d.]+ ms, p99 [\d.]+ ms, longest [\d.]+ ms", line)
    assert int(connected.split()[-5].replace(",", "")) > 0
    assert "claim" in verdict
