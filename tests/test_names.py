"""One name for one thing: no class name twice, no module name twice but for commands and families of like files."""

import ast
import re
from collections import defaultdict
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
