"""Who may use a server, and for what: names, roles, and password hashes in a file (rule 12).

A line of the file is `name role scrypt:N:R:P:salt:hash`, the last two in base64. With scrypt (RFC 7914) each guess
costs 40 ms and 16 MiB: a stolen file does not give the passwords away.
"""

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

N, R, P = 1 << 14, 8, 1
SALT_BYTES = 16
HASH_BYTES = 32
MAX_SCRYPT_BYTES = 64 << 20
MAX_NAME_BYTES = 64
MAX_PASSWORD_BYTES = 1024
MAX_FILE_BYTES = 4 << 20


class Role(IntEnum):
    """What a user may do; each role may do what the ones below it may."""

    READ = 1
    """GET, TTL, STATS."""
    WRITE = 2
    """All data commands."""
    ADMIN = 3
    """Everything."""


@dataclass(frozen=True, slots=True)
class User:
    """One user; secret is what the file holds for the password."""

    name: str
    role: Role
    secret: str


class UsersError(Exception):
    """The file of users cannot be read, or a name or password cannot be used; one line that says why."""


def hash_password(password: bytes) -> str:
    """Return what the file holds for a password, with a new salt. Raises UsersError for one that AUTH cannot carry."""
    if not password or len(password) > MAX_PASSWORD_BYTES:
        raise UsersError(f"a password has 1 to {MAX_PASSWORD_BYTES} bytes")
    if b"\n" in password or b"\r" in password:
        raise UsersError("a password has no line end: a request ends there")
    salt = secrets.token_bytes(SALT_BYTES)
    digest = _scrypt(password, salt, N, R, P)
    return f"scrypt:{N}:{R}:{P}:{_base64(salt)}:{_base64(digest)}"


def verify(secret: str, password: bytes) -> bool:
    """Tell whether a password belongs to a secret; takes 40 ms of a processor, whatever the answer."""
    _, n, r, p, salt, digest = secret.split(":")
    found = _scrypt(password, base64.b64decode(salt), int(n), int(r), int(p))
    return hmac.compare_digest(found, base64.b64decode(digest))


NOBODY = f"scrypt:{N}:{R}:{P}:{'A' * 22}==:{'A' * 43}="
"""No password belongs to it. A name that is not known is checked against it, to take as long as a wrong password."""


class Users:
    """The users of a server, as the file had them when it was read last."""

    def __init__(self, users: Mapping[str, User]) -> None:
        self._users = users

    def __len__(self) -> int:
        return len(self._users)

    def authenticate(self, name: bytes, password: bytes) -> User | None:
        """Return the user of this name if the password is right. Takes as long for a name that is not known."""
        user = self._users.get(name.decode(errors="replace"))
        is_right = verify(user.secret if user else NOBODY, password[:MAX_PASSWORD_BYTES])
        return user if user and is_right else None


def check_name(name: str) -> str:
    """Return the name. Raises UsersError where AUTH cannot carry it."""
    if not name or len(name.encode(errors="surrogateescape")) > MAX_NAME_BYTES:
        raise UsersError(f"a name has 1 to {MAX_NAME_BYTES} bytes")
    if not name.isprintable() or " " in name:
        raise UsersError("a name has no spaces and no control characters")
    return name


def read_users(path: Path) -> Users:
    """Read the file of users. Raises UsersError."""
    return Users(_read(path))


def change_users(path: Path, name: str, user: User | None) -> bool:
    """Put a user into the file, or take the name out of it where user is None; return whether the name was there.

    The file is replaced in one step, readable by its owner alone. A change takes turns with others. Raises UsersError.
    """
    import fcntl  # here alone, so that a server and a client run where there is none

    try:
        real = Path(os.path.realpath(path))
        descriptor = os.open(f"{real}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            users = dict(_read(real)) if real.exists() else {}
            was_there = users.pop(name, None) is not None
            if user is not None:
                users[name] = user
            _replace(real, users)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UsersError(f"cannot change {path}: {error.strerror}") from None
    return was_there


def list_users(path: Path) -> list[User]:
    """Return the users in the order of their names. Raises UsersError."""
    return sorted(_read(path).values(), key=lambda user: user.name)


def _read(path: Path) -> Mapping[str, User]:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except UnicodeDecodeError:
        raise UsersError(f"{path} is not a file of users") from None
    except OSError as error:
        raise UsersError(f"cannot read {path}: {error.strerror}") from None
    if len(text) > MAX_FILE_BYTES:
        raise UsersError(f"{path} is too large for a file of users")
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
        kind, n, r, p, salt, digest = secret.split(":")
        base64.b64decode(salt, validate=True)
        whole = len(base64.b64decode(digest, validate=True)) == HASH_BYTES
        # More memory than that would make a wrong file stop the server.
        fits = 128 * int(n) * int(r) * int(p) < MAX_SCRYPT_BYTES and int(n) > 1 and int(n) & (int(n) - 1) == 0
        if kind != "scrypt" or not whole or not fits:
            return None
        return User(check_name(name), Role[role.upper()], secret)
    except (ValueError, KeyError, binascii.Error, UsersError):
        return None


def _replace(path: Path, users: Mapping[str, User]) -> None:
    lines = [f"{user.name} {user.role.name.lower()} {user.secret}\n" for user in users.values()]
    new = Path(f"{path}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _scrypt(password: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=2 * MAX_SCRYPT_BYTES, dklen=HASH_BYTES)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
