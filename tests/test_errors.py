"""The errors of the client library: what they say, and that they travel."""

import pickle

import pytest

from kvss_gevent import (
    KVBadRequest,
    KVConnectError,
    KVError,
    KVForbidden,
    KVServerError,
    KVStatusError,
    KVUnauthorized,
    KVUpgradeRequired,
)
from kvss_gevent.protocol.errors import server_name, status_error
from kvss_gevent.protocol.wire import Status


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (Status.BAD_REQUEST, KVBadRequest),
        (Status.UNAUTHORIZED, KVUnauthorized),
        (Status.FORBIDDEN, KVForbidden),
        (Status.UPGRADE_REQUIRED, KVUpgradeRequired),
        (Status.SERVER_ERROR, KVServerError),
    ],
)
def test_a_refusal_becomes_its_error(status: Status, kind: type[KVStatusError]) -> None:
    error = status_error(status, "10.0.0.1", 5050, "PUT name")
    assert type(error) is kind
    assert error.status is status
    assert isinstance(error, KVError)
    assert str(error) == f"PUT name: 10.0.0.1:5050 answered {status.value} {status.name}"


@pytest.mark.parametrize("status", [Status.OK, Status.CREATED, Status.NO_CONTENT, Status.NOT_FOUND])
def test_a_result_is_no_error(status: Status) -> None:
    assert status_error(status, "10.0.0.1", 5050, "PUT") is None


def test_errors_survive_pickling() -> None:
    error = KVConnectError("::1", 5050, "{refused}", "GET {k}")
    error.results = [b"value", None]
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.host, copy.port, copy.results) == (KVConnectError, "::1", 5050, [b"value", None])
    assert str(copy) == str(error) == "GET {k}: cannot connect to [::1]:5050: {refused}"


def test_an_ipv6_address_has_brackets() -> None:
    assert [server_name("::1", 1), server_name("localhost", 2)] == ["[::1]:1", "localhost:2"]
    assert server_name("unix:/run/kvss.sock", 0) == "unix:/run/kvss.sock"
