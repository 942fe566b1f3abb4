"""Runs cases against a server, beside each other where that is fair. Adding up the points is for score.py.

A server that hangs, closes or dies costs only the case at hand. The whole run is bounded: see longest_s.
"""

import secrets
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from kvss_gevent.conformance.case import Case
from kvss_gevent.conformance.case_runner import Target, run_case
from kvss_gevent.conformance.cases import CASES
from kvss_gevent.conformance.peer import Address, Deadline, Gone, NoReply, Peer, describe
from kvss_gevent.conformance.score import Scorecard, Verdict
from kvss_gevent.conformance.stats_forms import ANY, README, form_of

WORKERS: Final = 8
"""Cases at a time. Most wait for their own pauses, so that this many keep one core of a small machine half busy."""

DEFAULT_TIMEOUT_S: Final = 2.0

_BESIDES_S: Final = 1.6
"""What a case may take beside its timeout and pauses: gaps between packets, settling, a look behind the end."""

Progress = Callable[[int, int], None]
"""Called with the cases done and the cases there are."""


class Unreachable(Exception):
    """Nothing answers at the address: no case was run. The message says why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run and how: groups (none means all), the STATS form or ANY, and the timeout of one case in seconds."""

    groups: tuple[str, ...] = ()
    stats_form: str = ANY
    timeout_s: float = DEFAULT_TIMEOUT_S


DEFAULT_PLAN: Final = Plan()


def _ignore(_done: int, _all: int) -> None:
    pass


def grade(host: str, port: int, plan: Plan = DEFAULT_PLAN, progress: Progress = _ignore) -> Scorecard:
    """Run the planned cases against the server at host and port.

    Raises Unreachable where no connection can be made to begin with. Takes at most longest_s seconds.
    """
    started = time.monotonic()
    prefix = b"conform-" + secrets.token_hex(3).encode()
    target, one_at_a_time = _probe(host, port, prefix + b"-end", plan)
    cases = choose(plan.groups, target.stats_form)
    keys = {case.id: b"%b-%03d" % (prefix, number) for number, case in enumerate(cases)}
    verdicts: dict[str, Verdict] = {}

    def run(case: Case) -> None:
        verdicts[case.id] = run_case(case, target, keys[case.id], plan.timeout_s)
        progress(len(verdicts), len(cases))

    pool = ThreadPoolExecutor(1 if one_at_a_time else WORKERS)
    try:
        list(pool.map(run, [case for case in cases if not case.alone]))
    finally:
        pool.shutdown(cancel_futures=True)
    mute = target.marker is None and bool(verdicts) and not any(verdict.heard for verdict in verdicts.values())
    for case in cases:
        if not case.alone:
            continue
        if mute:
            cause = "not tried: the server has not answered anything before"
            verdicts[case.id] = Verdict(case, False, 0.0, (), "an answer", cause, heard=False, silent=True)
        else:
            run(case)
    ordered = tuple(verdicts[case.id] for case in cases)
    notes = tuple(_notes(target, one_at_a_time, verdicts.values()))
    return Scorecard(join_address(host, port), target.stats_form, ordered, notes, time.monotonic() - started)


def choose(groups: Sequence[str], stats_form: str) -> tuple[Case, ...]:
    """Return the cases of these groups, or of all, that apply to a form of STATS."""
    return tuple(case for case in CASES if case.form in (None, stats_form) and (not groups or case.group in groups))


def longest_s(cases: Iterable[Case], timeout_s: float, workers: int = WORKERS) -> float:
    """Return a bound in seconds for a run of these cases and the probes before it: every wait to its end."""
    beside = alone = 0.0
    for case in cases:
        spent = case.attempts * (timeout_s * case.patience + case.pauses_s + _BESIDES_S)
        if case.alone:
            alone += spent
        else:
            beside += spent
    # The slowest case may be the last to start, when the other workers have nothing left to do.
    return 5 * timeout_s + beside / workers + alone


def join_address(host: str, port: int) -> str:
    """Return HOST:PORT, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _probe(host: str, port: int, end_key: bytes, plan: Plan) -> tuple[Target, bool]:
    """Learn how the server answers a missing key, and whether it serves one client at a time."""
    address, first = _reach(host, port, plan.timeout_s)
    question = b"KV/1.0 GET " + end_key
    with closing(first):
        marker = _ask(first, question)
        one_at_a_time = marker is not None and _ask_anew(address, question, plan.timeout_s) is None
    form = plan.stats_form
    if form == ANY:
        line = _ask_anew(address, b"KV/1.0 STATS", plan.timeout_s) or b""
        form = form_of(line.removesuffix(b"\r")) or README
    return Target(address, form, end_key, marker, marker is not None and marker.endswith(b"\r")), one_at_a_time


def _reach(host: str, port: int, timeout_s: float) -> tuple[Address, Peer]:
    """Return the first address of the host that takes a connection, and the connection. Raises Unreachable."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unreachable(describe(error) if isinstance(error, OSError) else "no such host name") from None
    why = "no address"
    for address in dict.fromkeys(entry[4] for entry in found):
        try:
            return address, Peer(address, Deadline(timeout_s))
        except Gone as gone:
            why = str(gone)
    raise Unreachable(why)


def _ask_anew(address: Address, line: bytes, timeout_s: float) -> bytes | None:
    try:
        with closing(Peer(address, Deadline(timeout_s))) as peer:
            return _ask(peer, line)
    except Gone:
        return None


def _ask(peer: Peer, line: bytes) -> bytes | None:
    """Return the reply line to one request, None where there is none."""
    try:
        peer.send(line + b"\n")
        return peer.line()
    except NoReply:
        return None


def _notes(target: Target, one_at_a_time: bool, verdicts: Iterable[Verdict]) -> Iterable[str]:
    if one_at_a_time:
        yield "The server serves one client at a time: the cases were run one after the other."
    if target.crlf:
        yield "Replies end in CRLF instead of LF: one case fails for it, the others overlook it."
    finished = list(verdicts)
    gone = next((number for number, verdict in enumerate(finished) if verdict.gone), None)
    if gone is not None and all(verdict.gone for verdict in finished[gone:][-3:]):
        around = finished[max(0, gone - WORKERS) : gone + WORKERS]
        suspects = [verdict.case.id for verdict in around if not verdict.passed and not verdict.gone]
        yield "The server died during the run" + (f"; look first at: {', '.join(suspects)}." if suspects else ".")
