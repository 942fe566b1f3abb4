"""Output that never blocks an event loop: data waits in a list of limited size, and a thread writes it."""

import os
import stat
import threading
from pathlib import Path
from typing import Final

FLUSH_S: Final = 0.02
MAX_WAITING_BYTES: Final = 32 << 20


class Output:
    """Writes to a descriptor, such as a pipe whose reader may be slow.

    Data is dropped and counted while MAX_WAITING_BYTES wait. head is written first. With a path and max_bytes the
    output is a ring of two files: a file that has half of max_bytes is renamed to `NAME.old.SUFFIX`, which replaces
    the one before, and a new file begins with head.
    """

    def __init__(self, fd: int, head: bytes = b"", path: Path | None = None, max_bytes: int = 0) -> None:
        self.head = head
        self.dropped = 0
        self.failure: OSError | None = None
        self._fd, self._path, self._max_bytes = fd, path, max_bytes
        self._waiting: list[bytes] = [head] if head else []
        self._waiting_bytes = len(head)
        self._written = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(
            target=self._run, daemon=True
        )  # a reader that hangs must not keep the process alive
        self._thread.start()

    @classmethod
    def to_file(cls, path: Path, head: bytes, max_bytes: int) -> "Output":
        """Write to a new file, or to a pipe or device. Raises OSError, with ENXIO for a pipe without a reader."""
        fd = _create(path)
        # A device would be renamed, and a regular file would take its place.
        return cls(fd, head, path, max_bytes if stat.S_ISREG(os.fstat(fd).st_mode) else 0)

    def write(self, data: bytes) -> None:
        """Have data written soon. Never waits."""
        if self._waiting_bytes + len(data) > MAX_WAITING_BYTES or self.failure:
            self.dropped += 1
            return
        with self._lock:
            self._waiting.append(data)
            self._waiting_bytes += len(data)

    def close(self, limit_s: float = 5.0) -> None:
        """Write the data that waits, but stop after limit_s."""
        self._closing.set()
        self._thread.join(limit_s)

    def _run(self) -> None:
        try:
            while not self._closing.wait(FLUSH_S):
                self._write_waiting()
            self._write_waiting()
        except OSError as error:
            self.failure = error

    def _write_waiting(self) -> None:
        with self._lock:
            parts, self._waiting = self._waiting, []
        size = sum(map(len, parts))
        self._write_all(parts)
        with self._lock:
            self._waiting_bytes -= size

    def _write_all(self, parts: list[bytes]) -> None:
        group: list[bytes] = []
        size = 0
        for part in parts:
            if self._max_bytes and self._written + size + len(part) > self._max_bytes // 2:
                self._put(group)
                group, size = [], 0
                self._begin_new_file()
            group.append(part)
            size += len(part)
        self._put(group)

    def _put(self, parts: list[bytes]) -> None:
        view = memoryview(b"".join(parts))
        self._written += len(view)
        while view:
            view = view[os.write(self._fd, view) :]

    def _begin_new_file(self) -> None:
        assert self._path is not None
        os.close(self._fd)
        self._path.replace(older(self._path))
        self._fd = _create(self._path)
        self._written = 0
        self._put([self.head])


def older(path: Path) -> Path:
    """Return the name of the ring's other file."""
    return path.with_suffix(f".old{path.suffix}")


def _create(path: Path) -> int:
    # Without O_NONBLOCK, opening a pipe waits for its reader; with it, ENXIO tells that there is none.
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK, 0o600)
    os.set_blocking(fd, True)
    return fd
