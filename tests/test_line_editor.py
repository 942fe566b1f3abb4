"""The interactive client in a real terminal: history, completion, reconnecting, Ctrl-C, Ctrl-D, limited terminals."""

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from fake_server import FakeServer, Peer, fake_server, honest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, InMemoryHistory

from kvss_gevent.client.terminal.line_editor import (
    MAX_HISTORY_BYTES,
    LineCompleter,
    _history,
    _MemoryHistory,
    history_path,
)

CTRL_C, CTRL_D, UP = "\x03", "\x04", "\x1b[A"


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("p", ["PUT ", "PUTEX ", "PERSIST "]),
        ("e", ["EXPIRE ", "EXIT"]),
        ("H", ["HELP "]),
        ("HELP st", ["STATS"]),
        ("TTL na", ["name", "nahe"]),
        ("PUTEX 60 na", ["name", "nahe"]),
        ("PUTEX 6", []),
        ("s", ["STATS"]),
        ("GE", ["GET "]),
        ("KV/1.0 D", ["DEL "]),
        ("GET ", ["name", "nahe", "größe"]),
        ("GET na", ["name", "nahe"]),
        ("WRONG/1.0 DEL g", ["größe"]),
        ("PUT name ", []),
        ("STATS ", []),
        ("X", []),
    ],
)
def test_completions(typed: str, completed: list[str]) -> None:
    found = LineCompleter(["name", "nahe", "größe"]).get_completions(Document(typed), CompleteEvent())
    assert [completion.text for completion in found] == completed


def test_where_the_history_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", "relative")  # not valid, says the standard: as if it were not set
    assert history_path() == tmp_path / ".local/state/kvss/history"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert history_path() == tmp_path / "state/kvss/history"
    notes: list[str] = []
    history = _history(notes.append)
    history.append_string("PUT a \udcff")
    assert list(FileHistory(str(history_path())).load_history_strings()) == ["PUT a ?"]
    assert stat.S_IMODE(history_path().stat().st_mode) == 0o600
    assert stat.S_IMODE(history_path().parent.stat().st_mode) == 0o700
    assert notes == []


