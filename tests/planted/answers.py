"""Bugs in how a line is read and what is answered."""

import hashlib
import html
import re
import unicodedata

from reference_server import State, answer

from planted.bug import count, hearing, put_of, replying, saying, words_of


def _with_value(line: bytes, value: bytes) -> bytes:
    return b"KV/1.0 PUT %b %b" % (words_of(line)[1], value) + line[len(line.removesuffix(b"\r")) :]


def _with_key(line: bytes, key: bytes) -> bytes:
    command, old, _ = words_of(line)
    return line.replace(b" %b %b" % (command, old), b" %b %b" % (command, key), 1) if old else line


@hearing("stripped")
def stripped(line: bytes) -> bytes:
    put = put_of(line)
    return _with_value(line, put[1].strip(b" ")) if put else line


@hearing("end-stripped")
def end_stripped(line: bytes) -> bytes:
    return line.rstrip(b" \t\r")


@hearing("tab-stripped")
def tab_stripped(line: bytes) -> bytes:
    return line.rstrip(b"\t")


@hearing("nul-stripped")
def nul_stripped(line: bytes) -> bytes:
    return line.rstrip(b"\0")


@hearing("cut-at-nul")
def cut_at_nul(line: bytes) -> bytes:
    return line.partition(b"\0")[0]


@hearing("split-at-any-space")
def split_at_any_space(line: bytes) -> bytes:
    return b" ".join(line.split())


@hearing("empty-words-dropped")
def empty_words_dropped(line: bytes) -> bytes:
    return b" ".join(word for word in line.split(b" ") if word)


@hearing("values-collapsed")
def values_collapsed(line: bytes) -> bytes:
    put = put_of(line)
    return _with_value(line, re.sub(rb"(?<=[^ ]) +(?=[^ ])", b" ", put[1])) if put else line


@hearing("one-word-values")
def one_word_values(line: bytes) -> bytes:
    put = put_of(line)
    return b"KV/1.0 NO" if put and b" " in put[1] else line


@hearing("first-word-kept")
def first_word_kept(line: bytes) -> bytes:
    put = put_of(line)
    return _with_value(line, put[1].split(b" ")[0]) if put else line


@hearing("ascii-only")
def ascii_only(line: bytes) -> bytes:
    return line if line.isascii() or not line.startswith(b"KV/1.0 ") else b"KV/1.0 NO"


@hearing("normalised")
def normalised(line: bytes) -> bytes:
    try:
        return unicodedata.normalize("NFC", line.decode()).encode()
    except UnicodeDecodeError:
        return line


@hearing("keys-folded")
def keys_folded(line: bytes) -> bytes:
    return _with_key(line, words_of(line)[1].lower())


@hearing("keys-cut")
def keys_cut_at_64(line: bytes) -> bytes:
    key = words_of(line)[1]
    return _with_key(line, key[:64]) if 64 < len(key) < 512 else line


@hearing("keys-cut")
def keys_cut_at_255(line: bytes) -> bytes:
    key = words_of(line)[1]
    return _with_key(line, key[:255]) if 255 < len(key) < 512 else line


@hearing("long-keys-refused")
def long_keys_refused(line: bytes) -> bytes:
    return b"KV/1.0 NO" if len(words_of(line)[1]) > 255 else line


@hearing("key-unbounded")
def key_unbounded(line: bytes) -> bytes:
    key = words_of(line)[1]
    return _with_key(line, hashlib.sha256(key).hexdigest().encode()) if len(key) > 511 else line


@hearing("key-letters-counted")
def key_letters_counted(line: bytes) -> bytes:
    key = words_of(line)[1]
    letters = len(key.decode(errors="replace"))
    return _with_key(line, hashlib.sha256(key).hexdigest().encode()) if letters < 512 <= len(key) else line


@replying("old-bytes-left")
def old_bytes_left(state: State, line: bytes) -> tuple[bytes, bool]:
    if put := put_of(line):
        return answer(state, _with_value(line, put[1] + state.store.get(put[0], b"")[len(put[1]) :]))
    return answer(state, line)


@replying("value-not-replaced")
def value_not_replaced(state: State, line: bytes) -> tuple[bytes, bool]:
    if put := put_of(line):
        return answer(state, _with_value(line, state.store.get(put[0], put[1])))
    return answer(state, line)


@replying("store-capped")
def store_capped(state: State, line: bytes) -> tuple[bytes, bool]:
    put = put_of(line)
    if put and put[0] not in state.store and len(state.store) >= 1000:
        count(state, "served", "put")
        return b"500 SERVER_ERROR", False
    return answer(state, line)


@replying("store-capped")
def oldest_forgotten(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    with state.lock:
        if len(state.store) > 1000:
            del state.store[next(iter(state.store))]
    return reply, ends


@hearing("value-evaluated")
def markup_escaped(line: bytes) -> bytes:
    put = put_of(line)
    return _with_value(line, html.escape(put[1].decode()).encode()) if put else line


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


@replying("get-removes")
def get_removes(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    command, key, _ = words_of(line)
    if command == b"GET":
        with state.lock:
            state.store.pop(key, None)
    return reply, ends


@hearing("value-cut")
def value_cut_at_65535(line: bytes) -> bytes:
    put = put_of(line)
    return _with_value(line, put[1][:65535]) if put else line


@hearing("value-converted")
def numbers_converted(line: bytes) -> bytes:
    put = put_of(line)
    return _with_value(line, b"%d" % int(put[1])) if put and put[1].isdigit() else line


@saying("value-converted")
def null_for_none(reply: bytes) -> bytes:
    return b"200 OK None" if reply == b"200 OK null" else reply


@saying("false-is-missing")
def zero_is_missing(reply: bytes) -> bytes:
    return b"404 NOT_FOUND" if reply == b"200 OK 0" else reply


@replying("keys-of-objects")
def keys_of_objects(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    command, key, _ = words_of(line)
    inherited = command == b"GET" and key in (b"constructor", b"toString") and key not in state.store
    return (b"200 OK function Object() { [native code] }" if inherited else reply), ends


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


@hearing("signs-in-keys")
def keys_end_at_equals(line: bytes) -> bytes:
    return _with_key(line, words_of(line)[1].partition(b"=")[0])


@hearing("signs-in-keys")
def keys_unquoted(line: bytes) -> bytes:
    return _with_key(line, words_of(line)[1].replace(b"%41", b"A"))


@hearing("values-folded")
def values_upper_case(line: bytes) -> bytes:
    put = put_of(line)
    return _with_value(line, put[1].upper()) if put else line


@hearing("command-prefix")
def command_prefix(line: bytes) -> bytes:
    return re.sub(rb"^(KV/1\.0 (?:GET|PUT|DEL|STATS))[A-Z]+", rb"\1", line)
