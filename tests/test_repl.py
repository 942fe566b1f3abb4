"""What a typed line becomes, what is shown of a reply, and a conversation without keyboard and screen."""

import re

import pytest
from fake_server import FakeServer, Peer, answering, fake_server, honest, in_turn

from kvss_gevent import KVClient
from kvss_gevent.client.terminal.hints import HELP, TOPICS, help_for, hint
from kvss_gevent.client.terminal.repl import (
    MAX_KEYS_SEEN,
    KeysSeen,
    LineAct,
    TerminalConversation,
    printable,
    read_line,
    waiting,
)

LOST = "(it may have taken effect or not; the next line connects again)"


@pytest.mark.parametrize(
    ("line", "act", "request_line"),
    [
        (b"GET name", LineAct.SEND, b"KV/1.0 GET name"),
        (b"PUT k  two  spaces ", LineAct.SEND, b"KV/1.0 PUT k  two  spaces "),
        (b" GET name", LineAct.SEND, b"KV/1.0  GET name"),
        (b"get name", LineAct.SEND, b"KV/1.0 get name"),
        (b"KV/1.0 GET name", LineAct.SEND, b"KV/1.0 GET name"),
        (b"WRONG/1.0 GET test", LineAct.SEND, b"WRONG/1.0 GET test"),
        (b"kv/2", LineAct.SEND, b"kv/2"),
        (b"a/b", LineAct.SEND, b"KV/1.0 a/b"),
        (b"/1", LineAct.SEND, b"KV/1.0 /1"),
        (b"GET HTTP/1.1", LineAct.SEND, b"KV/1.0 GET HTTP/1.1"),
        (b"\xff", LineAct.SEND, b"KV/1.0 \xff"),
        (b"QUIT", LineAct.SEND_AND_LEAVE, b"KV/1.0 QUIT"),
        (b" quit ", LineAct.SEND_AND_LEAVE, b"KV/1.0 QUIT"),
        (b"KV/1.0 QUIT", LineAct.SEND_AND_LEAVE, b"KV/1.0 QUIT"),
        (b"QUIT now", LineAct.SEND, b"KV/1.0 QUIT now"),
        (b"exit", LineAct.LEAVE, b""),
        (b"Help", LineAct.HELP, b""),
        (b"help get ", LineAct.HELP, b"get"),
        (b"HELP me out", LineAct.SEND, b"KV/1.0 HELP me out"),
        (b"", LineAct.NOTHING, b""),
        (b" \t", LineAct.NOTHING, b""),
        (b"# PUT a b", LineAct.NOTHING, b""),
    ],
)
def test_what_a_line_becomes(line: bytes, act: LineAct, request_line: bytes) -> None:
    assert read_line(line) == (act, request_line)


@pytest.mark.parametrize(
    ("reply", "shown"),
    [
        (b"200 OK John", "200 OK John"),
        ("200 OK größe € 日本 é".encode(), "200 OK größe € 日本 é"),
        ("200 OK \N{WOMAN}\u200d\N{PERSONAL COMPUTER}".encode(), "200 OK \N{WOMAN}\u200d\N{PERSONAL COMPUTER}"),
        (b"200 OK \\x1b", "200 OK \\x1b"),
        (b"200 OK \x1b]0;owned\x07", "200 OK \\x1b]0;owned\\x07"),
        ("200 OK \x9b2J\u202e\u2028".encode(), "200 OK \\x9b2J\\u202e\\u2028"),
        (b"200 OK a\rb\tc\x00\x7f\x08", "200 OK a\\rb\\tc\\x00\\x7f\\x08"),
        (b"200 OK \xff\xc3", "200 OK \\xff\\xc3"),
    ],
)
def test_a_reply_cannot_drive_the_terminal(reply: bytes, shown: str) -> None:
    assert printable(reply) == shown


