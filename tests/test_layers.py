"""The rooms: every folder says in its `__init__` from whom it may import, and what importing the package may load."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

MAX_MODULES = 12
FAMILIES = {"models", "compare.experiments", "conformance.cases", "cli"}
"""Folders of like files, which may have more."""

AT_HOME = {
    "gevent": {"server", "models", "measure", "cli", "stores", "loadtest", "compare", "trace", "observe", "bench"},
    "lmdb": {"stores.disk"},
    "valkey": {"stores.remote"},
    "prompt_toolkit": {"client"},
    "trio": {"models"},
    "uvloop": {"models"},
    "twisted": {"models"},
    "locust": {"loadtest", "bench"},
    "matplotlib": {"compare"},
}
"""The rooms that may import each heavy library, with the rooms inside them."""


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = sorted(
    path
    for top in ("kvss_gevent", "loadtest", "bench")
    for path in (ROOT / top).rglob("*.py")
    if "examples" not in path.parts
)
MODULES = {module_of(path): path for path in PATHS}
PACKAGES = {module for module, path in MODULES.items() if path.name == "__init__.py"}


def room_of(module: str) -> str:
    """Return the folder a module lies in, without the package's name: `stores.disk`, or `bench`."""
    package = module if module in PACKAGES else module.rpartition(".")[0]
    return "" if package == "kvss_gevent" else package.removeprefix("kvss_gevent.")


@cache
def imports(path: Path) -> set[str]:
    """Return what a file imports at any place, lazily or for types only; modules, not names in them."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                modules.add(inner if inner in MODULES else str(node.module))
    return modules


def allowed(room: str) -> set[str]:
    """Return the rooms that a folder's `__init__` names behind "May import:"."""
    path = MODULES[f"kvss_gevent.{room}" if f"kvss_gevent.{room}" in MODULES else room]
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    found = re.search(r"May import: ([^.]*(?:\.\w[^.]*)*)\.$", doc, re.MULTILINE | re.DOTALL)
    assert found, f"{path}: its docstring does not say from whom it may import"
    return set() if found[1] == "nothing" else set(re.split(r",\s+", found[1]))


def covers(rooms: set[str], room: str) -> bool:
    """Tell whether a room, or a room around it, is among some."""
    return any(room == one or room.startswith(f"{one}.") for one in rooms)


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(module)])
def test_a_module_imports_only_what_its_folder_may(module: str) -> None:
    room = room_of(module)
    # The checkout's own load tester is a user's program: it imports what a user may.
    rooms = {"loadtest"} if module.startswith("loadtest") else allowed(room)
    for imported in imports(MODULES[module]):
        top = imported.partition(".")[0]
        if top in AT_HOME:
            assert covers(AT_HOME[top], room), f"{module} imports {imported}"
        elif imported in MODULES and room_of(imported) not in (room, ""):
            assert covers(rooms, room_of(imported)), f"{module} imports {imported}"


def test_the_root_holds_nothing_but_the_names_it_makes_public() -> None:
    names = {path.name for path in (ROOT / "kvss_gevent").iterdir() if path.is_file()}
    assert names == {"__init__.py", "__main__.py", "py.typed"}


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_a_folder_can_be_taken_in_at_a_glance(package: str) -> None:
    modules = [module for module in MODULES if module.rpartition(".")[0] == package and module not in PACKAGES]
    room = room_of(package)
    assert room in FAMILIES or len(modules) <= MAX_MODULES, modules


def cycles(edges: dict[str, set[str]]) -> Iterator[list[str]]:
    """Yield the strongly connected parts of more than one node (R. Tarjan, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []

    def visit(node: str) -> Iterator[list[str]]:
        index[node] = low[node] = len(index)
        stack.append(node)
        for following in edges.get(node, ()):
            if following not in index:
                yield from visit(following)
                low[node] = min(low[node], low[following])
            elif following in stack:
                low[node] = min(low[node], index[following])
        if low[node] == index[node]:
            part = stack[stack.index(node) :]
            del stack[-len(part) :]
            if len(part) > 1:
                yield part

    for node in edges:
        if node not in index:
            yield from visit(node)


def test_no_module_imports_itself_by_way_of_others() -> None:
    edges = {module: imports(path) & MODULES.keys() - {module} for module, path in MODULES.items()}
    assert list(cycles(edges)) == []


def test_no_two_rooms_import_each_other() -> None:
    edges: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        room = room_of(module).partition(".")[0]
        if room:
            found = {room_of(imported).partition(".")[0] for imported in imports(path) if imported in MODULES}
            edges.setdefault(room, set()).update(found - {room, ""})
    assert list(cycles(edges)) == []


def run(code: str) -> str:
    # Measuring coverage would load gevent into the process that is looked at.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False).stdout


def test_importing_the_package_stays_light() -> None:
    code = "import kvss_gevent, sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = run(code).split()
    assert {"gevent", "greenlet", "prompt_toolkit", "argparse", "asyncio"}.isdisjoint(loaded)


def test_the_client_command_does_not_load_gevent() -> None:
    code = (
        "import sys; from kvss_gevent.cli import main\n"
        "try: main(['client', '--help'])\nfinally: print('gevent' in sys.modules)"
    )
    assert run(code).splitlines()[-1] == "False"


def test_a_model_without_gevent_does_not_load_it() -> None:
    modules = "kvss_gevent.cli.serve, kvss_gevent.cli.serve_model, kvss_gevent.models.select_loop"
    assert run(f"import sys; import {modules}; print('gevent' in sys.modules)") == "False\n"


def test_a_server_that_needs_no_tls_does_not_load_it() -> None:
    assert run("import sys, kvss_gevent.cli.serve, kvss_gevent.server.run; print('ssl' in sys.modules)") == "False\n"
