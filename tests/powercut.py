"""Cuts the power of a file: rebuilds it from what a server had synced and a random part of what it had not.

A library preloaded into the server (powercut.c) keeps a journal of all writes to the file and of the syncs. After the
server was killed, the file as a disk might hold it is put in the place of the one that the page cache holds.
"""

import random
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

Seen = TypeVar("Seen")

SECTOR_BYTES = 512
"""What a disk writes whole or not at all."""

_HEAD = struct.Struct("=cqq")


class Layer:
    """The journal of one file, in a directory of its own choice. Needs gcc."""

    def __init__(self, directory: Path, path: Path) -> None:
        self.path = path
        self.unsynced_sectors = 0
        """Sectors that were written and not synced, in all cuts so far."""
        self.fail = directory / "fail"
        """Made, the next sync fails, and removes it."""
        self.hang = directory / "hang"
        """While it is there a sync does not end."""
        self._journal = directory / "journal"
        self._before = directory / "before"
        self._library = directory / "powercut.so"
        source = Path(__file__).with_name("powercut.c")
        command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(self._library), str(source), "-ldl"]
        subprocess.run(command, check=True, timeout=60)

    def begin(self) -> dict[str, str]:
        """Take the file as it is for what the disk holds; return the environment for a server that will write it."""
        self._journal.unlink(missing_ok=True)
        self._before.unlink(missing_ok=True)
        if self.path.exists():
            shutil.copyfile(self.path, self._before)
        return {
            "LD_PRELOAD": str(self._library),
            "POWERCUT_FILE": str(self.path),
            "POWERCUT_JOURNAL": str(self._journal),
            "POWERCUT_FAIL": str(self.fail),
            "POWERCUT_HANG": str(self.hang),
        }

    def cut(self, chance: random.Random, look: Callable[[Path], Seen]) -> Seen:
        """Put the file in the state in which a power failure may have left it, and look at it as after a new start."""
        image = bytearray(self._before.read_bytes() if self._before.exists() else b"")
        synced, unsynced = self._writes()
        for offset, data in synced:
            _write(image, offset, data)
        share = chance.choice((0.0, 0.1, 0.5, 0.9))
        for offset, data in unsynced:
            for start in range(0, len(data), SECTOR_BYTES):
                self.unsynced_sectors += 1
                if chance.random() < share:
                    _write(image, offset + start, data[start : start + SECTOR_BYTES])
        self.path.write_bytes(image)
        Path(f"{self.path}-lock").unlink(missing_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("kvss_gevent.stores.disk.file.checkpoint.boot_id", lambda: b"another run of the kernel")
            return look(self.path)

    def _writes(self) -> tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]]:
        synced: list[tuple[int, bytes]] = []
        unsynced: list[tuple[int, bytes]] = []
        data = self._journal.read_bytes() if self._journal.exists() else b""
        at = 0
        while at + _HEAD.size <= len(data):
            kind, offset, length = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            if kind == b"W":
                unsynced.append((offset, data[at : at + length]))
                at += length
            elif kind == b"D":
                synced.append(unsynced.pop())
            elif kind == b"F":
                unsynced.clear()  # the kernel does not write them any more
            else:
                synced += unsynced
                unsynced.clear()
        return synced, unsynced


def _write(image: bytearray, offset: int, data: bytes) -> None:
    if len(image) < offset:
        image.extend(bytes(offset - len(image)))
    image[offset : offset + len(data)] = data
