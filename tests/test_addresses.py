"""Addresses of servers: every form that people write, and errors that blame the right word."""

import pytest

from kvss_gevent.settings.addresses import Endpoint, only_endpoint, parse_endpoint, take_endpoint
from kvss_gevent.settings.fail import Fail

NONE: dict[str, str] = {}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], Endpoint("127.0.0.1", 5050)),
        (["localhost"], Endpoint("localhost", 5050)),
        (["6000"], Endpoint("127.0.0.1", 6000)),
        (["localhost:6000"], Endpoint("localhost", 6000)),
        (["localhost", "6000"], Endpoint("localhost", 6000)),
        (["[::1]:6000"], Endpoint("::1", 6000)),
        (["[::1]"], Endpoint("::1", 5050)),
        (["::1"], Endpoint("::1", 5050)),
        (["::1", "6000"], Endpoint("::1", 6000)),
        (["host 6000"], Endpoint("host", 6000)),
        (["::1 6000"], Endpoint("::1", 6000)),
        (["[::1]", "6000"], Endpoint("::1", 6000)),
        (["2001:db8::1234", "6000"], Endpoint("2001:db8::1234", 6000)),
        (["fe80::1%eth0", "6000"], Endpoint("fe80::1%eth0", 6000)),
        (["kvss://host:6000"], Endpoint("host", 6000)),
        (["kvss://host"], Endpoint("host", 5050)),
        (["kvss://ann@[::1]:6000/"], Endpoint("::1", 6000, "ann")),
        (["kvss://a%40b@host:1"], Endpoint("host", 1, "a@b")),
        (["unix:/run/kvss.sock"], Endpoint("127.0.0.1", 5050, path="/run/kvss.sock")),
    ],
)
def test_every_form_of_an_address(words: list[str], expected: Endpoint) -> None:
    assert only_endpoint(words, NONE, unix=True) == expected


@pytest.mark.parametrize("endpoint", [Endpoint("h", 1), Endpoint("::1", 2, "a@b:c/"), Endpoint("", 0, path="/a b")])
def test_an_address_that_is_shown_can_be_read_again(endpoint: Endpoint) -> None:
    default = Endpoint("", 0)
    assert parse_endpoint(endpoint.url, default) == endpoint
    if not endpoint.user:
        assert parse_endpoint(str(endpoint), default) == endpoint


@pytest.mark.parametrize(
    ("words", "expected", "left"),
    [
        (["GET", "a"], "127.0.0.1:5050", ["GET", "a"]),
        (["KV/1.0", "GET", "a"], "127.0.0.1:5050", ["KV/1.0", "GET", "a"]),
        (["PUT", "5050", "1"], "127.0.0.1:5050", ["PUT", "5050", "1"]),
        (["host", "GET", "a"], "host:5050", ["GET", "a"]),
        (["host:1", "get", "a"], "host:1", ["get", "a"]),
        (["host", "1", "PUT", "a", "-5"], "host:1", ["PUT", "a", "-5"]),
        (["[::1]:7", "2"], "[::1]:7", ["2"]),
    ],
)
def test_the_words_behind_an_address_are_left(words: list[str], expected: str, left: list[str]) -> None:
    endpoint, rest = take_endpoint(words, NONE)
    assert (str(endpoint), rest) == (expected, left)


def test_the_environment_gives_what_is_left_away() -> None:
    environ = {"KVSS_HOST": "::1", "KVSS_PORT": "7"}
    assert str(only_endpoint([], environ)) == "[::1]:7"
    assert str(only_endpoint(["8"], environ)) == "[::1]:8"
    assert str(only_endpoint(["host"], environ)) == "host:7"
    assert take_endpoint(["GET", "a"], environ) == (Endpoint("::1", 7), ["GET", "a"])


@pytest.mark.parametrize(
    ("words", "environ", "cause"),
    [
        (["127.0.0.1", "abc"], NONE, "PORT is 'abc'"),
        (["127.0.0.1:abc"], NONE, "PORT is 'abc'"),
        (["127.0.0.1:0"], NONE, "PORT is '0', which is not a number from 1 to 65535"),
        (["65536"], NONE, "PORT is '65536'"),
        (["a b"], NONE, "HOST is 'a b'"),
        (["a b 1"], NONE, "HOST is 'a b 1'"),
        (["a 0"], NONE, "PORT is '0', which is not a number from 1"),
        (["::1:5050"], NONE, "ambiguous"),
        (["[::1"], NONE, r"is not \[IPV6\]:PORT"),
        ([":5050"], NONE, "is not HOST:PORT"),
        (["host:"], NONE, "is not HOST:PORT"),
        (["http://host:1"], NONE, "is not a kvss:// URL"),
        (["host:1", "2"], NONE, "'2' is one word too many"),
        (["GET"], NONE, "'GET' is one word too many"),
        (["unix:/a"], NONE, "is a Unix socket"),
        ([], {"KVSS_PORT": "x"}, "KVSS_PORT is 'x'"),
        ([], {"KVSS_HOST": "a b"}, "KVSS_HOST is 'a b'"),
    ],
)
def test_an_error_blames_the_right_word(words: list[str], environ: dict[str, str], cause: str) -> None:
    with pytest.raises(Fail, match=cause) as caught:
        only_endpoint(words, environ)
    assert caught.value.code == 2


def test_a_lower_case_command_is_told_apart_from_an_address() -> None:
    with pytest.raises(Fail) as caught:
        take_endpoint(["get", "name"], NONE)
    assert caught.value.remedy.startswith("Commands are upper case: GET.")


def test_a_password_in_an_address_is_refused_and_not_shown() -> None:
    with pytest.raises(Fail, match="password in it") as caught:
        only_endpoint(["kvss://ann:secret@host:1"], NONE)
    assert "secret" not in caught.value.cause + caught.value.remedy
