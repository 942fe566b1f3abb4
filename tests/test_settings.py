"""Settings: one table behind flags, variables, the file, and everything that is printed about them."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from kvss_gevent.cli import main
from kvss_gevent.settings import signals
from kvss_gevent.settings.config import Config, flag, key, options, variable
from kvss_gevent.settings.fail import Fail
from kvss_gevent.settings.reference import options_table, print_config, signals_table
from kvss_gevent.settings.sources import read_settings

DOCUMENT = Path(__file__).parent.parent / "docs" / "serve.md"

OTHER = {
    "host": "::1", "unix": "/a \"b\\\x01é", "store": "disk:x", "model": "threads", "sync": "none",
    "stats_format": "lab", "log_level": "debug", "log_format": "json",
}  # fmt: skip


def other(name: str) -> str:
    """Return a text for a field that is not its default."""
    switches = {option.name for option in options() if not option.metadata["kind"].placeholder}
    return OTHER.get(name, "on" if name in switches else "7")


@pytest.mark.parametrize("option", options(), ids=lambda option: option.name)
def test_every_setting_can_be_given_in_every_way(option: object, tmp_path: Path) -> None:
    name = option.name  # type: ignore[attr-defined]
    kind = option.metadata["kind"]  # type: ignore[attr-defined]
    wanted = kind.read(other(name))
    assert wanted != option.default  # type: ignore[attr-defined]
    file = tmp_path / "kvss.toml"
    shown = next(line for line in print_config(read_settings({name: other(name)}, {})) if line.startswith(key(name)))
    file.write_text(shown)
    for given, environ, origin in (
        ({name: other(name)}, {}, "HOST" if name == "host" else flag(name)),
        ({}, {variable(name): other(name)}, variable(name)),
        ({"config": str(file)}, {}, f"{file}: {key(name)}"),
        ({}, {"KVSS_CONFIG": str(file)}, f"{file}: {key(name)}"),
    ):
        settings = read_settings(given, environ)
        assert getattr(settings.config, name) == wanted
        assert settings.origins[name] == origin
        assert set(settings.origins.values()) == {origin, "default"}


def test_each_source_is_stronger_than_the_next(tmp_path: Path) -> None:
    file = tmp_path / "kvss.toml"
    file.write_text("port = 1\n")
    given: dict[str, str | None] = {"config": str(file), "port": None}
    assert read_settings(given, {}).config.port == 1
    assert read_settings(given, {"KVSS_PORT": "2"}).config.port == 2
    assert read_settings({**given, "port": "3"}, {"KVSS_PORT": "2"}).config.port == 3
    assert read_settings(given, {"KVSS_PORT": ""}).config.port == 1


def test_toml_values_of_any_scalar_type(tmp_path: Path) -> None:
    file = tmp_path / "kvss.toml"
    file.write_text("lab = true\nmax-line = 1000\nline-timeout = 1.5\nmax-unsent = '2M'\n")
    config = read_settings({"config": str(file)}, {}).config
    assert (config.lab, config.max_line_bytes, config.line_timeout_s, config.max_unsent_bytes) == (
        True, 1000, 1.5, 2 << 20,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "cause", "remedy"),
    [
        ("max-line = 'huge'", "{}: max-line is 'huge'", "from 1 to 1048576G"),
        ("max-line = 0", "{}: max-line is '0'", "from 1 to 1048576G"),
        ("max-disk = '99999999999G'", "{}: max-disk is '99999999999G'", "up to 1048576G"),
        ("workers = 99999999999", "{}: workers is '99999999999'", "from 1 to 1024"),
        ("model = 'foo'", "{}: model is 'foo'", "one of a, b"),
        ("max-lime = 1", "{}: there is no setting 'max-lime'", "Did you mean 'max-line'?"),
        ("[server]\nport = 1", "{}: there is no setting 'server'", ""),
        (f"port = 0x{'f' * 4000}", "{}: port has too many digits", "Give a smaller number."),
        ("port = [1]", "{}: port is a list", "Give a port from 0"),
        ("[port]", "{}: port is a table", "Give a port from 0"),
        ("line-timeout = 2026-11-30T01:00:00Z", "{}: line-timeout is a date", "Give a time in seconds"),
        ("port = true", "{}: port is true", "Give a port from 0"),
        ("host = false", "{}: host is false", "Give a host name or address"),
        ("max-connections = 1e3", "{}: max-connections is '1e3'", "Give a whole number"),
        ("port = ", "cannot read {}: Invalid value", "KEY = VALUE"),
        ("port = '\xff'", "cannot read {}: ", "KEY = VALUE"),
    ],
)
def test_an_error_in_the_file_names_file_key_value_and_range(
    text: str, cause: str, remedy: str, tmp_path: Path
) -> None:
    file = tmp_path / "kvss.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(Fail) as caught:
        read_settings({"config": str(file)}, {}, {"model": ("a", "b")})
    assert caught.value.cause.startswith(cause.format(file))
    assert remedy in caught.value.remedy
    assert caught.value.code == 2


@pytest.mark.parametrize("path", ["/no/such/file", "/", "/dev/zero"])
def test_a_file_that_cannot_be_read(path: str) -> None:
    with pytest.raises(Fail, match=f"cannot read {path}: "):
        read_settings({"config": path}, {})


def test_a_file_whose_values_are_nested_deeply_is_told(tmp_path: Path) -> None:
    (tmp_path / "deep.toml").write_text(f"port = {'[' * 5000}")
    with pytest.raises(Fail, match=r"deep.toml: its values are nested too deeply"):
        read_settings({"config": str(tmp_path / "deep.toml")}, {})


def test_print_config_says_where_each_value_is_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "kvss.toml"
    file.write_text("max-line = '64K'\n")
    monkeypatch.setenv("KVSS_MAX_UNSENT", "2M")
    assert main(["serve", "[::1]:7", "--config", str(file), "-v", "--print-config"]) == 0
    text = capsys.readouterr().out
    lines = {line.split(" ")[0]: line.rpartition(" # ")[2] for line in text.splitlines()}
    assert lines["host"] == "HOST"
    assert lines["port"] == "--port"
    assert lines["max-line"] == f"{file}: max-line"
    assert lines["max-unsent"] == "KVSS_MAX_UNSENT"
    assert lines["log-level"] == "--log-level"
    assert lines["sync"] == "default"
    assert tomllib.loads(text)["max-line"] == "64K"
    again = tmp_path / "again.toml"
    again.write_text(text)
    config = read_settings({"config": str(again)}, {}).config
    assert (config.host, config.port, config.max_line_bytes) == ("::1", 7, 65536)


def test_check_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--check-config"]) == 0
    assert capsys.readouterr().out == "kvss: the configuration is correct\n"
    for wrong, cause in (
        (["--store", "foo:"], "--store is 'foo:'"),
        (["--model", "foo"], "--model is 'foo'"),
        (["--slow-ms", "99999999"], "whole milliseconds up to 10000000, 0 for never"),
        (["0.0.0.0:0"], "0.0.0.0 can be reached from other machines"),
        (["--metrics", "0.0.0.0:0"], "the metrics on 0.0.0.0 can be reached"),
        (["--workers", "2"], "memory: lives in one process"),
        (["--tls-cert", "file"], "--tls-cert and --tls-key are needed together"),
    ):
        assert main(["serve", *wrong, "--check-config"]) == 2
        assert cause in capsys.readouterr().err


def test_check_config_reads_users_and_certificates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    users, no_key = tmp_path / "users.txt", tmp_path / "key.pem"
    users.write_text("")
    no_key.write_text("no key")
    users.chmod(0o600)
    no_key.chmod(0o600)
    for wrong, cause in (
        (["--users", str(tmp_path / "none")], "none"),
        (["--users", str(users)], "has no users"),
        (["--tls-cert", str(no_key), "--tls-key", str(no_key)], "key.pem"),
        (["--model", "select", "--users", str(users)], "--model select supports no users"),
        (["--model", "fork"], "--model fork runs in several processes"),
    ):
        assert main(["serve", *wrong, "--check-config"]) == 2, wrong
        assert cause in capsys.readouterr().err


def test_check_config_knows_which_packages_a_store_needs() -> None:
    script = "import sys; sys.modules['lmdb'] = None; from kvss_gevent.cli import main; sys.exit(main())"
    words = ["serve", "--store", "disk:x", "--check-config"]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        "kvss serve: disk: needs the package lmdb, which is not installed\n"
        "  In the checkout: pip install -e '.[disk]'\n"
    )


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["127.0.0.1", "abc"], "PORT is 'abc'"),
        (["127.0.0.1:1", "--port", "2"], "the port is given twice, 1 and --port 2"),
        (["unix:/a", "--unix", "/b"], "the unix is given twice"),
        (["kvss://ann@host:1"], "the address has a user"),
        (["host:1", "2"], "'2' is one word too many"),
        (["--port", "abc"], "--port is 'abc'"),
    ],
)
def test_serve_blames_the_right_word(words: list[str], cause: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", *words, "--check-config"]) == 2
    assert cause in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("KVSS_PROT", "; did you mean KVSS_PORT?"),
        ("KVSS_MAX_CONECTIONS", "; did you mean KVSS_MAX_CONNECTIONS?"),
        ("KVSS_PASWORD", "; did you mean KVSS_PASSWORD?"),
        ("KVSS_LOAD_MX", "; did you mean KVSS_LOAD_MIX?"),
        ("KVSS_\n", ""),
    ],
)
def test_a_misspelled_variable_is_one_line_and_no_error(
    name: str, hint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "5")
    shown = name.replace("\n", "\\n")
    for command in (["serve", "--check-config"], ["models"]):
        assert main(command) == 0
        assert capsys.readouterr().err == f"kvss: warning: no command reads {shown}{hint}\n"


def test_what_any_command_reads_is_not_misspelled(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "".join(path.read_text() for path in (Path(__file__).parent.parent / "kvss_gevent").rglob("*.py"))
    names = {*re.findall(r'"(KVSS_[A-Z_]*[A-Z])"', source), *map(variable, Config.__slots__), "KVSS_LOAD_MIX"}
    assert len(names) > len(options()) + 3
    for name in names - {"KVSS_CONFIG"}:
        monkeypatch.setenv(name, "")
    assert main(["models"]) == 0
    assert capsys.readouterr().err == ""


def test_the_document_has_the_tables_that_the_code_makes() -> None:
    text = DOCUMENT.read_text()
    assert "\n".join(signals_table()) in text
    assert "\n".join(options_table()) in text, (
        f"make it anew: python -m kvss_gevent.settings.reference docs/{DOCUMENT.name}"
    )


def test_the_defaults_of_a_server_are_those_of_the_table() -> None:
    assert read_settings({}, {}).config == Config()


def test_every_signal_of_the_table_is_handled_once() -> None:
    handled: dict[int, object] = {}
    signals.handle(dict.fromkeys(signals.Act, print), handled.__setitem__)
    assert sorted(handled) == sorted(signals.numbers())
    assert len(signals.numbers()) == sum(len(row.names) for row in signals.TABLE)
