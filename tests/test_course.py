"""The course's pages: every command of the lab sheet runs and prints what the sheet shows, numbers aside."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from load_runs import ROOT
from serving import patient, without_stop_line

from kvss_gevent.measure.launch import free_port

COURSE = ROOT / "docs" / "course"
SHEET = (COURSE / "lab-sheet.md").read_text()
BLOCKS = re.findall(r"```console\n\$ (.+)\n((?:.*\n)*?)```", SHEET)


def test_every_exercise_has_its_steps_a_scene_and_a_command() -> None:
    exercises = re.split(r"^## \d+\. ", SHEET, flags=re.MULTILINE)[1:]
    assert len(exercises) == 7
    for exercise in exercises[:-1]:
        assert exercise.count("```console") == 1
        for step in ("*Look first:* `kvss show ", "*Predict:*", "*Look for:*", "*Explain:*"):
            assert step in exercise
    minutes = [int(number) for number in re.findall(r"^## .*\((\d+) minutes", SHEET, re.MULTILINE)]
    assert sum(minutes) == 120


@pytest.mark.full
@pytest.mark.server
@pytest.mark.parametrize(("command", "output"), BLOCKS, ids=[str(number) for number in range(1, len(BLOCKS) + 1)])
def test_a_command_of_the_lab_sheet_prints_what_the_sheet_shows(command: str, output: str, tmp_path: Path) -> None:
    kvss = tmp_path / "kvss"
    kvss.write_text(f'#!/bin/sh\nexec {sys.executable} -m kvss_gevent "$@"\n')
    kvss.chmod(0o755)
    port = str(free_port())
    quick = re.sub(r"--repeats \d", "--repeats 2", command.replace("5055", port))
    done = subprocess.run(
        ["bash", "-c", patient(quick, port)],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    shown, printed = output.splitlines(), without_stop_line(done.stdout).splitlines()
    if "kvss bench" in command:
        assert [line.split()[0] for line in printed] == [line.split()[0] for line in shown]
        assert printed[-1].startswith("starved       9 connections")
        return
    assert done.returncode == 0, done.stderr
    # Which model comes first depends on the machine; the heading, the page's place and that there are sentences do not.
    assert printed[0] == shown[0]
    assert printed[-1] == shown[-1]
    outside = [line for line in printed[1:-1] if not line.startswith("   ")]
    assert outside in (["No result is in doubt."], ["Do not trust these results"])
    assert len(printed) > 2
    page = tmp_path / printed[-1]
    assert page.exists()
    if "--experiments burn" in command:
        assert 'href="scenes/burn.html"' in page.read_text()
        assert (page.parent / "scenes" / "burn.html").exists()


def test_the_template_links_figures_that_a_report_has() -> None:
    figures = re.findall(r"\]\(\.\./sample-report/([\w-]+)\.png\)", (COURSE / "report-template.md").read_text())
    assert sorted(figures) == ["burn-max", "connections-rate-per", "cost-cpu", "cost-ratio", "idle-each", "rate-p99"]
