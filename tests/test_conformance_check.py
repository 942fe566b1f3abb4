"""One case, one connection, one report: what the parts of the conformance checker do by themselves."""

import socket
from contextlib import closing

import pytest
from reference_server import State, running, talking
from serving import deaf_port

from kvss_gevent.conformance.case import AskStats, Case, Closed, Expect, Leave, Send, ask
from kvss_gevent.conformance.cases import CASES
from kvss_gevent.conformance.deadline import Deadline
from kvss_gevent.conformance.peer import Gone, NoReply, Peer
from kvss_gevent.conformance.report import as_text
from kvss_gevent.conformance.running.case_connections import MOST_PACKETS
from kvss_gevent.conformance.running.case_runner import run_case
from kvss_gevent.conformance.running.probe import Target, Unreachable
from kvss_gevent.conformance.running.runner import grade
from kvss_gevent.conformance.score import Scorecard, Verdict, percent
from kvss_gevent.conformance.stats_forms import README


def test_where_nothing_answers_no_case_is_run() -> None:
    with deaf_port() as port, pytest.raises(Unreachable, match="connection refused"):
        grade("127.0.0.1", port)
    with pytest.raises(Unreachable):
        grade("no such host", 5050)


def test_a_reply_without_end_is_not_heard_to_the_end() -> None:
    def converse(sock: socket.socket, state: State) -> None:
        while not state.stopping.is_set():
            sock.sendall(b"x" * 65536)

    with running(converse) as port, closing(Peer(("127.0.0.1", port), Deadline(10))) as peer:
        with pytest.raises(NoReply, match="a reply that does not end"):
            peer.line()
        assert len(peer.pending()) < 3 << 20


def test_a_server_that_never_falls_silent_is_heard_until_the_deadline() -> None:
    def converse(sock: socket.socket, state: State) -> None:
        while not state.stopping.is_set():
            sock.sendall(b"x" * 65536)

    with running(converse) as port, closing(Peer(("127.0.0.1", port), Deadline(10))) as peer:
        peer.deadline = Deadline(0)
        assert 0 < len(peer.listen(quiet_s=10)) <= 65536


def test_a_server_that_stops_reading_is_called_so() -> None:
    def converse(_sock: socket.socket, state: State) -> None:
        state.stopping.wait(30)

    case = Case("i", "g", 1, "t", ask(b"{x32000000}", b"400 BAD_REQUEST"), "h")
    with running(converse) as port:
        verdict = run_case(case, Target(("127.0.0.1", port), README, b"end"), b"key", 0.3)
    assert (verdict.passed, verdict.silent, verdict.received) == (False, True, "the server stopped reading for 0.3 s")


def test_a_server_that_does_not_read_stats_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    send = Peer.send

    def send_all_but_stats(peer: Peer, data: bytes) -> None:
        if data == b"KV/1.0 STATS\n":
            raise NoReply("the server stopped reading", waited=True)  # as where the kernel's buffers are just full
        send(peer, data)

    monkeypatch.setattr(Peer, "send", send_all_but_stats)
    with running(talking()) as port:
        verdict = run_case(
            Case("i", "g", 1, "t", (AskStats(),), "h"), Target(("127.0.0.1", port), README, b"end"), b"key", 2.0
        )
    assert (verdict.passed, verdict.silent, verdict.received) == (False, True, "the server stopped reading")


def test_what_nobody_asked_for_is_seen_on_every_connection() -> None:
    def converse(sock: socket.socket, _state: State) -> None:
        while sock.recv(100):
            sock.sendall(b"200 OK\nmore\n")

    both = (*ask(b"1", b"200 OK"), *ask(b"2", b"200 OK", on="b"))
    with running(converse) as port:
        target = Target(("127.0.0.1", port), README, b"end")
        verdict = run_case(Case("i", "g", 1, "t", both, "h"), target, b"key", 2.0)
        assert (verdict.expected, verdict.received) == ("nothing more", r"'more\n'")
        assert verdict.sent == (r"(a) '1\n'", r"(b) '2\n'")
        left = run_case(Case("i", "g", 1, "t", (*both, Leave(), Leave("b")), "h"), target, b"key", 2.0)
        assert left.passed, "who has left hears nothing"


def test_the_report_shows_notes_and_the_last_packets() -> None:
    case = next(case for case in CASES if case.id == "hundred-clients")
    sent = tuple(f"(client {number}) 'x'" for number in range(9))
    verdict = Verdict(case, False, 0.1, sent, "'200 OK'", "the server reset the connection")
    text = as_text(Scorecard("host:1", README, (verdict,), ("One thing more.",), 0.1))
    assert "\nOne thing more.\n" in text
    assert "  sent      5 packets, then\n  sent      (client 5) 'x'\n" in text
    assert "(client 4)" not in text


def test_a_connection_in_vain_says_why() -> None:
    with deaf_port() as port, pytest.raises(Gone, match="connection refused"):
        Peer(("127.0.0.1", port), Deadline(1))


@pytest.mark.parametrize(
    ("points", "possible", "shown"), [(0, 0, 0.0), (134, 134, 100.0), (9999, 10000, 99.9), (1, 3, 33.3)]
)
def test_a_hundred_per_cent_means_every_point(points: int, possible: int, shown: float) -> None:
    assert percent(points, possible) == shown


def test_an_empty_scorecard_has_no_points() -> None:
    assert Scorecard("t", README, (), (), 0.0).points == 0


def test_a_verdict_remembers_what_went_over_the_connections() -> None:
    steps = (Send(b"KV/1.0 PU"), Send(b"T {k} v\n"), Expect((b"201 CREATED",)), *ask(b"KV/1.0 QUIT", b"200 OK bye"))
    with running(talking()) as port:
        target = Target(("127.0.0.1", port), README, b"end", b"404 NOT_FOUND")
        verdict = run_case(Case("i", "g", 1, "t", (*steps, Closed()), "h"), target, b"key", 2.0)
        asked = run_case(Case("i", "g", 1, "t", ask(b"KV/1.0 GET {k}", b"200 OK v"), "h"), target, b"key", 2.0)
    assert [(packet.sent, packet.data, packet.end) for packet in verdict.packets] == [
        (True, "'KV/1.0 PU'", ""),
        (True, r"'T key v\n'", ""),
        (False, r"'201 CREATED\n'", ""),
        (True, r"'KV/1.0 QUIT\n'", ""),
        (False, r"'200 OK bye\n'", ""),
        (False, "", "closes"),
    ]
    assert [packet.data for packet in asked.packets] == [r"'KV/1.0 GET key\n'", r"'200 OK v\n'"], "the end is not shown"


def test_of_many_packets_the_last_are_remembered() -> None:
    with running(talking()) as port:
        target = Target(("127.0.0.1", port), README, b"end", b"404 NOT_FOUND")
        steps = ask(b"KV/1.0 GET {k}", b"404 NOT_FOUND") * MOST_PACKETS
        verdict = run_case(Case("i", "g", 1, "t", steps, "h"), target, b"key", 2.0)
    assert len(verdict.packets) == MOST_PACKETS
