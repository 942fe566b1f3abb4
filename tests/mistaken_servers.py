"""Servers with one known mistake for tests of the conformance runner, and what they lose."""

from reference_server import Converse, State, answer, talking

from kvss_gevent.conformance.case_plan import Plan
from kvss_gevent.conformance.running.runner import grade


def lost(port: int, *groups: str, timeout_s: float = 2.0) -> set[str]:
    return {verdict.case.id for verdict in grade("127.0.0.1", port, Plan(groups, timeout_s=timeout_s)).failures}


def changing(**replies: bytes) -> Converse:
    """A correct server, but for the replies named by their code."""
    changed = {name.encode()[1:]: reply for name, reply in replies.items()}

    def reply_to(state: State, line: bytes) -> tuple[bytes, bool]:
        reply, ends = answer(state, line)
        return changed.get(reply[:3], reply), ends

    return talking(reply_to)
