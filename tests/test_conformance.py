"""The conformance runner against servers with one known mistake each: each costs its own cases and no others."""

import contextlib
import os
import re
import socket
import sys
import time
from pathlib import Path

import pytest
from reference_server import Converse, State, answer, running, talking

from kvss_gevent.conformance.case_plan import Plan, choose, longest_s
from kvss_gevent.conformance.cases import CASES
from kvss_gevent.conformance.process.shell_command import Bounds, ShellCommand
from kvss_gevent.conformance.process.submission import Submission
from kvss_gevent.conformance.report import habits
from kvss_gevent.conformance.running.probe import Unreachable
from kvss_gevent.conformance.running.runner import grade, grade_submission
from kvss_gevent.conformance.stats_forms import LAB, README

CONCURRENT = {case.id for case in CASES if case.needs_two}


def lost(port: int, *groups: str, timeout_s: float = 2.0) -> set[str]:
    return {verdict.case.id for verdict in grade("127.0.0.1", port, Plan(groups, timeout_s=timeout_s)).failures}


def changing(**replies: bytes) -> Converse:
    """A correct server, but for the replies named by their code."""
    changed = {name.encode()[1:]: reply for name, reply in replies.items()}

    def reply_to(state: State, line: bytes) -> tuple[bytes, bool]:
        reply, ends = answer(state, line)
        return changed.get(reply[:3], reply), ends

    return talking(reply_to)


@pytest.mark.parametrize(("form", "times"), [(README, 2), (LAB, 1)])
def test_a_correct_server_gets_every_point_also_when_it_is_asked_again(form: str, times: int) -> None:
    with running(talking(), State(form)) as port:
        for _ in range(times):
            card = grade("127.0.0.1", port)
            assert card.failures == ()
            assert card.stats_form == form
            assert card.points == card.possible == sum(case.points for case in choose((), form) if not case.fresh)
            assert card.notes == ()


@pytest.mark.full
def test_a_server_that_takes_one_recv_for_one_request_loses_what_depends_on_packets() -> None:
    def converse(sock: socket.socket, state: State) -> None:
        ends = False
        while not ends and (data := sock.recv(65536)):
            reply, ends = answer(state, data.removesuffix(b"\n"))
            sock.sendall(reply + b"\n")

    with running(converse) as port:
        assert lost(port, "framing", "grammar", "commands", "errors", "QUIT") == {
            *("byte-by-byte", "cut-in-version", "cut-before-lf", "lf-alone", "one-and-a-half", "two-in-one"),
            *("hundred-in-one", "in-order", "crlf-cut", "utf8-cut", "half-close-answers", "incomplete-not-run"),
            "incomplete-del",
            *("errors-in-pipeline", "quit-before", "quit-unanswered", "quit-not-run"),
        }


def test_a_server_that_closes_after_an_error_loses_what_goes_on_behind_one() -> None:
    def reply_to(state: State, line: bytes) -> tuple[bytes, bool]:
        reply, ends = answer(state, line)
        return reply, ends or reply[:1] == b"4"

    with running(talking(reply_to)) as port:
        found = lost(port, "grammar", "versions", "errors", "QUIT", "robustness")
        assert found == {
            *("http-whole-word", "open-after-400", "open-after-404", "open-after-426", "errors-in-pipeline"),
            *("refused-put", "invalid-utf8", "invalid-utf8-key", "invalid-utf8-version", "truncated-utf8"),
            *("forbidden-utf8", "slow-beside-quick"),
        }


def test_a_server_that_hangs_on_one_command_loses_that_case_alone() -> None:
    def reply_to(state: State, line: bytes) -> tuple[bytes, bool]:
        if line == b"KV/1.0 PUT":
            state.stopping.wait(30)
        return answer(state, line)

    with running(talking(reply_to)) as port:
        card = grade("127.0.0.1", port, Plan(("grammar",), timeout_s=0.5))
        [verdict] = card.failures
        assert (verdict.case.id, verdict.received) == ("put-nothing", "nothing within 0.5 s")
        assert verdict.sent == (r"'KV/1.0 PUT\n'",)


def test_a_server_that_hangs_on_everything_loses_everything_in_bounded_time() -> None:
    def converse(_sock: socket.socket, state: State) -> None:
        state.stopping.wait(60)

    started = time.monotonic()
    with running(converse) as port:
        card = grade("127.0.0.1", port, Plan(timeout_s=0.1))
    assert card.points == 0
    assert time.monotonic() - started < longest_s(choose((), README), 0.1)
    assert {verdict.received for verdict in card.failures if verdict.case.alone} == {
        "not tried: the server has not answered anything before"
    }


