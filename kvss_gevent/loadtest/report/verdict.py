"""Whether the figures of a run can be trusted, and which not. Pure: numbers in, sentences out."""

from dataclasses import dataclass

BUSY_SHARE = 0.9
WAIT_SHARE = 0.1
LATE_US = 1000
ACHIEVED_SHARE = 0.99
LITTLE_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a verdict rests on; times in microseconds, rates per second, CPU as share of one core."""

    open_loop: bool
    requests: int
    measured_s: float
    offered_per_s: float
    achieved_per_s: float
    cpu_shares: tuple[float, ...]
    wait_shares: tuple[float, ...]
    lag_p50_us: int
    lag_p99_us: int
    mean_response_us: float
    concurrency: int
    dropped: int = 0
    unsent: int = 0
    aborted: int = 0
    errors: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding; `ok` is false where a figure should not be trusted."""

    ok: bool
    text: str


def judge(evidence: Evidence) -> list[Finding]:
    """Return the findings, those about trust first to last in order of weight."""
    if not evidence.requests:
        return [Finding(False, "nothing was measured: no request ended in the measured window")]
    found = _cpu(evidence)
    found += _open(evidence) if evidence.open_loop else _closed(evidence)
    if evidence.aborted:
        found.append(
            Finding(
                True,
                f"{evidence.aborted} requests were under way at the end and are counted as aborted, without a time",
            )
        )
    if evidence.errors > evidence.requests / 100:
        share = evidence.errors / evidence.requests
        found.append(Finding(False, f"{share:.1%} of the requests failed: throughput counts work that was not done"))
    return found


def trusted(statements: list[Finding]) -> bool:
    """Tell whether every finding lets the figures stand."""
    return all(statement.ok for statement in statements)


def _cpu(evidence: Evidence) -> list[Finding]:
    most = max(evidence.cpu_shares, default=0.0)
    text = f"the generator used {most:.0%} of a core" + (" at most" if len(evidence.cpu_shares) > 1 else "")
    if most < BUSY_SHARE:
        found = [Finding(True, f"{text}: it was not the bottleneck")]
    else:
        text += ": latencies hold its own queue, and more was to be had; use --processes or fewer users"
        found = [Finding(False, text)]
    waited = max(evidence.wait_shares, default=0.0)
    if waited > WAIT_SHARE:
        text = f"the generator waited for a CPU {waited:.0%} of the time: other processes are in the figures"
        found.append(Finding(False, text))
    return found


def _open(evidence: Evidence) -> list[Finding]:
    found = []
    share = evidence.achieved_per_s / evidence.offered_per_s if evidence.offered_per_s else 0.0
    text = f"achieved {evidence.achieved_per_s:,.0f}/s of {evidence.offered_per_s:,.0f}/s offered ({share:.1%})"
    found.append(
        Finding(share >= ACHIEVED_SHARE, text if share >= ACHIEVED_SHARE else f"{text}: not the load asked for")
    )
    text = f"the generator was late by {evidence.lag_p50_us} us at the median, {evidence.lag_p99_us} us at p99"
    if evidence.lag_p99_us > LATE_US:
        text += ": response percentiles near that are the generator's own"
    found.append(Finding(evidence.lag_p99_us <= LATE_US, text))
    if evidence.dropped or evidence.unsent:
        text = f"{evidence.dropped} requests were dropped and {evidence.unsent} left unsent: they would be the slowest"
        found.append(Finding(False, text))
    return found


def _closed(evidence: Evidence) -> list[Finding]:
    # Little's law: requests under way = throughput * response time. What is missing to the users there are was spent
    # in the generator, between a reply and the next request.
    under_way = evidence.achieved_per_s * evidence.mean_response_us / 1e6
    share = under_way / evidence.concurrency if evidence.concurrency else 0.0
    text = f"by Little's law {under_way:.2f} of {evidence.concurrency} requests were under way on average ({share:.0%})"
    found = [
        Finding(True, "closed loop: a slow server is asked less, so that stalls show in few requests; see --kv-rate")
    ]
    if not evidence.concurrency:
        return found  # Hand-written tasks think between requests as long as they like.
    if share < LITTLE_SHARE:
        text += ": the rest of the time passed in the generator, so the server could do more than the throughput says"
    found.append(Finding(share >= LITTLE_SHARE, text))
    return found
