"""The flight recorder: what it keeps, when it writes, and the page that `kvss show FILE` makes of it."""

import errno
import json
import logging
import re
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from serving import serving, wait_until

from kvss_gevent.cli import main
from kvss_gevent.core.lab_commands import Lab
from kvss_gevent.core.service import Service
from kvss_gevent.stores.memory import MemoryStore
from kvss_gevent.trace import flight
from kvss_gevent.trace.events import Event, What
from kvss_gevent.trace.flight import Flight, FlightRecorder, read_flight
from kvss_gevent.trace.page.flight_page import holds_of, longest_of, render, said
from kvss_gevent.trace.scenes.stalling_store import StallingStore


def service_with(recorder: FlightRecorder, store: object = None) -> Service:
    return Service(store or MemoryStore(), lab=Lab(), converse=recorder.converse)


def recording_of(event: str, model: str = '"gevent"') -> str:
    return (
        f'{{"form": "{flight.FORM}", "model": {model}, "process": 1, "written": "then", "why": "asked", "seconds": 5, '
        f'"events": [{event}]}}'
    )


def written(directory: Path) -> Path:
    (path,) = directory.glob("kvss-flight-*.json")
    return path


def test_a_recording_tells_who_held_the_loop_and_what_was_taken_up_right_after(tmp_path: Path) -> None:
    recorder = FlightRecorder("gevent", 10, directory=tmp_path)
    service = service_with(recorder)
    first, second, third = service.open(), service.open(), service.open()
    second.receive(b"KV/1.0 PUT key secret\n")
    first.receive(b"KV/1.0 SLEEP 60\n")
    second.receive(b"KV/1.0 GET key\n")
    third.receive(b"KV/1.0 GET key\nKV/1.0 GET other\n")
    recorder.write("asked for").join()
    text = written(tmp_path).read_text()
    assert "secret" not in text
    found = read_flight(written(tmp_path))
    assert (found.why, found.model) == ("asked for", "gevent")
    held_ns, event = longest_of(found)[0]
    assert event[6] == b"SLEEP 60"
    assert held_ns >= 60e6
    assert [one[6] for _, one in holds_of(found)] == [b"PUT key", b"SLEEP 60", b"GET key", b"GET key and more"]
    assert re.match(
        r"SLEEP 60 of connection 1 held the loop for \d+\.\d ms\. Right after it 2 connections were served", said(found)
    )
    page = render(found)
    assert json.loads(page.partition('id="data">')[2].partition("</script>")[0])["flight"]
    assert "secret" not in page


def test_a_call_does_not_hold_the_loop_while_it_waits_for_the_store() -> None:
    events: list[Event] = [
        (What.RECEIVE, 2, 20, 30, 5, 5, b"GET b"),  # while the first connection waits
        (What.STORE, 1, 10, 80, 1, 0, b""),
        (What.STORE, 1, 80, 90, 1, 0, b""),
        (What.RECEIVE, 1, 0, 100, 5, 5, b"GET a"),
        (What.RECEIVE, 1, 110, 120, 5, 5, b"GET c"),
    ]
    found = Flight("gevent", 1, "then", "asked", 5, events)
    assert [held_ns for held_ns, _ in holds_of(found)] == [10, 20, 10]


def test_only_the_last_seconds_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = FlightRecorder("gevent", 30, directory=tmp_path)
    conversation = service_with(recorder).open()
    conversation.receive(b"KV/1.0 GET old\n")
    between_ns = time.monotonic_ns() + 1
    while time.monotonic_ns() <= between_ns:
        pass
    conversation.receive(b"KV/1.0 GET new\n")
    clock = SimpleNamespace(**{**vars(time), "monotonic_ns": lambda: between_ns + 30 * 10**9})
    monkeypatch.setattr(flight, "time", clock)
    recorder.write("asked for").join()
    assert [event[6] for event in read_flight(written(tmp_path)).events] == [b"GET new"]


