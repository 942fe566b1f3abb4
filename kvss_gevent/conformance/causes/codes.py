"""Bugs in replies: the code, and the value after it."""

from typing import Final

from kvss_gevent.conformance.causes.cause import Cause

CAUSES: Final = (
    Cause(
        name="login-needed",
        sentence="The server asks for a login: it answers 401 to every request.",
        advice="Give the checker a user with --user, or start the server without users.",
        fails={"put-new": "'401", "get-missing": "'401"},
        over=("crlf-refused", "cut-at-nul"),
        also=("*",),
    ),
    Cause(
        name="wrong-requests-500",
        sentence="The server answers 500 when the request is wrong, not the server.",
        advice="Check the number of words before you use one: a wrong request is 400 BAD_REQUEST.",
        some=dict.fromkeys(("get-no-key", "put-nothing", "put-no-value", "del-no-key", "unknown-command"), "'500"),
        passes=("put-new",),
        also=(
            *("no-command", "*-empty-*", "empty-command", "*-surplus", "*-space", "two-spaces-*", "*-case-*", "*-key*"),
            *("whole-commands", "open-after-400", "errors-in-pipeline", "in-order", "refused-put", "tab-command"),
            *("phrase-*", "*utf8*", "stats-refused", "stats-commands", "long-line*"),
        ),
    ),
    Cause(
        name="unknown-command-not-400",
        sentence="The server answers an unknown command with a code that means something else.",
        advice="An unknown command is 400 BAD_REQUEST: 404 is for a missing key, 426 for the version.",
        fails={"unknown-command": "'404|'405|'426"},
        passes=("put-new", "get-no-key"),
        over=("commands-any-case", "command-prefix"),
        also=(
            "whole-commands",
            "no-command",
            "empty-command",
            "*-case-*",
            "tab-command",
            "two-spaces-command",
            "in-order",
        ),
    ),
    Cause(
        name="no-key-looked-up",
        sentence="The server looks up an empty key when GET or DEL comes without a key.",
        advice="A key has at least one byte: without one it is 400 BAD_REQUEST.",
        some=dict.fromkeys(("get-no-key", "get-empty-key", "del-no-key"), "'404"),
        passes=("unknown-command",),
        also=("put-empty-key", "errors-in-pipeline", "stats-*"),
    ),
    Cause(
        name="key-with-spaces",
        sentence="The server takes everything after GET or DEL for the key, even spaces.",
        advice="A key has no space: cut the whole line at each space and count the words.",
        some=dict.fromkeys(("get-surplus", "del-surplus"), "'404"),
        passes=("get-missing",),
        also=("*-trailing-space", "two-spaces-key", "stats-refused"),
    ),
    Cause(
        name="missing-key-not-404",
        sentence="The server answers a GET of a missing key with another code than 404.",
        advice="A missing key is not an error of the request or of the server: 404 NOT_FOUND.",
        fails={"get-missing": "'400|'410|'500|'204"},
        passes=("put-new", "get"),
        over=("no-key-looked-up", "text-behind-phrase", "keys-counted-apart"),
        also=(
            *(
                "del-missing",
                "del-forgets",
                "*-not-run",
                "in-order",
                "keys-of-objects",
                "slow-beside-quick",
                "phrase-*",
            ),
            *("long-line-dropped", "deaf-client", "open-after-404", "stats-*", "race-*"),
        ),
    ),
    Cause(
        name="value-quoted",
        sentence="GET returns the value in quotes.",
        advice="Send the bytes of the value: Python's str() and repr() of bytes put b'' around them, JSON puts quotes.",
        fails={"get": "^.200 OK b?[\"']value[\"']"},
        passes=("put-new",),
        also=("*",),
    ),
    Cause(
        name="value-not-in-line",
        sentence="GET answers 200 OK without the value in the same line.",
        advice="One line: 200 OK, one space, the value.",
        fails={"get": "^'200 OK' for '200 OK v", "get-replaced": "^'200 OK' for '200 OK n"},
        passes=("put-new", "get-missing"),
        over=("refused-put-run",),
        also=("*",),
    ),
    Cause(
        name="put-refuses-replacing",
        sentence="PUT refuses to replace the value of an existing key.",
        advice="PUT always stores the new value: 201 CREATED for a new key, 200 OK for an existing one.",
        fails={"put-replace": "'[45]", "put-equal": "'[45]"},
        passes=("put-new", "get"),
        also=("get-replaced", "phrase-replaced", "stats-*", "race-*", "in-order", "slow-beside-quick", "reset-unread"),
    ),
)
