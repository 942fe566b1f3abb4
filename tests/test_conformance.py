"""The conformance runner against servers that hang, close, die or serve one client at a time."""

import socket
import time

import pytest
from mistaken_servers import lost
from reference_server import State, answer, running, talking

from kvss_gevent.conformance.case_plan import Plan, choose, longest_s
from kvss_gevent.conformance.cases import CASES
from kvss_gevent.conformance.report import as_text
from kvss_gevent.conformance.running.runner import grade
from kvss_gevent.conformance.stats_forms import LAB, README
from kvss_gevent.conformance.translation import speaker

CONCURRENT = {case.id for case in CASES if case.needs_two}


@pytest.mark.parametrize(("form", "times"), [(README, 2), (LAB, 1)])
def test_a_correct_server_gets_every_point_also_when_it_is_asked_again(form: str, times: int) -> None:
    with running(talking(), State(form)) as port:
        for _ in range(times):
            card = grade("127.0.0.1", port)
            assert card.failures == ()
            assert card.stats_form == form
            assert card.points == card.possible == sum(case.points for case in choose((), form) if not case.fresh)
            assert card.notes == ()


@pytest.mark.full
def test_a_server_that_takes_one_recv_for_one_request_loses_what_depends_on_packets() -> None:
    def converse(sock: socket.socket, state: State) -> None:
        ends = False
        while not ends and (data := sock.recv(65536)):
            reply, ends = answer(state, data.removesuffix(b"\n"))
            sock.sendall(reply + b"\n")

    with running(converse) as port:
        assert lost(port, "framing", "grammar", "commands", "errors", "QUIT") == {
            *("byte-by-byte", "cut-in-version", "cut-before-lf", "lf-alone", "one-and-a-half", "two-in-one"),
            *("hundred-in-one", "in-order", "crlf-cut", "utf8-cut", "half-close-answers", "incomplete-not-run"),
            "incomplete-del",
            *("errors-in-pipeline", "quit-before", "quit-unanswered", "quit-not-run"),
        }


def test_a_server_that_closes_after_an_error_loses_what_goes_on_behind_one() -> None:
    def reply_to(state: State, line: bytes) -> tuple[bytes, bool]:
        reply, ends = answer(state, line)
        return reply, ends or reply[:1] == b"4"

    with running(talking(reply_to)) as port:
        found = lost(port, "grammar", "versions", "errors", "QUIT", "robustness")
        assert found == {
            *("http-whole-word", "open-after-400", "open-after-404", "open-after-426", "errors-in-pipeline"),
            *("refused-put", "invalid-utf8", "invalid-utf8-key", "invalid-utf8-version", "truncated-utf8"),
            *("forbidden-utf8", "slow-beside-quick"),
        }


def test_a_server_that_hangs_on_one_command_loses_that_case_alone() -> None:
    def reply_to(state: State, line: bytes) -> tuple[bytes, bool]:
        if line == b"KV/1.0 PUT":
            state.stopping.wait(30)
        return answer(state, line)

    with running(talking(reply_to)) as port:
        card = grade("127.0.0.1", port, Plan(("grammar",), timeout_s=0.5))
        [verdict] = card.failures
        assert (verdict.case.id, verdict.received) == ("put-nothing", "nothing within 0.5 s")
        assert verdict.sent == (r"'KV/1.0 PUT\n'",)


def test_a_server_that_hangs_on_everything_loses_everything_in_bounded_time() -> None:
    def converse(_sock: socket.socket, state: State) -> None:
        state.stopping.wait(60)

    started = time.monotonic()
    with running(converse) as port:
        card = grade("127.0.0.1", port, Plan(timeout_s=0.1))
    assert card.points == 0
    assert time.monotonic() - started < longest_s(choose((), README), 0.1)
    assert {verdict.received for verdict in card.failures if verdict.case.alone} == {
        "not tried: the server has not answered anything before"
    }


def test_the_bound_of_a_run_is_two_minutes_at_worst() -> None:
    cases = choose((), README)
    assert longest_s(cases, 2.0) < 120


