"""What docs/troubleshooting.md calls portable runs without the modules and names that only POSIX has."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NO_POSIX = """
import sys
import gevent.socket, subprocess, trio  # these have ways of their own for each system
for name in ("resource", "fcntl", "termios", "pwd", "grp", "syslog", "tty", "pty"):
    sys.modules[name] = None
import os, select, signal, socket
for module, names in (
    (os, ("fork", "register_at_fork", "waitstatus_to_exitcode", "getuid", "geteuid", "get_blocking", "set_blocking")),
    (os, ("sysconf", "pread", "pwrite", "pipe2", "killpg", "setsid", "wait4", "sched_getaffinity")),
    (os, ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_DIRECTORY")),
    (select, ("poll", "epoll")),
    (signal, ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGCHLD", "SIGWINCH")),
    (signal, ("setitimer", "pthread_sigmask", "pthread_kill")),
    (socket, ("AF_UNIX", "MSG_DONTWAIT", "MSG_NOSIGNAL", "SO_REUSEPORT", "TCP_INFO", "TCP_QUICKACK")),
):
    for name in names:
        delattr(module, name)

def without_proc(event, args):
    if event in ("open", "os.listdir", "os.scandir") and str(args[0]).startswith("/proc"):
        raise FileNotFoundError(2, "No such file or directory", args[0])

sys.addaudithook(without_proc)
"""
"""Makes a process, and those that it starts, like one on a system without POSIX and without /proc."""

Run = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "sitecustomize.py").write_text(NO_POSIX)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    environ["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{ROOT}"

    def started(*words: str) -> "subprocess.Popen[str]":
        command = [sys.executable, *words] if words[0] == "-c" else [sys.executable, "-m", "kvss_gevent", *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ)

    return started


@pytest.mark.server
def test_server_client_and_conform_need_nothing_that_only_posix_has(run: Run) -> None:
    with run("serve", "127.0.0.1:0", "--metrics", "0", "--slow-ms", "50") as server:
        try:
            assert server.stdout
            line = server.stdout.readline()
            assert line.startswith("kvss: listening on "), server.communicate()[1]
            address = line.split()[-1]
            with run("client", address, "PUT", "a", "1") as client:
                assert client.communicate(timeout=20) == ("201 CREATED\n", "")
            with run("conform", address) as conform:
                out, err = conform.communicate(timeout=60)
                assert (conform.returncode, err) == (0, ""), out
        finally:
            server.kill()


@pytest.mark.server
@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("demo",), "204 NO_CONTENT"),
        (("models",), "gevent-plain"),
        (("serve", "--print-config"), 'store = "memory:"'),
        (("-c", "from kvss_gevent import *; print(KVClient is not None, KVPool is not None)"), "True True"),
    ],
)
def test_what_else_needs_nothing_that_only_posix_has(words: tuple[str, ...], shown: str, run: Run) -> None:
    with run(*words) as command:
        out, err = command.communicate(timeout=50)
    assert (command.returncode, err) == (0, "")
    assert shown in out


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import fcntl", "ModuleNotFoundError"),
        ("import socket; socket.MSG_DONTWAIT", "AttributeError"),
        ("import os; os.listdir('/proc')", "FileNotFoundError"),
        ("open('/proc/self/stat')", "FileNotFoundError"),
    ],
)
def test_what_is_blocked_is_really_missing(code: str, error: str, run: Run) -> None:
    with run("-c", code) as command:
        assert error in command.communicate(timeout=20)[1]


def test_the_table_of_what_runs_where_has_every_command() -> None:
    from kvss_gevent.cli import COMMANDS

    page = (ROOT / "docs" / "troubleshooting.md").read_text().partition("## What runs where")[2]
    told = set(re.findall(r"`kvss (\w+)", page))
    assert COMMANDS.keys() - told == set()


def test_a_tap_says_what_it_needs(run: Run) -> None:
    with run("tap", "0", "127.0.0.1:5050") as tap:
        out, err = tap.communicate(timeout=20)
    assert (out, tap.returncode) == ("", 2)
    assert err == "kvss tap: it needs epoll, which this system does not have\n  Run it on Linux.\n"
