"""How a store logs in to Valkey or Redis: the number of the database, a user with a password, TLS.

A password comes from a file or from the environment, never from an address, because other users of the machine can see
the words of a command. The file is read at each connection, so that a password can change while the server runs.
"""

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kvss_gevent.settings.config import Config
from kvss_gevent.settings.named_files import UnreadableFile, check_regular, load_key, read_parsed
from kvss_gevent.stores.base import CannotOpen

VARIABLE = "KVSS_STORE_PASSWORD"
MAX_PASSWORD_FILE_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Access:
    """How each connection to a server of the store begins; password raises OSError or ValueError."""

    db: int = 0
    user: str = ""
    password: Callable[[], str] | None = None
    tls: ssl.SSLContext | None = None


def access_of(config: Config, user: str, db: int, *, tls: bool) -> Access:
    """Return the access that the settings and the environment give. Raises CannotOpen."""
    return Access(db, user, _password_of(config, user), _tls_of(config) if tls else None)


def _password_of(config: Config, user: str) -> Callable[[], str] | None:
    path = config.store_password_file
    if not path:
        given = os.environ.get(VARIABLE)
        if user and not given:
            raise CannotOpen(
                f"the store's user {user} has no password", f"Give --store-password-file FILE or ${VARIABLE}."
            )
        return (lambda: given) if given else None
    try:
        _first_line(path)
    except (OSError, ValueError) as error:
        raise CannotOpen(
            f"cannot read the password of the store: {error}", "Write the password into its first line."
        ) from None
    return lambda: _first_line(path)


def _first_line(path: str) -> str:
    """Return the password in a file. Raises OSError and ValueError, never with anything from the file."""
    try:
        text = read_parsed(Path(path), MAX_PASSWORD_FILE_BYTES, str)
    except UnreadableFile as error:
        raise ValueError(f"{path}: {error}") from None
    password = text.split("\n")[0].removesuffix("\r")
    if not password:
        raise ValueError(f"{path} has no password in its first line")
    return password


def _tls_of(config: Config) -> ssl.SSLContext:
    given = [text for text in (config.store_ca, config.store_cert, config.store_key) if text]
    try:
        check_regular(*given)
        context = ssl.create_default_context(cafile=config.store_ca or None)
        if config.store_cert:
            load_key(context, config.store_cert, config.store_key or None)
    except (OSError, ValueError) as error:  # the library's error does not name the file
        raise CannotOpen(
            f"cannot use {', '.join(given) or 'the certificates of this system'}: {error}",
            "Give --store-ca, --store-cert and --store-key the paths of files in PEM form.",
        ) from None
    return context
