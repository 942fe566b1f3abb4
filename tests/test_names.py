"""One name for one thing: no class name twice, no module name twice but for commands and families of like files."""

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import kvss_gevent

ROOT = Path(kvss_gevent.__file__).parent
FAMILIES = ("cli", "models", "compare/experiments", "conformance/cases", "conformance/causes", "loadtest/locust_plugin")
"""Folders whose files are told apart by the folder: a command is named as the room it runs."""
SAME_JOB = {"diff.py"}
"""Compares two runs, of the load tester or of the laboratory."""


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def test_no_class_name_stands_for_two_things() -> None:
    places = defaultdict(list)
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(ROOT)))
    assert len(places) > 100
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_no_module_name_stands_for_two_jobs() -> None:
    places = defaultdict(list)
    for path in modules():
        if str(path.parent.relative_to(ROOT)) not in FAMILIES and not path.name.startswith("__"):
            places[path.name].append(str(path.relative_to(ROOT)))
    assert len(places) > 100
    assert {name: where for name, where in places.items() if len(where) > 1 and name not in SAME_JOB} == {}


def test_no_text_in_the_code_names_a_file_that_is_not_there() -> None:
    mentioned = defaultdict(list)
    for path in modules():
        for name in re.findall(r"\b[a-z_]+\.py\b", path.read_text()):
            mentioned[name].append(str(path.relative_to(ROOT)))
    there = {path.name for path in ROOT.parent.rglob("*.py") if ".venv" not in path.parts}
    assert mentioned
    assert {name: where for name, where in mentioned.items() if name not in there} == {}


@cache
def names_of(module: str) -> set[str] | None:
    """Return what can be imported from a module of this project; None where there is no such module."""
    path = ROOT.parent.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    names = {found.stem for found in path.glob("*")} if path.is_dir() else set()
    if not file.exists():
        return names or None
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                names.add(node.name)
            case ast.Import() | ast.ImportFrom():
                names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
            case ast.Name(ctx=ast.Store()):
                names.add(node.id)
            case ast.Constant(value=str()):
                names.add(node.value)  # of a package that imports what is asked for
    return names


def test_all_that_benchmarks_examples_and_tests_import_is_there() -> None:
    """Nobody else looks: the type checker sees the package alone, and not every benchmark is run by a test."""
    found = set()
    missing = []
    for folder in ("bench", "examples", "loadtest", "publishing", "tests"):
        for path in ROOT.parent.joinpath(folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in ("kvss_gevent", "bench"):
                    module = str(node.module)
                    names = names_of(module)
                    found.add(module)
                    missing += [
                        f"{path.relative_to(ROOT.parent)}: {module}.{alias.name}"
                        for alias in node.names
                        if names is None or alias.name not in names
                    ]
    assert len(found) > 100
    assert missing == []
