"""Known bugs of KV/1.0 servers, each with the verdicts that are its signs, and pictures of the packets that show it.

A bug is a row of data in one of the files; find() compares a scorecard with all rows.

May import: conformance, pages, protocol.
"""

from typing import Final

from kvss_gevent.conformance.causes import codes, commands, counters, endings, framing, habits, sharing, values
from kvss_gevent.conformance.causes.cause import Cause, judge
from kvss_gevent.conformance.score import Finding, Scorecard

CAUSES: Final[tuple[Cause, ...]] = (
    *framing.CAUSES,
    *values.CAUSES,
    *commands.CAUSES,
    *codes.CAUSES,
    *endings.CAUSES,
    *sharing.CAUSES,
    *counters.CAUSES,
    *habits.CAUSES,
)


def find(card: Scorecard) -> tuple[Finding, ...]:
    """Return the most likely causes of a run's failures; those that cost most points come first."""
    return judge(CAUSES, card.verdicts)
