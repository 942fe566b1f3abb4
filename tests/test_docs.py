"""Runs what README.md and docs/ show, in order, against a fresh server, and compares what comes out.

A ```console block has `$ command` lines, continued by `> ` lines, and their exact output; a line `...` stands for any
lines, and lines behind the prompt `KVSS> ` are typed. A ```python block followed by a ```text block is a script and
what it prints; another one shows a part of the code. ```bash blocks are not run: they need a network, an hour or a
class, or do not end. Their words are parsed, and their servers' settings checked. Port 5050 is replaced by the test
server's, and port 5060, on which an example starts a server of its own, by a free one.
"""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pexpect
import pytest
from serving import patient, serving, without_stop_line

from kvss_gevent.cli import main, whole_parser
from kvss_gevent.measure.launch import free_port
from kvss_gevent.models import MODULES

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
RUN_ELSEWHERE = {
    "loadtest.md": "test_load_docs.py",
    "lab-sheet.md": "test_course.py",
    "CONTRIBUTING.md": "test_worked_examples.py",
    "own-model.md": "test_worked_examples.py",
    "own-load-test.md": "test_worked_examples.py",
    "api.md": "test_publishing.py",
}
"""Documents full of measured numbers, whose tests know which of them may differ, and those that change code."""
FIRST_READ = ("README.md", "first-server.md", "client.md", "serve.md", "wire.md")
"""The examples of the others take long together."""
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
PROMPT = "KVSS> "
NC = """#!{python}
import socket, sys
with socket.create_connection((sys.argv[-2], int(sys.argv[-1])), 10) as server:
    server.sendall(sys.stdin.buffer.read())
    server.shutdown(socket.SHUT_WR)
    print(server.makefile().read(), end="")
"""
"""Stands in for nc, which not every machine has."""


def blocks(document: Path) -> list[tuple[str, str]]:
    """Return (kind, body) of each block of code, those in lists too."""
    return [(kind, textwrap.dedent(body)) for _, kind, body in BLOCK.findall(document.read_text())]


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


def typed(command: str, output: str, env: dict[str, str], folder: Path) -> str:
    """Run a command at a terminal, type what the output shows behind the prompt; return what came of it."""
    child = pexpect.spawn("bash", ["-c", command], env=env, cwd=folder, encoding="utf-8", timeout=50)
    seen = []
    try:
        for line in output.splitlines(keepends=True):
            if line.startswith(PROMPT):
                child.expect_exact(PROMPT)
                child.send(line.removeprefix(PROMPT).replace("\n", "\r"))
            elif line.strip():
                child.expect_exact(line.strip())
            seen.append(line)
        child.expect(pexpect.EOF)
    except (pexpect.TIMEOUT, pexpect.EOF):
        seen.append(str(child.before))
    child.close()
    return "".join(seen)


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
    for command, script in (
        ("kvss", f'#!/bin/sh\nexec {sys.executable} -m kvss_gevent "$@"\n'),
        ("python3", f'#!/bin/sh\nexec {sys.executable} "$@"\n'),  # a link to it would not find the packages
        ("nc", NC.format(python=sys.executable)),
    ):
        (tmp_path / command).write_text(script)
        (tmp_path / command).chmod(0o755)
    with serving() as server:
        port, other = str(server.port), str(free_port())
        env = {
            **os.environ,
            "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "KVSS_PORT": port,
            "COLUMNS": "80",
            "XDG_STATE_HOME": str(tmp_path),
        }
        for kind, code, output in examples(document):
            here = patient(code.replace("5050", port).replace("5060", other), other)
            here = here.replace("KVClient()", f"KVClient(port={port})")
            if PROMPT in output:
                printed = typed(here, output.replace("5050", port), env, tmp_path)
            else:
                printed = subprocess.run(
                    ["bash", "-c", here] if kind == "shell" else [sys.executable, "-c", here],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    text=True,
                    env=env,
                    cwd=tmp_path,
                    timeout=60,
                    check=False,
                ).stdout
            shown = without_stop_line(printed).replace(port, "5050").replace(other, "5060")
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


def test_every_rule_that_code_cites_is_in_the_protocol() -> None:
    written = set(re.findall(r"^\*\*(\d+b?)\. ", (ROOT / "docs" / "protocol.md").read_text(), re.MULTILINE))
    cited = {
        number
        for path in (ROOT / "kvss_gevent").rglob("*.py")
        for numbers in re.findall(r"\b[Rr]ules? ((?:\d+b?(?:, | and )?)+)", path.read_text())
        for number in re.findall(r"\d+b?", numbers)
    }
    assert {"5b", "12"} < cited
    assert sorted(cited - written) == []


PARSERS = {parser.prog: parser for parser in whole_parser().walk()}


def kvss_commands(text: str) -> Iterator[list[str]]:
    """Yield the words behind each `kvss` in code, as far as a shell takes them for one command."""
    code = [body for *_, body in BLOCK.findall(text)] + re.findall("`([^`\n]+)`", BLOCK.sub("", text))
    for line in "\n".join(code).replace("\\\n", " ").splitlines():
        for found in re.finditer(r"(?<![\w./-])(?:\.venv/bin/)?kvss ([a-z]+\b(?!: )[^|;&<>#)`'\"]*)", line):
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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_all_code_stands_between_fences(document: Path) -> None:
    """What is only indented is no example for the tests here; in a list it is text."""
    paragraphs = [*re.split(r"\n\n+", BLOCK.sub(r"\1code", document.read_text())), "end"]
    not_indented = [(number, text) for number, text in enumerate(paragraphs) if not text.startswith("    ")]
    for (number, text), (following, _) in pairwise(not_indented):
        assert following == number + 1 or re.search(r"^([-*]|\d+\.) ", text, re.MULTILINE), paragraphs[number + 1]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_list_in_a_list_is_one_on_the_site_too(document: Path) -> None:
    """GitHub takes two spaces for it, the site builder only four."""
    assert re.findall(r"^ {1,3}(?:[-*]|\d+\.) .*", BLOCK.sub("", document.read_text()), re.MULTILINE) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_that_are_not_run_are_understood(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [line for kind, body in blocks(document) if kind == "bash" for line in body.splitlines()]
    for line in lines:
        words = shlex.split(line.partition(" | ")[0], comments=True)
        if words[:1] == ["kvss"]:
            whole_parser().parse_args(words[1:])
        if words[:2] == ["kvss", "serve"]:
            assert main([*words[1:], "--check-config"]) == 0, capsys.readouterr().err


def test_code_that_is_shown_stands_in_a_file() -> None:
    source = "".join(path.read_text() for path in (ROOT / "kvss_gevent").rglob("*.py"))
    for document in DOCUMENTS:
        scripts = {code for kind, code, _ in examples(document) if kind == "python"}
        for kind, body in blocks(document):
            if kind == "python" and document.name not in RUN_ELSEWHERE and body not in scripts:
                assert body in source, f"{document.name}: {body}"


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


@pytest.mark.parametrize(("page", "words"), [("README.md", {12: "twelve other"}), ("docs/vi.md", {12: "mười hai"})])
def test_the_start_pages_count_the_models_that_there_are(page: str, words: dict[int, str]) -> None:
    assert words[len(MODULES) - 1] in (ROOT / page).read_text(encoding="utf-8")
