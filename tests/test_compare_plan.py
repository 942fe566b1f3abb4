"""Which cells a comparison has, and who takes part in what."""

from collections import Counter

import pytest

from kvss_gevent.compare import experiments
from kvss_gevent.compare.measuring.contestant import NULL
from kvss_gevent.compare.plan import PROFILES, WrongChoice, choose
from kvss_gevent.models import MODULES

QUICK, FULL = PROFILES["quick"], PROFILES["full"]


def test_quick_has_the_core_experiments_three_times_and_full_has_all_five_times() -> None:
    quick, full = choose(QUICK), choose(FULL)
    assert [experiments.number_of(name) for name in quick.experiments] == [1, 2, 4, 6, 9]
    assert quick.repeats == 3
    assert full.experiments == experiments.NAMES
    assert full.repeats == 5
    assert set(MODULES) < set(quick.contestants)


def test_every_cell_is_there_once_and_models_come_in_another_order_each_time() -> None:
    plan = choose(QUICK)
    cells = plan.cells()
    assert max(Counter(cells).values()) == 1
    orders = [
        [cell.model for cell in cells if (cell.experiment, cell.repeat) == ("cost", repeat)] for repeat in (1, 2, 3)
    ]
    assert len(set(map(tuple, orders))) == 3
    assert {frozenset(order) for order in orders} == {frozenset((*plan.contestants, NULL))}
    assert plan.cells() == cells, "a run that is resumed has the same cells"
    assert choose(QUICK, seed=2).cells() != cells


def test_repeats_are_spread_over_the_run() -> None:
    repeats = [cell.repeat for cell in choose(QUICK).cells()]
    assert repeats == sorted(repeats)


def test_an_experiment_about_some_models_has_only_those() -> None:
    plan = choose(FULL, ["threads", "gevent"], ["convoy"])
    assert plan.of("convoy") == ["threads"]


def test_who_has_no_part_in_an_experiment_is_not_measured() -> None:
    assert "sequential" not in choose(QUICK).of("burn")
    assert "sequential" in choose(QUICK).of("cost")


def test_experiments_have_names_and_numbers() -> None:
    assert choose(QUICK, ["gevent"], ["1", "cost", "9"]).experiments == ("connections", "cost")


@pytest.mark.parametrize(
    ("models", "chosen", "message"),
    [
        (["gevnet"], [], "there is no model 'gevnet'"),
        ([], ["15"], "there is no experiment '15'"),
        ([], ["0"], "there is no experiment '0'"),
        ([], ["speed"], "there is no experiment 'speed'"),
    ],
)
def test_what_there_is_not_is_refused(models: list[str], chosen: list[str], message: str) -> None:
    with pytest.raises(WrongChoice, match=message):
        choose(QUICK, models, chosen)


def test_a_model_whose_library_is_missing_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "trio", None)
    monkeypatch.delitem(__import__("sys").modules, "kvss_gevent.models.trio_tasks", raising=False)
    plan = choose(QUICK, ["gevent", "trio"])
    assert plan.contestants == ("gevent",)
    assert "trio, which is not installed" in plan.left_out["trio"]
    assert all(cell.model != "trio" for cell in plan.cells())


@pytest.mark.parametrize("name", experiments.NAMES)
def test_an_experiment_has_all_that_it_consists_of(name: str) -> None:
    module = experiments.load(name)
    for part in ("TITLE", "VARIES", "TEACHES", "BY_HAND"):
        assert getattr(module, part).strip()
    assert isinstance(module.CORE, bool)
    assert module.PANELS
    assert callable(module.measure)
    assert callable(module.findings)
    assert (module.__doc__ or "").startswith(f"Experiment {experiments.number_of(name)}: ")
