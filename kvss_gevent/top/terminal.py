"""The terminal of `kvss top`: it has its own screen, reads single keys, and is restored at the end."""

import os
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

ENTER: Final = "\x1b[?1049h\x1b[?25l"
LEAVE: Final = "\x1b[?25h\x1b[?1049l"
HOME: Final = "\x1b[H"
CLEAR_LINE: Final = "\x1b[K"
CLEAR_BELOW: Final = "\x1b[J"


class Terminal:
    """Draws lines and waits for a key; `opened` makes it. resized_fd can be read after the terminal's size changed."""

    def __init__(self, resized_fd: int) -> None:
        self._resized_fd = resized_fd

    def size(self) -> tuple[int, int]:
        """Return columns and rows."""
        found = shutil.get_terminal_size()
        return found.columns, found.lines

    def draw(self, lines: Sequence[str]) -> None:
        """Show lines, beginning at the top; they replace what was shown before."""
        text = "\r\n".join(f"{line}{CLEAR_LINE}" for line in lines)
        sys.stdout.write(f"{HOME}{text}{CLEAR_BELOW}")
        sys.stdout.flush()

    def wait(self, limit_s: float) -> str | None:
        """Return a key, "" if the terminal's size changed, None after limit_s. The end of input counts as `q`."""
        ready, _, _ = select.select([sys.stdin, self._resized_fd], [], [], limit_s)
        if self._resized_fd in ready:
            os.read(self._resized_fd, 100)
            return ""
        if not ready:
            return None
        return os.read(sys.stdin.fileno(), 1).decode("latin-1") or "q"


@contextmanager
def opened() -> Iterator[Terminal]:
    """Open the terminal for a block, and restore it even after an error, Ctrl-C, SIGTERM or SIGHUP."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    before = termios.tcgetattr(sys.stdin)
    handlers = {
        number: signal.signal(number, handler)
        for number, handler in (
            (signal.SIGWINCH, lambda *_: os.write(write_end, b"w")),
            (signal.SIGTERM, _end),
            (signal.SIGHUP, _end),
        )
    }
    try:
        tty.setcbreak(sys.stdin)
        sys.stdout.write(ENTER)
        yield Terminal(read_end)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        sys.stdout.write(LEAVE)
        sys.stdout.flush()
        os.close(read_end)
        os.close(write_end)


def _end(number: int, _: object) -> None:
    raise SystemExit(128 + number)
