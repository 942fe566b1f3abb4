"""Planted bugs in C, Java and JavaScript: the checker names them as it does in Python."""

import shutil
import subprocess
from pathlib import Path

import pytest

from kvss_gevent.conformance.case_plan import Plan
from kvss_gevent.conformance.process.shell_command import ShellCommand
from kvss_gevent.conformance.process.submission import Submission
from kvss_gevent.conformance.report import as_text
from kvss_gevent.conformance.running.runner import grade_submission

FOLDER = Path(__file__).parent / "planted" / "languages"
SERVERS = {
    "gcc": "./server {port}",
    "java": "java -XX:TieredStopAtLevel=1 -cp . Server {port}",
    "node": "node server.js {port}",
}
BUGS = {
    "gcc": ("none", "keys-cut", "replies-padded", "reply-buffer-shared"),
    "java": ("none", "check-then-put", "exception-ends-connection", "del-always-204"),
    "node": ("none", "recv-is-request", "utf8-per-recv", "value-not-replaced"),
}
BUILD = {
    "gcc": "gcc -O1 -Wall -Wextra -Werror -pthread server.c -o server",
    "java": "javac -J-XX:TieredStopAtLevel=1 Server.java",
    "node": "true",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("languages")
    for tool, command in BUILD.items():
        if shutil.which(tool):
            shutil.copytree(FOLDER, place, dirs_exist_ok=True)
            subprocess.run(command, shell=True, cwd=place, check=True, timeout=150)
    return place


@pytest.mark.full
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("tool", "bug"), [(tool, bug) for tool, bugs in BUGS.items() for bug in bugs])
def test_a_bug_in_another_language_is_caught_and_named(built: Path, tool: str, bug: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    submission = Submission(ShellCommand(f"{SERVERS[tool]} {bug}", built))
    card = grade_submission(submission, Plan(profile="readme"))
    assert [finding.name for finding in card.causes] == ([] if bug == "none" else [bug]), as_text(card)
    assert (card.points == card.possible) == (bug == "none"), as_text(card)
