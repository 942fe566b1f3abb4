"""Reads a class's folder: finds the submissions, learns how to build and start each, and copies it to a new folder.

CLASS/grade.toml        settings for all: build, command, profile, only, exclude, weights, budget, build_budget
CLASS/NAME/             a submission: run.sh gets the port as $1, and build.sh runs before it
CLASS/NAME/grade.toml   build and command of this submission, instead of its scripts
"""

import os
import shutil
import stat
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from kvss_gevent.conformance.case import PROFILES, PROJECT
from kvss_gevent.conformance.case_plan import check_weights, check_words
from kvss_gevent.settings.fail import Fail
from kvss_gevent.settings.named_files import UnreadableFile, read_parsed

SETTINGS: Final = "grade.toml"
DEFAULT_BUDGET_S: Final = 30.0
DEFAULT_BUILD_BUDGET_S: Final = 60.0
MAX_FILES: Final = 20_000
MAX_BYTES: Final = 256 << 20
MAX_SETTINGS_BYTES: Final = 1 << 20
MAX_COMMAND_CHARACTERS: Final = 10_000
"""The kernel passes on 128 KiB, in which a character may take 12 bytes."""
MAX_NAME_BYTES: Final = 240
"""`.html` is added to a name, and the name of a file has at most 255 bytes."""

_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "build": str,
    "command": str,
    "profile": str,
    "only": list,
    "exclude": list,
    "weights": dict,
    "budget": (int, float),
    "build_budget": (int, float),
}
_OWN: Final = ("build", "command")
"""The settings that a submission's own file may contain; only the lecturer's file may contain the others."""


class Refused(Exception):
    """A submission cannot be run; the message says why."""


@dataclass(frozen=True, slots=True)
class ClassSettings:
    """The settings in a class's grade.toml. Budgets are in seconds; an empty command means that there is none."""

    build: str = ""
    command: str = ""
    profile: str = PROJECT
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    weights: Mapping[str, int] = field(default_factory=dict)
    budget: float = DEFAULT_BUDGET_S
    build_budget: float = DEFAULT_BUILD_BUDGET_S


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one submission is built and started; build is empty if nothing must be built."""

    build: str
    command: str
    notes: tuple[str, ...]


def read_settings(directory: Path) -> ClassSettings:
    """Read the class's grade.toml, or return the defaults if there is none. Raises Fail."""
    file = directory / SETTINGS
    try:
        said = _read(file)
        if said.get("profile", PROJECT) not in PROFILES:
            raise ValueError(f"there is no profile {said['profile']!r}: it is one of {', '.join(PROFILES)}")
        said |= {name: tuple(map(str, said[name])) for name in ("only", "exclude") if name in said}
        check_words((*said.get("only", ()), *said.get("exclude", ())))
        check_weights(said.get("weights", {}))
    except ValueError as error:
        raise Fail(f"{file}: {error}", f"It may set {', '.join(_TYPES)}; `kvss conform --list` shows cases.") from None
    return ClassSettings(**said)


def submissions(directory: Path, out: Path) -> tuple[list[Path], list[str]]:
    """Return the folders to grade and the names of files beside them, both sorted. Raises Fail.

    If out is a folder beside them, it is left out. A link that leads nowhere is among the folders: `copy` refuses it.
    """
    home, results = Path(os.path.realpath(directory)), Path(os.path.realpath(out))
    if results == home or home in results.parent.parents:
        raise Fail(f"--out {out} lies among the files of the submissions", "Give --out a folder of its own.")
    try:
        paths = sorted(path for path in directory.iterdir() if not path.name.startswith(".") and path.name != SETTINGS)
    except OSError as error:
        raise Fail(f"cannot read {directory}: {(error.strerror or str(error)).lower()}", "Give a folder.") from None
    files = [path.name for path in paths if path.exists() and not path.is_dir()]
    found = [path for path in paths if path.name not in files and home / path.name != results]
    if not found:
        raise Fail(
            f"there is no submission in {directory}",
            "Put each submission into its own folder, with a run.sh; unpack archives first.",
        )
    return found, files


