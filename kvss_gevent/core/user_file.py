"""The file of users: a name, a role and the hash of a password for each (rule 12).

A line of the file is `name role scrypt:N:R:P:salt:hash`; see password_hash. Empty lines and lines that begin with `#`
are left as they are.
"""

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from kvss_gevent.core.password_hash import NO_PASSWORD, is_password_hash, verify_password
from kvss_gevent.settings.named_files import take_turn

MAX_NAME_BYTES = 64
MAX_FILE_BYTES = 4 << 20


class Role(IntEnum):
    """What a user may do. Each role includes the roles before it."""

    READ = 1
    """GET, TTL, STATS."""
    WRITE = 2
    """All data commands."""
    ADMIN = 3
    """Everything."""


@dataclass(frozen=True, slots=True)
class User:
    """One user; secret is the password's hash."""

    name: str
    role: Role
    secret: str


class UsersError(Exception):
    """The file of users, or a name in it, cannot be used; one line that says why."""


class Users:
    """The users of a server, as the file was when it was last read."""

    def __init__(self, users: Mapping[str, User]) -> None:
        self._users = users

    def __len__(self) -> int:
        return len(self._users)

    def knows(self, user: User) -> bool:
        """Tell whether the file still has a user with the same role and password."""
        return self._users.get(user.name) == user

    def authenticate(self, name: bytes, password: bytes) -> User | None:
        """Return the user of this name if the password is right. Takes as long for a name that is not known."""
        user = self._users.get(name.decode(errors="replace"))
        is_right = verify_password(user.secret if user else NO_PASSWORD, password)
        return user if user and is_right else None


def check_name(name: str) -> str:
    """Return the name. Raises UsersError where AUTH or the file cannot carry it."""
    if not name or len(name.encode(errors="surrogateescape")) > MAX_NAME_BYTES:
        raise UsersError(f"a name has 1 to {MAX_NAME_BYTES} bytes")
    if not name.isprintable() or " " in name:
        raise UsersError("a name must not contain spaces or control characters")
    if name.startswith("#"):
        raise UsersError("a name must not begin with #, which begins a comment in the file")
    return name


def read_users(path: Path) -> Users:
    """Read the file of users. Raises UsersError."""
    return Users(_read(path))


def change_users(path: Path, name: str, user: User | None) -> bool:
    """Put a user into the file, or take the name out of it where user is None; return whether the name was there.

    The file is replaced in one step, and keeps its owner, group and mode; a new one is for its owner alone. A change
    takes turns with others. Raises UsersError.
    """
    try:
        real = Path(os.path.realpath(path))
        descriptor = os.open(f"{real}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            take_turn(descriptor)
            text = _text(real) if real.exists() else ""
            was_there = name in _parsed(text, real)
            lines = [line for line in text.splitlines() if line.split(" ")[0] != name]
            if user is not None:
                lines.append(f"{user.name} {user.role.name.lower()} {user.secret}")
            _replace(real, lines)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UsersError(f"cannot change {path}: {error.strerror}") from None
    return was_there


def list_users(path: Path) -> list[User]:
    """Return the users in the order of their names. Raises UsersError."""
    return sorted(_read(path).values(), key=lambda user: user.name)


def _read(path: Path) -> Mapping[str, User]:
    return _parsed(_text(path), path)


def _text(path: Path) -> str:
    try:
        # A pipe that nobody writes into would stop the server at SIGHUP.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # not every system has it
        with os.fdopen(descriptor, encoding="utf-8") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsersError(f"{path} is not a regular file")
            text = file.read(MAX_FILE_BYTES + 1)
    except UnicodeDecodeError:
        raise UsersError(f"{path} is not a file of users") from None
    except OSError as error:
        raise UsersError(f"cannot read {path}: {error.strerror}") from None
    if len(text) > MAX_FILE_BYTES:
        raise UsersError(f"{path} is too large for a file of users")
    return text


def _parsed(text: str, path: Path) -> Mapping[str, User]:
    users: dict[str, User] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            user = _parse(line)
            if user is None:
                raise UsersError(f"{path}, line {number}: not `name role scrypt:...`")
            users[user.name] = user
    return users


def _parse(line: str) -> User | None:
    try:
        name, role, secret = line.split(" ")
        if not is_password_hash(secret):
            return None
        return User(check_name(name), Role[role.upper()], secret)
    except (ValueError, KeyError, UsersError):
        return None


def _replace(path: Path, lines: Iterable[str]) -> None:
    new = Path(f"{path}.new")
    new.unlink(missing_ok=True)  # left over by a command that was killed, or put there by somebody else
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
        file.flush()
        if path.exists():  # a server that runs as another user must still be able to read it
            old = path.stat()
            os.fchown(descriptor, old.st_uid, old.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
        os.fsync(descriptor)
    new.replace(path)
