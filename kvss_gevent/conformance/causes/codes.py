"""Bugs in what a request is answered with: the code, and the value behind it."""

from typing import Final

from kvss_gevent.conformance.causes.cause import Cause

CAUSES: Final = (
    Cause(
        name="wrong-requests-500",
        sentence="The server answers 500 where the request is wrong, not the server.",
        advice="Look at the number of words before you take one: a wrong request is 400 BAD_REQUEST.",
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
        sentence="The server looks up an empty key where GET or DEL comes without one.",
        advice="A key has at least one byte: without one it is 400 BAD_REQUEST.",
        some=dict.fromkeys(("get-no-key", "get-empty-key", "del-no-key"), "'404"),
        passes=("unknown-command",),
        also=("put-empty-key", "errors-in-pipeline", "stats-*"),
    ),
    Cause(
        name="key-with-spaces",
        sentence="The server takes all that stands behind GET or DEL for the key, spaces and all.",
        advice="A key has no space: cut the whole line at each space and count the words.",
        some=dict.fromkeys(("get-surplus", "del-surplus"), "'404"),
        passes=("get-missing",),
        also=("*-trailing-space", "two-spaces-key", "stats-refused"),
    ),
    Cause(
        name="missing-key-not-404",
        sentence="The server answers a GET of a missing key with another code than 404.",
        advice="A missing key is no mistake of the request or of the server: 404 NOT_FOUND.",
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
        sentence="PUT refuses to replace the value of a key that is there.",
        advice="PUT stores the new value in any case: 201 CREATED for a new key, 200 OK for one that is there.",
        fails={"put-replace": "'[45]", "put-equal": "'[45]"},
        passes=("put-new", "get"),
        also=("get-replaced", "phrase-replaced", "stats-*", "race-*", "in-order", "slow-beside-quick", "reset-unread"),
    ),
)
