"""Follows the worked examples of CONTRIBUTING.md and the tutorials, step by step, in a copy of the code.

A step is one of three. "Save this as `PATH`" stands before a block with the whole file. "Change `PATH`" stands before a
```diff block, whose lines without + must be in the file as they are. A ```console block has `$ command` lines, which
run in the copy, with what they print; a line `...` stands for any lines. Port 5060 is replaced by a free one.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serving import patient, without_stop_line

from kvss_gevent.measure.launch import free_port

ROOT = Path(__file__).parent.parent
STEP = re.compile(r"(Save this as|Change)\s`([^`]+)`(?:(?!```).)*?```\w+\n(.*?)^```|```console\n(.*?)^```", re.M | re.S)
NEEDED = ("kvss_gevent", "loadtest", "tests", "pyproject.toml")


def examples() -> Iterator[tuple[str, str]]:
    """Yield names and texts: each tutorial whole, and each part of CONTRIBUTING.md that says Add."""
    for path in sorted((ROOT / "docs" / "tutorials").glob("own-*.md")):
        yield path.stem, path.read_text()
    for part in re.split(r"^### ", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.M)[1:]:
        title = part.partition("\n")[0]
        yield title, re.split(r"^## ", part, flags=re.M)[0]


EXAMPLES = dict(examples())


def changed(text: str, diff: str) -> str:
    """Return a text with the lines of a diff that begin with + added behind those before them, which must be there."""
    old = "".join(f"{line[1:]}\n" for line in diff.splitlines() if not line.startswith("+"))
    new = "".join(f"{line[1:]}\n" for line in diff.splitlines())
    assert text.count(old) == 1, f"stands {text.count(old)} times in the file:\n{old}"
    return text.replace(old, new)


def as_pattern(output: str) -> str:
    return "".join(r"(?:.*\n)*?" if line == "...\n" else re.escape(line) for line in output.splitlines(keepends=True))


def environment(copy: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{copy / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(copy),
        "COLUMNS": "80",
    }


def run(console: str, copy: Path) -> None:
    """Run the commands of a block in the copy, and compare what they print."""
    port = str(free_port())
    for part in re.split(r"^\$ ", console.replace("5060", port), flags=re.M)[1:]:
        command, _, shown = part.partition("\n")
        done = subprocess.run(
            ["bash", "-c", patient(command, port)],
            cwd=copy,
            env=environment(copy),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=200,
            check=False,
        )
        printed = without_stop_line(done.stdout)
        assert re.fullmatch(as_pattern(shown), printed), f"{command}\nshown:\n{shown}\nprinted:\n{printed}"


def test_the_examples_are_those_that_are_promised() -> None:
    assert EXAMPLES.keys() >= {
        "own-model",
        "own-load-test",
        "A model",
        "An experiment",
        "A store",
        "A conformance case",
    }


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for needed in NEEDED:
        if (ROOT / needed).is_dir():
            shutil.copytree(ROOT / needed, tmp_path / needed, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / needed, tmp_path / needed)
    (tmp_path / "bin").mkdir()
    for command, words in (("kvss", "-m kvss_gevent"), ("python", "")):
        script = tmp_path / "bin" / command
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        script.chmod(0o755)
    return tmp_path


def follow(name: str, copy: Path, run: Callable[[str, Path], object]) -> list[str]:
    """Do the steps of an example in the copy, with run for its consoles; return the paths of the files saved."""
    saved = []
    for verb, path, body, console in STEP.findall(EXAMPLES[name]):
        file = copy / path
        if verb == "Change":
            file.write_text(changed(file.read_text(), body))
        elif verb:
            assert not file.exists()
            file.write_text(body)
            saved.append(path)
        else:
            run(console, copy)
    return saved


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_fits_the_code(name: str, copy: Path) -> None:
    consoles: list[str] = []
    saved = follow(name, copy, lambda console, _: consoles.append(console))
    assert consoles
    modules = [path.removesuffix(".py").replace("/", ".") for path in saved] or ["kvss_gevent.conformance.cases"]
    code = f"import importlib; [importlib.import_module(name) for name in {modules}]"
    subprocess.run([sys.executable, "-c", code], cwd=copy, env=environment(copy), timeout=200, check=True)


@pytest.mark.full
@pytest.mark.server
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_can_be_followed(name: str, copy: Path) -> None:
    follow(name, copy, run)
