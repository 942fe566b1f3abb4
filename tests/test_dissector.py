"""The Wireshark dissector, run by tshark on conversations that a network has treated badly."""

import os
import random
from pathlib import Path

import pytest
from dissecting import CLIENT, TSHARK, experts, fields, shark
from segments import ACK, FIN, PSH, SERVER_PORT, Network, Talk, rounds

pytestmark = pytest.mark.skipif(
    TSHARK is None and not os.environ.get("CI"), reason="tshark is not installed (Debian: apt-get install tshark)"
)
WAYS = [
    pytest.param([*passes, "-o", f"tcp.reassemble_out_of_order:{order}"], id=f"{name}-{order}")
    for passes, name in (([], "one-pass"), (["-2"], "two-passes"))
    for order in ("FALSE", "TRUE")
]
"""tshark's two ways through a file, and both settings of Wireshark's own reordering."""


def check_pairs(path: Path, expected: int, words: list[str], limit_s: float = 50) -> None:
    """Every reply belongs to the request for its key, and all are there."""
    right = 0
    for replies_to, data in fields(path, "kv.reply_to", "kv.data", words=tuple(words), limit_s=limit_s):
        asked = [one for one in replies_to if one != "QUIET"]
        assert [one.removeprefix("GET k") for one in asked] == [one.removeprefix("v") for one in data]
        right += len(asked)
    assert right == expected


@pytest.mark.parametrize("way", WAYS)
def test_replies_find_their_requests_whatever_the_network_did(way: list[str], tmp_path: Path) -> None:
    network, rng = Network(), random.Random(4711)
    expected = 0
    for number in range(24):
        seen_from_its_beginning = number % 3 > 0
        talk = Talk(network, CLIENT + number, handshake=seen_from_its_beginning)
        if not seen_from_its_beginning:  # then the first segment that is seen is taken for the first there is
            talk.say(CLIENT + number, b"KV/1.0 QUIET\n")
            talk.say(SERVER_PORT, b"400 BAD_REQUEST\n")
        expected += rounds(talk, rng, 8, rng.choice((1, 4, 64)))
    check_pairs(network.write(tmp_path / "bad.pcap"), expected, way)


def test_lines_cut_at_every_byte_are_whole(tmp_path: Path) -> None:
    network = Network()
    talk = Talk(network, CLIENT)
    ask = "KV/1.0 PUT käse viel davon\n".encode()
    for cut in range(1, len(ask)):
        talk.say(CLIENT, ask[:cut])
        talk.say(CLIENT, ask[cut:])
        talk.say(SERVER_PORT, b"201 CREATED\n")
    path = network.write(tmp_path / "cut.pcap")
    found = [
        values for values in fields(path, "kv.version", "kv.command", "kv.key", "kv.value", "kv.length") if values[0]
    ]
    assert found == [[["KV/1.0"], ["PUT"], ["käse"], ["viel davon"], [str(len(ask))]]] * (len(ask) - 1)


def test_time_runs_from_the_request_s_line_feed_to_the_reply_s(tmp_path: Path) -> None:
    network = Network()
    talk = Talk(network, CLIENT)
    talk.say(CLIENT, b"KV/1.0 GET")
    network.time_us += 1_000_000
    talk.say(CLIENT, b" a\n")
    talk.say(SERVER_PORT, b"200 ")
    network.time_us += 500_000
    talk.say(SERVER_PORT, b"OK b\n")
    path = network.write(tmp_path / "time.pcap")
    *_, reply = fields(path, "kv.time", "kv.request_in", "kv.begun_in", "kv.code", "kv.phrase")
    assert reply == [["0.500020000"], ["5"], ["6"], ["200"], ["OK"]]
    requests = [one for one in fields(path, "kv.response_in", words=("-2",)) if one[0]]
    assert requests == [[["7"]]]


@pytest.mark.parametrize("way", [WAYS[0], WAYS[2]])
def test_what_a_short_capture_lacks_is_told_and_nothing_is_guessed(way: list[str], tmp_path: Path) -> None:
    network, rng = Network(snap_bytes=96), random.Random(1)
    talk = Talk(network, CLIENT)
    talk.say(CLIENT, b"KV/1.0 GET k1\n")
    talk.say(SERVER_PORT, b"200 OK v1\n")
    talk.say(CLIENT, b"KV/1.0 GET k2\n" * 9)
    talk.say(SERVER_PORT, b"200 OK v2\n" * 9)
    rounds(talk, rng, 5, 20)
    path = network.write(tmp_path / "short.pcap")
    pairs = [one for one in fields(path, "kv.reply_to", "kv.data", words=tuple(way)) if one[0]]
    assert pairs == [[["GET k1"], ["v1"]]]
    assert "Bytes are missing" in shark(path, "-V", *way)


