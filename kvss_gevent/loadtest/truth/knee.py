"""`kvss load truth --search`: runs the search three times against a server whose highest rate is known."""

import re
import subprocess
import sys
import time

from kvss_gevent.loadtest.search import EXIT_UNCLEAR, TOO_BUSY
from kvss_gevent.loadtest.truth.harness import serving
from kvss_gevent.settings.fail import Exit

SERVER, KNEE_PER_S = "does 500/s", 500.0
STARTS = (210, 270, 330)
"""Different first rates, because searches that begin at the same rate try the same rates."""
WITHIN = 0.05
SLO = "p99<50ms"
_FOUND = re.compile(r"^highest rate that holds .*: ([0-9,]+) requests/s$", re.MULTILINE)


def run(minutes: float) -> int:
    """Search three times and print the answers.

    Returns 0 if they agree with each other and with the server, 1 if they do not, and EXIT_UNCLEAR if a search says
    that the machine is too busy to tell, or if the time is over.
    """
    ends = time.monotonic() + minutes * 60
    answers: list[float] = []
    with serving(SERVER) as (port, _):
        for start in STARTS:
            try:
                code, out = _search(port, start, ends - time.monotonic())
            except subprocess.TimeoutExpired:
                print(f"{TOO_BUSY}: {len(answers)} of {len(STARTS)} searches ended in {minutes:g} minutes")
                return EXIT_UNCLEAR
            found = _FOUND.search(out)
            if not found:
                print(out.rstrip())
                return EXIT_UNCLEAR if code == EXIT_UNCLEAR else Exit.FAILED
            answers.append(float(found[1].replace(",", "")))
            print(f"from {start}/s: {answers[-1]:,.0f} requests/s; the server does {KNEE_PER_S:,.0f}", flush=True)
    return judge(answers)


def judge(answers: list[float]) -> int:
    """Print whether the answers agree, and return the exit code."""
    agree = max(answers) <= min(answers) * (1 + WITHIN)
    right = all(abs(one - KNEE_PER_S) <= WITHIN * KNEE_PER_S for one in answers)
    print(
        f"the searches {'agree' if agree else 'do not agree'} within {WITHIN:.0%}, and "
        f"{'all are' if right else 'not all are'} within {WITHIN:.0%} of what the server does"
    )
    return Exit.OK if agree and right else Exit.FAILED


def _search(port: str, start: int, limit_s: float) -> tuple[int, str]:
    """Run the command; returns its exit code and what it printed. Raises TimeoutExpired."""
    command = [sys.executable, "-m", "kvss_gevent", "load", "search", "--slo", SLO, "--host", f"127.0.0.1:{port}"]
    command += ["--users", "4", "--seconds", "3", "--start", str(start), "--precision", "0.01"]
    command += ["--", "--kv-keys", "200", "--kv-mix", "80:20:0", "--kv-warmup", "0.4s"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            out, _ = process.communicate(timeout=max(limit_s, 0))
        except subprocess.TimeoutExpired:
            process.terminate()
            raise
    return process.returncode, out