def recipe(work: Path, settings: ClassSettings) -> Recipe:
    """Return how to build and start the submission in a working folder. Raises Refused."""
    try:
        own = _read(work / SETTINGS)
    except ValueError as error:
        raise Refused(f"its {SETTINGS}: {error}") from None
    ignored = [name for name in own if name not in _OWN]
    notes = [f"{SETTINGS}: {', '.join(ignored)} can only be set for the whole class."] if ignored else []
    notes += [
        f"{name} has Windows line ends (CR LF), which a shell does not accept: save it with LF."
        for name in ("build.sh", "run.sh")
        if _has_windows_ends(work / name)
    ]
    build, command = (
        own.get(name) or _script(work, script) or default
        for name, script, default in (
            ("build", "build.sh", settings.build),
            ("command", "run.sh", settings.command),
        )
    )
    return Recipe(build, command, tuple(notes))


def copy(source: Path, work: Path) -> None:
    """Copy a submission to a new folder. Raises Refused."""
    if source.is_symlink():
        raise Refused("it is a link to another place" if source.exists() else "it is a link that leads nowhere")
    if len(os.fsencode(source.name)) > MAX_NAME_BYTES:
        raise Refused(f"its name is longer than {MAX_NAME_BYTES} bytes")
    root = source.resolve()
    files = size = 0
    for place, folders, names in os.walk(source):
        for name in (*folders, *names):
            path = Path(place, name)
            where = path.relative_to(source)
            status = path.lstat()
            files += 1
            size += status.st_size
            if files > MAX_FILES or size > MAX_BYTES:
                raise Refused(f"it has more than {MAX_FILES:,} files or {MAX_BYTES >> 20} MiB")
            if stat.S_ISLNK(status.st_mode):
                if not _leads_inside(path, root):
                    raise Refused(f"the link {where} leads out of its folder")
            elif not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
                raise Refused(f"{where} is neither a file nor a folder")
    try:
        shutil.copytree(source, work, symlinks=True)
    except (OSError, shutil.Error) as error:
        raise Refused(f"it cannot be copied: {error}") from None


def remove(work: Path) -> None:
    """Remove a working folder, even if the submission has removed write permissions in it."""
    for place, folders, _ in os.walk(work):
        for name in folders:
            path = Path(place, name)
            if not path.is_symlink():
                with suppress(OSError):
                    path.chmod(0o700)
    shutil.rmtree(work, ignore_errors=True)


def _leads_inside(link: Path, root: Path) -> bool:
    if link.readlink().is_absolute():
        return False  # the copy would lead back to the original
    try:
        return link.resolve().is_relative_to(root)
    except (OSError, RuntimeError):
        return False


def _script(work: Path, name: str) -> str:
    """Return the command that runs a script with the port; "" if the submission has no such script."""
    path = work / name
    if not path.is_file():
        return ""
    start = f"./{name}" if os.access(path, os.X_OK) else f"sh ./{name}"
    return f"exec {start} {{port}}" if name == "run.sh" else f"exec {start}"


def _has_windows_ends(script: Path) -> bool:
    if not script.is_file():
        return False
    with script.open("rb") as file:
        return b"\r\n" in file.read(4096)


def _read(file: Path) -> dict[str, Any]:
    """Return the settings in a grade.toml; none if there is no such file. Raises ValueError."""
    if not os.path.lexists(file):
        return {}
    try:
        said = read_parsed(file, MAX_SETTINGS_BYTES, tomllib.loads)
    except UnreadableFile as error:
        raise ValueError(str(error)) from None
    for name, value in said.items():
        if name not in _TYPES:
            raise ValueError(f"there is no setting {name!r}")
        if not isinstance(value, _TYPES[name]) or isinstance(value, bool):
            raise ValueError(f"{name} has a value of the wrong kind: {value!r}")
        if isinstance(value, int | float) and not 0 < value <= 3600:
            raise ValueError(f"{name} is {value!r}, which is not a number of seconds up to 3600")
        if isinstance(value, str) and ("\0" in value or len(value) > MAX_COMMAND_CHARACTERS):
            raise ValueError(f"{name} is longer than {MAX_COMMAND_CHARACTERS} characters, or has a NUL in it")
    return said