def test_a_segment_that_was_not_captured_ends_pairing(tmp_path: Path) -> None:
    network, rng = Network(), random.Random(2)
    talk = Talk(network, CLIENT)
    before = rounds(talk, rng, 1, 1, badly=False)
    talk.arrived(CLIENT, b"KV/1.0 GET lost\n")
    for _ in range(30):
        talk.say(CLIENT, b"KV/1.0 GET k\n")
        talk.say(SERVER_PORT, b"200 OK v\n")
    path = network.write(tmp_path / "lost.pcap")
    assert len([one for one in fields(path, "kv.reply_to") if one[0]]) == before
    assert "Bytes are missing" in shark(path, "-V", "-Y", "kv.expert.lost")


def test_behind_quit_no_reply_is_expected(tmp_path: Path) -> None:
    network = Network()
    talk = Talk(network, CLIENT)
    talk.say(CLIENT, b"KV/1.0 QUIT\nKV/1.0 GET a\n")
    talk.say(SERVER_PORT, b"200 OK bye\n")
    talk.segment(SERVER_PORT, talk.sent[SERVER_PORT], b"", FIN | ACK)
    assert experts(network.write(tmp_path / "quit.pcap")) == ["Behind QUIT: no server runs it", "2 requests at once"]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (
            b"uptime: 2 days, 0:05:23; connections: 1; commands_processed: 6; get_requests: 3; put_requests: 2; "
            b"del_requests: 1; keys_stored: 7",
            ["2 days", "6", "3", "7", ""],
        ),
        (b"keys=4 uptime=323s served=9", ["323", "", "", "", "9"]),
    ],
)
def test_stats_replies_are_numbers(reply: bytes, expected: list[str], tmp_path: Path) -> None:
    network = Network()
    talk = Talk(network, CLIENT)
    talk.say(CLIENT, b"KV/1.0 STATS\n")
    talk.say(SERVER_PORT, b"200 OK " + reply + b"\n")
    names = ("uptime", "commands_processed", "get_requests", "keys_stored", "served")
    *_, found = fields(network.write(tmp_path / "stats.pcap"), *(f"kv.stats.{name}" for name in names))
    assert [value[0] if value else "" for value in found] == expected


def test_other_ports_are_found_by_their_first_request_or_by_decode_as(tmp_path: Path) -> None:
    network = Network()
    for client, first in ((CLIENT, b"KV/1.0 GET a\n"), (CLIENT + 1, b"GET a\n")):
        network.send((client, 7070), 1, 1, PSH | ACK, first)
        network.send((7070, client), 1, 1 + len(first), PSH | ACK, b"200 OK a\n")
    path = network.write(tmp_path / "ports.pcap")
    assert len(list(fields(path, "kv.code"))) == 2
    assert len(list(fields(path, "kv.code", words=("-d", "tcp.port==7070,kv")))) == 4


def test_noise_is_never_an_error(tmp_path: Path) -> None:
    network, rng = Network(), random.Random(3)
    for number in range(60):
        talk = Talk(network, CLIENT + number)
        for _ in range(6):
            side = rng.choice((CLIENT + number, SERVER_PORT))
            words = [b"KV/1.0 ", b"GET ", b"200 OK ", b"STATS", b"\n", b"\r\n", b"\0", b"\xff\xfe", b"uptime: ", b" "]
            talk.say_badly(side, b"".join(rng.choices(words, k=rng.randrange(1, 12))), rng)
    path = network.write(tmp_path / "noise.pcap")
    for words in ((), ("-2",)):
        list(fields(path, "kv.length", words=words))
        shark(path, "-V", *words)


@pytest.mark.parametrize(
    ("name", "rule", "frames"),
    [
        ("dialogue", "tcp.flags.syn == 1", 2),
        ("dialogue", "kv.code == 400 || kv.code == 426", 2),
        ("cut", 'kv.begun_in && kv.command == "PUT"', 1),
        ("pipeline", "kv.expert.pipelined && tcp.len == 1580", 1),
        ("pipeline", "kv.reply", 2),
        ("nagle", "tcp.time_delta > 0.03", 19),
        ("nodelay", "tcp.time_delta > 0.03", 0),
        ("unfinished", "kv.expert.cut", 1),
        ("reset", "kv.expert.reset && kv.unanswered == 2", 1),
        ("refused", "tcp.flags.reset == 1", 1),
    ],
)
def test_the_sample_captures_show_what_the_worksheet_asks_for(name: str, rule: str, frames: int) -> None:
    sample = Path(__file__).parent.parent / "docs" / "captures" / f"{name}.pcapng"
    assert len(shark(sample, "-Y", rule).splitlines()) == frames


# Two passes take much longer.
@pytest.mark.full
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(("way", "requests"), [(*WAYS[0].values, 1_000_000), (*WAYS[2].values, 100_000)])
def test_very_many_requests_are_paired(way: list[str], requests: int, tmp_path: Path) -> None:
    network, rng = Network(), random.Random(5)
    expected = number = 0
    while expected < requests:
        expected += rounds(Talk(network, 10000 + number), rng, 100, rng.choice((1, 1, 4, 64)), badly=number % 10 == 0)
        number += 1
    check_pairs(network.write(tmp_path / "many.pcap"), expected, way, limit_s=2000)
