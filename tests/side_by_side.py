"""Runs the long work of parametrized tests side by side where it is mostly waiting; each test looks at its part."""

from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


def side_by_side(run: Callable[[Any], Any], cases: Iterable[Hashable], at_a_time: int) -> dict[Any, Future[Any]]:
    """Run this for several cases at a time; return what each returned or raised, when all are done."""
    with ThreadPoolExecutor(at_a_time) as pool:
        return {case: pool.submit(run, case) for case in cases}
