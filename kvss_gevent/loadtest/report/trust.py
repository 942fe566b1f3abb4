"""Decides which figures of a run can be trusted. It has only pure functions from numbers to sentences."""

from dataclasses import dataclass, field

BUSY_SHARE = 0.9
WAIT_SHARE = 0.1
LATE_US = 1000
ANSWERED_SHARE = 0.99
LITTLE_SHARE = 0.9
FAILED_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence for a verdict; times in microseconds, rates per second, CPU as a share of one core.

    concurrency: how many requests can be under way at once; 0 if Little's law says nothing about the generator, because
    users pause, send several requests together, were added or removed, or because replies were long for the window.
    """

    open_loop: bool
    requests: int
    measured_s: float
    offered_per_s: float
    answered_per_s: float
    cpu_shares: tuple[float, ...]
    wait_shares: tuple[float, ...]
    lag_p50_us: int
    lag_p99_us: int
    mean_response_us: float
    concurrency: int
    failed: int = 0
    unanswered: int = 0
    dropped: int = 0
    unsent: int = 0
    aborted: int = 0
    connect_errors: int = 0
    unaccounted: int = 0
    backlog_at_begin: int = 0
    stood_still_s: float = 0.0
    stood_still_most_s: float = 0.0
    stood_still_waiting_s: float = 0.0
    wrong_data: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrustFinding:
    """One sentence of a verdict; ok is False if a figure should not be trusted."""

    ok: bool
    text: str


def judge(evidence: Evidence) -> list[TrustFinding]:
    """Return the findings, those about wrong data first."""
    found = _data(evidence)
    if not evidence.requests:
        if not evidence.answered_per_s and not evidence.unanswered:
            return [*found, TrustFinding(False, "nothing was measured: no request ended in the measured window")]
        if not evidence.answered_per_s:
            text = f"the server answered nothing: {_requests(evidence.unanswered)} had no reply when the run ended"
            return [*found, TrustFinding(False, text)]
        found.append(
            TrustFinding(False, "no request of the window ended: all replies were to requests that were due before")
        )
    found += _generator(evidence)
    found += _open(evidence) if evidence.open_loop else _closed(evidence)
    return found + _ended(evidence)


def trusted(findings: list[TrustFinding]) -> bool:
    """Tell whether no finding puts the figures in doubt."""
    return all(finding.ok for finding in findings)


def _data(evidence: Evidence) -> list[TrustFinding]:
    if not evidence.wrong_data:
        return []
    names = ", ".join(f"{count:,} x {name}" for name, count in evidence.wrong_data.items())
    return [TrustFinding(False, f"the server returned wrong data: {names}")]


def _generator(evidence: Evidence) -> list[TrustFinding]:
    most = max(evidence.cpu_shares, default=0.0)
    text = f"the generator used {most:.0%} of a core" + (" at most" if len(evidence.cpu_shares) > 1 else "")
    if most < BUSY_SHARE:
        found = [TrustFinding(True, f"{text}: it was not the bottleneck")]
    else:
        text += ": latencies hold its own queue, and more was to be had; use --processes or fewer users"
        found = [TrustFinding(False, text)]
    waited = max(evidence.wait_shares, default=0.0)
    if waited > WAIT_SHARE:
        text = f"the generator waited for a CPU {waited:.0%} of the time: other processes are in the figures"
        found.append(TrustFinding(False, text))
    if evidence.stood_still_s:
        text = f"the generator stood still for {evidence.stood_still_s * 1000:.0f} ms"
        if evidence.stood_still_most_s < evidence.stood_still_s:
            text += f", {evidence.stood_still_most_s * 1000:.0f} ms at once"
        if evidence.stood_still_waiting_s >= 0.001:
            text += f", of which it waited {evidence.stood_still_waiting_s * 1000:.0f} ms for a CPU"
        found.append(TrustFinding(False, f"{text}: that is in the response times"))
    return found


def _open(evidence: Evidence) -> list[TrustFinding]:
    share = evidence.answered_per_s / evidence.offered_per_s if evidence.offered_per_s else 0.0
    text = f"answered {evidence.answered_per_s:,.0f}/s of {evidence.offered_per_s:,.0f}/s offered ({share:.1%})"
    enough = share >= ANSWERED_SHARE
    found = [
        TrustFinding(enough, text if enough else f"{text}: the server did not keep up, or the load was not offered")
    ]
    if evidence.backlog_at_begin > max(evidence.offered_per_s * 0.1, 1):
        text = f"{_requests(evidence.backlog_at_begin)} were behind when the window began: the warm-up was overload"
        found.append(TrustFinding(True, text))
    if evidence.requests > evidence.failed:
        text = f"the generator was late by {evidence.lag_p50_us:,} us at the median, {evidence.lag_p99_us:,} us at p99"
        if evidence.lag_p99_us > LATE_US:
            text += ": response percentiles near that are the generator's own"
        found.append(TrustFinding(evidence.lag_p99_us <= LATE_US, text))
    if evidence.dropped or evidence.unsent:
        text = f"{evidence.dropped:,} requests were dropped and {evidence.unsent:,} left unsent: "
        found.append(TrustFinding(False, text + "they would be the slowest"))
    return found


def _closed(evidence: Evidence) -> list[TrustFinding]:
    found = [
        TrustFinding(
            True, "closed loop: a slow server is asked less, so that stalls show in few requests; see --kv-rate"
        )
    ]
    if not evidence.concurrency:
        return found
    # Little's law: requests under way = throughput * response time. The difference to the number of users was spent in
    # the generator, between a reply and the next request.
    under_way = evidence.answered_per_s * evidence.mean_response_us / 1e6
    share = under_way / evidence.concurrency
    text = f"by Little's law {under_way:.2f} of {evidence.concurrency} requests were under way on average ({share:.0%})"
    if share < LITTLE_SHARE:
        text += ": the rest of the time passed in the generator, so the server could do more than the throughput says"
    return [*found, TrustFinding(share >= LITTLE_SHARE, text)]


def _ended(evidence: Evidence) -> list[TrustFinding]:
    found = []
    if evidence.unanswered:
        text = f"{_requests(evidence.unanswered)} had no reply when the run ended: they count as failed, and figures "
        found.append(TrustFinding(False, text + "with >= may be greater"))
    if evidence.aborted:
        text = f"{_requests(evidence.aborted)} were under way when their users were stopped and count as aborted"
        found.append(TrustFinding(True, text))
    if evidence.failed > evidence.requests * FAILED_SHARE:
        share = evidence.failed / max(evidence.requests + evidence.unanswered, 1)
        found.append(TrustFinding(False, f"{share:.1%} of the requests failed: the load was not the one asked for"))
    if evidence.connect_errors:
        times = "time" if evidence.connect_errors == 1 else "times"
        found.append(TrustFinding(False, f"the server could not be reached {evidence.connect_errors:,} {times}"))
    if evidence.unaccounted:
        text = f"the books do not balance: {evidence.unaccounted:,} of the requests that were due are in no column"
        found.append(TrustFinding(False, text))
    return found


def _requests(count: int) -> str:
    return f"{count:,} request{'s' if count != 1 else ''}"
