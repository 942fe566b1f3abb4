"""The `kvss` command: what every subcommand does with help, typing errors, and a standard output that fails."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvss_gevent import __version__
from kvss_gevent.cli import COMMANDS, main, whole_parser
from kvss_gevent.settings.fail import Fail, install

READER_LEFT = 141
PRINTS = {
    "serve": "--print-config --store disk:\u00e9",
    "models": "",
    "conform": "--list",
    "show": "",
    "completions": "bash",
    "wireshark": "show-path",
}
"""Commands that print something without a server."""


LEFT = "trap '' PIPE; while echo 2>/dev/null; do sleep 0.01; done"
"""Waits until the reader of a pipe has left."""


def shell(script: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a script in which kvss is the command."""
    return subprocess.run(
        ["bash", "-c", f'kvss() {{ "{sys.executable}" -m kvss_gevent "$@"; }}\n{script}'],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **env},
        check=False,
    )


PARSERS = {parser.prog: parser for parser in whole_parser().walk()}


@pytest.mark.parametrize("prog", [prog for prog in PARSERS if prog != "kvss"])
def test_help_of_every_parser_has_examples_and_fits_the_terminal(prog: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in (40, 80):
        monkeypatch.setenv("COLUMNS", str(columns))
        text = PARSERS[prog].format_help()
        assert f"  {prog}" in text.partition("examples:\n")[2]
        if columns == 80:
            assert [line for line in text.splitlines() if len(line) > 80] == []
    rows = str(PARSERS[prog].epilog).partition("examples:\n")[2].partition("\n\n")[0].splitlines()
    assert [row for row in rows if len(row) > 78] == []  # longer ones would lose their columns


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"kvss {name}" in capsys.readouterr().out


@pytest.mark.parametrize("prog", PARSERS)
def test_every_argument_says_what_it_is(prog: str) -> None:
    arguments = [action for action in PARSERS[prog]._actions if not isinstance(action, argparse._SubParsersAction)]
    assert [argument for argument in arguments if not argument.help] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_lost_output_is_never_a_result_and_no_traceback(name: str) -> None:
    done = shell(f"kvss {name} {PRINTS.get(name, '--help')} >/dev/full")
    assert done.returncode == 3
    assert done.stderr.splitlines()[0] == f"kvss {name}: standard output cannot be written: No space left on device"
    assert [line for line in done.stderr.splitlines()[1:] if not line.startswith("  ")] == []


@pytest.mark.full
def test_lost_output_of_locust_has_the_same_message_and_exit_code() -> None:
    done = shell(
        "kvss load run --version >/dev/full; echo $? >&2; exec 4>&2; "
        f"{{ {LEFT}; kvss load run --help; echo $? >&4; }} | true"
    )
    first, remedy, *codes = done.stderr.splitlines()
    assert first == "kvss load: standard output cannot be written: No space left on device"
    assert remedy.startswith("  ")
    assert codes == ["3", str(READER_LEFT)]


def test_a_closed_output_and_a_reader_that_has_left_are_no_tracebacks() -> None:
    done = shell(f"kvss models >&-; echo $? >&2; exec 4>&2; {{ {LEFT}; kvss models; echo $? >&4; }} | true")
    lines = [line for line in done.stderr.splitlines() if not line.startswith("  ")]
    assert lines == ["kvss models: standard output cannot be written: Bad file descriptor", "3", str(READER_LEFT)]


@pytest.mark.parametrize("name", PRINTS)
def test_a_terminal_that_knows_ascii_only_is_enough(name: str) -> None:
    done = shell(f"kvss {name} {PRINTS[name]}", PYTHONIOENCODING="ascii", NO_COLOR="1", COLUMNS="40")
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.isascii()
    assert "\x1b" not in done.stdout
    assert name != "serve" or 'store = "disk:\\xe9"' in done.stdout


def test_names_that_are_not_utf_8_are_shown_as_escapes() -> None:
    done = shell("kvss serve $'a\\xff\\x1b[31m' 5050; kvss serve --config $'/no\\xffne\\n'")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 4
    assert "\x1b" not in done.stderr
    assert "/no\\udcffne\\n" in done.stderr


def test_full_standard_error_changes_no_exit_code() -> None:
    assert shell("kvss serve --max-line huge 2>/dev/full").returncode == 2
    assert shell("kvss serve --max-line huge 2>&-").returncode == 2


def test_the_demo_does_not_accuse_its_server_of_a_reader_that_leaves() -> None:
    done = shell(f"exec 4>&2; {{ {LEFT}; kvss demo; echo $? >&4; }} | true")
    assert done.stderr == f"{READER_LEFT}\n"


@pytest.mark.parametrize(
    ("words", "cause", "remedy", "usage"),
    [
        (["serv"], "there is no command 'serv'", "Did you mean `kvss serve`?", "usage: kvss serve"),
        (["cleint", "GET"], "there is no command 'cleint'", "`kvss client GET`", "usage: kvss client"),
        (
            ["serve", "--prot", "5050"],
            "kvss serve: there is no option --prot",
            "Did you mean --port?",
            "usage: kvss serve",
        ),
        (
            ["serve", "--prot=5050"],
            "kvss serve: there is no option --prot",
            "Did you mean --port?",
            "usage: kvss serve",
        ),
        (["--prot", "5050"], "--prot comes before the command", "`kvss serve --port`", "usage: kvss serve"),
        (
            ["compare", "rn"],
            "kvss compare: there is no command 'rn'",
            "Did you mean `kvss compare run`?",
            "compare run [-h]",
        ),
        (
            ["load", "serch"],
            "kvss load: there is no command 'serch'",
            "Did you mean `kvss load search`?",
            "usage: kvss load search",
        ),
        (["version"], "there is no command 'version'", "Did you mean `kvss --version`?", ""),
        (["tls", "zzz"], "kvss tls: there is no command 'zzz'", "Give one of make-dev.", "usage: kvss tls"),
        (["frobnicate"], "there is no command 'frobnicate'", "one of these", "usage: kvss COMMAND"),
        ([], "a command is missing", "one of these", "  serve "),
        (["user"], "kvss user: a command is missing", "Give one of add, passwd, list, remove.", "usage: kvss user"),
        (["completions", "bsh"], "SHELL is 'bsh', which is none of bash, zsh, fish", "Did you mean bash?", ""),
        (["conform", "--lang", "fr"], "--lang is 'fr', which is none of en, vi", "Give one of them.", "kvss conform"),
        (
            ["load", "search", "--hots", "a"],
            "kvss load search: there is no option --hots",
            "Did you mean --host?",
            "load search",
        ),
        (
            ["compare", "diff", "a", "b", "--c"],
            "kvss compare diff: there is no option --c",
            "kvss compare diff",
            "diff [-h]",
        ),
        (
            ["serve", "--max-line"],
            "kvss serve: argument --max-line: expected one argument",
            "--help",
            "usage: kvss serve",
        ),
    ],
)
def test_typing_errors_get_the_likeliest_suggestion(
    words: list[str], cause: str, remedy: str, usage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    first, second, *rest = capsys.readouterr().err.splitlines()
    assert cause in first
    assert remedy in second
    assert usage in "\n".join(rest)


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"load"}))  # the options of load are Locust's
def test_every_command_suggests_an_option(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--hepl"]) == 2
    assert "Did you mean --help?" in capsys.readouterr().err


def test_help_is_a_word_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "serve"]) == 0
    assert capsys.readouterr().out.startswith("usage: kvss serve")
    assert main(["help"]) == 0
    assert capsys.readouterr().out.startswith("usage: kvss COMMAND")


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (PermissionError(13, "Permission denied", "/a\nb"), "Permission denied: /a\\nb"),
        (RuntimeError("can't start new thread"), "the system allows no more threads"),
        (MemoryError(), "there is not enough memory"),
    ],
)
def test_what_the_system_refuses_is_a_line_and_exit_code_3(
    error: Exception, cause: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> int:
        raise error

    monkeypatch.setattr("kvss_gevent.cli.models.run", fail)
    assert main(["models"]) == 3
    assert capsys.readouterr().err.startswith(f"kvss models: {cause}\n  ")


def test_a_mistake_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> int:
        raise RuntimeError("a mistake")

    monkeypatch.setattr("kvss_gevent.cli.models.run", fail)
    with pytest.raises(RuntimeError, match="a mistake"):
        main(["models"])


def test_a_message_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Fail("a\x1b[31mb\nc", "d\x07e").show("kvss")
    assert capsys.readouterr().err == "kvss: a\\x1b[31mb\\nc\n  d\\x07e\n"


def test_a_word_without_end_does_not_hide_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    Fail("cannot open " + "x" * 100_000 + ": no", "Give another.").show("kvss")
    cause, remedy = capsys.readouterr().err.splitlines()
    assert remedy == "  Give another."
    assert cause.endswith("xxx... (100,001 characters) no")
    assert len(cause) < 400


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only what forks has hooks for it")
def test_ctrl_c_in_a_hook_of_fork_still_ends_a_command() -> None:
    script = """
import os, signal, sys, time
from kvss_gevent import cli
from kvss_gevent.cli import models
def run(args):
    os.register_at_fork(before=lambda: signal.raise_signal(signal.SIGINT))
    if not os.fork():
        os._exit(0)
    time.sleep(600)
models.run = run
sys.argv[1:] = ["models"]
sys.exit(cli.main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize(
    ("words", "package", "extras"),
    [
        (["load"], "locust", "load"),
        (["load", "diff", "A", "B"], "locust", "load"),
        (["compare", "run"], "matplotlib", "lab,load"),
        (["compare", "run", "--models", "trio"], "trio", "lab"),
        (["tls", "make-dev", "certs"], "trustme", "tls"),
        (["serve", "--model", "trio"], "trio", "lab"),
        (["show", "burn", "--models", "trio"], "trio", "lab"),
        (["serve", "--store", "disk:kvss.data"], "lmdb", "disk"),
    ],
)
def test_an_extra_that_is_not_installed_is_exit_code_3(words: list[str], package: str, extras: str) -> None:
    script = f"import sys; sys.modules[{package!r}] = None; from kvss_gevent.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    cause, remedy = done.stderr.splitlines()
    assert (done.returncode, package in cause.lower()) == (3, True)
    assert remedy == f"  In the checkout: pip install -e '.[{extras}]'"


def test_what_installs_an_extra_is_told_for_a_checkout_and_for_a_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert install("lab,load") == "In the checkout: pip install -e '.[lab,load]'"
    monkeypatch.setattr("kvss_gevent.settings.fail.__file__", str(tmp_path / "kvss_gevent" / "settings" / "fail.py"))
    wheel = f"kvss_gevent-{__version__}-py3-none-any.whl"
    assert install("tls") == f"In the folder of the wheel: pip install '{wheel}[tls]'"
