"""The client library's errors, and the one place where a status becomes one. Raising them is for others."""

from typing import Any, ClassVar, Final

from kvss_gevent.protocol.wire import Status


class KVError(Exception):
    """Whatever goes wrong between a client and its server.

    host and port name the server. results holds, for a pipeline, what was answered before the error; else it is empty.
    """

    sentence: ClassVar[str] = "{server}: {detail}"

    def __init__(self, host: str, port: int, detail: str) -> None:
        super().__init__(host, port, detail)  # the very arguments, so that an error survives pickling
        self.host = host
        self.port = port
        self.detail = detail
        self.results: list[Any] = []

    def __str__(self) -> str:
        return self.sentence.format(server=server_name(self.host, self.port), detail=self.detail)


class KVConnectError(KVError):
    """No connection came about: nothing was sent."""

    sentence = "cannot connect to {server}: {detail}"


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


class KVUpgradeRequired(KVStatusError):
    """426: the server does not speak KV/1.0."""

    status = Status.UPGRADE_REQUIRED


class KVServerError(KVStatusError):
    """500: the store failed or the server is full; whether the request took effect is unknown (rule 10)."""

    status = Status.SERVER_ERROR


_ERRORS: Final[dict[Status, type[KVStatusError]]] = {
    kind.status: kind for kind in (KVBadRequest, KVUpgradeRequired, KVServerError)
}


def status_error(status: Status, host: str, port: int, request: str) -> KVStatusError | None:
    """Return the error for a status that no command has a result for, None for every other status."""
    kind = _ERRORS.get(status)
    return None if kind is None else kind(host, port, f"{status:d} {status.name} to {request}")


def server_name(host: str, port: int) -> str:
    """Return host:port, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
