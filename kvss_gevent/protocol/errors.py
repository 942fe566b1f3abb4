"""The client library's errors, and the one place where a status becomes an error."""

from typing import Any, ClassVar, Final

from kvss_gevent.protocol.wire import Status


class KVError(Exception):
    """Something went wrong between a client and its server.

    host and port name the server. command is the request, as `PUT name`, without its value; it may be empty. results
    holds the results of a pipeline before the error; for a single request it is empty.
    """

    sentence: ClassVar[str] = "{server}: {detail}"

    def __init__(self, host: str, port: int, detail: str, command: str = "") -> None:
        super().__init__(host, port, detail, command)  # the same arguments: pickle makes the error again from them
        self.host = host
        self.port = port
        self.detail = detail
        self.command = command
        self.results: list[Any] = []

    def __str__(self) -> str:
        text = self.sentence.format(server=server_name(self.host, self.port), detail=self.detail)
        return f"{self.command}: {text}" if self.command else text


class KVConnectError(KVError):
    """No connection could be made. Nothing was sent."""

    sentence = "cannot connect to {server}: {detail}"


class KVBusy(KVError):
    """Other calls held all connections of the client for too long. Nothing was sent."""

    sentence = "no free connection to {server}: {detail}"


class KVTimeout(KVError):
    """The reply was not complete in time. It is unknown whether the request took effect."""

    sentence = "no reply from {server}: {detail}"


class KVConnectionLost(KVError):
    """The connection ended before the reply. It is unknown whether the request took effect."""

    sentence = "lost the connection to {server}: {detail}"


class KVProtocolError(KVError):
    """The reply is not KV/1.0, or does not fit this request. It is unknown whether the request took effect."""

    sentence = "{server} does not keep to KV/1.0: {detail}"


class KVStatusError(KVError):
    """The server refused the request; status is its reply code (rule 11). The connection can still be used."""

    status: ClassVar[Status]
    sentence = "{server} answered {detail}"


class KVBadRequest(KVStatusError):
    """400: the server does not accept this request, for example because the line is over its limit."""

    status = Status.BAD_REQUEST


class KVUnauthorized(KVStatusError):
    """401: the client must first log in."""

    status = Status.UNAUTHORIZED


class KVForbidden(KVStatusError):
    """403: the user's role does not allow this command."""

    status = Status.FORBIDDEN


class KVUpgradeRequired(KVStatusError):
    """426: the server does not speak KV/1.0."""

    status = Status.UPGRADE_REQUIRED


class KVServerError(KVStatusError):
    """500: the store failed or the server is full. It is unknown whether the request took effect (rule 10)."""

    status = Status.SERVER_ERROR


_ERRORS: Final[dict[Status, type[KVStatusError]]] = {
    kind.status: kind for kind in (KVBadRequest, KVUnauthorized, KVForbidden, KVUpgradeRequired, KVServerError)
}


def status_error(status: Status, host: str, port: int, command: str) -> KVStatusError | None:
    """Return the error of a status; None for a status that is a command's result."""
    kind = _ERRORS.get(status)
    return None if kind is None else kind(host, port, f"{status:d} {status.name}", command)


def server_name(host: str, port: int) -> str:
    """Return HOST:PORT, with brackets around an IPv6 address. For a Unix socket, return unix:PATH."""
    if host.startswith("unix:"):
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
