"""What the experts and statistics of the dissector tell, and that it works where it is installed."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from dissecting import CLIENT, TSHARK, experts, fields, shark
from segments import ACK, FIN, RST, SERVER_PORT, Network, Talk

from kvss_gevent.cli import main
from kvss_gevent.wire_tools.install import COLOURS, install

pytestmark = pytest.mark.skipif(
    TSHARK is None and not os.environ.get("CI"), reason="tshark is not installed (Debian: apt-get install tshark)"
)


def test_experts_see_what_students_look_for(tmp_path: Path) -> None:
    network = Network()
    talk = Talk(network, CLIENT)
    for ask, reply in (
        (b"kv/1.0 GET a", b"426 UPGRADE_REQUIRED"),
        (b"KV/1.0 POTT user42 Alice", b"400 BAD_REQUEST"),
        (b"KV/1.0 GET a", b"500 SERVER_ERROR"),
        (b"KV/1.0 GET a", b"hello"),
    ):
        talk.say(CLIENT, ask + b"\n")
        talk.say(SERVER_PORT, reply + b"\n")
    talk.say(SERVER_PORT, b"200 OK\n")
    talk.say(CLIENT, b"KV/1.0 GET a\nKV/1.0 GET b\n")
    talk.segment(SERVER_PORT, talk.sent[SERVER_PORT], b"", RST | ACK)
    path = network.write(tmp_path / "experts.pcap")
    assert experts(path) == [
        "Not KV/1.0: a server answers 426",
        "The server refused the request",
        "Unknown command: a server answers 400",
        "The server refused the request",
        "The server failed",
        "Not a reply of KV/1.0",
        "Reply without request in this capture",
        "2 requests at once",
        "Reset with requests unanswered",
    ]
    assert [one for one in fields(path, "kv.unanswered") if one[0]] == [[["2"]]]
    assert experts(path, "-2").count("Request without reply in this capture") == 2


def test_a_server_that_closes_early_and_a_line_without_its_end_are_seen(tmp_path: Path) -> None:
    network = Network()
    talk = Talk(network, CLIENT)
    talk.say(CLIENT, b"KV/1.0 GET a\nKV/1.0 GE")
    talk.segment(CLIENT, talk.sent[CLIENT], b"", FIN | ACK)
    talk.segment(SERVER_PORT, talk.sent[SERVER_PORT], b"", FIN | ACK)
    assert experts(network.write(tmp_path / "end.pcap")) == [
        "The connection ended within a line",
        "The server closed with requests unanswered",
    ]


def test_statistics_count_and_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = Network()
    talk = Talk(network, CLIENT)
    for ask, reply in ((b"PUT a b", b"201 CREATED"), (b"GET a", b"200 OK b"), (b"GET c", b"404 NOT_FOUND")):
        talk.say(CLIENT, b"KV/1.0 " + ask + b"\n")
        talk.say(SERVER_PORT, reply + b"\n")
    talk.say(CLIENT, b"KV/1.0 DEL a\n")
    assert main(["wireshark", "statistics", str(network.write(tmp_path / "some.pcap"))]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["KV/1.0:", "4", "requests,", "1", "without", "a", "reply"]
    assert lines[2:5] == [["DEL", "1"], ["GET", "2", "10.0", "10.0", "10.0"], ["PUT", "1", "10.0", "10.0", "10.0"]]
    assert lines[6:] == [["200", "OK", "1"], ["201", "CREATED", "1"], ["404", "NOT_FOUND", "1"]]


def test_statistics_of_no_capture_are_one_line_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_text("no capture")
    assert main(["wireshark", "statistics", str(tmp_path / "text")]) == 1
    assert main(["wireshark", "statistics", str(tmp_path / "nothing")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 4


def test_statistics_of_a_capture_that_is_cut_are_those_of_what_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = Network()
    talk = Talk(network, CLIENT)
    for key in (b"a", b"b", b"c"):
        talk.say(CLIENT, b"KV/1.0 GET " + key + b"\n")
        talk.say(SERVER_PORT, b"404 NOT_FOUND\n")
    path = network.write(tmp_path / "some.pcap")
    path.write_bytes(path.read_bytes()[:-5])
    assert main(["wireshark", "statistics", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("KV/1.0: 3 requests, 1 without a reply")
    assert "could not read" in err.splitlines()[0]
    assert err.splitlines()[1:] == ["  The figures above are those of the part that it read."]


def test_statistics_of_a_capture_without_requests_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = Network()
    Talk(network, CLIENT).say(CLIENT, b"")
    assert main(["wireshark", "statistics", str(network.write(tmp_path / "some.pcap"))]) == 1
    assert "holds no request of KV/1.0" in capsys.readouterr().err


def test_what_is_installed_works_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", "")
    assert len(install()) == len(install()) == 4
    network = Network()
    talk = Talk(network, CLIENT)
    talk.say(CLIENT, b"KV/1.0 GET a\n")
    talk.say(SERVER_PORT, b"404 NOT_FOUND\n")
    path = network.write(tmp_path / "some.pcap")
    shown = subprocess.run(
        [str(TSHARK), "-n", "-C", "KV-1.0", "-r", str(path)], capture_output=True, text=True, check=True
    )
    assert re.search(r"404 +0\.000010000 +404 NOT_FOUND", shown.stdout)
    every = " || ".join(f"({rule})" for _, rule, *_ in COLOURS)
    assert shark(path, "-Y", every)  # a wrong filter is an error
