"""Tells a service manager the state of the server, by the protocol of sd_notify(3): one datagram a message."""

import os
import socket
import time
from typing import Final

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"


def notify(*states: str) -> None:
    """Send states such as READY=1 to NOTIFY_SOCKET, if there is one."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto("\n".join(states).encode(), path.replace("@", "\0", 1) if path[0] == "@" else path)
    except OSError:
        pass  # the manager has gone or takes no more messages: serving does not depend on it


def notify_reloading() -> None:
    """Tell that the settings are being read again; READY must follow."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
