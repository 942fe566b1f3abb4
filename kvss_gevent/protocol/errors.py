"""The client library's errors, and the one place where a status becomes one."""

from typing import Any, ClassVar, Final

from kvss_gevent.protocol.wire import Status


class KVError(Exception):
    """Whatever goes wrong between a client and its server.

    host and port name the server, command what was asked of it: `PUT name`, never a value; empty where it was nothing
    in particular. results holds, for a pipeline, what was answered before the error; else it is empty.
    """

    sentence: ClassVar[str] = "{server}: {detail}"

    def __init__(self, host: str, port: int, detail: str, command: str = "") -> None:
        super().__init__(host, port, detail, command)  # the very arguments, so that an error survives pickling
        self.host = host
        self.port = port
        self.detail = detail
        self.command = command
        self.results: list[Any] = []

    def __str__(self) -> str:
        text = self.sentence.format(server=server_name(self.host, self.port), detail=self.detail)
        return f"{self.command}: {text}" if self.command else text


class KVConnectError(KVError):
    """No connection came about: nothing was sent."""

    sentence = "cannot connect to {server}: {detail}"


class KVBusy(KVError):
    """Other calls kept the client's connections for too long: nothing was sent."""

    sentence = "no free connection to {server}: {detail}"


class KVTimeout(KVError):
    """The reply was not whole in time: whether the request took effect is unknown."""

    sentence = "no reply from {server}: {detail}"


class KVConnectionLost(KVError):
    """The connection ended before the reply: whether the request took effect is unknown."""

    sentence = "lost the connection to {server}: {detail}"


class KVProtocolError(KVError):
    """What came back is no KV/1.0 reply, or not one to this request: whether the request took effect is unknown."""

    sentence = "{server} does not keep to KV/1.0: {detail}"


class KVStatusError(KVError):
    """The server refused the request; status says how (rule 11). The connection stays good."""

    status: ClassVar[Status]
    sentence = "{server} answered {detail}"


class KVBadRequest(KVStatusError):
    """400: the request is not one that this server takes, for example a line over its limit."""

    status = Status.BAD_REQUEST


class KVUnauthorized(KVStatusError):
    """401: the server wants a user and the right password first."""

    status = Status.UNAUTHORIZED


class KVForbidden(KVStatusError):
    """403: this user may not do that."""

    status = Status.FORBIDDEN


class KVUpgradeRequired(KVStatusError):
    """426: the server does not speak KV/1.0."""

    status = Status.UPGRADE_REQUIRED


class KVServerError(KVStatusError):
    """500: the store failed or the server is full; whether the request took effect is unknown (rule 10)."""

    status = Status.SERVER_ERROR


_ERRORS: Final[dict[Status, type[KVStatusError]]] = {
    kind.status: kind for kind in (KVBadRequest, KVUnauthorized, KVForbidden, KVUpgradeRequired, KVServerError)
}


def status_error(status: Status, host: str, port: int, command: str) -> KVStatusError | None:
    """Return the error for a status that no command has a result for, None for every other status."""
    kind = _ERRORS.get(status)
    return None if kind is None else kind(host, port, f"{status:d} {status.name}", command)


def server_name(host: str, port: int) -> str:
    """Return host:port, with brackets around an IPv6 address; a Unix socket's unix:PATH stands alone."""
    if host.startswith("unix:"):
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
