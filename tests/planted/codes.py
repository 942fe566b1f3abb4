"""Bugs in what a request is answered with."""

from reference_server import State, answer

from planted.bug import replying, saying, words_of


@saying("wrong-requests-500")
def wrong_requests_500(reply: bytes) -> bytes:
    return b"500 SERVER_ERROR" if reply[:3] == b"400" else reply


@replying("wrong-requests-500")
def missing_words_500(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    wrong = reply[:3] == b"400" and words_of(line)[0] in (b"GET", b"PUT", b"DEL") and line.count(b" ") < 2
    return (b"500 SERVER_ERROR" if wrong else reply), ends


@replying("unknown-command-not-400")
def unknown_command_404(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    known = words_of(line)[0] in (b"", b"GET", b"PUT", b"DEL", b"STATS", b"QUIT")
    return (reply if known else b"404 NOT_FOUND"), ends


@replying("no-key-looked-up")
def no_key_looked_up(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    command, key, _ = words_of(line)
    return (b"404 NOT_FOUND" if command in (b"GET", b"DEL") and not key and line.count(b" ") < 3 else reply), ends


@replying("key-with-spaces")
def key_with_spaces(state: State, line: bytes) -> tuple[bytes, bool]:
    command, _, value = words_of(line)
    return (b"404 NOT_FOUND", False) if command in (b"GET", b"DEL") and value else answer(state, line)


@replying("missing-key-not-404")
def missing_key_400(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    return (b"400 BAD_REQUEST" if reply[:3] == b"404" else reply), ends


@replying("missing-key-not-404")
def missing_key_204(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    return (b"204 NO_CONTENT" if reply[:3] == b"404" and words_of(line)[0] == b"GET" else reply), ends


@replying("value-quoted")
def value_as_repr(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    quoted = words_of(line)[0] == b"GET" and reply[:3] == b"200"
    return (b"200 OK " + repr(reply[7:]).encode() if quoted else reply), ends


@replying("value-not-in-line")
def value_in_the_next_line(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    return (reply.replace(b"OK ", b"OK\n", 1) if words_of(line)[0] == b"GET" else reply), ends


@replying("put-refuses-replacing")
def put_refuses_replacing(state: State, line: bytes) -> tuple[bytes, bool]:
    command, key, value = words_of(line)
    taken = command == b"PUT" and key in state.store and value
    return answer(state, b"KV/1.0 NO" if taken else line)


@replying("login-needed")
def login_needed(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    return (b"401 UNAUTHORIZED", False) if reply[:3] in (b"200", b"201", b"204", b"404") and not ends else (reply, ends)
