"""The conformance group of keys that expire: who passes it, who does not, and who is asked."""

from collections.abc import Iterator

import pytest
from serving import Served, serving

from kvss_gevent.conformance.case_plan import Plan, choose
from kvss_gevent.conformance.cases import CASES, EXTENSIONS
from kvss_gevent.conformance.running.runner import grade

pytestmark = pytest.mark.server


@pytest.fixture(params=[(), pytest.param(("--model", "threads"), marks=pytest.mark.full)], ids=["product", "threads"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    with serving(*request.param) as server:
        yield server


def test_the_server_passes_the_group(served: Served) -> None:
    card = grade("127.0.0.1", served.port, Plan(groups=("expiry",)))
    assert not card.failures
    assert len(card.verdicts) == len(EXTENSIONS)


def test_a_server_without_the_extension_loses_every_point_but_those_for_refusals() -> None:
    with serving("--strict") as server:
        card = grade("127.0.0.1", server.port, Plan(groups=("expiry",)))
    passed = {verdict.case.id for verdict in card.verdicts} - {verdict.case.id for verdict in card.failures}
    assert passed == {"expiry-arguments"}


def test_a_run_that_does_not_ask_for_it_does_not_have_it() -> None:
    assert set(choose((), "readme")) <= set(CASES)
    assert {case.group for case in choose(("commands", "expiry"), "readme")} == {"commands", "expiry"}
