"""loadtest/options.py: what is read, what is refused, and that Locust's parser gets all of it."""

import logging
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kvss_gevent.loadtest import start_locust
from kvss_gevent.loadtest.load_options import Options, add_arguments, flag, read_options, seconds, texts_of


class Recorded:
    """Stands for Locust's parser."""

    def __init__(self) -> None:
        self.added: dict[str, dict[str, Any]] = {}
        self.defaults: dict[str, Any] = {}

    def add_argument(self, *names: str, **settings: Any) -> None:
        self.added[names[0]] = settings

    def set_defaults(self, **defaults: Any) -> None:
        self.defaults = defaults


def test_defaults_are_a_closed_loop_with_verification() -> None:
    options = read_options({})
    assert not options.open_loop
    assert options.verify
    assert options.preload
    assert (options.depth, options.warmup, options.drain) == (1, 1.0, 5.0)


def test_texts_are_read() -> None:
    options = read_options({"rate": "1500", "arrival": "Poisson", "verify": "off", "warmup": "500ms", "keys": "1_000"})
    assert (options.rate, options.arrival, options.verify, options.warmup) == (1500.0, "poisson", False, 0.5)
    assert options.keys == 1000


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        ({"mix": "foo"}, "--kv-mix: unknown mix"),
        ({"rate": "0"}, "--kv-rate: 0 is not a possible rate"),
        ({"rate": "fast"}, "--kv-rate: 'fast' is not a number"),
        ({"rate": "inf"}, "--kv-rate"),
        ({"rate": "nan"}, "--kv-rate"),
        ({"keys": "0"}, "--kv-keys: 0 is outside"),
        ({"keys": "many"}, "--kv-keys: 'many' is not a whole number"),
        ({"key_dist": "gauss"}, "--kv-key-dist: unknown key distribution"),
        ({"arrival": "bursty"}, "--kv-arrival: 'bursty' is none of: constant, poisson"),
        ({"verify": "maybe"}, "--kv-verify: 'maybe' is none of: on, off"),
        ({"warmup": "soon"}, "--kv-warmup: 'soon' is not a length of time"),
        ({"timeout": "0s"}, "--kv-timeout: '0s' is outside"),
        ({"value_size": "10"}, "--kv-value-size: verification needs values of"),
        ({"value_size": "2000000"}, "--kv-value-size: KV/1.0 lines end at"),
        ({"queue": "shared"}, "--kv-queue: requests wait in a queue only in an open loop"),
        ({"require": "p99<5"}, "--kv-require: 'p99<5': a latency limit needs a unit"),
    ],
)
def test_bad_input_has_one_line_that_names_the_option(texts: dict[str, str], complaint: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        read_options(texts)
    assert str(caught.value).startswith(complaint)
    assert "\n" not in str(caught.value)


def test_small_values_are_fine_without_verification() -> None:
    assert read_options({"value_size": "1", "verify": "off"}).value_size.least_bytes == 1


def test_locusts_parser_gets_every_field_and_loopback() -> None:
    parser = Recorded()
    add_arguments(parser)
    assert set(parser.added) == {flag(option.name) for option in fields(Options)}
    assert parser.defaults == {"web_host": "127.0.0.1", "master_bind_host": "127.0.0.1"}
    assert parser.added["--kv-mix"]["env_var"] == "KVSS_LOAD_MIX"
    assert parser.added["--kv-verify"]["choices"] == ("on", "off")
    assert not parser.added["--kv-out"]["include_in_web_ui"]
    with pytest.raises(Exception, match="unknown mix"):
        parser.added["--kv-mix"]["type"]("zzz")
    assert parser.added["--kv-mix"]["type"]("1:1:0") == "1:1:0", "texts stay texts, so that the web form can hold them"


def test_texts_come_from_locusts_namespace() -> None:
    namespace = SimpleNamespace(kv_mix="1:1:0", kv_rate="10")
    assert read_options(texts_of(namespace)).rate == 10


@pytest.mark.parametrize(("text", "length"), [("5", 5), ("500ms", 0.5), ("2m", 120), ("1h", 3600), ("250us", 0.00025)])
def test_lengths_of_time(text: str, length: float) -> None:
    assert seconds(text) == pytest.approx(length)


def test_a_user_class_that_does_not_exist_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    record = logging.LogRecord("locust.main", logging.ERROR, "", 0, "Unknown User(s): YcsbX\n", None, None)
    with pytest.raises(SystemExit) as ended:
        start_locust._refuse_unknown(record)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("kvss load: there is no user class YcsbX\n  ")
    record.msg = "Starting Locust"
    assert start_locust._refuse_unknown(record)


def test_a_locustfile_without_a_user_class_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    record = logging.LogRecord("locust.main", logging.ERROR, "", 0, "No User class found!", None, None)
    with pytest.raises(SystemExit):
        start_locust._refuse_unknown(record)
    assert capsys.readouterr().err.startswith("kvss load: the locustfile has no user class\n  ")


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("no.py", "there is no locustfile {}"),
        ("text", "the locustfile {} does not end with .py"),
        ("pipe", "the locustfile {} does not end with .py"),
        ("empty", "the folder {} holds no locustfile"),
    ],
)
def test_a_locustfile_that_is_not_found_is_wrong_usage(
    name: str, cause: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").mkdir()
    (tmp_path / "mine.py").touch()
    parse = start_locust._checked(list)
    found = [str(tmp_path / "mine.py"), str(tmp_path), "https://host/x.py"]
    assert parse(found) == found
    with pytest.raises(SystemExit) as ended:
        parse([str(tmp_path / name)])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"kvss load: {cause.format(tmp_path / name)}\n  Give -f")


def test_options_in_a_pipe_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    command = [sys.executable, "-m", "kvss_gevent", "load", "--headless", "--config", str(tmp_path / "pipe")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        f"kvss load: --config {tmp_path}/pipe is not a regular file\n"
        "  Write the options into a file, which is read several times.\n",
    )


class FakeRpcError(Exception):
    """Stands for Locust's exception, which tells that its port is taken."""


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (KeyboardInterrupt(), 130, ""),
        (
            FakeRpcError("Address already in use"),
            2,
            "kvss load: Address already in use\n  End what uses this port, or give another with --master-bind-port.\n",
        ),
    ],
    ids=["Ctrl-C", "port"],
)
def test_the_start_of_locust_ends_without_a_traceback(
    raised: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def locust() -> None:
        assert sys.argv[0] == "kvss load run"
        raise raised

    monkeypatch.setattr(sys, "argv", ["start_locust.py"])
    monkeypatch.setattr("kvss_gevent.settings.streams.prepare", lambda: None)  # pytest has the streams
    parsers = SimpleNamespace(LocustArgumentParser=type("FakeParser", (), {}), parse_locustfile_paths=list)
    monkeypatch.setitem(sys.modules, "locust", SimpleNamespace(argument_parser=parsers))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "locust.argument_parser", parsers)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "locust.exception", SimpleNamespace(RPCError=FakeRpcError))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "locust.main", SimpleNamespace(main=locust))  # type: ignore[arg-type]
    with pytest.raises(SystemExit) as ended:
        start_locust.main()
    assert ended.value.code == code
    assert capsys.readouterr().err == said
