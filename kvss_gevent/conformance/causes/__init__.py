"""Known bugs of KV/1.0 servers, each with the verdicts that betray it, and pictures of the packets that show it.

A bug is a row of data in one of the files; find() judges a scorecard by all rows.

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
    """Return the bugs that most likely lie behind the failures of a run, the dearest first."""
    return judge(CAUSES, card.verdicts)
