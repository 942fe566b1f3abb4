"""Two reports compared: a planted difference is found, noise is not, and a machine that changed is told apart."""

import math
import random
from pathlib import Path

import pytest
from compare_rows import journal, rows

from kvss_gevent.compare.experiments import cost
from kvss_gevent.compare.report.diff import Comparison, as_text, compare, contradictions, verdict_counts
from kvss_gevent.compare.rows import Journal, Measurement, Point, Trial

MODELS = {"select": 8.0, "gevent": 8.5, "protocol": 9.0, "asyncio": 12.0, "gevent-plain": 15.0, "trio": 20.0}


PACE = cost.PACES[-1]


def noisy(
    seed: int, factors: dict[str, float] | None = None, machine: float = 1.0, noise: float = 0.04
) -> list[Measurement]:
    """Return the cost experiment's rows with repeats that scatter, each model's cost times its factor."""
    pick = random.Random(seed)
    return [
        Measurement(
            Trial("cost", name, repeat),
            Point(PACE.per_s, {"cpu_us": usual * machine * (factors or {}).get(name, 1.0) * wobble}, case=str(PACE)),
        )
        for name, usual in MODELS.items()
        for repeat in range(1, 7)
        for wobble in (math.exp(pick.gauss(0, noise)),)
    ]


def compared(tmp_path: Path, first: list[Measurement], second: list[Measurement]) -> Comparison:
    return compare(journal(tmp_path / "a", first), journal(tmp_path / "b", second))


def real(comparison: Comparison) -> dict[str, float]:
    return {one.place[1]: one.factor.value for one in comparison.differences if one.real}


def test_a_planted_difference_is_found_and_nothing_else(tmp_path: Path) -> None:
    found = real(compared(tmp_path, noisy(1), noisy(2, {"asyncio": 1.4})))
    assert list(found) == ["asyncio"]
    assert found["asyncio"] == pytest.approx(1.4, rel=0.1)


def test_noise_is_hardly_ever_taken_for_a_difference(tmp_path: Path) -> None:
    false = sum(len(real(compared(tmp_path / str(seed), noisy(2 * seed), noisy(2 * seed + 1)))) for seed in range(20))
    assert false <= 2, "of 120"


def test_a_slower_machine_is_one_line_and_no_difference_of_models(tmp_path: Path) -> None:
    comparison = compared(tmp_path, noisy(1), noisy(2, machine=1.5))
    assert real(comparison) == {}
    assert comparison.shifts["cost", "cpu_us"] == pytest.approx(1.5, rel=0.1)
    assert next(as_text(comparison)).startswith("all models, cost: cpu_us is 1.")


def test_one_repeat_proves_nothing(tmp_path: Path) -> None:
    first, second = ([row for row in noisy(seed, {"trio": seed}) if row.trial.repeat == 1] for seed in (1, 3))
    assert real(compared(tmp_path, first, second)) == {}


def test_it_prints_what_is_real_and_counts_the_rest(tmp_path: Path) -> None:
    lines = list(as_text(compared(tmp_path, noisy(1), noisy(2, {"trio": 2.0}))))
    assert lines[0].startswith("real   trio, cost at 20000, 20,000/s, 32 at once: cpu_us ")
    assert lines[-1].startswith("1 of 6 figures differ")


def repeated(tmp_path: Path, first: list[Measurement], second: list[Measurement]) -> list[str]:
    return contradictions([journal(tmp_path / "a", first), journal(tmp_path / "b", second)])


def test_the_same_again_has_no_contradictions(tmp_path: Path) -> None:
    assert repeated(tmp_path, noisy(1), noisy(2)) == []


def test_a_model_whose_verdict_is_another_contradicts(tmp_path: Path) -> None:
    found = repeated(tmp_path, noisy(1), noisy(2, {"trio": 0.2}))
    assert f"trio at {PACE}: behind in run 1, ahead in run 2" in found


def test_what_is_not_determined_contradicts_nothing(tmp_path: Path) -> None:
    assert not any("protocol" in line for line in repeated(tmp_path, noisy(1, noise=0.2), noisy(2, noise=0.2)))


@pytest.mark.full
def test_twenty_repetitions_say_the_same(tmp_path: Path) -> None:
    clear = {"select": 8.5 / 8.0, "protocol": 1.2}  # at 1.05, where a tie ends, either verdict comes by luck
    runs = [journal(tmp_path / str(seed), noisy(seed, clear)) for seed in range(20)]
    assert contradictions(runs) == []
    assert f"trio at {PACE}: behind 20 of 20" in verdict_counts(runs)


def test_a_run_is_compared_with_all_before_it(tmp_path: Path) -> None:
    """The first run determines nothing, and the next two say the opposite."""
    runs = [
        journal(tmp_path / str(seed), noisy(seed, {"trio": factor}, noise=noise))
        for seed, factor, noise in ((1, 0.425, 0.3), (2, 1.0, 0.02), (3, 0.2, 0.02))
    ]
    assert f"trio at {PACE}: behind in run 2, ahead in run 3" in contradictions(runs)
    assert f"trio at {PACE}: not determined 1 of 3, behind 1 of 3, ahead 1 of 3" in verdict_counts(runs)


def test_a_truth_that_holds_once_only_contradicts(tmp_path: Path) -> None:
    def burn(threads_us: float) -> list[Measurement]:
        return rows("burn", "threads", {1: {"max_us": threads_us}})

    assert repeated(tmp_path, burn(20_000), burn(500_000)) == [
        "'a burning handler does not stop threads and processes': held in run 1, did not hold in run 2"
    ]


def test_reports_without_anything_in_common_say_so(tmp_path: Path) -> None:
    first = journal(tmp_path / "a", noisy(1))
    second = journal(tmp_path / "b", rows("burn", "trio", {1: {"max_us": 1.0}}))
    assert list(as_text(compare(first, second))) == ["0 of 0 figures differ by more than the repeats scatter"]
    assert isinstance(first, Journal)
