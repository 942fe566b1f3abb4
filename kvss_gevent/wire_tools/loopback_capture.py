"""Captures packets of the loopback interface with dumpcap, while a client plays a scene against a new server."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kvss_gevent.measure.launch import LaunchError, kvss, launched
from kvss_gevent.protocol.wire import DEFAULT_PORT
from kvss_gevent.settings.fail import Exit, Fail
from kvss_gevent.wire_tools.capture_scenes import SCENES

CAPTURE_LIMIT_S: Final = 20.0
SETTLE_S: Final = 0.5
"""dumpcap's file has a packet at most so long after it was sent."""


def capture(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Run and capture each scene; yield the paths of the files. Raises Fail."""
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
    try:
        with launched(kvss("--lab", port=_port())) as server:
            for name in names or SCENES:
                path = folder / f"{name}.pcapng"
                with _captured(dumpcap, path, server.port):
                    SCENES[name](server.port)
                yield path
    except LaunchError as error:
        raise Fail(
            f"the server for the captures did not start: {error}", "Try `kvss serve --lab`.", Exit.FAILED
        ) from None


def _port() -> int:
    """Return the protocol's port, or 0 (any free port) if it is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", DEFAULT_PORT))
        except OSError:
            return 0
    return DEFAULT_PORT


@contextmanager
def _captured(dumpcap: str, path: Path, port: int) -> Iterator[None]:
    """Capture a port and the port above it into a new file until the block ends."""
    rule = f"tcp portrange {port}-{port + 1}"
    process = subprocess.Popen(
        [dumpcap, "-q", "-i", "lo", "-f", rule, "-a", f"duration:{CAPTURE_LIMIT_S:.0f}", "-w", str(path)],
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
        process.communicate(timeout=CAPTURE_LIMIT_S)