def test_what_is_kept_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight, "MOST_EVENTS", 5)
    recorder = FlightRecorder("gevent", 10, directory=tmp_path)
    conversation = service_with(recorder).open()
    for _ in range(20):
        conversation.receive(b"KV/1.0 GET a\n")
    recorder.write("asked for").join()
    assert len(read_flight(written(tmp_path)).events) == 5


@pytest.mark.timing
def test_a_call_that_holds_the_loop_is_told_and_written_by_itself_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flight, "AFTER_S", 1.0)
    recorder = FlightRecorder("gevent", 10, slow_ms=250, directory=tmp_path)
    service = service_with(recorder)
    first, second = service.open(), service.open()
    with caplog.at_level(logging.WARNING):
        first.receive(b"KV/1.0 SLEEP 1\n")
        assert not caplog.messages
        first.receive(b"KV/1.0 SLEEP 300\n")
        second.receive(b"KV/1.0 GET after\n")
        second.receive(b"KV/1.0 SLEEP 280\n")
        deadline = time.monotonic() + 5
        while len(caplog.messages) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert re.fullmatch(r"SLEEP 300 held the loop for \d+ ms", caplog.messages[0])
    assert caplog.messages[1] == f"flight recording of 9 events: kvss show {written(tmp_path)}"
    assert b"GET after" in [event[6] for event in read_flight(written(tmp_path)).events]


