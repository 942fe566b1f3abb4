"""`kvss grade`: which submissions are run and how, what a class becomes as pages and files, and what it survives."""

import csv
import io
import json
import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as xml

import pytest
from class_folder import RIGHT, SCRIPT, SEQUENTIAL, WRONG, write, write_rogues
from reference_server import State, answer, running, talking

from kvss_gevent.cli import main
from kvss_gevent.conformance.case_plan import Plan
from kvss_gevent.conformance.process.submission import Submission
from kvss_gevent.conformance.running.probe import Unreachable
from kvss_gevent.conformance.running.runner import grade
from kvss_gevent.conformance.score import Scorecard
from kvss_gevent.grading import grader
from kvss_gevent.grading.class_page import class_page
from kvss_gevent.grading.feedback_page import feedback_page
from kvss_gevent.grading.folder import ClassSettings, Recipe, recipe
from kvss_gevent.grading.mark_files import gradescope, harmless, junit, marks
from kvss_gevent.grading.outcome import Outcome, OutcomeKind

EVIL = ["An", "Đặng Thị Bình", "=cmd|' calc'!A0", "<script>alert(1)</script x>".replace("/", "\u2215"), "two  words\n"]


def rude(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    return (b"404 <b>\x1b[2J" if reply == b"404 NOT_FOUND" else reply), ends


@pytest.fixture(scope="module")
def card() -> Scorecard:
    with running(talking(rude)) as port:
        return grade("127.0.0.1", port, Plan(("errors", "QUIT")))


@pytest.fixture
def outcomes(card: Scorecard) -> list[Outcome]:
    graded = [Outcome(name, OutcomeKind.GRADED, 1.0, card.possible, card=card) for name in EVIL]
    return [
        *graded,
        Outcome("late", OutcomeKind.NOT_BUILT, 2.0, card.possible, "it ended with exit status 1", "no\x07 <b>"),
    ]


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@x", "\t=1"])
def test_no_cell_of_the_marks_is_a_formula(cell: str, outcomes: list[Outcome]) -> None:
    assert harmless(cell) == f"'{cell}"
    rows = list(csv.DictReader(io.StringIO(marks(outcomes).decode("utf-8-sig"))))
    assert [row["name"] for row in rows[:3]] == ["An", "Đặng Thị Bình", "'=cmd|' calc'!A0"]
    assert not any(value.startswith(("=", "+", "-", "@")) for row in rows for value in row.values())
    assert rows[-1]["verdict"] == "did not build: it ended with exit status 1"
    assert (rows[0]["points"], rows[-1]["points"]) == ("15", "0")


def test_names_and_bytes_are_text_on_every_page(outcomes: list[Outcome]) -> None:
    for html in (class_page("<i>", outcomes), *map(feedback_page, outcomes)):
        body = html.partition("<body>")[2].partition("</main>")[0]
        assert not any(tag in body for tag in ("<script", "<b>", "<i>", "\x1b", "\x07"))
    assert 'href="feedback/%C4%90%E1%BA%B7ng%20Th%E1%BB%8B%20B%C3%ACnh.html"' in class_page("x", outcomes)
    assert r"two  words\n" in class_page("x", outcomes)


def test_a_student_s_page_leads_with_the_cause_and_shows_the_bytes(card: Scorecard) -> None:
    html = feedback_page(Outcome("An", OutcomeKind.GRADED, 1.0, card.possible, card=card))
    assert card.causes
    assert html.index(card.causes[0].sentence) < html.index("<h2>Failed cases")
    assert "KV/1.0 GET conform-" in html.partition("<h2>Failed cases")[2]
    assert "404 &lt;b&gt;" in html
    flaky = replace(card.failures[0], passed=True, tries=2)
    again = replace(card, verdicts=tuple(flaky if v is card.failures[0] else v for v in card.verdicts))
    outcome = Outcome("An", OutcomeKind.GRADED, 1.0, card.possible, card=again)
    assert "They passed when they were run again" in feedback_page(outcome)
    assert outcome.points == card.points + flaky.case.points


@pytest.mark.parametrize(("deaths", "said"), [(3, "crashed at {}, {}, {}"), (5, "crashed at {}, {}, {} and 2 more")])
def test_a_verdict_names_the_first_cases_at_which_a_server_died(card: Scorecard, deaths: int, said: str) -> None:
    died = tuple(replace(verdict, death="signal 9") for verdict in card.verdicts[:deaths])
    outcome = Outcome("An", OutcomeKind.CRASHED, 1.0, card.possible, card=replace(card, verdicts=died))
    assert outcome.said == said.format(*(verdict.case.id for verdict in died))


def test_a_deterministic_server_gets_the_same_marks_each_time_also_three_at_once() -> None:
    def grade_once(port: int) -> tuple[int, int, tuple[str, ...]]:
        found = grade("127.0.0.1", port, Plan(("errors", "QUIT")))
        return found.points, found.possible, tuple(verdict.case.id for verdict in found.failures)

    with running(talking(rude)) as port, ThreadPoolExecutor(3) as pool:
        marks_given = set(pool.map(grade_once, [port] * 3))
    assert marks_given == {(15, 17, ("phrase-spelling",))}


def test_the_class_view_counts_a_case_once_for_each_submission(outcomes: list[Outcome]) -> None:
    html = class_page("x", outcomes).partition("Cases that fail most")[2]
    assert f'data-number="{len(EVIL)}"' in html


def test_gradescope_and_junit_have_sums_that_agree(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        result = json.loads(gradescope(outcome))
        assert result["score"] == sum(test["score"] for test in result["tests"]) == outcome.points
        assert {test["status"] for test in result["tests"]} <= {"passed", "failed"}
        root = xml.fromstring(junit(outcome))
        assert root.get("skipped") is None
        assert root.get("tests") == str(len(list(root.iter("testcase"))))
    assert xml.fromstring(junit(outcomes[-1])).get("errors") == "1"
    assert "no\\x07 <b>" in json.loads(gradescope(outcomes[-1]))["output"]


@pytest.fixture
def class_of_five(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, card: Scorecard) -> Path:
    """A class that is graded without any server: by its place in the alphabet."""
    for name in EVIL:
        write(tmp_path / "class" / name, {"run.sh": "exit", "data": name})
    calls: list[Submission] = []

    def judge(submission: Submission, plan: Plan) -> Scorecard:
        calls.append(submission)
        if len(calls) == 2:
            raise Unreachable("it ended with exit status 1", "boom")
        return card

    monkeypatch.setattr(grader, "grade_submission", judge)
    return tmp_path / "class"


def test_a_class_gives_pages_and_files_and_is_left_as_it_was(
    class_of_five: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in class_of_five.rglob("*"))
    assert main(["grade", str(class_of_five), "--out", str(tmp_path / "out")]) == 0
    assert sorted((path, path.stat().st_mtime_ns) for path in class_of_five.rglob("*")) == before
    out, err = capsys.readouterr()
    assert err.splitlines()[0].startswith("[1/5] <script>")
    assert len(err.splitlines()) == 5
    assert out.count("graded") == 4
    assert out.count("did not start: it ended with exit status 1") == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"index.html", "marks.csv", "feedback", *EVIL}
    assert {path.name for path in (tmp_path / "out" / "feedback").iterdir()} == {f"{name}.html" for name in EVIL}
    assert {path.name for path in (tmp_path / "out" / "An").iterdir()} == {"results.json", "junit.xml"}


def test_submissions_that_are_graded_at_once_are_told_in_the_order_of_the_class(class_of_five: Path) -> None:
    told: list[str] = []

    def tell(outcome: Outcome) -> None:
        told.append(outcome.name)
        time.sleep(0.2)  # all others are graded meanwhile

    sources = sorted(class_of_five.iterdir())
    grader.grade_class(sources, ClassSettings(), 1, tell)
    assert told == [source.name for source in sources]


def test_links_that_lead_nowhere_and_files_beside_the_folders_are_told(
    class_of_five: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (class_of_five / "nowhere").symlink_to("gone")
    (class_of_five / "loop").symlink_to("loop")
    (class_of_five / "Chi.zip").write_text("")
    assert main(["grade", str(class_of_five), "--out", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert out.count("refused: it is a link that leads nowhere") == 2
    assert err.splitlines()[0] == "kvss grade: not graded, because they are no folders: Chi.zip"


def test_an_interrupt_writes_what_there_is(
    class_of_five: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_outcome: Outcome) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("kvss_gevent.cli.grade._line", interrupt)
    assert main(["grade", str(class_of_five), "--out", str(tmp_path / "out")]) == 130
    out, err = capsys.readouterr()
    assert "graded" in out
    assert "kvss grade: interrupted\n" in err
    assert "graded" in (tmp_path / "out" / "marks.csv").read_text("utf-8-sig")


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["nowhere", "--out", "out"], "cannot read nowhere: no such file or directory"),
        ([".", "--out", "out"], "there is no submission in ."),
        ([".", "--out", "out", "--jobs", "0"], "'0' is not a whole number from 1 to 64"),
        ([".", "--out", "out", "--budget", "0"], "'0' is not a number of seconds"),
        (["."], "required: --out"),
        (["class", "--out", "class"], "--out class lies among the files of the submissions"),
        (["class", "--out", "class/An/marks"], "--out class/An/marks lies among the files of the submissions"),
        (["class", "--out", "taken"], "cannot write taken: "),
    ],
)
def test_usage_errors_are_one_clear_line(
    arguments: list[str],
    cause: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if arguments[0] == "class":
        write(tmp_path / "class" / "An", {})
        (tmp_path / "taken").write_text("a file")
    assert main(["grade", *arguments]) == 2
    assert cause in capsys.readouterr().err


@pytest.mark.server
def test_a_submission_is_built_started_graded_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(grader, "Plan", lambda **more: Plan(**{**more, "only": ("put-new",)}))
    source = write(tmp_path / "class" / "An", {"build.sh": "mv code server.py", "run.sh": SCRIPT, "server.py": RIGHT})
    (source / "server.py").rename(source / "code")
    assert main(["grade", str(tmp_path / "class"), "--out", str(tmp_path / "out")]) == 0
    assert "100.0 %  graded" in capsys.readouterr().out
    assert {path.name for path in source.iterdir()} == {"build.sh", "code", "run.sh"}


def test_a_submission_on_which_the_checker_itself_fails_costs_the_others_nothing(
    class_of_five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(work: Path, settings: ClassSettings) -> Recipe:
        if (work / "data").read_text() == "An":
            raise RuntimeError("a mistake")
        return recipe(work, settings)

    monkeypatch.setattr(grader, "recipe", broken)
    (class_of_five / EVIL[1] / ".tmp").write_text("a file, where a folder could be")
    assert main(["grade", str(class_of_five), "--out", str(tmp_path / "out")]) == 0
    rows = {
        row["name"]: row for row in csv.DictReader(io.StringIO((tmp_path / "out/marks.csv").read_text("utf-8-sig")))
    }
    assert rows["An"]["verdict"].startswith("refused: the checker failed on it: RuntimeError('a mistake'). ")
    assert "grade it alone with `kvss conform --command`" in rows["An"]["verdict"]
    assert rows[EVIL[1]]["verdict"] == "graded"
    assert len(rows) == len(EVIL)


@pytest.mark.full
@pytest.mark.timeout(300)
def test_hostile_submissions_are_graded_to_the_end_and_nothing_is_left_running(tmp_path: Path) -> None:
    mark = 1_000_000 + os.getpid()
    names = write_rogues(tmp_path / "class", mark)
    for name, body in (("right", RIGHT), ("wrong", WRONG), ("one at a time", SEQUENTIAL)):
        write(tmp_path / "class" / name, {"run.sh": SCRIPT, "server.py": body})
    out = tmp_path / "out"
    limits = ["--budget", "20", "--build-budget", "3", "--jobs", "2"]
    assert main(["grade", str(tmp_path / "class"), "--out", str(out), *limits]) == 0
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO((out / "marks.csv").read_text("utf-8-sig")))}
    assert rows.keys() == {*names, "right", "wrong", "one at a time"}
    verdicts = {name: row["verdict"] for name, row in rows.items()}
    assert {name for name, said in verdicts.items() if said.startswith("did not build")} == {
        "hang in build",
        "no build",
    }
    assert {name for name, said in verdicts.items() if said == "graded"} == {
        "daemon",
        "right",
        "wrong",
        "one at a time",
    }
    assert verdicts["crash"] == "crashed at no-command"
    assert "it listens on port" in verdicts["listen elsewhere"]
    assert (rows["right"]["percent"], rows["daemon"]["percent"]) == ("100.0", "100.0")
    running_now = subprocess.run(["ps", "-eo", "args"], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert str(mark) not in running_now
    shutil.rmtree(out)
