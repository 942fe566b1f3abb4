"""`kvss conform` as a user meets it: the scorecard on the screen, its two file forms, options and exit codes."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as xml

import pytest
from reference_server import State, answer, running, talking
from serving import deaf_port

from kvss_gevent.cli import main
from kvss_gevent.conformance import CASES, GROUPS
from kvss_gevent.conformance.case_plan import choose
from kvss_gevent.conformance.stats_forms import LAB, README


def rude(state: State, line: bytes) -> tuple[bytes, bool]:
    """A server with one wrong phrase, which also tries to drive the terminal of whoever reads it."""
    reply, ends = answer(state, line)
    return (b"400 \x1b[2JBAD\x07 \xff" if reply[:3] == b"400" else reply), ends


@pytest.fixture
def good() -> Iterator[str]:
    with running(talking()) as port:
        yield f"127.0.0.1:{port}"


@pytest.fixture
def bad() -> Iterator[str]:
    with running(talking(rude)) as port:
        yield f"127.0.0.1:{port}"


@pytest.fixture
def nobody() -> Iterator[str]:
    with deaf_port() as port:
        yield f"127.0.0.1:{port}"


def test_a_good_server_gets_a_short_scorecard_and_exit_code_0(good: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", good, "--group", "QUIT", "commands"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == f"{good} as a KV/1.0 server, STATS in the readme form"
    assert lines[2:] == [
        "group          points     cases",
        "commands     32 of 32    31 of 31  100.0 %",
        "QUIT          6 of 6      6 of 6   100.0 %",
        "total        38 of 38    37 of 37  100.0 %",
    ]
    assert err == ""


def test_a_failure_says_what_was_sent_expected_and_received(bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", bad, "--group", "errors"]) == 1
    out = capsys.readouterr().out
    assert "FAILED phrase-spelling (errors, rule 11, 2 points)\n  Each phrase is spelled" in out
    assert r"  sent      (4) 'KV/1.0 PUT keyonly\n'" in out
    assert "  expected  '400 BAD_REQUEST'" in out
    assert r"  received  '400 \x1b[2JBAD\x07 \xff'" in out
    assert "  hint      Write each phrase once as a constant:" in out
    assert "phrase-spelling costs one case only. Other cases with the same mistake, which\nignore it: 4." in out
    assert out.isascii()
    assert out.replace("\n", "").isprintable()


def test_the_scorecard_fits_80_columns(bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", bad]) == 1
    assert main(["conform", "--list"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_a_server_that_is_silent_is_not_described_a_hundred_times(capsys: pytest.CaptureFixture[str]) -> None:
    def converse(_sock: socket.socket, state: State) -> None:
        state.stopping.wait(30)

    with running(converse) as port:
        assert main(["conform", f"127.0.0.1:{port}", "--group", "grammar", "STATS", "--timeout", "0.1"]) == 1
    out = capsys.readouterr().out
    assert " cases received not tried: the server has not answered anything before\n" in out
    assert out.count("FAILED") <= 4
    assert "  likewise  " in out
    assert len(out.splitlines()) < 60


def test_json_has_a_schema_and_sums_that_agree(bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", bad, "--json", "--group", "errors", "--group", "quit"]) == 1
    card = json.loads(capsys.readouterr().out)
    assert (card["schema"], card["target"], card["error"]) == ("kvss-conform/1", bad, None)
    assert [group["name"] for group in card["groups"]] == ["errors", "QUIT"]
    assert card["cases_run"] == len(card["cases"]) == 14
    assert card["cases_passed"] == sum(case["passed"] for case in card["cases"]) == 13
    assert card["points"] == sum(case["points"] for case in card["cases"] if case["passed"])
    assert card["points_possible"] == sum(group["points_possible"] for group in card["groups"]) == 17
    assert card["percent"] == 88.2
    failed = {case["id"]: case for case in card["cases"] if not case["passed"]}
    assert set(failed) == {"phrase-spelling"}
    assert failed["phrase-spelling"]["sent"][-1] == r"(4) 'KV/1.0 PUT keyonly\n'"
    assert failed["phrase-spelling"]["expected"] == "'400 BAD_REQUEST'"


def test_junit_is_xml_whose_counts_agree(bad: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "result.xml"
    assert main(["conform", bad, "--junit", str(file), "--group", "errors", "grammar"]) == 1
    assert capsys.readouterr().out.startswith(bad)
    root = xml.parse(file).getroot()
    assert root.tag == "testsuites"
    assert [suite.get("name") for suite in root] == ["grammar", "errors"]
    for suite in (root, *root):
        assert suite.get("tests") == str(len(list(suite.iter("testcase"))))
        assert suite.get("failures") == str(len(list(suite.iter("failure"))))
    failure = root.find(".//testcase[@name='phrase-spelling']/failure")
    assert failure is not None
    assert failure.get("type") == "rule 11"
    assert r"expected '400 BAD_REQUEST', received '400 \x1b[2JBAD\x07 \xff'" in failure.get("message", "")


def test_where_nothing_answers_the_exit_code_is_3_and_the_files_say_so(
    nobody: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "result.xml"
    assert main(["conform", nobody, "--json", "--junit", str(file)]) == 3
    out, err = capsys.readouterr()
    assert (
        err == f"kvss conform: nothing answers at {nobody}: connection refused\n"
        "  Start the server first, or check the address.\n"
    )
    card = json.loads(out)
    assert (card["error"], card["points"], card["cases"]) == ("connection refused", 0, [])
    assert xml.parse(file).getroot().get("errors") == "1"
    assert main(["conform", "[::1]:1"]) == 3
    assert capsys.readouterr().err.startswith("kvss conform: nothing answers at [::1]:1: ")


def test_junit_in_a_bad_place_is_one_clear_line_before_any_case_is_run(
    nobody: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "no such folder" / "result.xml"
    assert main(["conform", nobody, "--junit", str(file)]) == 2
    assert capsys.readouterr().err.splitlines()[0] == f"kvss conform: cannot write {file}: no such file or directory"


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ([], "HOST:PORT is missing"),
        (["127.0.0.1:1", "--group", "speed"], "there is no group 'speed'"),
        (["--group", "QUIT", "127.0.0.1:1"], "there is no group '127.0.0.1:1'"),
        (["localhost:"], "'localhost:' is not HOST:PORT"),
        (["localhost:70000"], "PORT is '70000'"),
        (["::1:5050"], "an IPv6 address with a port needs brackets"),
        (["localhost:1", "--command", "true"], "cannot be used together"),
        (["--user", "ann", "--command", "true"], "--user and --command cannot be used together"),
        (["--command", "true {port}", "--in", "/no/such"], "there is no folder /no/such"),
        (["localhost:1", "--timeout", "0"], "'0' is not a number of seconds"),
        (["localhost:1", "--timeout", "nan"], "'nan' is not a number of seconds"),
        (["localhost:1", "--timeout", "soon"], "'soon' is not a number of seconds"),
        (["localhost:1", "--stats-format", "xml"], "--stats-format is 'xml'"),
    ],
)
def test_usage_errors_have_exit_code_2(arguments: list[str], cause: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(["conform", *arguments])
    except SystemExit as usage:
        code = usage.code  # type: ignore[assignment]
    assert code == 2
    assert cause in capsys.readouterr().err


def test_an_ipv6_address_is_written_in_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    with running(talking(), host="::1") as port:
        assert main(["conform", f"[::1]:{port}", "--group", "QUIT"]) == 0
        assert capsys.readouterr().out.startswith(f"[::1]:{port} as a KV/1.0 server")


def test_an_address_may_be_two_words_as_in_every_command(good: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", *good.split(":"), "--group", "QUIT"]) == 0
    assert capsys.readouterr().out.startswith(f"{good} as a KV/1.0 server")


def test_verbose_shows_the_bytes_of_every_case_on_standard_error(bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", bad, "--verbose", "--only", "byte-by-byte", "phrase-spelling"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["byte-by-byte: passed", "  > 'K'"]
    assert lines[2].startswith("  > ... ")
    assert lines[3] == r"  > '\n'"
    assert lines[4] == r"  < '201 CREATED\n'"
    assert "phrase-spelling: expected '400 BAD_REQUEST'" in lines
    assert r"  (4) < '400 \x1b[2JBAD\x07 \xff\n'" in lines


def test_the_list_shows_every_case_of_the_groups_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", "--list"]) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line in GROUPS] == list(GROUPS)
    for case in choose((), README):
        assert f"  {case.points}p  rule {case.rule:<2}  {case.id} " in out
    assert main(["conform", "--list", "--json", "--group", "STATS", "--stats-format", "lab"]) == 0
    listed = json.loads(capsys.readouterr().out)["cases"]
    assert [case["id"] for case in listed] == [
        case.id for case in CASES if case.group == "STATS" and case.form in (None, LAB)
    ]


def test_progress_is_shown_on_a_terminal_only(
    good: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert main(["conform", good, "--group", "QUIT"]) == 0
    err = capsys.readouterr().err
    assert "\r1 of 6 cases" in err
    assert err.endswith("\r6 of 6 cases\r" + " " * 20 + "\r")


def test_ctrl_c_is_no_traceback(good: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kvss_gevent.cli.conform._show_progress", interrupt)
    assert main(["conform", good, "--group", "QUIT"]) == 130
    out, err = capsys.readouterr()
    assert "interrupted: only the cases below were run" in out
    assert err.startswith("kvss conform: interrupted\n  ")


@pytest.mark.server
@pytest.mark.parametrize("form", [README, LAB])
def test_the_project_s_own_server_gets_every_point(form: str) -> None:
    kvss = [sys.executable, "-m", "kvss_gevent"]
    serve = [*kvss, "serve", "127.0.0.1", "0", "--stats-format", form]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            address = server.stdout.readline().split()[-1]
            conform = [*kvss, "conform", address, "--json", "--stats-format", form]
            graded = subprocess.run(conform, stdout=subprocess.PIPE, text=True, timeout=50, check=False)
        finally:
            server.terminate()
    card = json.loads(graded.stdout)
    assert [case for case in card["cases"] if not case["passed"]] == []
    cases = [case for case in choose((), form) if not case.fresh]
    assert (graded.returncode, card["percent"], card["cases_run"]) == (0, 100.0, len(cases))
    assert server.returncode == 0


def test_grading_loads_neither_gevent_nor_the_server() -> None:
    code = "import sys, kvss_gevent.cli.conform; print(*(name for name in sys.modules if 'gevent' in name))"
    # A measurement of coverage in the subprocess would load gevent to be able to trace it.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    loaded = run.stdout.split()
    assert {name for name in loaded if not name.startswith("kvss_gevent")} == set()
    assert not {"kvss_gevent.server.gevent_server", "kvss_gevent.core.session"} & set(loaded)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("[" * 100_000, "its values are nested too deeply"),
        ("{", "Expecting property name"),
        ("[]", "weights are points"),
    ],
    ids=["deep", "cut", "list"],
)
def test_weights_that_cannot_be_read_are_told(
    text: str, cause: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "weights.json").write_text(text)
    assert main(["conform", "--list", "--weights", str(tmp_path / "weights.json")]) == 2
    err = capsys.readouterr().err
    assert cause in err
    assert err.count("\n") == 2
