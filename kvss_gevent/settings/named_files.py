"""Files that people name, and that others may change: reads them within bounds, takes turns, spares those of others."""

import os
import select
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from kvss_gevent.settings.fail import Fail

if TYPE_CHECKING:
    import ssl

LIMIT_S: Final = 5.0
"""The longest wait for a lock, and for the next bytes of a pipe. A program that takes longer means to block others."""
LOOK_S: Final = 0.01
_PIECE_BYTES: Final = 1 << 20
# Without O_NONBLOCK, opening a pipe waits for its writer. Not every system has both.
_HOW: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

T = TypeVar("T")


class UnreadableFile(Exception):
    """A file that somebody named cannot be read; the message says why, without the file's name."""


def read_bytes(path: Path, max_bytes: int, limit_s: float = LIMIT_S) -> bytes:
    """Return what is in a file or a pipe. Raises UnreadableFile, also if it has no end or says nothing for limit_s."""
    data = bytearray()
    try:
        descriptor = os.open(path, _HOW)
        try:
            waits = not (stat.S_ISREG(mode := os.fstat(descriptor).st_mode) or stat.S_ISDIR(mode))
            while len(data) <= max_bytes:
                if waits and not select.select((descriptor,), (), (), limit_s)[0]:
                    raise UnreadableFile(f"nothing came out of it for {limit_s:g} s")
                piece = os.read(descriptor, _PIECE_BYTES)
                if not piece:
                    return bytes(data)
                data += piece
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UnreadableFile(error.strerror or str(error)) from None
    except ValueError as error:  # a NUL in its name
        raise UnreadableFile(str(error)) from None
    raise UnreadableFile(f"it is longer than {max_bytes:,} bytes")


def read_parsed(path: Path, max_bytes: int, parse: Callable[[str], T], limit_s: float = LIMIT_S) -> T:
    """Return what parse makes of the text in a file. Raises UnreadableFile, also for a ValueError of parse."""
    try:
        return parse(read_bytes(path, max_bytes, limit_s).decode())
    except UnicodeDecodeError:
        raise UnreadableFile("it is not text in UTF-8") from None
    except RecursionError:
        raise UnreadableFile("its values are nested too deeply") from None
    except ValueError as error:
        raise UnreadableFile(str(error)) from None


def refuse_files_of_others(folder: Path, names: Iterable[str], mark: str) -> None:
    """Raise Fail if one of the names is taken in a folder without the mark, which every earlier run has left there."""
    taken = [name for name in names if (folder / name).exists()]
    if taken and not (folder / mark).exists():
        raise Fail(f"{folder / taken[0]} would be replaced, and this command did not write it", "Give another folder.")


def check_regular(*paths: str) -> None:
    """Raise OSError for a path of anything but a file: a library that opens a pipe waits for its other end."""
    for path in paths:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise OSError(f"{path} is not a regular file")


def take_turn(descriptor: int, limit_s: float = LIMIT_S) -> None:
    """Lock an open file or directory until it is closed. Raises OSError if another process keeps it for limit_s."""
    import fcntl  # imported here, so that server and client run on systems without it

    deadline_s = time.monotonic() + limit_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                raise
            time.sleep(LOOK_S)
        else:
            return


def load_key(context: "ssl.SSLContext", cert: Path | str, key: Path | str | None) -> None:
    """Load a certificate and its key, which may be in the same file. Raises OSError, also if the key is encrypted.

    OpenSSL would ask the terminal for the password, also on SIGHUP.
    """
    context.load_cert_chain(cert, key, password=_refuse)


def _refuse() -> str:
    raise OSError("its key is encrypted, and a server asks for no password: decrypt it with openssl pkey")
