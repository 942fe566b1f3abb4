"""What the interactive client knows about commands: help, completion, and a hint beside a refusal."""

from difflib import get_close_matches
from typing import Final, NamedTuple

from kvss_gevent.protocol.wire import VERSION


class Topic(NamedTuple):
    """One command: how it is typed, what it does, what is answered."""

    usage: str
    summary: str
    replies: str


TOPICS: Final = {
    "PUT": Topic("PUT key value", "store a value; it may have spaces, a key may not", "201 new key, 200 replaced"),
    "GET": Topic("GET key", "show a value", "200 OK value, 404 no such key"),
    "DEL": Topic("DEL key", "forget a key", "204 forgotten, 404 no such key"),
    "STATS": Topic("STATS", "show the server's counters", "200 OK uptime: ...; connections: ...; ..."),
    "PUTEX": Topic("PUTEX seconds key value", "store a value for some seconds", "201 new key, 200 replaced"),
    "EXPIRE": Topic("EXPIRE key seconds", "let a key expire", "200 OK, 404 no such key"),
    "TTL": Topic("TTL key", "show the seconds that a key has left", "200 OK n, 200 OK -1 for good, 404 no such key"),
    "PERSIST": Topic("PERSIST key", "keep a key that would expire", "200 OK, 404 no such key"),
    "AUTH": Topic("AUTH name password", "log in, where the server has users", "200 OK authenticated, 401"),
    "QUIT": Topic("QUIT", "say goodbye to the server and leave", "200 OK bye"),
    "EXIT": Topic("EXIT, Ctrl-D", "leave", ""),
    "HELP": Topic("HELP [command]", "show this, or more about one command", ""),
}
COMMANDS: Final = tuple(TOPICS)
KEYED: Final = ("PUT", "GET", "DEL", "EXPIRE", "TTL", "PERSIST")
"""The commands whose first argument is a key."""

_ALWAYS: Final = ("PUT", "GET", "DEL", "STATS", "QUIT")
"""The commands of every KV/1.0 server."""

_OTHER_WORDS: Final = {"SET": "PUT", "ADD": "PUT", "DELETE": "DEL", "REMOVE": "DEL", "INFO": "STATS", "BYE": "QUIT"}
"""What people type who know other servers."""

_END: Final = """\
  # ...                    a comment; nothing is sent
Commands are upper case. `KV/1.0 ` is put before a line unless its first word
looks like a version: WRONG/1.0 GET test. A server that does not have PUTEX,
EXPIRE, TTL, PERSIST or AUTH answers 400."""

HELP: Final = "\n".join([*(f"  {topic.usage:<25}{topic.summary}" for topic in TOPICS.values()), _END])


def help_for(word: str) -> str:
    """Return the help of one command, in any letter case, or of all where it is none."""
    name = word.upper()
    topic = TOPICS.get(name)
    if topic is None:
        close = _closest(name)
        return f"  no command {word}" + (f"; HELP {close} tells about {close}" if close else "") + "\n" + HELP
    lines = [f"  {topic.usage}", f"  {topic.summary}"]
    if topic.replies:
        lines.append(f"  answered: {topic.replies}")
    if name not in (*_ALWAYS, "EXIT", "HELP"):
        lines.append("  not every server has it: 400 BAD_REQUEST then")
    return "\n".join(lines)


def hint(request: bytes, reply: bytes) -> str:
    """Return a hint for a line that was refused, empty where there is none to give."""
    version, _, rest = request.decode(errors="replace").partition(" ")
    word, space, arguments = rest.partition(" ")
    if reply == b"426 UPGRADE_REQUIRED":
        known = VERSION.decode()
        return f"the version is {known}, in upper case" if version.upper() == known != version else ""
    if reply == b"401 UNAUTHORIZED":
        return "log in first: AUTH name password, or start with kvss client --user NAME"
    if reply != b"400 BAD_REQUEST":
        return ""
    name = word.upper()
    if name in TOPICS and name != word:
        return f"commands are upper case: {name}{space}{arguments}"
    if name in TOPICS:
        doubt = "" if name in _ALWAYS else ", and not every server has it"
        return f"usage: {TOPICS[name].usage}{doubt}"
    if word.strip() == "" and arguments:
        return "a command begins the line, with no space before it"
    close = _closest(name)
    return f"no command {word}: {close}{space}{arguments}?" if close else "HELP lists the commands"


def _closest(name: str) -> str:
    if name in _OTHER_WORDS:
        return _OTHER_WORDS[name]
    same = (known for known in TOPICS if sorted(known) == sorted(name))  # gte: the letters of GET
    return next(same, None) or next(iter(get_close_matches(name, TOPICS, 1, 0.6)), "")
