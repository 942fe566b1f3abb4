"""Captures of what the kernel sends on the loopback interface: a server of one's own, a client's scene, and dumpcap."""

import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kvss_gevent.protocol.wire import DEFAULT_PORT
from kvss_gevent.settings.fail import Exit, Fail
from kvss_gevent.wire_tools.scenes import SCENES

START_LIMIT_S: Final = 20.0
SETTLE_S: Final = 0.5
"""Packets reach dumpcap's file that much after they were sent, at most."""


def capture(folder: Path, names: Sequence[str] = ()) -> Iterator[Path]:
    """Run each scene and capture it; yield the names of the files. Raises Fail."""
    for name in names:
        if name not in SCENES:
            raise Fail(f"there is no scene {name!r}", f"Give some of {', '.join(SCENES)}.")
    dumpcap = shutil.which("dumpcap")
    if dumpcap is None:
        raise Fail("dumpcap is not installed", "It comes with Wireshark; on Debian and Ubuntu install tshark.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Fail(f"cannot make {folder}: {error.strerror}", "Give another folder.") from None
    with _server() as port:
        for name in names or SCENES:
            path = folder / f"{name}.pcapng"
            with _captured(dumpcap, path, port):
                SCENES[name](port)
            yield path


@contextmanager
def _server() -> Iterator[int]:
    """Run a server on the protocol's port, or on another where that is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port = DEFAULT_PORT
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            port = 0
    process = subprocess.Popen(
        [sys.executable, "-m", "kvss_gevent", "serve", "--lab", "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        found = re.search(r":(\d+)$", line.strip())
        if not found:
            raise Fail("the server for the captures did not start", "Try `kvss serve --lab`.", Exit.FAILED)
        yield int(found[1])
    finally:
        process.terminate()
        process.communicate(timeout=START_LIMIT_S)


@contextmanager
def _captured(dumpcap: str, path: Path, port: int) -> Iterator[None]:
    """Capture a port and the one above it into a new file for as long as a `with` lasts."""
    rule = f"tcp portrange {port}-{port + 1}"
    process = subprocess.Popen(
        [dumpcap, "-q", "-i", "lo", "-f", rule, "-a", f"duration:{START_LIMIT_S:.0f}", "-w", str(path)],
        stderr=subprocess.PIPE,
        text=True,
    )
    said: list[str] = []
    for line in process.stderr or ():
        said.append(line.strip())
        if line.startswith("File:"):
            break
    else:
        process.communicate()
        raise Fail(
            f"dumpcap cannot capture: {next((line for line in said if line), 'no reason given')}",
            "Run it as root, or as a member of the group wireshark (dpkg-reconfigure wireshark-common).",
            Exit.FAILED,
        )
    try:
        time.sleep(SETTLE_S)
        yield
        time.sleep(SETTLE_S)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=START_LIMIT_S)