def test_recordings_that_are_asked_for_at_once_do_not_mix(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recorder = FlightRecorder("gevent", 10, directory=tmp_path)
    conversation = service_with(recorder).open()
    for _ in range(3 * flight.PIECE_EVENTS + 1):
        conversation.receive(b"KV/1.0 GET a\n")
    for writer in [recorder.write(f"asked for {number}") for number in range(20)]:
        writer.join()
    recorder.write("asked for again").join()
    paths = list(tmp_path.iterdir())
    assert len(paths) >= 2
    for path in paths:
        assert len(read_flight(path).events) == 3 * flight.PIECE_EVENTS + 2
    left_out = sum("a flight recording is being written" in message for message in caplog.messages)
    assert left_out + len(paths) == 21


def test_a_disk_without_room_leaves_no_part_and_the_next_recording_is_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = FlightRecorder("gevent", 10, directory=tmp_path)
    service_with(recorder).open().receive(b"KV/1.0 GET a\n")

    def full(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        recorder.write("asked for").join()
    assert "the flight recorder cannot write" in caplog.text
    assert "No space left on device" in caplog.text
    assert not list(tmp_path.iterdir())
    recorder.write("asked for").join()
    assert len(read_flight(written(tmp_path)).events) == 2


@pytest.mark.timing
def test_a_wait_for_the_store_is_not_the_loops(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recorder = FlightRecorder("gevent", 10, slow_ms=250, directory=tmp_path)
    service_with(recorder, StallingStore(MemoryStore(), time.sleep)).open().receive(b"KV/1.0 GET stall:300:1\n")
    assert not caplog.messages
    recorder.write("asked for").join()
    found = read_flight(written(tmp_path))
    assert What.STORE in [event[0] for event in found.events]
    assert longest_of(found)[0][0] < 250e6


def test_a_directory_that_cannot_be_written_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    FlightRecorder("gevent", 10, directory=tmp_path / "none").write("asked for").join()
    assert "the flight recorder cannot write" in caplog.text


def test_the_command_shows_a_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorder = FlightRecorder("gevent", 10, directory=tmp_path)
    service_with(recorder).open().receive(b"KV/1.0 GET a\n")
    recorder.write("asked for").join()
    path = written(tmp_path)
    assert main(["show", str(path), "--out", str(tmp_path / "out")]) == 0
    assert re.match(r"GET a of connection 1 held the loop for \d+\.\d", capsys.readouterr().out)
    assert "Who held the loop" in (tmp_path / "out" / f"{path.stem}.html").read_text()


@pytest.mark.parametrize(
    ("content", "said_of_it"),
    [
        ("no json", "Expecting value"),
        ("[" * 100_000, "its values are nested too deeply"),
        ("[1]", "it is not a flight recording of this version"),
        ('{"form": "kvss flight recording 1", "events": [[1, 2]]}', "it is damaged"),
        ('{"form": "kvss flight recording 1", "events": []}', "it is damaged: 'model'"),
        (recording_of('[2, 1, 0, Infinity, 0, 0, "GET a"]'), "it is damaged: an event from 0 to inf"),
        (recording_of('[2, 1, 20, 10, 0, 0, "GET a"]'), "it is damaged: an event from 20 to 10"),
        (recording_of('[2, 1, 10, 20, 0, Infinity, "GET a"]'), "it is damaged: cannot convert float infinity"),
        (recording_of('[2, 1, 10, 20, 0, 0, "GET a"]', model='"none"'), "it names an unknown model, 'none'"),
        (recording_of('[2, 1, 10, 20, 0, 0, "GET a"]', model="[]"), "it names an unknown model, '[]'"),
    ],
)
def test_a_file_that_is_no_recording_is_told(
    content: str, said_of_it: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("file.json", "another-name"):
        (tmp_path / name).write_text(content)
        assert main(["show", str(tmp_path / name)]) == 2
        assert said_of_it in capsys.readouterr().err


def test_an_empty_recording_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    FlightRecorder("gevent", 10, directory=tmp_path).write("asked for").join()
    assert main(["show", str(written(tmp_path))]) == 1
    assert "holds no calls" in capsys.readouterr().err


@pytest.mark.server
def test_a_server_writes_its_recording_when_it_is_slow_and_when_a_signal_asks(tmp_path: Path) -> None:
    recorder = ("--flight-recorder", "10", "--slow-ms", "300")
    with serving("--lab", *recorder, prefix=("env", "-C", str(tmp_path))) as server:
        assert server.ask(b"KV/1.0 PUT key secret\n") == b"201 CREATED\n"
        assert server.ask(b"KV/1.0 BURN 500\n") == b"200 OK\n"
        assert server.ask(b"KV/1.0 GET key\n") == b"200 OK secret\n"
        wait_until(lambda: "kvss show" in server.logged())
        slow = written(tmp_path)
        server.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: len(list(tmp_path.glob("*.json"))) == 2)
        code, log = server.stop()
    assert code == 0
    assert "BURN 500" in said(read_flight(slow))
    assert b"GET key" in [event[6] for event in read_flight(slow).events]
    (asked,) = set(tmp_path.glob("*.json")) - {slow}
    assert read_flight(asked).why == "asked for by SIGUSR2"
    assert "secret" not in slow.read_text() + asked.read_text() + log
    assert f"kvss show {slow.name}" in log


@pytest.mark.server
def test_a_recording_that_is_asked_for_at_the_end_is_whole_and_each_worker_writes_its_own(tmp_path: Path) -> None:
    recorder = ("--flight-recorder", "10", "--workers", "2", "--store", f"disk:{tmp_path}/data", "--sync", "none")
    with serving(*recorder, prefix=("env", "-C", str(tmp_path))) as server:
        with server.connect() as sock:
            for _ in range(6_000):
                sock.sendall(b"KV/1.0 GET a\n")
                assert sock.recv(64) == b"404 NOT_FOUND\n"
        server.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: len({path.stem for path in tmp_path.glob("kvss-flight-*")}) == 2)  # whole or a part
        code, _ = server.stop()
    assert code == 0
    assert len({read_flight(path).process for path in tmp_path.glob("*.json")}) == 2
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.server
def test_without_a_recorder_the_signal_is_ignored_and_another_model_says_that_it_has_none(tmp_path: Path) -> None:
    with serving(prefix=("env", "-C", str(tmp_path))) as server:
        server.process.send_signal(signal.SIGUSR2)
        assert server.ask(b"KV/1.0 GET a\n") == b"404 NOT_FOUND\n"
    with serving("--model", "select", "--flight-recorder", "5") as server:
        _, log = server.stop()
    assert "--flight-recorder (KVSS_FLIGHT_RECORDER) has no effect with --model select" in log
    assert not list(tmp_path.glob("*.json"))