def test_keys_seen_are_those_last_known_to_be_there() -> None:
    keys = KeysSeen()
    for request, reply in [
        (b"KV/1.0 PUT a 1", b"201 CREATED"),
        (b"KV/1.0 PUT b 1", b"200 OK"),
        (b"KV/1.0 GET c", b"200 OK 1"),
        (b"KV/1.0 GET d", b"404 NOT_FOUND"),
        (b"KV/1.0 PUT e 1", b"500 SERVER_ERROR"),
        (b"KV/1.0 DEL b", b"204 NO_CONTENT"),
        (b"KV/1.0 GET \x1b[2J", b"200 OK 1"),
        (b"KV/1.0 GET \xff", b"200 OK 1"),
        (b"KV/1.0 STATS", b"200 OK keys=0 uptime=1s served=1"),
        (b"WRONG/1.0 GET f", b"426 UPGRADE_REQUIRED"),
        (b"KV/1.0 PUTEX 9 g 1", b"201 CREATED"),
        (b"KV/1.0 PUTEX 9 h 1", b"201 CREATED"),
        (b"KV/1.0 TTL h", b"404 NOT_FOUND"),
        (b"KV/1.0 GET a", b"200 OK 1"),
    ]:
        keys.learn(request, reply)
    assert list(keys) == ["a", "g", "c"]
    for number in range(2 * MAX_KEYS_SEEN):
        keys.learn(b"KV/1.0 GET k%d" % number, b"200 OK 1")
    assert len(list(keys)) == MAX_KEYS_SEEN
    assert next(iter(keys)) == f"k{2 * MAX_KEYS_SEEN - 1}"


def converse(server: FakeServer, *typed: str | BaseException, timeout_s: float = 10) -> list[str]:
    """Type lines, or raise exceptions in their place, and return all that was shown, notes behind a tab."""
    said: list[str] = []
    inputs = iter(typed)

    def ask() -> str:
        entry = next(inputs)
        if isinstance(entry, BaseException):
            raise entry
        return entry

    with KVClient("127.0.0.1", server.port, timeout_s=timeout_s) as client:
        TerminalConversation(client, said.append, lambda text: said.append("\t" + text)).run(ask)
    assert next(inputs, None) is None, "it left early"
    return [text for text in said if text != "\t"]


def test_the_session_of_the_course_document() -> None:
    with fake_server(honest()) as server:
        said = converse(
            server,
            *("PUT name John", "GET name", "PUT name Jane", "GET name", "DEL name", "GET name"),
            *("GET", "PUT keyonly", "INVALID command", "WRONG/1.0 GET test", "QUIT"),
        )
    assert [text for text in said if not text.startswith("\t(usage") and "HELP lists" not in text] == [
        *("201 CREATED", "200 OK John", "200 OK", "200 OK Jane", "204 NO_CONTENT", "404 NOT_FOUND"),
        *("400 BAD_REQUEST", "400 BAD_REQUEST", "400 BAD_REQUEST", "426 UPGRADE_REQUIRED", "200 OK bye"),
    ]


def test_nothing_help_and_ways_to_leave() -> None:
    with fake_server(honest()) as server:
        assert converse(server, "", "# x", KeyboardInterrupt(), "help", EOFError()) == [HELP]
        assert converse(server, "EXIT") == []
        assert server.seen == []


def test_a_paste_of_several_lines_is_run_line_by_line() -> None:
    with fake_server(honest()) as server:
        assert converse(server, "PUT a 1\nGET a\nEXIT\nDEL a") == ["201 CREATED", "200 OK 1"]
        assert converse(server, "GET \udcff", EOFError())[0] == "400 BAD_REQUEST"
    assert server.seen[-1] == b"KV/1.0 GET \xff"


def test_a_lost_connection_is_told_and_the_next_line_connects_again() -> None:
    def cut(peer: Peer) -> None:
        peer.line()
        peer.send(b"200 O")

    with fake_server(in_turn(cut, answering(b"404 NOT_FOUND"))) as server:
        said = converse(server, "PUT a 1", "GET a", EOFError())
        name = f"127.0.0.1:{server.port}"
        assert said == [
            f"\tlost the connection to {name}: the server closed it in the middle of a reply",
            "\t" + LOST,
            f"\t(reconnected to {name})",
            "404 NOT_FOUND",
        ]
        assert server.seen == [b"KV/1.0 PUT a 1", b"KV/1.0 GET a"]