def test_the_bound_of_a_run_is_two_minutes_at_worst() -> None:
    cases = choose((), README)
    assert longest_s(cases, 2.0) < 120


@pytest.fixture
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are not stretched, however busy the machine is."""
    monkeypatch.setattr("kvss_gevent.conformance.running.trials.busyness", lambda: 1.0)


@pytest.mark.full
@pytest.mark.usefixtures("quiet_machine")
def test_behind_many_cases_without_an_answer_the_others_wait_a_part_of_the_time() -> None:
    def converse(sock: socket.socket, state: State) -> None:
        def reply_to(state: State, line: bytes) -> tuple[bytes, bool]:
            if b" PUT " in line:
                sock.recv(1)  # until the client leaves
                raise ConnectionError
            return answer(state, line)

        talking(reply_to)(sock, state)

    with running(converse, threads=False) as port:
        card = grade("127.0.0.1", port, Plan(("commands",), timeout_s=0.3))
    whole = [verdict.case.id for verdict in card.failures if verdict.received == "nothing within 0.3 s"]
    assert 1 <= len(whole) <= 4 + 2
    assert any(verdict.received == "nothing within 0.03 s" for verdict in card.failures)
    assert "Many cases got no answer in time: from then on a case waits only 0.03 s." in card.notes


@pytest.mark.full
@pytest.mark.usefixtures("quiet_machine")
def test_a_server_that_hangs_for_good_is_not_asked_a_hundred_times() -> None:
    def reply_to(state: State, line: bytes) -> tuple[bytes, bool]:
        if b" PUT " in line:
            state.stopping.wait(60)
        return answer(state, line)

    with running(talking(reply_to), threads=False) as port:
        card = grade("127.0.0.1", port, Plan(timeout_s=0.5))
    [note] = [note for note in card.notes if note.startswith("At some point")]
    assert note == "At some point no further case could be run: the server answers no client any more."
    tried = [verdict for verdict in card.verdicts if not verdict.skipped]
    assert 4 <= len(tried) < 30


def test_no_case_is_begun_behind_the_time_limit() -> None:
    with running(talking()) as port:
        card = grade("127.0.0.1", port, Plan(("grammar",), budget_s=0.001))
    assert all(verdict.skipped for verdict in card.verdicts)
    assert card.notes == (f"The time limit of 0.001 s was over: {len(card.verdicts)} cases were not tried.",)


def test_when_the_server_dies_the_remaining_cases_fail_at_once_and_say_so() -> None:
    def reply_to(state: State, line: bytes) -> tuple[bytes, bool]:
        if line == b"KV/1.0  GET " + line[12:]:  # two-spaces-command
            state.stopping.set()
        return answer(state, line)

    with running(talking(reply_to)) as port:
        card = grade("127.0.0.1", port)
    [note] = card.notes
    assert note.startswith("The server died during the run")
    gone = [verdict for verdict in card.verdicts if verdict.gone]
    assert len(gone) > 60
    assert gone[-1].received == "no connection: connection refused"
    assert {verdict.case.group for verdict in card.verdicts if verdict.passed} >= {"framing", "grammar"}
    assert card.duration_s < 30


HABITS = {
    "greeting": (talking(), b"Welcome to KVSS\n", {"no-greeting"}),
    "prompt": (talking(end=b"\nKV> "), b"KV> ", {"no-greeting"}),
    "crlf": (talking(end=b"\r\n"), b"", {"reply-ends-in-lf"}),
    "no end": (talking(end=b""), b"", {"reply-ends-in-lf"}),
    "NUL as an end": (talking(end=b"\0"), b"", {"reply-ends-in-lf", "nul", "nul-last"}),
    "padded": (talking(end=b"\n" + bytes(20)), b"", {"reply-not-padded"}),
    "phrases": (changing(c404=b"404 Not Found", c426=b"426 Upgrade Required"), b"", {"phrase-spelling"}),
    "a space": (changing(c404=b"404 NOT FOUND"), b"", {"phrase-spelling"}),
    "200 for each PUT": (changing(c201=b"200 OK"), b"", {"put-new"}),
    "200 for DEL": (changing(c204=b"200 OK"), b"", {"del"}),
    "text": (changing(c204=b"204 NO_CONTENT deleted", c201=b"201 CREATED ok"), b"", {"phrase-alone"}),
}


@pytest.mark.parametrize("habit", HABITS)
def test_one_odd_habit_costs_one_case(habit: str) -> None:
    converse, greeting, expected = HABITS[habit]

    def greet(sock: socket.socket, state: State) -> None:
        sock.sendall(greeting)
        converse(sock, state)

    with running(greet) as port:
        card = grade("127.0.0.1", port, Plan(("framing", "commands", "errors", "QUIT", "robustness")))
    assert {verdict.case.id: verdict.received for verdict in card.failures}.keys() == expected, card.failures
    assert any("costs one case only: " in line for line in habits(card))


@pytest.mark.parametrize("farewell", [b"200 OK Goodbye", b"200 OK", b"200 BYE"])
def test_another_farewell_costs_one_case(farewell: bytes) -> None:
    def reply_to(state: State, line: bytes) -> tuple[bytes, bool]:
        reply, ends = answer(state, line)
        return (farewell if reply == b"200 OK bye" else reply), ends

    with running(talking(reply_to)) as port:
        assert lost(port, "QUIT") == {"quit-bye"}


@pytest.mark.parametrize(
    "form", ['{"keys": %d, "uptime": %d, "requests": %d}', "keys: %d, uptime: %d s, total commands: %d"]
)
def test_another_form_of_stats_costs_one_case(form: str) -> None:
    def reply_to(state: State, line: bytes) -> tuple[bytes, bool]:
        reply, ends = answer(state, line)
        if b"keys=" in reply:
            reply = b"200 OK " + (form % tuple(map(int, re.findall(rb"\d+", reply[6:])))).encode()
        return reply, ends

    with running(talking(reply_to), State(LAB)) as port:
        card = grade("127.0.0.1", port, Plan(profile="sheet"))
    assert {verdict.case.id for verdict in card.failures} == {"stats-form-lab"}


def test_a_line_that_nobody_asked_for_is_seen_behind_the_last_reply() -> None:
    with running(changing(c204=b"204 NO_CONTENT\nKV> ")) as port:
        card = grade("127.0.0.1", port, Plan(("commands",)))
        assert {verdict.case.id: verdict.received for verdict in card.failures} == {
            "del": "'KV> '",
            "del-forgets": "'KV> '",
        }


@pytest.mark.full
def test_a_server_that_ignores_a_half_close_loses_what_it_then_owes() -> None:
    def converse(sock: socket.socket, state: State) -> None:
        talking()(sock, state)
        state.stopping.wait(30)

    def reply_to(state: State, line: bytes) -> tuple[bytes, bool]:
        reply, _ = answer(state, line)
        return reply, False

    def ignoring(sock: socket.socket, state: State) -> None:
        talking(reply_to)(sock, state)
        state.stopping.wait(30)

    with running(converse) as port:
        assert lost(port, "framing", "commands", timeout_s=0.5) == {"half-close-closes", "incomplete-unanswered"}
    with running(ignoring) as port:
        found = lost(port, "QUIT", "versions", timeout_s=0.5)
        assert found == {"quit-closes", "quit-before", "quit-unanswered", "quit-not-run"} | {
            case.id
            for case in CASES
            if case.id.startswith("http-") and case.id not in ("http-value", "http-whole-word")
        }


def test_a_server_that_serves_one_client_at_a_time_loses_what_needs_two() -> None:
    with running(talking(), threads=False) as port:
        card = grade("127.0.0.1", port, Plan(timeout_s=0.5))
    assert {verdict.case.id for verdict in card.failures} == CONCURRENT
    assert card.notes == ("The server serves one client at a time: the cases were run one after the other.",)


def test_counters_that_are_wrong_or_stuck_cost_their_own_cases() -> None:
    def reply_to(state: State, line: bytes) -> tuple[bytes, bool]:
        if line == b"KV/1.0 STATS":
            state.started = time.monotonic()
            state.counts["del"] = 0
        return answer(state, line)

    with running(talking(reply_to)) as port:
        card = grade("127.0.0.1", port, Plan(("STATS",)))
    assert {verdict.case.id: verdict.received for verdict in card.failures} == {
        "stats-uptime": "uptime moved by 0 instead of +1 to +3",
        "stats-dels": "del_requests moved by 0 instead of +2",
    }


def test_a_stats_line_of_another_form_costs_the_form_and_the_counters() -> None:
    with running(changing(c200=b"200 OK fine")) as port:
        card = grade("127.0.0.1", port, Plan(("STATS",)))
    assert card.stats_form == README
    assert card.points == 0
    assert "200 OK uptime: 0:05:23; connections: 1;" in card.failures[0].expected
    with running(talking(), State(LAB)) as port:
        assert lost(port, "STATS") == set()
        asked = grade("127.0.0.1", port, Plan(("STATS",), stats_form=README))
    lacking = {"stats-form", "stats-gets", "stats-puts", "stats-dels", "stats-refused", "stats-connections"}
    assert {verdict.case.id for verdict in asked.failures} == lacking | {"stats-after-reset"}


def naive(sock: socket.socket, state: State) -> None:
    """The course document's server as it is often written: a thread, a dict, one recv, split and strip."""
    while data := sock.recv(1024):
        parts = data.decode("utf-8").strip().split()
        sock.sendall((naive_reply(state.store, parts) + "\n").encode("utf-8"))
        if parts[1:2] == ["QUIT"]:
            return