def test_a_history_file_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    history = _history(pytest.fail)
    for number in range(3):
        history.append_string(f"PUT k{number} " + "v" * (MAX_HISTORY_BYTES // 3))
    kept = list(_history(pytest.fail).load_history_strings())
    assert [line.split()[1] for line in kept] == ["k2"]
    assert history_path().stat().st_size < MAX_HISTORY_BYTES


@pytest.mark.parametrize("line", ["AUTH ann sesame", "KV/1.0 AUTH ann sesame", " auth ann sesame"])
def test_a_password_is_in_no_history(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for history in (_history(pytest.fail), _MemoryHistory()):
        for typed in ("PUT AUTH 1", line, "GET a"):
            history.append_string(typed)
        assert "GET a" in history.get_strings()
        assert line not in history.get_strings()
    assert history_path().read_text().count("+PUT AUTH 1") == 1
    assert "sesame" not in history_path().read_text()


def test_without_a_history_file_it_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    history = _history(pytest.fail)
    history_path().unlink()
    history_path().mkdir()
    history.append_string("GET a")  # as on a full disk: not kept, no exception
    notes: list[str] = []
    assert isinstance(_history(notes.append), InMemoryHistory)
    assert "no history file" in notes[0]


class Terminal:
    """`kvss client` in a pseudo-terminal."""

    def __init__(self, server: FakeServer, state: Path, **environment: str) -> None:
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "kvss_gevent", "client", "127.0.0.1", str(server.port), "--timeout", "20"],
            env={**os.environ, "XDG_STATE_HOME": str(state), "TERM": "xterm", **environment},
            encoding="utf-8",
            timeout=20,
            dimensions=(30, 100),
        )
        self.prompt()
        self.greeting = str(self.child.before)

    def prompt(self) -> None:
        self.child.expect_exact("KVSS> ")

    def type(self, line: str, reply: str, *more: str) -> None:
        """Type a line and Enter, and wait for each text and for the next prompt.

        Without a reply's text the prompt may be that of the typed line, drawn again: a Ctrl-D that comes before the
        next prompt is lost, for the terminal is not in raw mode then.
        """
        self.child.send(line + "\r")
        for text in (reply, *more):
            self.child.expect_exact(text)
        self.prompt()

    def end(self, keys: str) -> int:
        self.child.send(keys)
        self.child.expect(pexpect.EOF)
        self.child.close()
        assert self.child.exitstatus is not None
        return self.child.exitstatus


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server(honest()) as server:
        yield server


def test_a_session_with_its_keys(server: FakeServer, tmp_path: Path) -> None:
    terminal = Terminal(server, tmp_path)
    terminal.type("PUT name John", "201 CREATED\r\n\r\n")
    terminal.type("WRONG/1.0 GET test", "426 UPGRADE_REQUIRED\r\n")
    terminal.type("ge\tna\t", "200 OK John\r\n")
    terminal.child.send("DEL name" + CTRL_C)
    terminal.prompt()
    terminal.type("PUT größe 10 €", "201 CREATED")
    terminal.type("GET gr\t", "200 OK 10 €\r\n")
    terminal.type("HELP", "forget a key")
    terminal.type("PUT esc a\x16\x1b[31mb", "201 CREATED")  # Ctrl-V Escape: what looks like a mouse is no traceback
    assert terminal.end(CTRL_D) == 0
    assert b"KV/1.0 DEL name" not in server.seen
    assert b"KV/1.0 GET name" in server.seen


def test_the_session_in_the_guide(server: FakeServer, tmp_path: Path) -> None:
    guide = (Path(__file__).parent.parent / "docs" / "client.md").read_text(encoding="utf-8")
    session = guide.partition("$ kvss client\n")[2].partition("\n```")[0]
    greeting, *turns = session.strip().replace("5050", str(server.port)).split("KVSS> ")
    assert len(turns) == 5
    terminal = Terminal(server, tmp_path)
    assert greeting.replace("\n", "\r\n") in terminal.greeting
    for turn in turns[:-1]:
        line, reply = turn.split("\n", 1)
        terminal.type(line, reply.replace("\n", "\r\n"))
    assert turns[-1] == "QUIT\n200 OK bye"
    assert terminal.end("QUIT\r") == 0


def test_the_history_outlives_the_process(server: FakeServer, tmp_path: Path) -> None:
    assert Terminal(server, tmp_path).end("PUT name John\rQUIT\r") == 0
    terminal = Terminal(server, tmp_path)
    terminal.type(UP + UP, "200 OK\r\n")
    assert terminal.end("EXIT\r") == 0
    assert server.seen == [b"KV/1.0 PUT name John", b"KV/1.0 QUIT", b"KV/1.0 PUT name John"]


def test_reconnecting_after_the_server_was_away(tmp_path: Path) -> None:
    with fake_server(honest()) as server:
        terminal = Terminal(server, tmp_path)
        terminal.type("PUT a 1", "201 CREATED")
    terminal.type("GET a", "cannot connect", "nothing was sent")
    with fake_server(honest(), server.port) as again:
        terminal.type("GET a", f"(reconnected to 127.0.0.1:{server.port})", "404 NOT_FOUND")
        assert again.seen == [b"KV/1.0 GET a"]
        assert terminal.end("quit\r") == 0


def test_ctrl_c_while_waiting_for_a_reply(tmp_path: Path) -> None:
    def slow(peer: Peer) -> None:
        if peer.line() and peer.number == 0:
            peer.stall()
        peer.send(b"200 OK right\n")

    with fake_server(slow) as server:
        terminal = Terminal(server, tmp_path)
        terminal.child.send("GET a\r")
        while not server.seen:
            terminal.child.expect([pexpect.TIMEOUT], timeout=0.05)
        terminal.child.send(CTRL_C)
        terminal.child.expect_exact("interrupted before the reply")
        terminal.prompt()
        terminal.type("GET b", "200 OK right")
        assert terminal.end(CTRL_D) == 0


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"TERM": "vt100", "LC_ALL": "C"}], ids=["dumb", "C"])
def test_a_limited_terminal(server: FakeServer, tmp_path: Path, environment: dict[str, str]) -> None:
    terminal = Terminal(server, tmp_path, **environment)
    terminal.type("PUT größe 10 €", "201 CREATED")
    terminal.type("GET größe", "200 OK 10 ")
    assert terminal.end("QUIT\r") == 0
    assert server.seen[0] == "KV/1.0 PUT größe 10 €".encode()


def test_replies_into_a_file_leave_the_prompt_on_the_screen(server: FakeServer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = f"exec {sys.executable} -m kvss_gevent client 127.0.0.1 {server.port} > {out}"
    child = pexpect.spawn(
        "/bin/sh", ["-c", command], env={**os.environ, "XDG_STATE_HOME": str(tmp_path)}, encoding="utf-8", timeout=20
    )
    child.expect_exact("KVSS> ")
    child.send("PUT a 1\r")
    child.expect_exact("KVSS> ")
    child.send("QUIT\r")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert out.read_text() == "201 CREATED\n200 OK bye\n"


def test_no_server_to_begin_with(tmp_path: Path) -> None:
    with fake_server(honest()) as server:
        pass
    child = pexpect.spawn(
        sys.executable,
        ["-m", "kvss_gevent", "client", "127.0.0.1", str(server.port)],
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        encoding="utf-8",
        timeout=20,
    )
    child.expect_exact(f"kvss client: cannot connect to 127.0.0.1:{server.port}: Connection refused")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 3
