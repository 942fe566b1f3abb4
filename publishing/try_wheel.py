"""`python -m publishing.try_wheel`: installs the wheel in dist/ with each extra, on each Python here, and runs it.

Every environment is new and empty, and the commands run in an empty folder, so that nothing of the checkout helps.

Exit codes: 0 all ran, 1 a command failed, 2 usage.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from kvss_gevent.measure.launch import free_port

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12", "3.13")
INSTALL_LIMIT_S = 600
COMMAND_LIMIT_S = 120
STOP_LIMIT_S = 10

LISTENS = re.compile(r"(?:listening on|Ready to accept).*?((?:127\.0\.0\.1:\d+)?)(?:,|$)")
"""The line with which a server tells that it is ready, and most where."""

SERVERS = {
    "": (("SERVER", "kvss serve 127.0.0.1:0"), ("TAP", "kvss tap 127.0.0.1:0 SERVER")),
    "disk": (("SERVER", "kvss serve 127.0.0.1:0 --store disk:kvss.data"),),
    "cluster": (
        ("REDIS", "redis-server --port REDIS_PORT --save ''"),
        ("SERVER", "kvss serve 127.0.0.1:0 --store redis://127.0.0.1:REDIS_PORT/0"),
    ),
    "tls": (("SERVER", "kvss serve 127.0.0.1:0 --tls-cert certs/server.pem --tls-key certs/server-key.pem"),),
}
"""What runs beside the commands of an extra: a name that stands for its address, and the command."""

BEFORE = {"tls": ("tls make-dev certs",)}
SUBMISSION = 'exec kvss serve 127.0.0.1 "$1"\n'
"""The run.sh of a class of one."""

COMMANDS = {
    "": (
        "--version",
        "client SERVER PUT name John",
        "client TAP GET name",
        "conform SERVER",
        "bench SERVER --seconds 0.5 --warmup 0",
        "demo",
        "models",
        "show steady --models gevent,threads",
        "wireshark show-path",
        "completions bash",
        "top SERVER --plain --count 1",
        "grade class --out marks",
    ),
    "disk": ("client SERVER PUT name John", "conform SERVER"),
    "cluster": ("client SERVER PUT name John",),
    "load": ("load -H SERVER --headless -u 2 -r 10 -t 1s --kv-keys 100 --only-summary",),
    "lab": (
        "serve --model uvloop --check-config",
        "compare run --models gevent,threads --experiments lines --repeats 1 --out report",
    ),
    "tls": ("client --ca certs/ca.pem SERVER PUT name John",),
}
"""The `kvss` commands to run with each extra."""


def main() -> int:
    """Try every extra on every Python; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m publishing.try_wheel", description=__doc__)
    parser.add_argument("--wheel", type=Path, help="the wheel (the newest in dist/)")
    parser.add_argument(
        "--python", action="append", default=[], help="only this version, such as 3.12; may be repeated"
    )
    parser.add_argument("--extra", action="append", default=[], choices=[*COMMANDS], help="only this extra")
    args = parser.parse_args()
    wheel = args.wheel or max((ROOT / "dist").glob("*.whl"), key=lambda path: path.stat().st_mtime, default=None)
    if not wheel:
        parser.error("there is no wheel in dist/: run `make dist`")
    failed = 0
    for version in args.python or PYTHONS:
        python = find_python(version)
        if not python:
            print(f"Python {version}: not on this machine")
            continue
        for extra in args.extra or COMMANDS:
            begun = time.monotonic()
            complaint = try_extra(python, wheel.resolve(), extra)
            name = f"Python {version}, {f'extra {extra}' if extra else 'no extra'}"
            print(f"{name}: {complaint or 'works'} ({time.monotonic() - begun:.0f} s)", flush=True)
            failed += bool(complaint)
    return 1 if failed else 0


def find_python(version: str) -> str | None:
    """Return an interpreter of a version that runs, None where there is none here."""
    managed = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for path in (shutil.which(f"python{version}"), *map(str, managed.glob(f"{version}.*/bin/python"))):
        # A version manager's stub is found, but does not run.
        if path and subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
            return path
    return None


def try_extra(python: str, wheel: Path, extra: str) -> str:
    """Install the wheel with an extra and run its commands; returns what went wrong, "" for nothing."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        kvss = place / "venv" / "bin" / "kvss"
        empty = place / "empty"
        (empty / "class" / "An").mkdir(parents=True)
        (empty / "class" / "An" / "run.sh").write_text(SUBMISSION.replace("kvss", str(kvss)), encoding="utf-8")
        (empty / "class" / "grade.toml").write_text('only = ["QUIT"]\n', encoding="utf-8")
        try:
            run([python, "-m", "venv", str(place / "venv")], place, INSTALL_LIMIT_S)
            what = f"{wheel}[{extra}]" if extra else str(wheel)
            pip = [str(kvss.with_name("python")), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            run([*pip, what], place, INSTALL_LIMIT_S)
            names = {"kvss": str(kvss), "REDIS_PORT": str(free_port())}
            for words in BEFORE.get(extra, ()):
                run(filled(f"kvss {words}", names), empty)
            with ExitStack() as servers:
                for name, words in SERVERS.get(extra, SERVERS[""][:1]):
                    names[name] = servers.enter_context(serving(filled(words, names), empty))
                for words in COMMANDS[extra]:
                    run(filled(f"kvss {words}", names), empty)
        except (OSError, subprocess.SubprocessError) as error:
            said = (getattr(error, "stderr", "") or "").strip()[-2000:]
            return f"FAILED: {error}\n{said}"
    return ""


def filled(words: str, names: Mapping[str, str]) -> list[str]:
    """Return the words of a command, with names replaced by what they stand for."""
    return [re.sub(r"^kvss$|[A-Z_]+", lambda found: names.get(found[0], found[0]), word) for word in shlex.split(words)]


def run(command: list[str], folder: Path, limit_s: float = COMMAND_LIMIT_S) -> None:
    """Run a command without anything of the checkout in its environment. Raises SubprocessError."""
    subprocess.run(command, cwd=folder, env=environment(), timeout=limit_s, capture_output=True, text=True, check=True)


def environment() -> dict[str, str]:
    """Return the environment without what would let a command find the checkout or another server."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KVSS_", "COVERAGE"))}


@contextmanager
def serving(command: list[str], folder: Path) -> Iterator[str]:
    """Run a server until the block is left; yields its address, "" where it tells none. Raises SubprocessError."""
    with subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        watchdog = threading.Timer(COMMAND_LIMIT_S, server.kill)
        watchdog.start()
        try:
            assert server.stdout is not None
            said = []
            while not (ready := LISTENS.search(said[-1] if said else "")):
                said.append(server.stdout.readline().rstrip())
                if not said[-1] and server.poll() is not None:
                    raise subprocess.CalledProcessError(server.returncode, command, stderr="\n".join(said))
            yield ready[1]
        finally:
            watchdog.cancel()
            server.terminate()
            with suppress(subprocess.TimeoutExpired):
                server.communicate(timeout=STOP_LIMIT_S)
            server.kill()


if __name__ == "__main__":
    sys.exit(main())
