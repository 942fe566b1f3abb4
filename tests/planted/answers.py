"""Bugs in how a line is read and what is answered."""

import re

from reference_server import State, answer

from planted.bug import hearing, put_of, replying, saying, words_of


@replying("exception-ends-connection")
def exception_ends_connection(state: State, line: bytes) -> tuple[bytes, bool]:
    words = line.rstrip(b"\r").split(b" ")
    if words[1] in (b"GET", b"PUT", b"DEL"):  # IndexError where there is no such word
        words[3 if words[1] == b"PUT" else 2].decode()
    return answer(state, line)


@replying("error-ends-connection")
def error_ends_connection(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    return reply, ends or reply[:3] in (b"400", b"426")


@hearing("version-unchecked")
def version_unchecked(line: bytes) -> bytes:
    return b"KV/1.0 " + line.partition(b" ")[2] if line.count(b" ") else line


@hearing("version-number-unchecked")
def version_number_unchecked(line: bytes) -> bytes:
    return re.sub(rb"^KV/[^ ]*", b"KV/1.0", line)


@hearing("version-prefix")
def version_prefix(line: bytes) -> bytes:
    return re.sub(rb"^KV/1\.0[^ ]*", b"KV/1.0", line)


@hearing("version-any-case")
def version_any_case(line: bytes) -> bytes:
    return b"KV" + line[2:] if line[:2] == b"kv" else line


@saying("version-as-400")
def version_as_400(reply: bytes) -> bytes:
    return b"400 BAD_REQUEST" if reply[:3] == b"426" else reply


@hearing("version-late")
def version_late(line: bytes) -> bytes:
    command = line.rstrip(b"\r").split(b" ")[1:2]
    return line if command and command[0] in (b"GET", b"PUT", b"DEL", b"STATS", b"QUIT", b"/", b"*") else b"KV/1.0 NO"


@hearing("bom-taken")
def bom_taken(line: bytes) -> bytes:
    return line.removeprefix(b"\xef\xbb\xbf")


@hearing("commands-any-case")
def commands_any_case(line: bytes) -> bytes:
    return re.sub(rb"^KV/1\.0 [A-Za-z]+", lambda found: found[0].upper(), line)


@hearing("commands-any-case")
def some_commands_any_case(line: bytes) -> bytes:
    return re.sub(rb"^KV/1\.0 (?:stats|quit|del)", lambda found: found[0].upper(), line)


@hearing("surplus-ignored")
def surplus_ignored(line: bytes) -> bytes:
    most = {b"GET": 3, b"DEL": 3, b"STATS": 2, b"QUIT": 2}.get(words_of(line)[0], 99)
    return b" ".join(line.split(b" ")[:most]) if words_of(line)[1] or most == 2 else line


@replying("empty-value-taken")
def empty_value_taken(state: State, line: bytes) -> tuple[bytes, bool]:
    command, key, value = words_of(line)
    if command == b"PUT" and 0 < len(key) < 512 and not value:
        reply, ends = answer(state, b"KV/1.0 PUT %b x" % key)
        state.store[key] = b""
        return reply, ends
    return answer(state, line)


@replying("put-always-201")
def put_always_201(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    return (b"201 CREATED" if reply == b"200 OK" else reply), ends


@replying("equal-put-201")
def equal_put_201(state: State, line: bytes) -> tuple[bytes, bool]:
    put = put_of(line)
    equal = put is not None and state.store.get(put[0]) == put[1]
    reply, ends = answer(state, line)
    return (b"201 CREATED" if equal else reply), ends


@saying("put-always-200")
def put_always_200(reply: bytes) -> bytes:
    return b"200 OK" if reply == b"201 CREATED" else reply


@replying("get-missing-200")
def get_missing_200(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    return (b"200 OK None" if reply[:3] == b"404" and words_of(line)[0] == b"GET" else reply), ends


@replying("deleted-still-there")
def deleted_still_there(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    if reply[:3] == b"204":
        state.store[words_of(line)[1]] = b""
    return reply, ends


@replying("del-always-204")
def del_always_204(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    return (b"204 NO_CONTENT" if reply[:3] == b"404" and words_of(line)[0] == b"DEL" else reply), ends


@saying("del-answers-200")
def del_answers_200(reply: bytes) -> bytes:
    return b"200 OK deleted" if reply == b"204 NO_CONTENT" else reply


@replying("refused-put-run")
def refused_put_run(state: State, line: bytes) -> tuple[bytes, bool]:
    command, key, value = words_of(line)
    if command == b"PUT" and key and not value:
        state.store.pop(key, None)
    return answer(state, line)


@replying("quit-stays-open")
def quit_stays_open(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    return reply, ends and reply != b"200 OK bye"


@replying("http-served")
def http_served(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    return reply, ends and reply == b"200 OK bye"


@saying("phrases-misspelled")
def phrases_with_spaces(reply: bytes) -> bytes:
    return reply.replace(b"_", b" ") if reply[:1] == b"4" else reply


@saying("phrases-misspelled")
def phrases_in_small_letters(reply: bytes) -> bytes:
    return {b"404 NOT_FOUND": b"404 Not Found", b"400 BAD_REQUEST": b"400 Bad Request"}.get(reply, reply)


@saying("text-behind-phrase")
def text_behind_phrase(reply: bytes) -> bytes:
    return reply + b" key deleted" if reply[:3] == b"204" else reply


@saying("put-says-more")
def put_says_more(reply: bytes) -> bytes:
    return b"200 OK updated" if reply == b"200 OK" else reply


@saying("other-farewell")
def other_farewell(reply: bytes) -> bytes:
    return b"200 OK Goodbye" if reply == b"200 OK bye" else reply


@saying("other-stats-form")
def stats_as_json(reply: bytes) -> bytes:
    if reply[:14] != b"200 OK uptime:":
        return reply
    pairs = [pair.split(b": ", 1) for pair in reply[7:].split(b"; ")]
    return b"200 OK {" + b", ".join(b'"%b": %b' % (name, number) for name, number in pairs) + b"}"


@replying("counter-stands-still", form="lab")
def served_stands_still(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    with state.lock:
        state.counts["served"] = 0
    return reply, ends


@replying("counter-stands-still")
def gets_stand_still(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    with state.lock:
        state.counts["get"] = 0
    return reply, ends


@hearing("command-prefix")
def command_prefix(line: bytes) -> bytes:
    return re.sub(rb"^(KV/1\.0 (?:GET|PUT|DEL|STATS))[A-Z]+", rb"\1", line)
