"""The conformance runner against servers with odd habits, and those to the letter of another document."""

import re
import socket
from concurrent.futures import Future

import pytest
from mistaken_servers import changing, lost
from reference_server import State, answer, running, talking
from side_by_side import side_by_side

from kvss_gevent.conformance.case_plan import Plan
from kvss_gevent.conformance.cases import CASES
from kvss_gevent.conformance.report import habits
from kvss_gevent.conformance.running.runner import grade
from kvss_gevent.conformance.score import Scorecard
from kvss_gevent.conformance.stats_forms import LAB, README

AT_A_TIME = 3

HABITS = {
    "greeting": (talking(), b"Welcome to KVSS\n", {"no-greeting"}),
    "prompt": (talking(end=b"\nKV> "), b"KV> ", {"no-greeting"}),
    "crlf": (talking(end=b"\r\n"), b"", {"reply-ends-in-lf"}),
    "no end": (talking(end=b""), b"", {"reply-ends-in-lf"}),
    "NUL as an end": (talking(end=b"\0"), b"", {"reply-ends-in-lf", "nul", "nul-last"}),
    "padded": (talking(end=b"\n" + bytes(20)), b"", {"reply-not-padded"}),
    "phrases": (changing(c404=b"404 Not Found", c426=b"426 Upgrade Required"), b"", {"phrase-spelling"}),
    "a space": (changing(c404=b"404 NOT FOUND"), b"", {"phrase-spelling"}),
    "200 for each PUT": (changing(c201=b"200 OK"), b"", {"put-new"}),
    "200 for DEL": (changing(c204=b"200 OK"), b"", {"del"}),
    "text": (changing(c204=b"204 NO_CONTENT deleted", c201=b"201 CREATED ok"), b"", {"phrase-alone"}),
}


@pytest.fixture(scope="module")
def cards() -> dict[str, Future[Scorecard]]:
    def card_of(habit: str) -> Scorecard:
        converse, greeting, _ = HABITS[habit]

        def greet(sock: socket.socket, state: State) -> None:
            sock.sendall(greeting)
            converse(sock, state)

        with running(greet) as port:
            return grade("127.0.0.1", port, Plan(("framing", "commands", "errors", "QUIT", "robustness")))

    return side_by_side(card_of, HABITS, AT_A_TIME)


@pytest.mark.parametrize("habit", HABITS)
def test_one_odd_habit_costs_one_case(habit: str, cards: dict[str, Future[Scorecard]]) -> None:
    card = cards[habit].result()
    expected = HABITS[habit][2]
    assert {verdict.case.id: verdict.received for verdict in card.failures}.keys() == expected, card.failures
    assert any("costs one case only. " in line for line in habits(card))


@pytest.mark.parametrize("farewell", [b"200 OK Goodbye", b"200 OK", b"200 BYE"])
def test_another_farewell_costs_one_case(farewell: bytes) -> None:
    def reply_to(state: State, line: bytes) -> tuple[bytes, bool]:
        reply, ends = answer(state, line)
        return (farewell if reply == b"200 OK bye" else reply), ends

    with running(talking(reply_to)) as port:
        assert lost(port, "QUIT") == {"quit-bye"}


@pytest.mark.parametrize(
    "form", ['{"keys": %d, "uptime": %d, "requests": %d}', "keys: %d, uptime: %d s, total commands: %d"]
)
def test_another_form_of_stats_costs_one_case(form: str) -> None:
    def reply_to(state: State, line: bytes) -> tuple[bytes, bool]:
        reply, ends = answer(state, line)
        if b"keys=" in reply:
            reply = b"200 OK " + (form % tuple(map(int, re.findall(rb"\d+", reply[6:])))).encode()
        return reply, ends

    with running(talking(reply_to), State(LAB)) as port:
        card = grade("127.0.0.1", port, Plan(profile="sheet"))
    assert {verdict.case.id for verdict in card.failures} == {"stats-form-lab"}


def test_a_line_that_nobody_asked_for_is_seen_behind_the_last_reply() -> None:
    with running(changing(c204=b"204 NO_CONTENT\nKV> ")) as port:
        card = grade("127.0.0.1", port, Plan(("commands",)))
        assert {verdict.case.id: verdict.received for verdict in card.failures} == {
            "del": "'KV> '",
            "del-forgets": "'KV> '",
        }


