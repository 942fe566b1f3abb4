"""A class of submissions for the tests of grading: right, wrong, and hostile ones, written into a folder."""

import shutil
import sys
from pathlib import Path

TESTS = Path(__file__).parent

SERVER = """
import os, sys, time
threads = True
sys.path.insert(0, {tests!r})
from reference_server import answer, running, talking
{body}
serving = running(talking(reply_to), port=int(sys.argv[1]), threads=threads)
serving.__enter__()
time.sleep(600)
"""

RIGHT = "reply_to = answer"
CRASHING = """
def reply_to(state, line):
    if line == b"KV/1.0": os._exit(7)
    return answer(state, line)
"""
WRONG = """
def reply_to(state, line):
    reply, ends = answer(state, line)
    return (b"404 Not Found" if reply == b"404 NOT_FOUND" else reply), ends
"""
SEQUENTIAL = "reply_to, threads = answer, False"

SCRIPT = f"exec {sys.executable} server.py $1"
_HIDE = "(setsid sh -c 'trap \"\" TERM HUP INT; {} ' >/dev/null 2>&1 &)"

ROGUES = {
    "hang in build": {"build.sh": "sleep {mark}", "run.sh": SCRIPT, "server.py": RIGHT},
    "hang at start": {"run.sh": "sleep {mark}"},
    "flood": {"run.sh": "yes {mark}"},
    "fork": {"run.sh": "while :; do sleep {mark} & done"},
    "setsid": {"run.sh": _HIDE.format("sleep {mark}") + "; sleep {mark}"},
    "double fork": {"run.sh": f"({_HIDE.format('sleep {mark}')} &) ; exit 0"},
    "ignore signals": {"run.sh": "trap '' TERM INT HUP QUIT; while :; do sleep {mark}; done"},
    "fill the disk": {"run.sh": "i=0; while :; do i=$((i+1)); head -c 50000000 /dev/zero >f$i || sleep {mark}; done"},
    "listen elsewhere": {"run.sh": SCRIPT.replace("$1", "0"), "server.py": RIGHT},
    "daemon": {"run.sh": f"{_HIDE.format('sleep {mark}')}; ({SCRIPT} &) ; exit 0", "server.py": RIGHT},
    "crash": {"run.sh": SCRIPT, "server.py": CRASHING},
    "no build": {"build.sh": "echo cannot compile >&2; exit 3", "run.sh": SCRIPT},
}
"""Folders of files by name; `{mark}` becomes a number by which what is left running is found."""


def write(directory: Path, files: dict[str, str], mark: int = 0) -> Path:
    """Write one submission."""
    directory.mkdir(parents=True)
    for name, text in files.items():
        whole = SERVER.format(tests=str(TESTS), body=text) if name == "server.py" else text
        (directory / name).write_text(whole.replace("{mark}", str(mark)), encoding="utf-8")
        if name.endswith(".sh"):
            (directory / name).write_text("#!/bin/sh\n" + whole.replace("{mark}", str(mark)), encoding="utf-8")
    return directory


def write_rogues(directory: Path, mark: int, copies: int = 1) -> list[str]:
    """Write all rogues, some times over; returns the names."""
    names = [f"{name} {number}" if number else name for number in range(copies) for name in ROGUES]
    for name in names:
        write(directory / name, ROGUES[name.rstrip("0123456789").rstrip()], mark)
    return names


if __name__ == "__main__":
    place = Path(sys.argv[1])
    shutil.rmtree(place, ignore_errors=True)
    write_rogues(place, int(sys.argv[2]), int(sys.argv[3]))
    for name, body in (("An", RIGHT), ("Đặng Thị Bình", WRONG), ("=cmd|' calc'!A0", RIGHT), ("<b>x", WRONG)):
        write(place / name, {"run.sh": SCRIPT, "server.py": body})
