"""Mistakes in the form of all replies: one case judges each of them, and all other cases ignore it."""

from typing import Final

from kvss_gevent.conformance.causes.cause import Cause

CAUSES: Final = (
    Cause(
        name="greeting",
        sentence="The server sends something before the first request.",
        advice="A client takes the first line as the reply to its first request: send no welcome and no prompt.",
        fails={"no-greeting": ""},
        passes=("put-new",),
    ),
    Cause(
        name="replies-end-in-crlf",
        sentence="Replies end in CR LF.",
        advice="Send \\n alone; on some systems a file object in text mode writes \\r\\n by itself.",
        fails={"reply-ends-in-lf": r"\\r\\n'"},
    ),
    Cause(
        name="replies-end-twice",
        sentence="An empty line follows each reply.",
        advice="Send one \\n after each reply: here the reply already has one, and the server adds a second one.",
        fails={"reply-ends-in-lf": r"\\n\\n'"},
    ),
    Cause(
        name="replies-without-lf",
        sentence="Replies have no line feed at their end: a client cannot know where one stops.",
        advice="Send \\n after each reply.",
        fails={"reply-ends-in-lf": r"[^n]'$"},
        passes=("put-new",),
        over=("cut-at-nul", "nul-stripped"),
        also=("nul", "nul-last"),
    ),
    Cause(
        name="replies-padded",
        sentence="NUL bytes follow each reply: the whole buffer is sent.",
        advice="Send as many bytes as the reply has, strlen(reply), not sizeof(buffer).",
        fails={"reply-not-padded": ""},
        passes=("put-new",),
        over=("cut-at-nul", "nul-stripped"),
        also=("nul", "nul-last"),
    ),
    Cause(
        name="phrases-misspelled",
        sentence="Phrases are not spelled as in the table of replies.",
        advice="Write each phrase once as a constant: 404 NOT_FOUND, with its underscore.",
        fails={"phrase-spelling": r"^'(\d+)\b.* for '\1\b"},
    ),
    Cause(
        name="text-behind-phrase",
        sentence="Text follows a phrase that ends the reply.",
        advice="A reply is its code and phrase; only the 200 OK of GET and STATS has data after it.",
        fails={"phrase-alone": r"^'(\d+)\b.* for '\1\b"},
        also=("phrase-replaced",),
    ),
    Cause(
        name="put-says-more",
        sentence="Text follows the 200 OK of a PUT that replaces a value.",
        advice="Answer 200 OK alone: a client that expects a value after it takes the text for one.",
        fails={"phrase-replaced": "'200 OK.+' for '200"},
        passes=("phrase-alone",),
    ),
    Cause(
        name="other-farewell",
        sentence="QUIT is answered, but not with 200 OK bye.",
        advice="Send 200 OK bye, then close.",
        fails={"quit-bye": "'|closed"},
        passes=("quit-closes",),
    ),
    Cause(
        name="other-stats-form",
        sentence="STATS has another form than the document's.",
        advice="One line, with every name, colon, semicolon and space as in the document.",
        some={"stats-form*": "'200|'[^0-9]"},
        also=("stats-*",),
    ),
)
