"""Runs what README.md and docs/ show, in order, against a fresh server, and compares what comes out.

A ```console block has `$ command` lines, continued by `> ` lines, and their exact output; a line `...` stands for any
lines. A ```python block followed by a ```text block is a script and what it prints. ```bash blocks are not run: they
need a network, an hour or a class; their make targets and commands are checked to exist. Port 5050 is replaced by the
test server's.
"""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import serving, without_stop_line

from kvss_gevent.cli import whole_parser

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
RUN_ELSEWHERE = {
    "loadtest.md": "test_load_docs.py",
    "lab-sheet.md": "test_course.py",
    "CONTRIBUTING.md": "test_worked_examples.py",
    "own-model.md": "test_worked_examples.py",
    "own-load-test.md": "test_worked_examples.py",
}
"""Documents full of measured numbers, whose tests know which of them may differ, and those that change code."""
FIRST_READ = ("README.md", "first-server.md", "client.md", "serve.md", "wire.md")
"""The examples of the others take long together."""
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(document: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(document.read_text())


def examples(document: Path) -> list[tuple[str, str, str]]:
    """Return (shell or python, code, output) in the order of the document."""
    if document.name in RUN_ELSEWHERE:
        assert (ROOT / "tests" / RUN_ELSEWHERE[document.name]).exists()
        return []
    found = []
    last_python = None
    for kind, body in blocks(document):
        if kind == "console":
            for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                lines = part.splitlines(keepends=True)
                end = next((n for n, line in enumerate(lines[1:], 1) if not line.startswith("> ")), len(lines))
                command = lines[0] + "".join(line[2:] for line in lines[1:end])
                found.append(("shell", command, "".join(lines[end:])))
        elif kind == "text" and last_python is not None:
            found.append(("python", last_python, body))
        last_python = body if kind == "python" else None
    return found


def as_pattern(output: str) -> str:
    return "".join(r"(?:.*\n)*?" if line == "...\n" else re.escape(line) for line in output.splitlines(keepends=True))


def test_there_are_examples() -> None:
    assert {document.name for document in DOCUMENTS if examples(document)} >= {"README.md", "client.md", "conform.md"}


@pytest.mark.server
@pytest.mark.parametrize(
    "document",
    [
        pytest.param(one, marks=[] if one.name in FIRST_READ else [pytest.mark.full], id=one.name)
        for one in DOCUMENTS
        if examples(one)
    ],
)
def test_examples_do_what_the_document_shows(document: Path, tmp_path: Path) -> None:
    kvss = tmp_path / "kvss"
    kvss.write_text(f'#!/bin/sh\nexec {sys.executable} -m kvss_gevent "$@"\n')
    kvss.chmod(0o755)
    (tmp_path / "python3").symlink_to(sys.executable)
    with serving() as server:
        port = str(server.port)
        env = {
            **os.environ,
            "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "KVSS_PORT": port,
            "COLUMNS": "80",
        }
        for kind, code, output in examples(document):
            command = ["bash", "-c", code] if kind == "shell" else [sys.executable, "-c", code]
            done = subprocess.run(
                [word.replace("5050", port).replace("KVClient()", f"KVClient(port={port})") for word in command],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
                env=env,
                cwd=tmp_path,
                timeout=60,
                check=False,
            )
            shown = without_stop_line(done.stdout).replace(port, "5050")
            assert re.fullmatch(as_pattern(output), shown), (
                f"{code}\nshown in the document:\n{output}\nprinted:\n{shown}"
            )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_make_targets_and_links_exist(document: Path) -> None:
    text = document.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = "".join(body for _, body in blocks(document)) + "\n".join(re.findall(r"`(make [a-z-]+)", text))
    for target in re.findall(r"(?:^|\n)make ([a-z-]+)", code):
        assert target in targets, f"make {target}"
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (document.parent / link).exists(), link


PARSERS = {parser.prog: parser for parser in whole_parser().walk()}


def kvss_commands(text: str) -> Iterator[list[str]]:
    """Yield the words behind each `kvss` in code, as far as a shell takes them for one command."""
    code = [body for _, body in BLOCK.findall(text)] + re.findall("`([^`\n]+)`", BLOCK.sub("", text))
    code += re.findall(r"^    (.+)$", BLOCK.sub("", text), re.MULTILINE)
    for line in "\n".join(code).replace("\\\n", " ").splitlines():
        for found in re.finditer(r"(?<![\w./-])(?:\.venv/bin/)?kvss ([a-z]+\b[^|;&<>#)`'\"]*)", line):
            yield found[1].partition(" -- ")[0].split()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_and_flag_of_kvss_exists(document: Path) -> None:
    for name, *words in kvss_commands(document.read_text()):
        if name == "help":
            continue
        assert f"kvss {name}" in PARSERS, f"kvss {name}"
        parser = PARSERS[f"kvss {name}"]
        if words and words[0] in parser.subcommands():
            parser = parser.subcommands()[words.pop(0)]
        flags = [word.partition("=")[0].rstrip(",.") for word in words if re.match(r"--?[a-z]", word)]
        if name == "load" and not parser.prog.endswith(("search", "diff", "truth")):  # other options are Locust's
            parser = PARSERS["kvss load run"]
            flags = [flag for flag in flags if flag.startswith("--kv-")]
        known = {*parser._option_string_actions, "-vv"}
        assert [flag for flag in flags if flag not in known] == [], f"kvss {name} {' '.join(words)}"


def test_every_module_that_a_document_runs_exists() -> None:
    for document in DOCUMENTS:
        for module in re.findall(r"python3? -m ((?:bench|publishing|tests|kvss_gevent)[\w.]*)", document.read_text()):
            assert importlib.util.find_spec(module), f"{document.name}: {module}"


def test_make_alone_lists_the_targets_and_pass_through_reaches_the_server() -> None:
    listed = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.search(r"^serve +run the server", listed, re.MULTILINE)
    dry = subprocess.run(
        ["make", "-n", "serve", "HOST=::1", "PORT=6000", "ARGS=-v"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "-m kvss_gevent serve ::1 6000 -v" in dry
