"""KV/1.0's pure functions against each other and against the rules that the conformance table cannot see."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvss_gevent.core.service import Service
from kvss_gevent.protocol import foreign_protocols, wire
from kvss_gevent.protocol.wire import Status, Verb
from kvss_gevent.stores.base import ReplyTable

keys = (
    st.text(st.characters(exclude_characters=" \n", codec="utf-8"), min_size=1)
    .map(str.encode)
    .filter(lambda k: len(k) < 512)
)
values = st.text(st.characters(exclude_characters="\n", codec="utf-8"), min_size=1).map(str.encode)


@given(verb=st.sampled_from([Verb.GET, Verb.PUT, Verb.DEL]), key=keys, value=values)
def test_what_is_built_parses_to_the_same(verb: Verb, key: bytes, value: bytes) -> None:
    request = wire.build_request(verb, key, value)
    assert request.count(b"\n") == 1
    line = request.removesuffix(b"\n").removesuffix(b"\r")  # as rule 1 has it
    assert wire.parse_request(line) == (verb, key, value if verb is Verb.PUT else b"")


class Asked:
    """A store that answers with what it is asked."""

    replies = ReplyTable()
    blocks = False
    put = None

    def run(self, verb: Verb, key: bytes, value: bytes) -> bytes:
        return b"%d %b %b" % (verb, key, value if verb is Verb.PUT else b"\n")


class AskedToPut(Asked):
    """One whose table sessions may write."""

    def put(self, request: bytes, reply: bytes) -> bytes:  # type: ignore[override]
        return self.run(Verb.PUT, request[len(wire.GET_PREFIX) : -1], reply[len(wire.OK_PREFIX) :])


fields = st.sampled_from(
    [b"KV/1.0", b"GET", b"PUT", b"DEL", b"k", b"k" * 511, b"k" * 512, b"", b"KV/1.1", b"get", b"v\xc3\xa9"]
)


@given(line=st.lists(fields, max_size=6).map(b" ".join))
@example(line=b"KV/1.0 GET ")
@example(line=b"KV/1.0 DEL ")
@example(line=b"KV/1.0 PUT  v")
@example(line=b"KV/1.0 PUT k ")
@example(line=b"KV/1.0 GET " + b"k" * 512)
def test_a_session_takes_the_same_lines_for_get_put_and_del(line: bytes) -> None:
    verb, key, value = wire.parse_request(line)
    asks = verb in (Verb.GET, Verb.PUT, Verb.DEL)
    reply = b"%d %b %b\n" % (verb, key, value) if asks else wire.LINE[Status(verb)]
    for store in (Asked(), AskedToPut()):
        session = Service(store).open()  # type: ignore[arg-type]
        assert session.receive(line + b"\n") == reply
        assert session.receive((line + b"\n") * 2) == reply * 2


@pytest.mark.parametrize("verb", [Verb.STATS, Verb.QUIT])
def test_commands_without_arguments(verb: Verb) -> None:
    assert wire.parse_request(wire.build_request(verb)[:-1]) == (verb, b"", b"")


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        (b"", b"v", "1 to 511 bytes, this one has 0"),
        (b"k" * 512, b"v", "this one has 512"),
        (b"a b", b"v", "must not contain a space"),
        (b"a\nb", b"v", "or a line feed"),
        (b"\xff", b"v", "a key is UTF-8"),
        (b"k", b"", "at least one byte"),
        (b"k", b"a\nb", "must not contain a line feed"),
        (b"k", b"\xff\xfe", "a value is UTF-8"),
    ],
)
def test_what_the_protocol_cannot_carry_is_refused_before_it_is_sent(key: bytes, value: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        wire.build_request(Verb.PUT, key, value)


@pytest.mark.parametrize("status", Status)
def test_every_reply_is_parsed_back(status: Status) -> None:
    assert wire.parse_reply(wire.REPLY[status]) == (status, b"")


def test_data_stands_only_behind_200() -> None:
    assert wire.parse_reply(b"200 OK a  b ") == (Status.OK, b"a  b ")
    for line in (b"201 CREATED x", b"404 NOT_FOUND ", b"200 ok", b"", b"HTTP/1.1 200 OK", b"299 FINE"):
        with pytest.raises(ValueError, match="reply"):
            wire.parse_reply(line)


@pytest.mark.parametrize(
    ("line", "foreign"),
    [
        (b"GET / HTTP/1.1\n", True),
        (b"POST /x HTTP/1.0\n", True),
        (b"PRI * HTTP/2.0\n", True),
        (b"HTTP/1.1\n", True),
        (b"GET / HTTP/1.1 \n", True),
        (b"GET / http/3\n", True),
        (b"GET /HTTP/1.1\n", True),
        (b"GET /\n", True),
        (b"POST http://example.org/x\n", True),
        (b"CONNECT a+b.c-d://x\n", True),
        (b"Host: example.org\n", True),
        (b"host:\n", True),
        (b"GET xHTTP/1.1\n", False),
        (b"GET a\n", False),
        (b"PUT a b:\n", False),
        (b"get /\n", False),
        (b"GET ://x\n", False),
        (b"GET 1a://x\n", False),
        (b"KV/1.0 GET HTTP/1.1\n", False),
        (b"KV/1.0\n", False),
        (b"\n", False),
    ],
)
def test_lines_of_other_protocols_are_told_by_rule_5b(line: bytes, foreign: bool) -> None:
    assert foreign_protocols.is_foreign(line) is foreign
    assert foreign_protocols.is_foreign(line.replace(b"\n", b"\r\n")) is foreign


def test_shorten_is_safe_for_a_terminal() -> None:
    assert wire.shorten(b"\x1b[31mred\n") == r"'\x1b[31mred\n'"
    assert wire.shorten(b"x" * 100) == "'" + "x" * 60 + "'... (100 bytes)"
