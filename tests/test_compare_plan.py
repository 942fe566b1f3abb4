"""Which trials a comparison has, and who takes part in what."""

from collections import Counter

import pytest

from kvss_gevent.compare import experiments
from kvss_gevent.compare.estimate import LEAST_GENERATIONS
from kvss_gevent.compare.measuring.contestant import NULL
from kvss_gevent.compare.plan import PROFILES, WrongChoice, choose, is_paired
from kvss_gevent.compare.rows import ALL
from kvss_gevent.models import MODULES

QUICK, FULL = PROFILES["quick"], PROFILES["full"]


def test_quick_has_the_core_experiments_and_full_has_all_more_often() -> None:
    quick, full = choose(QUICK), choose(FULL)
    assert quick.experiments == ("connections", "rate", "idle", "burn", "cost", "calls", "lines")
    assert full.experiments == experiments.NAMES
    assert full.repeats > quick.repeats >= 2
    assert set(MODULES) < set(quick.contestants)


def test_a_paired_experiment_has_a_cell_for_each_generation_and_enough_of_them() -> None:
    for profile in (QUICK, FULL):
        generations = [trial for trial in choose(profile).trials() if trial.experiment == "cost"]
        assert {trial.model for trial in generations} == {ALL}
        assert len(generations) == profile.generations >= LEAST_GENERATIONS
    assert "gevent+again" in choose(QUICK).of("cost")
    assert "gevent+again" not in choose(QUICK).of("burn")


def test_every_cell_is_there_once_and_models_come_in_another_order_each_time() -> None:
    plan = choose(QUICK, repeats=3)
    trials = plan.trials()
    assert max(Counter(trials).values()) == 1
    orders = [
        [trial.model for trial in trials if (trial.experiment, trial.repeat) == ("connections", repeat)]
        for repeat in (1, 2, 3)
    ]
    assert len(set(map(tuple, orders))) == 3
    assert {frozenset(order) for order in orders} == {frozenset((*MODULES, "gevent+disk", "threads+disk", NULL))}
    assert plan.trials() == trials, "a run that is resumed has the same trials"
    assert choose(QUICK, seed=2).trials() != trials


def test_what_is_always_the_same_is_not_repeated() -> None:
    trials = choose(FULL, ["gevent"], ["lines"]).trials()
    assert len(trials) == 1


def test_repeats_are_spread_over_the_run() -> None:
    repeats = [trial.repeat for trial in choose(QUICK).trials()]
    assert repeats == sorted(repeats)


def test_an_experiment_about_some_models_has_only_those() -> None:
    plan = choose(FULL, ["threads", "gevent"], ["convoy"])
    assert plan.of("convoy") == ["threads"]


def test_who_has_no_part_in_an_experiment_is_not_measured() -> None:
    assert "sequential" not in choose(QUICK).of("burn")
    assert "sequential" in choose(QUICK).of("cost")


def test_where_the_store_has_no_part_a_model_is_measured_on_disk_only_if_it_is_not_there_in_memory() -> None:
    assert "threads+disk" in choose(QUICK).of("connections")
    assert "threads+disk" not in choose(QUICK).of("burn")
    assert "fork" in choose(QUICK).of("burn")
    assert choose(QUICK, ["threads+disk"]).of("burn") == ["threads+disk"]


def test_experiments_have_names_and_numbers() -> None:
    assert choose(QUICK, ["gevent"], ["1", "cost", "9"]).experiments == ("connections", "cost")


@pytest.mark.parametrize(
    ("models", "chosen", "message"),
    [
        (["gevnet"], [], "there is no model 'gevnet'"),
        ([], ["99"], "there is no experiment '99'"),
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
    assert all(trial.model != "trio" for trial in plan.trials())


@pytest.mark.parametrize("name", experiments.NAMES)
def test_an_experiment_has_all_that_it_consists_of(name: str) -> None:
    module = experiments.load(name)
    for part in ("TITLE", "VARIES", "TEACHES", "BY_HAND"):
        assert getattr(module, part).strip()
    assert isinstance(module.CORE, bool)
    assert module.PANELS
    assert callable(module.measure_together if is_paired(name) else module.measure)
    assert callable(module.findings)
    assert (module.__doc__ or "").startswith(f"Experiment {experiments.number_of(name)}: ")
