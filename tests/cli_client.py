"""Runs `kvss client` for a test, and a server that breaks off in a reply."""

import in_process
from fake_server import Peer


def kvss(*words: str, stdin: bytes = b"", **environment: str) -> tuple[int, str, str]:
    """Run `kvss client` in this process and return exit code, standard output and standard error."""
    done = in_process.kvss("client", *words, stdin=stdin, env=environment)
    return done.returncode, done.stdout, done.stderr


def cut(peer: Peer) -> None:
    """Break off in the middle of a reply."""
    peer.line()
    peer.send(b"200 OK a")
