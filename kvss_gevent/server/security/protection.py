"""TLS and login of a server, made from the settings, and made again on SIGHUP."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kvss_gevent.core.conversation import Conversation
from kvss_gevent.core.login import LoginConversation, views
from kvss_gevent.core.service import Service
from kvss_gevent.core.user_file import Role, Users, UsersError, read_users
from kvss_gevent.server.transport import MakeTransport, plain
from kvss_gevent.settings.config import Config
from kvss_gevent.settings.fail import Exit, Fail
from kvss_gevent.settings.log import NOTICE
from kvss_gevent.settings.named_files import check_regular

if TYPE_CHECKING:
    from kvss_gevent.server.security.authenticator import Authenticator

logger = logging.getLogger("kvss")


class Protection:
    """The users and certificates of a running server. Raises Fail if those of the settings cannot be used."""

    def __init__(self, config: Config) -> None:
        self.authenticator = _authenticator(config) if config.users else None
        self.make_transport: MakeTransport = _with_tls(config) if config.tls_cert else plain
        self._views: Mapping[Role, Service] | None = None

    def open(self, service: Service, peer: str) -> Conversation:
        """Return the conversation of a new client, which must log in; see Service.open."""
        authenticator = self.authenticator
        assert authenticator is not None
        if self._views is None:
            self._views = views(service)
        return LoginConversation(
            service,
            self._views,
            lambda name, password: authenticator.authenticate(peer, name, password),
            service.converse,
        )

    def drain(self) -> None:
        """Answer all waiting logins at once, because the server ends."""
        if self.authenticator is not None:
            self.authenticator.drain()

    def is_outdated(self, conversation: Conversation) -> bool:
        """Tell whether the user of a conversation was removed or changed since the login."""
        user = getattr(conversation, "user", None)
        return bool(user and self.authenticator and not self.authenticator.users.knows(user))

    def reload(self, config: Config) -> None:
        """Read users and certificates again. If one cannot be read, the old ones stay in use. The log says which."""
        try:
            if self.authenticator is not None:
                self.authenticator.users = _users(config)
            if config.tls_cert:
                self.make_transport = _with_tls(config)
        except Fail as fail:
            logger.error("%s; users and certificates stay as they were", fail.cause)
        else:
            if files := [file for file in (config.users, config.tls_cert) if file]:
                logger.log(NOTICE, "read %s again", " and ".join(files))


def _authenticator(config: Config) -> "Authenticator":
    from kvss_gevent.server.security.authenticator import Authenticator

    return Authenticator(_users(config), config.workers)


def _users(config: Config) -> Users:
    try:
        users = read_users(Path(config.users))
    except UsersError as error:
        raise Fail(str(error), "`kvss user add FILE NAME` makes such a file.") from None
    if not users:
        raise Fail(f"{config.users} has no users", "Add one: kvss user add FILE NAME.")
    return users


def _with_tls(config: Config) -> MakeTransport:
    from kvss_gevent.server.security.tls import server_context, tls

    client_ca = Path(config.tls_client_ca) if config.tls_client_ca else None
    try:
        check_regular(*filter(None, (config.tls_cert, config.tls_key, config.tls_client_ca)))
        return tls(server_context(Path(config.tls_cert), Path(config.tls_key), client_ca))
    except OSError as error:
        named = f"{config.tls_cert} and {config.tls_key}"
        raise Fail(
            f"cannot use the certificate of {named}: {error.strerror or error}",
            "Give a certificate in PEM form, and the key that belongs to it.",
            Exit.USAGE,
        ) from None
