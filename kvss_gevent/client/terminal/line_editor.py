"""The keyboard of the interactive client: prompt_toolkit with history and completion. What lines mean is repl.py's."""

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.keys import Keys
from prompt_toolkit.output import create_output
from prompt_toolkit.shortcuts import CompleteStyle

from kvss_gevent.client.terminal.hints import COMMANDS, KEYED
from kvss_gevent.client.terminal.repl import PROMPT, with_version

MAX_HISTORY_BYTES: Final = 1 << 20


def line_editor(keys: Iterable[str], note: Callable[[str], None]) -> Callable[[], str]:
    """Return a function that asks for one line: KeyboardInterrupt is Ctrl-C, EOFError Ctrl-D.

    keys: the keys to complete, iterated anew at each completion. If there can be no history file, note says so, and
    the history lasts as long as the process.
    """
    # Asking the terminal for its cursor's position serves menus, which are not used here, and costs those that do not
    # answer two seconds and a warning.
    os.environ.setdefault("PROMPT_TOOLKIT_NO_CPR", "1")
    bindings = KeyBindings()
    # Mouse support is off, and the built-in handler fails on keys that only look like a mouse: Escape [31m.
    bindings.add(Keys.Vt100MouseEvent)(lambda _: None)
    session: PromptSession[str] = PromptSession(
        key_bindings=bindings,
        history=_history(note),
        completer=LineCompleter(keys),
        complete_while_typing=False,
        complete_style=CompleteStyle.READLINE_LIKE,  # the other styles keep eight screen lines free for their menu
        enable_suspend=True,
        # Where replies go to a file, the prompt must not.
        output=None if sys.stdout.isatty() else create_output(stdout=sys.stderr),
    )
    # With a colour, the space at the end of the prompt is written. Without one, the cursor only moves over it, and a
    # program that waits for the prompt does not find it.
    return lambda: session.prompt([("fg:ansidefault", PROMPT)])


def history_path() -> Path:
    """Return where the history is kept: kvss/history in $XDG_STATE_HOME or else in ~/.local/state.

    Raises RuntimeError where there is no home directory.
    """
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state") / "kvss" / "history"


class LineCompleter(Completer):
    """Completes a command, in any letter case, and the key behind it."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = keys

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:  # noqa: ARG002
        """Yield the ways to go on with the word before the cursor; part of prompt_toolkit's Completer."""
        text = document.text_before_cursor
        bare = with_version(text.encode(errors="replace")) != text.encode(errors="replace")
        words = text.split(" ") if bare else text.split(" ")[1:]
        match words:
            case [start]:
                for command in COMMANDS:
                    if command.startswith(start.upper()):
                        space = "" if command in ("STATS", "QUIT", "EXIT") else " "
                        yield Completion(command + space, -len(start), display=command)
            case ["HELP", start]:
                for command in COMMANDS:
                    if command.startswith(start.upper()):
                        yield Completion(command, -len(start))
            case [command, start] | [command, _, start] if command in (KEYED if len(words) == 2 else ("PUTEX",)):
                for key in self._keys:
                    if key.startswith(start):
                        yield Completion(key, -len(start))


def holds_a_password(line: str) -> bool:
    """Tell whether a line logs somebody in: such a line is in no history."""
    words = line.upper().split()
    return "AUTH" in (words[1:2] if words and "/" in words[0] else words[:1])


class _MemoryHistory(InMemoryHistory):
    def append_string(self, string: str) -> None:
        if not holds_a_password(string):
            super().append_string(string)


class _StateHistory(FileHistory):
    def append_string(self, string: str) -> None:
        if not holds_a_password(string):
            super().append_string(string)

    def store_string(self, string: str) -> None:
        # A full disk must not end the conversation, nor a byte that is not UTF-8.
        with suppress(OSError):
            super().store_string(string.encode(errors="replace").decode())


def _history(note: Callable[[str], None]) -> History:
    try:
        path = history_path()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # values may be secrets
        _trim(path)
    except (OSError, RuntimeError) as error:
        note(f"(no history file: {error})")
        return _MemoryHistory()
    return _StateHistory(path)


def _trim(path: Path) -> None:
    """Keep the newer half of a history file that is over its limit."""
    if path.stat().st_size > MAX_HISTORY_BYTES:
        newer = path.read_bytes()[-MAX_HISTORY_BYTES // 2 :]
        path.write_bytes(newer[newer.find(b"\n# ") :])  # where FileHistory begins an entry
