"""The plan of a run: which cases it has, how many points each gives, and how long it may take."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from kvss_gevent.conformance.case import PROJECT, Case
from kvss_gevent.conformance.cases import CASES, EXTENSIONS
from kvss_gevent.conformance.dialect import Secure
from kvss_gevent.conformance.stats_forms import ANY, LAB, README

DEFAULT_TIMEOUT_S: Final = 2.0
DEFAULT_BUDGET_S: Final = 60.0
"""No case begins after so many seconds; on a busy machine later, because each case has more time too."""

_BESIDES_S: Final = 1.6
"""How long a case may take besides its timeout and pauses: gaps between packets, settling, the check for more replies.
"""

MAX_POINTS: Final = 1000
"""The highest weight of a case."""

STATS_OF: Final = {"sheet": LAB, "readme": README}
"""The form of STATS that a profile requires; the project's own profile accepts both."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run and how.

    groups: empty for all. stats_form: a form, or ANY. timeout_s: for one case. profile: the document that gives points.
    only, without: words that choose or leave out cases, each an id, a group or a rule such as `rule 3`; an empty `only`
    means all. weights: points by id or group, which replace those of the table. budget_s: for the whole run.
    login: the request that every connection sends first (rule 12), with its line feed; b"" for none. secure: makes
    every connection one with TLS (rule 13).
    """

    groups: tuple[str, ...] = ()
    stats_form: str = ANY
    timeout_s: float = DEFAULT_TIMEOUT_S
    profile: str = PROJECT
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    weights: Mapping[str, int] = field(default_factory=dict)
    budget_s: float = DEFAULT_BUDGET_S
    login: bytes = field(default=b"", repr=False)
    secure: Secure | None = None


DEFAULT_PLAN: Final = Plan()


def form_to_grade(plan: Plan, found: str) -> str:
    """Return the form of STATS that gives points; found is the form that the server has."""
    if plan.stats_form != ANY:
        return plan.stats_form
    return STATS_OF.get(plan.profile, found)


def planned(plan: Plan, stats_form: str, asked_form: str | None = None) -> tuple[Case, ...]:
    """Return the cases of a plan with their points. stats_form is what the server has, asked_form what is graded."""
    return tuple(
        replace(case, points=plan.weights.get(case.id, plan.weights.get(case.group, case.points_in(plan.profile))))
        for case in choose(plan.groups, stats_form, asked_form)
        if (not plan.only or any(_picked(case, word) for word in plan.only))
        and not any(_picked(case, word) for word in plan.without)
    )


def _picked(case: Case, word: str) -> bool:
    return word.lower() in (case.id.lower(), case.group.lower(), f"rule {case.rule}")


def choose(groups: Sequence[str], stats_form: str, asked_form: str | None = None) -> tuple[Case, ...]:
    """Return the cases of these groups, or all but extensions. stats_form is what the server has; see planned."""
    asked = asked_form or stats_form
    return tuple(
        case
        for case in (CASES + EXTENSIONS if groups else CASES)
        if case.form in (None, asked if case.habit else stats_form) and (not groups or case.group in groups)
    )


def longest_s(cases: Sequence[Case], timeout_s: float, budget_s: float = DEFAULT_BUDGET_S) -> float:
    """Return how many seconds a run of these cases takes at most, with the probes before it, but without logins."""
    longest = max(case.attempts * (timeout_s * case.patience + case.pauses_s + _BESIDES_S) for case in cases)
    return 7 * timeout_s + budget_s + longest


def check_words(words: Iterable[str]) -> None:
    """Check that each word is an id, a group, or a rule such as `rule 3`. Raises ValueError."""
    known = {word.lower() for case in CASES + EXTENSIONS for word in (case.id, case.group, f"rule {case.rule}")}
    for word in words:
        if word.lower() not in known:
            raise ValueError(f"there is no case, group or rule {word!r}")


def check_weights(weights: Any) -> None:
    """Check that these are points by id or group. Raises ValueError."""
    if not isinstance(weights, dict):
        raise ValueError("weights are points by id or group")
    names = {name for case in CASES + EXTENSIONS for name in (case.id, case.group)}
    for name, points in weights.items():
        if name not in names or type(points) is not int or not 0 <= points <= MAX_POINTS:
            raise ValueError(f"{name} = {points!r} is not a case or group with whole points from 0 to {MAX_POINTS}")
