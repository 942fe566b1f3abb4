"""What a request passes through stays bounded: function calls and changes of file, as docs/design.md shows them."""

import pytest

from bench.path_calls import in_a_greenlet, measure

MOST = {
    "memory GET hit": (1, 0),
    "memory GET miss": (2, 1),
    "memory PUT": (1, 0),
    "memory DEL": (2, 1),
    "disk GET": (3, 2),
    "disk PUT": (14, 5),
    "cluster GET": (17, 8),
    "cluster PUT": (24, 11),
}
"""At most so many calls, and changes of file."""


@pytest.mark.server
@pytest.mark.parametrize("kind", ["memory", "disk", "cluster"])
def test_no_request_passes_through_more_than_it_did(kind: str) -> None:
    costs = in_a_greenlet(lambda: measure(kind))
    assert costs.keys() == {name for name in MOST if name.startswith(kind)}
    assert {name: cost for name, cost in costs.items() if (cost.calls, cost.changes) > MOST[name]} == {}
    assert {name: cost.changes for name, cost in costs.items() if cost.changes > MOST[name][1]} == {}
