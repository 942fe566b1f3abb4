"""Rows of recorded bytes about connections: late replies, ends, pipelines, limits and logins."""

from face_rows import CUE, ENDED, GET, RIGHT, SENT_GET, Raises, Row

from kvss_gevent import (
    KVBadRequest,
    KVConnectError,
    KVConnectionLost,
    KVProtocolError,
    KVServerError,
    KVTimeout,
    KVUnauthorized,
)

BIG = b"v" * 3_000_000
LOGIN = {"user": "ann", "password": "open  sesame "}
SENT_LOGIN = b"KV/1.0 AUTH ann open  sesame "

ROWS = [
    Row(
        "a reply that nobody asked for is not read as the next",
        (((1, b"200 OK first\n"), (0, CUE), (0, b"200 OK wrong\n"), (1, 5.0)), RIGHT),
        [(*GET, b"first"), (CUE,), ("put", b"k", b"v", Raises(KVProtocolError, r".* '200 OK wrong\\n' unasked"))],
        [SENT_GET],
    ),
    Row(
        "a late reply is not read as the next",
        (((1, CUE), (0, b"200 OK late\n"), (1, 5.0)), RIGHT),
        [
            (*GET, Raises(KVTimeout, "GET k: no reply from <server>: none came within 0.5 s")),
            (CUE,),
            (*GET, b"right"),
        ],
        options={"timeout_s": 0.5},
    ),
    Row(
        "bytes that drip do not stretch the deadline",
        (((1, b"2"), *[(0, 0.05), (0, b"0")] * 200), RIGHT),
        [(*GET, Raises(KVTimeout, "GET k: no reply from <server>: only a part of it came within 0.5 s"))],
        options={"timeout_s": 0.5},
    ),
    Row(
        "a reply in single bytes is whole",
        (((1, b""), *((0, bytes([byte])) for byte in "200 OK größe\n".encode()), (1, b"404 NOT_FOUND\n")),),
        [(*GET, "größe".encode()), (*GET, None)],
    ),
    *(
        Row(
            f"a connection that ends behind {data!r} is told, and nothing is sent twice",
            (((1, data),), RIGHT),
            [
                ("put", b"k", b"v", Raises(KVConnectionLost, f"PUT k: lost the connection to <server>: .* {where}")),
                (*GET, b"right"),
            ],
            [b"KV/1.0 PUT k v", SENT_GET],
        )
        for data, where in ((b"200 OK ri", "closed it in the middle of a reply"), (b"", "closed it before the reply"))
    ),
    Row(
        "an idle connection that ended is replaced",
        (((1, b"200 OK first\n"),), RIGHT),
        [(*GET, b"first"), (ENDED, 1), ("put", b"k", b"v", Raises(KVProtocolError)), ("connections", 2)],
        [SENT_GET, b"KV/1.0 PUT k v"],
    ),
    Row(
        "a full server says 500 and closes",
        (((0, b"500 SERVER_ERROR\n"),), ((0, b"500 SERVER_ERROR\n"),), RIGHT),
        [
            (*GET, Raises(KVServerError, "GET k: <server> answered 500 SERVER_ERROR")),
            (ENDED, 1),
            ([GET, GET], Raises(KVConnectionLost, ".*", (KVServerError,))),
            (ENDED, 2),
            (*GET, b"right"),
        ],
    ),
    Row(
        "500 on an idle connection",
        (((1, b"200 OK first\n"), (0, CUE), (0, b"500 SERVER_ERROR\n")), RIGHT),
        [(*GET, b"first"), (CUE,), (ENDED, 1), ("put", b"k", b"v", Raises(KVServerError)), (*GET, b"right")],
        [SENT_GET, SENT_GET],
    ),
    Row(
        "a pipeline answers in order",
        (((4, b"201 CREATED\n200 OK 1\n"), (0, b"404 NOT_FOUND\n204 NO_CONTENT\n"), (1, b"404 NOT_FOUND\n")),),
        [
            ([], []),
            ([("put", b"a", b"1"), ("get", b"a"), ("get", b"b"), ("delete", b"a")], [True, b"1", None, True]),
            ([("expire", b"a", 5)], [False]),
        ],
        [b"KV/1.0 PUT a 1", b"KV/1.0 GET a", b"KV/1.0 GET b", b"KV/1.0 DEL a", b"KV/1.0 EXPIRE a 5"],
    ),
    Row(
        "a refused request in a pipeline",
        (((3, b"201 CREATED\n400 BAD_REQUEST\n200 OK v\n"), (3, b"200 OK\n500 SERVER_ERROR\n200 OK v\n"), *RIGHT),),
        [
            (
                [("put", b"a", b"1"), ("get", b"b"), ("get", b"a")],
                Raises(KVBadRequest, "GET b: .*", (bool, KVBadRequest, bytes)),
            ),
            (
                [("put", b"a", b"1"), ("get", b"b"), ("get", b"a")],
                {"raise_errors": False},
                [False, KVServerError, b"v"],
            ),
            (*GET, b"right"),
        ],
    ),
    Row(
        "a cut pipeline keeps its results and is not sent again",
        (((4, b"201 CREATED\n400 BAD_REQUEST\n200 O"),), RIGHT),
        [
            (
                [("put", b"a", b"1"), ("put", b"b", b"2"), ("get", b"a"), ("put", b"c", b"3")],
                Raises(KVConnectionLost, "GET a: .*", (bool, KVBadRequest)),
            ),
            (*GET, b"right"),
        ],
        [b"KV/1.0 PUT a 1", b"KV/1.0 PUT b 2", b"KV/1.0 GET a", b"KV/1.0 PUT c 3", SENT_GET],
    ),
    Row(
        "a lie in a pipeline",
        (((2, b"200 OK 1\n201 CREATED\n"), (1, 5.0)), RIGHT),
        [([GET, GET], Raises(KVProtocolError, "GET k: .* is not a reply to this command", (bytes,))), (*GET, b"right")],
    ),
    Row(
        "a giant reply",
        (((1, b"200 OK " + BIG + b"\n"), *RIGHT),),
        [(*GET, BIG), (*GET, b"right")],
    ),
    Row(
        "the limit of a reply",
        (((1, b"200 OK 1234567\n"), (1, b"200 OK 12345678\n"), (1, 5.0)), RIGHT),
        [
            (*GET, b"1234567"),
            (*GET, Raises(KVProtocolError, ".* a reply over the limit of 14 bytes")),
            (*GET, b"right"),
        ],
        options={"max_reply_bytes": 14},
    ),
    Row(
        "every connection logs in first",
        (((1, b"200 OK authenticated\n"), (1, b"200 OK first\n")), ((1, b"200 OK authenticated\n"), *RIGHT)),
        [(*GET, b"first"), (ENDED, 1), (*GET, b"right")],
        [SENT_LOGIN, SENT_GET, SENT_LOGIN, SENT_GET],
        LOGIN,
    ),
    Row(
        "a login that is refused",
        (((1, b"401 UNAUTHORIZED\n"), (1, 5.0)), ((1, b"400 BAD_REQUEST\n"), (1, 5.0))),
        [
            (*GET, Raises(KVUnauthorized, "(AUTH ann|GET k): <server> answered 401 UNAUTHORIZED")),
            (*GET, Raises(KVBadRequest, "(AUTH ann|GET k): <server> answered 400 BAD_REQUEST")),
        ],
        [SENT_LOGIN, SENT_LOGIN],
        LOGIN,
    ),
    Row(
        "a login without a reply: the command was not sent",
        (((1, b""),), ((1, 0.5),)),
        [
            ("put", b"k", b"v", Raises(KVConnectError, "PUT k: cannot connect to <server>: no reply to AUTH ann: .*")),
            ("put", b"k", b"v", Raises(KVConnectError, "PUT k: cannot connect to <server>: no reply to AUTH ann: .*")),
        ],
        [SENT_LOGIN, SENT_LOGIN],
        {**LOGIN, "timeout_s": 0.2},
    ),
]