def test_a_stats_line_of_another_form_costs_the_form_and_the_counters() -> None:
    with running(changing(c200=b"200 OK fine")) as port:
        card = grade("127.0.0.1", port, Plan(("STATS",)))
    assert card.stats_form == README
    assert card.points == 0
    assert "200 OK uptime: 0:05:23; connections: 1;" in card.failures[0].expected
    with running(talking(), State(LAB)) as port:
        assert lost(port, "STATS") == set()
        asked = grade("127.0.0.1", port, Plan(("STATS",), stats_form=README))
    lacking = {"stats-form", "stats-gets", "stats-puts", "stats-dels", "stats-refused", "stats-connections"}
    assert {verdict.case.id for verdict in asked.failures} == lacking | {"stats-after-reset"}


def naive(sock: socket.socket, state: State) -> None:
    """The course document's server as it is often written: a thread, a dict, one recv, split and strip."""
    while data := sock.recv(1024):
        parts = data.decode("utf-8").strip().split()
        sock.sendall((naive_reply(state.store, parts) + "\n").encode("utf-8"))
        if parts[1:2] == ["QUIT"]:
            return


def naive_reply(store: dict[bytes, bytes], parts: list[str]) -> str:
    match parts:
        case [version, *_] if version != "KV/1.0":
            return "426 UPGRADE_REQUIRED"
        case [_, "PUT", key, _, *_]:
            new = key.encode() not in store
            store[key.encode()] = " ".join(parts[3:]).encode()
            return "201 CREATED" if new else "200 OK"
        case [_, "GET", key, *_]:
            return "200 OK " + store[key.encode()].decode() if key.encode() in store else "404 NOT_FOUND"
        case [_, "DEL", key, *_]:
            return "404 NOT_FOUND" if store.pop(key.encode(), None) is None else "204 NO_CONTENT"
        case [_, "QUIT"]:
            return "200 OK bye"
    return "400 BAD_REQUEST"


@pytest.mark.full
def test_the_naive_server_keeps_the_points_it_deserves() -> None:
    with running(naive) as port:
        found = lost(port, "grammar", "commands", "versions", "errors", "QUIT")
    assert found == {
        *("get-surplus", "get-trailing-space", "del-surplus", "two-spaces-command", "two-spaces-key", "tab-command"),
        *(
            "tab-in-key",
            "tab-last",
            "no-break-space-in-key",
            "spaces-inside",
            "space-first",
            "space-last",
            "space-only",
        ),
        *("key-512-put", "key-512-get", "key-bytes", "empty-line", "empty-crlf-line", "leading-space", "tab-version"),
        *("http-1.1", "http-1.0", "http-body-unanswered", "errors-in-pipeline"),
        *("quit-before", "quit-unanswered", "quit-not-run"),
    }


def sheet_answer(state: State, line: bytes) -> tuple[bytes, bool]:
    """What the lab sheet asks for, and no more: visible characters in one word, closed behind a refusal."""
    words = line.split(b" ")
    reply, ends = answer(state, line)
    if words[0] == b"KV/1.0" and words[1:2] == [b"PUT"]:
        visible = len(words) == 4 and all(word and all(0x21 <= byte <= 0x7E for byte in word) for word in words)
        reply, ends = (reply, ends) if visible else (b"400 BAD_REQUEST", True)
    return reply, ends or reply[:3] in (b"400", b"426")


def readme_answer(state: State, line: bytes) -> tuple[bytes, bool]:
    """What the course document asks for: values with spaces, connections that go on, its own word at the end."""
    reply, ends = answer(state, line.strip())
    return (b"200 OK Goodbye" if reply == b"200 OK bye" else reply), ends and reply == b"200 OK bye"


LETTER = {"sheet": sheet_answer, "readme": readme_answer}
FORMS = {"sheet": LAB, "readme": README}
LETTERS = [(profile, threads) for threads in (False, True) for profile in LETTER]


@pytest.fixture(scope="module")
def letter_cards() -> dict[tuple[str, bool], Future[Scorecard]]:
    def card_of(case: tuple[str, bool]) -> Scorecard:
        profile, threads = case
        with running(talking(LETTER[profile]), State(FORMS[profile]), threads=threads) as port:
            return grade("127.0.0.1", port, Plan(profile=profile, timeout_s=0.5))

    return side_by_side(card_of, LETTERS, AT_A_TIME)


# The letter of the project's own document is a correct server, and has tests of its own.
@pytest.mark.parametrize(("profile", "threads"), LETTERS)
def test_a_server_to_the_letter_of_a_document_gets_all_of_its_points(
    profile: str, threads: bool, letter_cards: dict[tuple[str, bool], Future[Scorecard]]
) -> None:
    card = letter_cards[profile, threads].result()
    # The sheet allows one client at a time. The other documents ask for several at once.
    missing = set() if threads or profile == "sheet" else {case.id for case in CASES if case.needs_two}
    assert {verdict.case.id for verdict in card.failures} == missing
    assert card.possible > 50
