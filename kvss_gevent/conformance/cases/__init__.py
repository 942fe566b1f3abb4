"""The conformance table: every case, by group in the order of the scorecard. A case is data; case_runner.py runs it.

May import: conformance.
"""

from typing import Final

from kvss_gevent.conformance.case import Case
from kvss_gevent.conformance.cases import (
    commands,
    concurrency,
    errors,
    expiry,
    framing,
    grammar,
    quit,
    robustness,
    stats,
    versions,
)

CASES: Final[tuple[Case, ...]] = (
    *framing.CASES,
    *grammar.CASES,
    *commands.CASES,
    *versions.CASES,
    *errors.CASES,
    *stats.CASES,
    *quit.CASES,
    *robustness.CASES,
    *concurrency.CASES,
)

GROUPS: Final[tuple[str, ...]] = tuple(dict.fromkeys(case.group for case in CASES))

EXTENSIONS: Final[tuple[Case, ...]] = expiry.CASES
"""Cases of optional features; they run only if their group is named."""

EXTENSION_GROUPS: Final[tuple[str, ...]] = tuple(dict.fromkeys(case.group for case in EXTENSIONS))
