"""Finds the line of a model's code at which a request waits. It is searched in the source, so it is always right."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

AROUND = 5


@dataclass(frozen=True, slots=True)
class CodeLine:
    """One line of the package's source. excerpt: the lines around it, from the line with the number `first` on."""

    file: str
    number: int
    text: str
    excerpt: str
    first: int


WAITS: Final[Mapping[str, tuple[str, str]]] = {
    "sequential": ("models/sequential.py", "converse(sock, service)"),
    "threads": ("models/threads.py", "with lock:"),
    "pool": ("models/pool.py", "converse_locked(sock, service, lock)"),
    "fork": ("models/fork.py", "children.start(talk)"),
    "prefork": ("models/prefork.py", "converse(sock, service)"),
    "select": ("models/select_loop.py", "selector.select()"),
    "asyncio": ("models/asyncio_streams.py", "await reader.read("),
    "protocol": ("models/asyncio_protocol.py", "def data_received"),
    "uvloop": ("models/asyncio_protocol.py", "def data_received"),
    "twisted": ("models/twisted_reactor.py", "def dataReceived"),
    "trio": ("models/trio_tasks.py", "await stream.receive_some("),
    "gevent-plain": ("models/gevent_plain.py", "sock.recv("),
    "gevent": ("server/connection_loop.py", "recv(room)"),
}
"""The file of each model, and a text in the line at which a request waits before it is handled."""


def line_of(model: str) -> CodeLine:
    """Return the line at which a model's requests wait. Raises LookupError if the source has no such line."""
    file, words = WAITS[model]
    lines = files("kvss_gevent").joinpath(file).read_text(encoding="utf-8").splitlines()
    number = next((number for number, line in enumerate(lines, 1) if words in line), 0)
    if not number:
        raise LookupError(f"{file} has no line with {words!r}")
    first = max(number - AROUND, 1)
    excerpt = "\n".join(lines[first - 1 : number + AROUND])
    return CodeLine(f"kvss_gevent/{file}", number, lines[number - 1].strip(), excerpt, first)
