"""Rows of recorded bytes about single replies: what each becomes in the program, and which are lies."""

from typing import Any

from face_rows import GET, RIGHT, SENT_GET, Raises, Row

from kvss_gevent import (
    KVBadRequest,
    KVError,
    KVForbidden,
    KVProtocolError,
    KVServerError,
    KVUnauthorized,
    KVUpgradeRequired,
    Stats,
)

STATS = b"200 OK uptime: 1 day, 0:05:23; connections: 1; commands_processed: 6; get_requests: 3; put_requests: 2; "


def refusal(reply: bytes, kind: type[KVError]) -> Row:
    text = f": <server> answered {reply.decode()}"
    return Row(
        f"{reply.decode()} is an error and the connection stays",
        (((1, reply + b"\n"), (1, reply + b"\n"), (1, reply + b"\n"), *RIGHT),),
        [
            (*GET, Raises(kind, "GET k" + text)),
            ("put", b"a b"[:1], b"v", Raises(kind, "PUT a" + text)),
            ("stats", Raises(kind, "STATS" + text)),
            (*GET, b"right"),
        ],
    )


def lie(call: tuple[Any, ...], reply: bytes) -> Row:
    return Row(
        f"{call[0]} answered by {reply!r} is an error and ends the connection",
        (((1, reply + b"\n"), (1, 5.0)), RIGHT),
        [(*call, Raises(KVProtocolError, "[A-Z]+( k)?: <server> does not keep to KV/1.0: .*")), (*GET, b"right")],
    )