def naive_reply(store: dict[bytes, bytes], parts: list[str]) -> str:
    match parts:
        case [version, *_] if version != "KV/1.0":
            return "426 UPGRADE_REQUIRED"
        case [_, "PUT", key, _, *_]:
            new = key.encode() not in store
            store[key.encode()] = " ".join(parts[3:]).encode()
            return "201 CREATED" if new else "200 OK"
        case [_, "GET", key, *_]:
            return "200 OK " + store[key.encode()].decode() if key.encode() in store else "404 NOT_FOUND"
        case [_, "DEL", key, *_]:
            return "404 NOT_FOUND" if store.pop(key.encode(), None) is None else "204 NO_CONTENT"
        case [_, "QUIT"]:
            return "200 OK bye"
    return "400 BAD_REQUEST"


@pytest.mark.full
def test_the_naive_server_keeps_the_points_it_deserves() -> None:
    with running(naive) as port:
        found = lost(port, "grammar", "commands", "versions", "errors", "QUIT")
    assert found == {
        *("get-surplus", "get-trailing-space", "del-surplus", "two-spaces-command", "two-spaces-key", "tab-command"),
        *(
            "tab-in-key",
            "tab-last",
            "no-break-space-in-key",
            "spaces-inside",
            "space-first",
            "space-last",
            "space-only",
        ),
        *("key-512-put", "key-512-get", "key-bytes", "empty-line", "empty-crlf-line", "leading-space", "tab-version"),
        *("http-1.1", "http-1.0", "http-body-unanswered", "errors-in-pipeline"),
        *("quit-before", "quit-unanswered", "quit-not-run"),
    }