def test_no_connection_is_told() -> None:
    with fake_server(honest()) as server:
        pass
    said = converse(server, "GET a", EOFError())
    assert said == [
        f"\tcannot connect to 127.0.0.1:{server.port}: Connection refused",
        "\t(nothing was sent; the next line connects again)",
    ]


def test_a_reply_too_many_is_shown_and_told() -> None:
    with fake_server(answering(b"200 OK 1\nhello \x1b[2J")) as server:
        said = converse(server, "GET a", EOFError())
    assert said[0] == "200 OK 1"
    assert "does not keep to KV/1.0: it sent a reply too many, 'hello \\x1b[2J'" in said[1]


def test_ctrl_c_ends_the_wait_for_a_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    request = KVClient.request

    def interrupted(self: KVClient, line: bytes) -> bytes:
        if line.endswith(b"slow"):
            raise KeyboardInterrupt
        return request(self, line)

    monkeypatch.setattr(KVClient, "request", interrupted)
    with fake_server(honest()) as server:
        said = converse(server, "GET slow", "GET a", EOFError())
    assert said == ["\tinterrupted before the reply", "\t" + LOST, "404 NOT_FOUND"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"get name", "commands are upper case: GET name"),
        (b"stats", "commands are upper case: STATS"),
        (b"gte name", "no command gte: GET name?"),
        (b"GTE name", "no command GTE: GET name?"),
        (b"delete name", "no command delete: DEL name?"),
        (b"SET a 1", "no command SET: PUT a 1?"),
        (b"EXPIER a 1", "no command EXPIER: EXPIRE a 1?"),
        (b"FROBNICATE", "HELP lists the commands"),
        (b"GET", "usage: GET key"),
        (b"PUT keyonly", "usage: PUT key value"),
        (b"TTL a", "usage: TTL key, and not every server has it"),
        (b" GET name", "a command begins the line, with no space before it"),
    ],
)
def test_a_hint_stands_beside_a_refusal(line: bytes, expected: str) -> None:
    with fake_server(answering(b"400 BAD_REQUEST")) as server:
        assert converse(server, line.decode(), EOFError()) == ["400 BAD_REQUEST", f"\t({expected})"]


def test_hints_for_other_replies() -> None:
    assert hint(b"kv/1.0 GET a", b"426 UPGRADE_REQUIRED") == "the version is KV/1.0, in upper case"
    assert hint(b"WRONG/1.0 GET a", b"426 UPGRADE_REQUIRED") == ""
    assert "AUTH name password" in hint(b"KV/1.0 GET a", b"401 UNAUTHORIZED")
    assert hint(b"KV/1.0 get a", b"404 NOT_FOUND") == ""


def test_help_tells_about_one_command() -> None:
    with fake_server(honest()) as server:
        [said] = converse(server, "HELP get", EOFError())
        assert said == "  GET key\n  show a value\n  answered: 200 OK value, 404 no such key"
        assert server.seen == []
    assert help_for("gte").startswith("  no command gte; HELP GET tells about GET\n")
    assert "not every server has it" in help_for("PUTEX")
    assert all(f"  {topic.usage} " in HELP for topic in TOPICS.values())
    assert max(map(len, HELP.splitlines())) <= 80


def test_a_long_wait_is_shown() -> None:
    notes: list[str] = []
    with waiting("there:5050", notes.append, patience_s=0.05):
        while not notes:
            pass
    with waiting("there:5050", notes.append, patience_s=60):
        pass
    assert notes[0] == "(waiting for there:5050; Ctrl-C gives up)"
    assert re.fullmatch(r"\(after \d+\.\d s\)", notes[1])
    assert len(notes) == 2