@pytest.fixture
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are not stretched, however busy the machine is."""
    monkeypatch.setattr("kvss_gevent.conformance.running.trials.busyness", lambda: 1.0)


@pytest.mark.full
@pytest.mark.usefixtures("quiet_machine")
def test_behind_many_cases_without_an_answer_the_others_wait_a_part_of_the_time() -> None:
    def converse(sock: socket.socket, state: State) -> None:
        def reply_to(state: State, line: bytes) -> tuple[bytes, bool]:
            if b" PUT " in line:
                sock.recv(1)  # until the client leaves
                raise ConnectionError
            return answer(state, line)

        talking(reply_to)(sock, state)

    with running(converse, threads=False) as port:
        card = grade("127.0.0.1", port, Plan(("commands",), timeout_s=0.3))
    whole = [verdict.case.id for verdict in card.failures if verdict.received == "nothing within 0.3 s"]
    assert 1 <= len(whole) <= 4 + 2
    assert any(verdict.received == "nothing within 0.03 s" for verdict in card.failures)
    assert "Many cases got no answer in time: from then on a case waits only 0.03 s." in card.notes


@pytest.mark.full
@pytest.mark.usefixtures("quiet_machine")
def test_a_server_that_hangs_for_good_is_not_asked_a_hundred_times() -> None:
    def reply_to(state: State, line: bytes) -> tuple[bytes, bool]:
        if b" PUT " in line:
            state.stopping.wait(60)
        return answer(state, line)

    with running(talking(reply_to), threads=False) as port:
        card = grade("127.0.0.1", port, Plan(timeout_s=0.5))
    [note] = [note for note in card.notes if note.startswith("At some point")]
    assert note == "At some point no further case could be run: the server answers no client any more."
    tried = [verdict for verdict in card.verdicts if not verdict.skipped]
    assert 4 <= len(tried) < 30


def test_no_case_is_begun_behind_the_time_limit() -> None:
    with running(talking()) as port:
        card = grade("127.0.0.1", port, Plan(("grammar",), budget_s=0.001))
    assert all(verdict.skipped for verdict in card.verdicts)
    assert card.notes == (f"The time limit of 0.001 s was over: {len(card.verdicts)} cases were not tried.",)


def test_when_the_server_dies_the_remaining_cases_fail_at_once_and_say_so() -> None:
    def reply_to(state: State, line: bytes) -> tuple[bytes, bool]:
        if line == b"KV/1.0  GET " + line[12:]:  # two-spaces-command
            state.stopping.set()
        return answer(state, line)

    with running(talking(reply_to)) as port:
        card = grade("127.0.0.1", port)
    [note] = card.notes
    assert note.startswith("The server died during the run")
    gone = [verdict for verdict in card.verdicts if verdict.gone]
    assert len(gone) > 60
    assert gone[-1].received == "no connection: connection refused"
    assert {verdict.case.group for verdict in card.verdicts if verdict.passed} >= {"framing", "grammar"}
    assert card.duration_s < 30


@pytest.mark.full
def test_a_server_that_ignores_a_half_close_loses_what_it_then_owes() -> None:
    def converse(sock: socket.socket, state: State) -> None:
        talking()(sock, state)
        state.stopping.wait(30)

    def reply_to(state: State, line: bytes) -> tuple[bytes, bool]:
        reply, _ = answer(state, line)
        return reply, False

    def ignoring(sock: socket.socket, state: State) -> None:
        talking(reply_to)(sock, state)
        state.stopping.wait(30)

    with running(converse) as port:
        assert lost(port, "framing", "commands", timeout_s=0.5) == {"half-close-closes", "incomplete-unanswered"}
    with running(ignoring) as port:
        found = lost(port, "QUIT", "versions", timeout_s=0.5)
        assert found == {"quit-closes", "quit-before", "quit-unanswered", "quit-not-run"} | {
            case.id
            for case in CASES
            if case.id.startswith("http-") and case.id not in ("http-value", "http-whole-word")
        }


def test_a_server_that_serves_one_client_at_a_time_loses_what_needs_two() -> None:
    with running(talking(), threads=False) as port:
        card = grade("127.0.0.1", port, Plan(timeout_s=0.5))
    assert {verdict.case.id for verdict in card.failures} == CONCURRENT
    assert card.notes == ("The server serves one client at a time: the cases were run one after the other.",)
    assert "Seen in stats-connections.\n" in as_text(card, speaker("en")), "it was not run, and has nothing to show"


def test_counters_that_are_wrong_or_stuck_cost_their_own_cases() -> None:
    def reply_to(state: State, line: bytes) -> tuple[bytes, bool]:
        if line == b"KV/1.0 STATS":
            state.started = time.monotonic()
            state.counts["del"] = 0
        return answer(state, line)

    with running(talking(reply_to)) as port:
        card = grade("127.0.0.1", port, Plan(("STATS",)))
    assert {verdict.case.id: verdict.received for verdict in card.failures} == {
        "stats-uptime": "uptime moved by 0 instead of +1 to +3",
        "stats-dels": "del_requests moved by 0 instead of +2",
    }


def test_a_case_that_failed_once_by_a_busy_machine_keeps_its_points_and_the_report_says_so() -> None:
    slow: set[bytes] = set()

    def reply_to(state: State, line: bytes) -> tuple[bytes, bool]:
        reply, ends = answer(state, line)
        if line.endswith(b" old") and not slow:
            slow.add(line)  # it is stored, and its reply comes too late
            state.stopping.wait(20)
        return reply, ends

    with running(talking(reply_to)) as port:
        card = grade("127.0.0.1", port, Plan(only=("put-replace",), timeout_s=0.4))
    assert slow
    assert [(verdict.passed, verdict.flaky) for verdict in card.verdicts] == [(True, True)]
    assert card.notes == ("Failed at first and passed when run again: put-replace.",)
