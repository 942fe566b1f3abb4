"""The conformance runner against submissions: started, started again, blamed, and ended with all they have started."""

import contextlib
import os
import sys
from pathlib import Path

import pytest

from kvss_gevent.conformance.case_plan import Plan
from kvss_gevent.conformance.process.shell_command import Bounds, ShellCommand
from kvss_gevent.conformance.process.submission import Submission
from kvss_gevent.conformance.running.probe import Unreachable
from kvss_gevent.conformance.running.runner import grade_submission
from kvss_gevent.conformance.score import Scorecard


def test_a_correct_submission_is_started_once(tmp_path: Path) -> None:
    serve = "from reference_server import *; import time\nwith running(talking(), port={port}): time.sleep(100)"
    command = f"PYTHONPATH={Path(__file__).parent} {sys.executable} -c '{serve}'"
    submission = Submission(ShellCommand(command, tmp_path))
    card = grade_submission(submission, Plan(only=("stats-fresh", "stats-fresh-commands", "get")))
    assert [verdict.passed for verdict in card.verdicts] == [True] * 3
    assert submission.starts == 1


def graded(folder: Path, line: str, serving: str, plan: Plan) -> Scorecard:
    """Grade a server that answers as the reference does, but for a line of its reply_to. serving: what it runs."""
    (folder / "server.py").write_text(
        "import os, sys, time\n"
        "from reference_server import answer, running, talking\n"
        "def reply_to(state, line):\n"
        f"    {line}\n"
        "    return answer(state, line)\n"
        "def dying_later(sock, state):\n"
        "    try: talking(reply_to)(sock, state)\n"
        "    except ValueError: sock.close(), time.sleep(0.3), os._exit(7)\n"
        f"serving = running({serving}, port=int(sys.argv[1]))\n"
        "serving.__enter__()\n"
        "time.sleep(100)\n"
    )
    command = f"PYTHONPATH={Path(__file__).parent} {sys.executable} {folder}/server.py {{port}}"
    return grade_submission(Submission(ShellCommand(command, folder)), plan)


def test_one_crash_costs_one_case_and_the_report_names_it(tmp_path: Path) -> None:
    crash = "if line == b'KV/1.0' or line == b'KV/1.0 QUIT now': print('boom', file=sys.stderr), os._exit(7)"
    card = graded(tmp_path, crash, "talking(reply_to)", Plan(("grammar", "QUIT")))
    crashed = {verdict.case.id: (verdict.death, verdict.tail) for verdict in card.failures}
    assert crashed == dict.fromkeys(("no-command", "quit-surplus"), ("it ended with exit status 7", "boom\n"))
    assert "The server died and was started again, at: no-command, quit-surplus." in card.notes


def test_a_server_that_closes_first_and_dies_later_is_blamed_for_the_right_case(tmp_path: Path) -> None:
    failing = "if line == b'KV/1.0': raise ValueError"
    card = graded(tmp_path, failing, "dying_later, threads=False", Plan(("grammar",), timeout_s=0.5))
    assert [(verdict.case.id, verdict.death) for verdict in card.failures] == [
        ("no-command", "it ended with exit status 7")
    ]


def test_a_server_that_one_case_hangs_is_started_again_for_the_others(tmp_path: Path) -> None:
    hanging = "if line == b'KV/1.0': time.sleep(100)"
    card = graded(tmp_path, hanging, "talking(reply_to), threads=False", Plan(("grammar",), timeout_s=0.3))
    assert [(verdict.case.id, verdict.death) for verdict in card.failures] == [
        ("no-command", "it gave no client an answer any more and was ended")
    ]


def sleeps(mark: str) -> bool:
    """Tell whether a process with this mark sleeps."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            line = path.read_bytes()
            if mark.encode() in line and b"sleep" in line:
                return True
    return False


def test_all_that_a_submission_has_started_is_ended(tmp_path: Path) -> None:
    mark = f"1{os.getpid()}"
    deaf = f"(setsid sh -c 'trap \"\" TERM HUP INT; sleep {mark}' &)"
    hidden = f": {{port}}; {deaf}; (setsid sleep {mark} &); sleep 0.2; exit 1"
    with pytest.raises(Unreachable, match=r"exit status 1|nothing listens"):
        grade_submission(Submission(ShellCommand(hidden, tmp_path, Bounds(start_s=1))))
    assert not sleeps(mark)


@pytest.mark.parametrize("sign", ["KILL", "STOP"])
def test_a_submission_that_ends_what_watches_it_leaves_nothing_behind(
    sign: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvss_gevent.conformance.process.shell_command._END_S", 0.5)
    mark = f"2{os.getpid()}"
    beside = f"(setsid sleep {mark} &); (setsid sh -c 'sleep {mark}; exit' &)"
    hidden = f": {{port}}; {beside}; kill -{sign} $PPID; exec sleep {mark}"
    with pytest.raises(Unreachable, match=r"killed or stopped|nothing listens"):
        grade_submission(Submission(ShellCommand(hidden, tmp_path, Bounds(start_s=0.3))))
    assert not sleeps(mark)


def test_a_submission_that_listens_on_another_port_is_not_waited_for_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvss_gevent.conformance.process.submission._ELSEWHERE_S", 0.05)
    listen = 'import socket, time; one = socket.create_server(("127.0.0.1", 0)); time.sleep(999)'
    command = f": {{port}}; exec {sys.executable} -c '{listen}'"
    with pytest.raises(Unreachable, match=r"nothing listens on port \d+ after \d+ s; it listens on port \d+$"):
        grade_submission(Submission(ShellCommand(command, tmp_path, Bounds(start_s=600))))


@pytest.mark.parametrize(
    ("command", "start_s", "why"),
    [
        ("exec sleep 60 & sleep 60", 1.5, "nothing listens on port"),
        ("while :; do sleep 60 & done", 20, "more than 20 processes"),
        ("exec yes", 20, "more than 1 MiB of output"),
        ("cat /dev/zero | tail -c 300m", 20, "more than 100 MiB of memory"),
    ],
)
def test_a_submission_that_does_not_start_says_why(command: str, start_s: float, why: str, tmp_path: Path) -> None:
    bounds = Bounds(start_s=start_s, processes=20, output_bytes=1 << 20, memory_bytes=100 << 20)
    with pytest.raises(Unreachable, match=why):
        grade_submission(Submission(ShellCommand(": {port}; " + command, tmp_path, bounds)))


@pytest.mark.full
def test_what_lies_in_a_folder_before_is_not_the_command_s_doing(tmp_path: Path) -> None:
    (tmp_path / "photographs").write_bytes(b"x" * (2 << 20))
    serve = "from reference_server import *\nwith running(talking(), port={port}): State().stopping.wait(100)"
    command = f"PYTHONPATH={Path(__file__).parent} {sys.executable} -c '{serve}'"
    submission = Submission(ShellCommand(command, tmp_path, Bounds(folder_bytes=1 << 20)))
    card = grade_submission(submission, Plan(only=("stats-uptime", "put-new")))
    assert card.points == card.possible, card.notes
