"""The rooms of docs/design.md: who may import whom, and what importing the package may load."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "kvss_gevent"

CLUSTER = {
    "stores.link",
    "stores.work",
    "stores.runtime",
    "stores.topology",
    "stores.node",
    "stores.flight",
    "stores.cluster",
    "stores.cluster_url",
}

ROWS = [
    {"wire", "config", "stores.base"},
    {
        "service",
        "board",
        "client_connection",
        "client",
        "conformance",
        "stats",
        "errors",
        "load",
        "lab",
        "counters",
        *CLUSTER,
    }
    | {f"stores.{name}" for name in ("memory", "lines", "records", "diskfile", "checkpoint", "disk", "open")},
    {"session", "coalesce", "parking", "green"},
    {"connection"},
    {"server", "workers", "models", "bench"},
    {"repl", "demo", "line_editor"},
    {"cli"},
]
"""From the ground up; a module imports from its own row or below. A package stands for its modules."""

AT_HOME = {
    "gevent": {"connection", "server", "coalesce", "parking", "green", "models.gevent_plain", "bench", "cli"},
    "greenlet": {"server", "coalesce", "parking", "green", "bench"},
    "lmdb": {"stores.disk", "stores.records", "stores.diskfile", "stores.checkpoint"},
    "valkey": CLUSTER | {"green"},
    "prompt_toolkit": {"repl", "line_editor"},
    "trio": {"models.trio_tasks"},
    "uvloop": {"models.uvloop_protocol"},
}
"""The rooms that may import each heavy library."""


def room(module: str) -> str:
    """Return the name under which a module stands in ROWS."""
    name = module.removeprefix("kvss_gevent.")
    return name if name.startswith(("stores.", "models.")) else name.partition(".")[0]


def row(name: str) -> int:
    found = [number for number, rooms in enumerate(ROWS) if name in rooms or name.partition(".")[0] in rooms]
    assert found, f"{name} has no row: add it to ROWS and to docs/design.md"
    return found[0]


def imports(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            modules.add(node.module or "")
    return modules


MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name not in ("__init__.py", "__main__.py") or path.parent.name in ("cli", "conformance", "models")
}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_its_row_or_below(module: str) -> None:
    name = room(module)
    for imported in imports(MODULES[module]):
        top = imported.partition(".")[0]
        if top in AT_HOME:
            assert name in AT_HOME[top], f"{module} imports {imported}"
        elif imported.startswith("kvss_gevent."):
            assert row(room(imported)) <= row(name), f"{module} imports {imported}"


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
    code = (
        "import sys; import kvss_gevent.cli.serve_model, kvss_gevent.models.select_loop; print('gevent' in sys.modules)"
    )
    assert run(code) == "False\n"
