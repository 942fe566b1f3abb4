"""Every command that reads a file of a user: whatever is in the file, it answers in two lines, and soon."""

import copy
import json
import os
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import compare_rows
import pytest
from in_process import kvss
from test_flight import recording_of
from test_load_diff import result

from kvss_gevent.settings.named_files import UnreadableFile, read_bytes, read_parsed

READERS: dict[str, tuple[str, ...]] = {
    "weights.json": ("conform", "--list", "--weights", "weights.json"),
    "flight.json": ("show", "flight.json"),
    "results.json": ("load", "diff", ".", "."),
    "rows.jsonl": ("compare", "diff", ".", "."),
    "report/rows.jsonl": ("compare", "report", "report"),
    "resumed/rows.jsonl": ("compare", "run", "--resume", "resumed"),
    "grade.toml": ("grade", ".", "--out", "marks"),
    "settings.toml": ("serve", "--check-config", "--config", "settings.toml"),
    "users": ("user", "list", "users"),
    "ca.pem": ("client", "--ca", "ca.pem", "127.0.0.1:1", "GET", "a"),
    "password": ("client", "--user", "ann", "--password-file", "password", "127.0.0.1:1", "GET", "a"),
    "store": ("serve", "--check-config", "--store", "redis://ann@127.0.0.1:1/0", "--store-password-file", "store"),
    "cert.pem": ("serve", "--check-config", "--tls-cert", "cert.pem", "--tls-key", "cert.pem"),
    "talk.pcapng": ("wireshark", "statistics", "talk.pcapng"),
}
"""The file that is damaged, and the command that reads it."""


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 27)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path.name)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": lambda _: None,
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_text('{"framing": 2, "put'),
    "wrong types": lambda path: path.write_text('[[1, null], {"a": []}, "x"]'),
    "deep": lambda path: path.write_text("[" * 100_000),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 100),
    "not UTF-8": lambda path: path.write_bytes(b'{"framing": "\xff"}\n'),
    "huge": huge,
    "directory": lambda path: path.mkdir(),
    "socket": a_socket,
    "nothing": lambda path: path.symlink_to("/dev/null"),
    "without end": lambda path: path.symlink_to("/dev/zero"),
    "link to itself": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", READERS)
def test_a_file_of_any_content_is_answered_in_two_lines(
    name: str, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    (tmp_path / "no-submission").mkdir()
    monkeypatch.chdir(file.parent)  # the name of a socket must be short
    DAMAGES[damage](file)
    monkeypatch.chdir(tmp_path)
    done = kvss(*READERS[name])
    assert done.returncode in (0, 1, 2, 3)
    assert done.stderr.count("\n") == 2 if done.returncode else True, done.stderr


VALUES: tuple[Any, ...] = (
    None,
    "",
    "x",
    -1,
    0,
    1e-300,
    1e300,
    10**400,
    float("nan"),
    float("inf"),
    [],
    [["x"]],
    {},
    True,
)
MUTATIONS = 100


def a_journal(folder: Path) -> list[Any]:
    """Return the lines of a whole journal, as JSON."""
    figures = {1.0: {"cpu_us": 20.0, "p99_us": 900.0}, 8.0: {"cpu_us": 10.0, "p99_us": 9.0}}
    compare_rows.journal(folder, *(compare_rows.rows("cost", name, figures) for name in ("gevent", "threads")))
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every value inside a JSON value."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*place, key)
        yield from places(value[key], (*place, key))


def mutated(whole: Any, chance: random.Random) -> Any:
    """Return a JSON value with one value in it replaced or left out."""
    changed = copy.deepcopy(whole)
    *way, last = chance.choice(list(places(changed)))
    inner = changed
    for key in way:
        inner = inner[key]
    if chance.random() < 0.2:
        del inner[last]
    else:
        inner[last] = chance.choice(VALUES)
    return changed


@pytest.mark.parametrize("name", ["weights.json", "flight.json", "results.json", "rows.jsonl"])
def test_a_file_of_the_right_form_with_one_wrong_value_is_answered_in_two_lines(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    event = '[2, 1, 10, 20, 0, 0, "GET a"]'
    whole: Any = {
        "weights.json": {"framing": 2, "put-new": 3},
        "flight.json": json.loads(recording_of(f"{event}, {event}")),
        "results.json": result(5),
    }.get(name) or a_journal(tmp_path / "whole")
    chance = random.Random(1)
    for _ in range(MUTATIONS):
        lines = mutated(whole, chance)
        text = "".join(json.dumps(line) + "\n" for line in lines) if name == "rows.jsonl" else json.dumps(lines)
        (tmp_path / name).write_text(text)
        done = kvss(*READERS[name])
        assert done.returncode in (0, 1, 2), text
        assert done.returncode == 0 or done.stderr.count("\n") == 2, (text, done.stderr)


def test_a_pipe_is_read_as_a_file_is_and_one_that_nobody_writes_is_given_up(tmp_path: Path) -> None:
    out, into = os.pipe()
    try:
        os.write(into, b'{"a": 1}')
        os.close(into)
        assert read_parsed(Path(f"/dev/fd/{out}"), 100, json.loads) == {"a": 1}
    finally:
        os.close(out)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnreadableFile, match=r"nothing came out of it for 0.01 s"):
        read_bytes(tmp_path / "pipe", 100, 0.01)


def test_a_file_as_long_as_it_may_be_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100)
    assert read_bytes(tmp_path / "file", 100) == b"x" * 100
    with pytest.raises(UnreadableFile, match="it is longer than 99 bytes"):
        read_bytes(tmp_path / "file", 99)
