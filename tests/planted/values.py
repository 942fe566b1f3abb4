"""Bugs in what keys and values may be, and in what is stored."""

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


@hearing("start-stripped")
def start_stripped(line: bytes) -> bytes:
    put = put_of(line)
    return _with_value(line, put[1].lstrip(b" ")) if put else line


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


@hearing("key-limit-elsewhere")
def key_limit_512(line: bytes) -> bytes:
    key = words_of(line)[1]
    return _with_key(line, key[:-1]) if len(key) == 512 else line


@hearing("key-limit-elsewhere")
def key_limit_510(line: bytes) -> bytes:
    return b"KV/1.0 NO" if len(words_of(line)[1]) == 511 else line


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


@replying("put-appends")
def put_appends(state: State, line: bytes) -> tuple[bytes, bool]:
    if put := put_of(line):
        return answer(state, _with_value(line, state.store.get(put[0], b"") + put[1]))
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