# The letter of the project's own document is a correct server, and has tests of its own above.
@pytest.mark.parametrize(("profile", "form"), [("sheet", LAB), ("readme", README)])
@pytest.mark.parametrize("threads", [True, False], ids=["threads", "one client at a time"])
def test_a_server_to_the_letter_of_a_document_gets_all_of_its_points(profile: str, form: str, threads: bool) -> None:
    with running(talking(LETTER[profile]), State(form), threads=threads) as port:
        card = grade("127.0.0.1", port, Plan(profile=profile, timeout_s=0.5))
    # The sheet allows one client at a time. The other documents ask for several at once.
    missing = set() if threads or profile == "sheet" else {case.id for case in CASES if case.needs_two}
    assert {verdict.case.id for verdict in card.failures} == missing
    assert card.possible > 50


def sheet_answer(state: State, line: bytes) -> tuple[bytes, bool]:
    """What the lab sheet asks for, and no more: visible characters in one word, closed behind a refusal."""
    words = line.split(b" ")
    reply, ends = answer(state, line)
    if words[0] == b"KV/1.0" and words[1:2] == [b"PUT"]:
        visible = len(words) == 4 and all(word and all(0x21 <= byte <= 0x7E for byte in word) for word in words)
        reply, ends = (reply, ends) if visible else (b"400 BAD_REQUEST", True)
    return reply, ends or reply[:3] in (b"400", b"426")


def readme_answer(state: State, line: bytes) -> tuple[bytes, bool]:
    """What the course document asks for: values with spaces, connections that go on, its own word at the end."""
    reply, ends = answer(state, line.strip())
    return (b"200 OK Goodbye" if reply == b"200 OK bye" else reply), ends and reply == b"200 OK bye"