ROWS = [
    Row(
        "every result",
        (
            (
                (1, b"201 CREATED\n"),
                (1, b"200 OK\n"),
                (1, b"200 OK a  b \n"),
                (1, b"404 NOT_FOUND\n"),
                (1, b"204 NO_CONTENT\n"),
                (1, b"404 NOT_FOUND\n"),
                (1, STATS + b"del_requests: 1; keys_stored: 0\n"),
            ),
        ),
        [
            ("put", b"k", b"a\r", True),
            ("put", b"k", b"a  b ", False),
            ("get", b"k", b"a  b "),
            ("get", b"\xc3\xa9\r", None),
            ("delete", b"k", True),
            ("delete", b"k", False),
            ("stats", Stats(86723, 0, 6, 1, 3, 2, 1)),
        ],
        [
            b"KV/1.0 PUT k a\r\r",
            b"KV/1.0 PUT k a  b ",
            SENT_GET,
            b"KV/1.0 GET \xc3\xa9\r\r",
            b"KV/1.0 DEL k",
            b"KV/1.0 DEL k",
            b"KV/1.0 STATS",
        ],
    ),
    Row(
        "text in and out",
        (
            ((1, b"201 CREATED\n"), (1, "200 OK größe\n".encode()), (1, b"404 NOT_FOUND\n"), (1, b"200 OK \xff\n")),
            RIGHT,
        ),
        [
            ("put", "schlüssel", "größe", True),
            ("get", "schlüssel", "größe"),
            ("get", "k", None),
            ("get", "k", Raises(KVProtocolError, "GET k: <server> does not keep to KV/1.0: .*utf-8.*")),
            ("get", "k", "right"),
            ("get", b"k", Raises(TypeError, 'with encoding="utf-8" a key is str, not bytes')),
        ],
        ["KV/1.0 PUT schlüssel größe".encode(), "KV/1.0 GET schlüssel".encode(), SENT_GET, SENT_GET, SENT_GET],
        {"encoding": "utf-8"},
    ),
    Row(
        "keys that expire",
        (
            (
                (1, b"201 CREATED\n"),
                (1, b"200 OK\n"),
                (1, b"404 NOT_FOUND\n"),
                (1, b"200 OK 59\n"),
                (1, b"200 OK -1\n"),
                (1, b"404 NOT_FOUND\n"),
                (1, b"200 OK\n"),
                (1, b"404 NOT_FOUND\n"),
                (1, b"400 BAD_REQUEST\n"),
                (1, b"200 OK soon\n"),
            ),
        ),
        [
            ("put", b"k", b"a b", {"ttl_s": 60}, True),
            ("expire", b"k", 1_000_000_000, True),
            ("expire", b"k", 1, False),
            ("ttl", b"k", 59),
            ("ttl", b"k", -1),
            ("ttl", b"k", None),
            ("persist", b"k", True),
            ("persist", b"k", False),
            ("ttl", b"k", Raises(KVBadRequest, "TTL k: <server> answered 400 BAD_REQUEST")),
            ("expire", b"k", 0, Raises(ValueError, "ttl_s is 1 to 1000000000 seconds, not 0")),
            ("put", b"k", b"v", {"ttl_s": 1.5}, Raises(TypeError, "ttl_s is a whole number of seconds, not 1.5")),
            ("ttl", b"k", Raises(KVProtocolError)),
        ],
        [
            b"KV/1.0 PUTEX 60 k a b",
            b"KV/1.0 EXPIRE k 1000000000",
            b"KV/1.0 EXPIRE k 1",
            *[b"KV/1.0 TTL k"] * 3,
            *[b"KV/1.0 PERSIST k"] * 2,
            *[b"KV/1.0 TTL k"] * 2,
        ],
    ),
    Row(
        "what cannot be sent is not sent",
        (),
        [
            ("get", b"", Raises(ValueError, "a key has 1 to 511 bytes, this one has 0")),
            ("get", b"k" * 512, Raises(ValueError, "a key has 1 to 511 bytes, this one has 512")),
            ("delete", b"a b", Raises(ValueError, "a key must not contain a space or a line feed: 'a b'")),
            ("put", b"a\nb", b"v", Raises(ValueError, r"a key must not contain a space or a line feed: 'a\\nb'")),
            ("get", b"\xff", Raises(ValueError, r"a key is UTF-8: '\\xff'")),
            ("put", b"k", b"", Raises(ValueError, "a value must have at least one byte")),
            ("put", b"k", b"a\nKV/1.0 DEL b", Raises(ValueError, "a value must not contain a line feed.*")),
            ("put", b"k", b"\xc3", Raises(ValueError, "a value is UTF-8.*")),
            ("get", "k", Raises(TypeError, 'a key is bytes, not str, unless the client has encoding="utf-8"')),
            ("put", b"k", 5, Raises(TypeError, "a value is bytes, not int")),
        ],
        [],
    ),
    *(
        refusal(reply, kind)
        for reply, kind in (
            (b"400 BAD_REQUEST", KVBadRequest),
            (b"401 UNAUTHORIZED", KVUnauthorized),
            (b"403 FORBIDDEN", KVForbidden),
            (b"426 UPGRADE_REQUIRED", KVUpgradeRequired),
            (b"500 SERVER_ERROR", KVServerError),
        )
    ),
    *(lie(GET, reply) for reply in (b"<html>", b"", b"\xff\x00\x1b[2J", b"200 OK", b"200 OK ", b"201 CREATED")),
    *(lie(GET, reply) for reply in (b"200 ok v", b"404 NOT_FOUND k", b"HTTP/1.1 400 Bad Request", b"499 WHAT")),
    *(lie(("put", b"k", b"v"), reply) for reply in (b"200 OK v", b"404 NOT_FOUND", b"204 NO_CONTENT")),
    *(lie(("delete", b"k"), reply) for reply in (b"200 OK", b"201 CREATED")),
    *(lie(("stats",), reply) for reply in (b"200 OK", b"200 OK v", b"404 NOT_FOUND")),
    *(
        Row(
            f"{extra!r} behind a reply",
            (((1, b"200 OK first\n" + extra), (1, 5.0)), RIGHT),
            [
                (*GET, Raises(KVProtocolError, "GET k: <server> .*: it sent a reply too many, '.*'", (bytes,))),
                (*GET, b"right"),
            ],
        )
        for extra in (b"200 OK wrong\n", b"200 OK wr", b"\n", b"500 SERVER_ERROR\n")
    ),
]