LETTER = {"sheet": sheet_answer, "readme": readme_answer}


def test_a_correct_submission_is_started_once(tmp_path: Path) -> None:
    serve = "from reference_server import *; import time\nwith running(talking(), port={port}): time.sleep(100)"
    command = f"PYTHONPATH={Path(__file__).parent} {sys.executable} -c '{serve}'"
    submission = Submission(ShellCommand(command, tmp_path))
    card = grade_submission(submission, Plan(only=("stats-fresh", "stats-fresh-commands", "get")))
    assert [verdict.passed for verdict in card.verdicts] == [True] * 3
    assert submission.starts == 1


def test_one_crash_costs_one_case_and_the_report_names_it(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(
        "import os, sys\n"
        "from reference_server import answer, running, talking\n"
        "def reply_to(state, line):\n"
        "    if line == b'KV/1.0' or line == b'KV/1.0 QUIT now': print('boom', file=sys.stderr), os._exit(7)\n"
        "    return answer(state, line)\n"
        "serving = running(talking(reply_to), port=int(sys.argv[1]))\n"
        "serving.__enter__()\n"
        "import time; time.sleep(100)\n"
    )
    command = f"PYTHONPATH={Path(__file__).parent} {sys.executable} {tmp_path}/server.py {{port}}"
    card = grade_submission(Submission(ShellCommand(command, tmp_path)), Plan(("grammar", "QUIT")))
    crashed = {verdict.case.id: (verdict.death, verdict.tail) for verdict in card.failures}
    assert crashed == dict.fromkeys(("no-command", "quit-surplus"), ("it ended with exit status 7", "boom\n"))
    assert "The server died and was started again, at: no-command, quit-surplus." in card.notes


def test_a_server_that_closes_first_and_dies_later_is_blamed_for_the_right_case(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(
        "import os, sys, time\n"
        "from reference_server import answer, running, talking\n"
        "def reply_to(state, line):\n"
        "    if line == b'KV/1.0': raise ValueError\n"
        "    return answer(state, line)\n"
        "def converse(sock, state):\n"
        "    try: talking(reply_to)(sock, state)\n"
        "    except ValueError: sock.close(), time.sleep(0.3), os._exit(7)\n"
        "serving = running(converse, threads=False, port=int(sys.argv[1]))\n"
        "serving.__enter__()\n"
        "time.sleep(100)\n"
    )
    command = f"PYTHONPATH={Path(__file__).parent} {sys.executable} {tmp_path}/server.py {{port}}"
    card = grade_submission(Submission(ShellCommand(command, tmp_path)), Plan(("grammar",), timeout_s=0.5))
    assert [(verdict.case.id, verdict.death) for verdict in card.failures] == [
        ("no-command", "it ended with exit status 7")
    ]


def test_a_server_that_one_case_hangs_is_started_again_for_the_others(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(
        "import sys, time\n"
        "from reference_server import answer, running, talking\n"
        "def reply_to(state, line):\n"
        "    if line == b'KV/1.0': time.sleep(100)\n"
        "    return answer(state, line)\n"
        "serving = running(talking(reply_to), threads=False, port=int(sys.argv[1]))\n"
        "serving.__enter__()\n"
        "time.sleep(100)\n"
    )
    command = f"PYTHONPATH={Path(__file__).parent} {sys.executable} {tmp_path}/server.py {{port}}"
    card = grade_submission(Submission(ShellCommand(command, tmp_path)), Plan(("grammar",), timeout_s=0.3))
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


def test_a_case_that_failed_once_by_a_busy_machine_keeps_its_points_and_the_report_says_so() -> None:
    slow: set[bytes] = set()

    def reply_to(state: State, line: bytes) -> tuple[bytes, bool]:
        reply, ends = answer(state, line)
        if line.endswith(b" old") and not slow:
            slow.add(line)  # it is stored, and its reply comes too late
            state.stopping.wait(20)
        return reply, ends

    with running(talking(reply_to)) as port:
        card = grade("127.0.0.1", port, Plan(only=("put-replace",), timeout_s=0.4))
    assert slow
    assert [(verdict.passed, verdict.flaky) for verdict in card.verdicts] == [(True, True)]
    assert card.notes == ("Failed at first and passed when run again: put-replace.",)
