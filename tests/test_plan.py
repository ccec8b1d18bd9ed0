"""The plan is pure: what it shares out, keeps and leaves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from podium.config import Competition, Recipe
from podium.config_file import load_competition, load_recipe
from podium.errors import UserError
from podium.jobs import Job, Site
from podium.plan import Means, Plan, Sizes, plan
from podium.speeds import Compiled, Speeds, pick_workers

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SITE = Site("mars", "/cache", "d" * 16, "e" * 16, "/folds.csv")
SIZES = Sizes(train=1000, test=500, input=2 * 8192, output=8192)


def _mars(*overrides: str) -> tuple[Competition, list[Recipe]]:
    competition = load_competition(CONFIGS / "competitions" / "mars.yaml")
    return competition, [
        load_recipe(CONFIGS / "models" / f"{name}.yaml", overrides) for name in ("residual_unet", "unet_resnet18")
    ]


def _plan(
    overrides: tuple[str, ...] = (),
    site: Site = SITE,
    folds: tuple[int, ...] = (0, 1, 2, 3, 4),
    sizes: Sizes = SIZES,
    changes: dict[str, Any] | None = None,
    rates: Mapping[str, float | dict[int, float]] | None = None,
    workers: int | None = 1,
    devices: int = 1,
    compiled: dict[str, Compiled] | None = None,
    **options: Any,
) -> Plan:
    """rates: images per second that a recipe trains, or those of each worker by their number on one device."""
    competition, recipes = _mars(*overrides)
    competition = Competition.model_validate(competition.model_dump(mode="json") | (changes or {}))
    speeds = {
        name: Speeds(
            "bf16",
            None,
            rate if isinstance(rate, dict) else {1: rate},
            predict=400.0,
            memory=10**9,
            capacity=24 * 10**9,
            compiled=(compiled or {}).get(name),
        )
        for name, rate in (rates or {}).items()
    }
    means = Means(speeds, workers, devices, cores=8)
    return plan(competition, recipes, folds, site, sizes, Path("/runs"), "data", "folds", means=means, **options)


def test_the_graph_has_every_job_once_after_what_it_needs() -> None:
    jobs = _plan().jobs
    assert len(jobs) == 2 * (5 + 5 + 1) == len({job.name for job in jobs}) == len({job.folder for job in jobs})
    seen: set[str] = set()
    for job in jobs:
        assert set(job.needs) <= seen
        seen.add(job.name)
    test = next(job for job in jobs if job.kind == "test")
    assert test.needs == tuple(f"residual_unet fold {fold}" for fold in range(5)) and len(test.weights) == 5


def test_a_job_survives_json() -> None:
    for job in _plan(budget=600.0).jobs:
        again = Job.from_json(json.loads(json.dumps(job.to_json())))
        assert again == job and again.key.hash == job.key.hash


def test_a_budget_becomes_seconds_by_a_formula() -> None:
    made = _plan(budget=2000.0)
    assert made.seconds == pytest.approx((2000 - 20 - 20) / 10, abs=0.1)
    assert {job.seconds for job in made.jobs if job.kind == "train"} == {made.seconds}
    assert _plan(budget=2000.0, workers=2).seconds == pytest.approx(2 * (2000 - 40) / 10, abs=0.1)


def test_recipes_without_room_are_left_out_in_the_order_of_the_list() -> None:
    rates = {"residual_unet": 100.0, "unet_resnet18": 20.0}
    # 196 s a fold: 19.6 and 3.9 epochs of 1,000 images; the second needs 5
    five = ("train.min_epochs=5",)
    made = _plan(five, budget=2000.0, rates=rates)
    assert made.left_out == ("unet_resnet18",) and made.seconds == pytest.approx(392, abs=0.1)
    assert "left out: unet_resnet18" in made.notes[0]
    assert _plan(five, budget=4000.0, rates=rates).left_out == ()


def test_a_budget_too_short_even_for_one_says_so_and_takes_it() -> None:
    made = _plan(budget=60.0, rates={"residual_unet": 10.0, "unet_resnet18": 10.0})
    assert [run.recipe.name for run in made.runs] == ["residual_unet"]
    assert "fewer than its min_epochs" in made.notes[-1]


def test_a_plateau_has_no_budget() -> None:
    plateau = ("train.schedule={name: plateau}",)
    assert _plan(plateau).budget is None
    with pytest.raises(
        UserError, match=r"recipe 'residual_unet': its schedule, a plateau, ends when.*leave the budget out"
    ):
        _plan(plateau, budget=2000.0)
    assert _plan(("train.early_stopping=5",), budget=2000.0).seconds == _plan(budget=2000.0).seconds


def test_what_changes_a_result_changes_its_key_and_nothing_else_does() -> None:
    def keys(made: Plan) -> list[str]:
        return [job.key.hash for job in made.jobs]

    base = keys(_plan())
    assert keys(_plan()) == base
    assert (
        keys(_plan(site=Site("mars", "/elsewhere", "d" * 16, "f" * 16, "/other.csv", "cuda", "bf16", "streamed", 8)))
        == base
    )
    assert keys(_plan(("train.min_epochs=2",))) == base
    assert not set(keys(_plan(seed=1))) & set(base)
    assert not set(keys(_plan(budget=999.0))) & set(base)
    assert not set(keys(_plan(("train.lr=1e-4",)))) & set(base)
    # with a budget the number of epochs says nothing; without one it does
    assert keys(_plan(("train.epochs=3",), budget=999.0)) == keys(_plan(budget=999.0))
    assert not set(keys(_plan(("train.epochs=3",)))) & set(base)
    # other views need new predictions, not new weights
    other = keys(_plan(("predict.views=[identity]",)))
    kinds = [job.kind for job in _plan().jobs]
    assert all((a == b) == (kind == "train") for a, b, kind in zip(other, base, kinds, strict=True))
    # how images come to the net changes its weights
    data = _mars()[0].model_dump(mode="json")["data"]
    fits = [{"size": [32, 64]}, {"size": [32, 64], "how": "tiles"}, {"size": [32, 64], "how": "tiles", "overlap": 0.5}]
    fitted = [keys(_plan(changes={"data": data | {"fit": fit}})) for fit in fits]
    plain = keys(_plan(changes={"preprocess": []}))  # not even standardised
    assert len({key for made in (base, *fitted, plain) for key in made}) == 5 * len(base)
    # fewer folds share their weights and out-of-fold predictions, and have their own test predictions
    few = {job.name: job.key.hash for job in _plan(folds=(0, 1)).jobs}
    everything = {job.name: job.key.hash for job in _plan().jobs}
    assert {name for name in few if few[name] != everything[name]} == {"residual_unet test", "unet_resnet18 test"}


def test_predictions_need_disk_by_job() -> None:
    made = _plan()
    assert set(made.disk) == {job.name for job in made.jobs if job.kind != "train"}
    assert made.disk["residual_unet fold 3 oof"] == 200 * 5 * 8192 * 2
    assert made.disk["unet_resnet18 test"] == 500 * 5 * 8192 * 2


def test_predictions_have_the_images_own_sizes_and_labels_are_one_pixel() -> None:
    differing = _plan(sizes=Sizes(train=1001, test=500, input=10**6, output=100.5))
    assert differing.disk["residual_unet fold 3 oof"] == 201 * 1005
    assert differing.memory_bytes == 1001 * 10**6 + 1_500_000_000
    assert _plan(sizes=Sizes(1000, 500, 8192, 1.0)).disk["unet_resnet18 test"] == 500 * 5 * 2


def test_without_test_images_nothing_is_predicted_for_them() -> None:
    made = _plan(sizes=Sizes(train=1000, test=0, input=2 * 8192, output=8192))
    assert {job.kind for job in made.jobs} == {"train", "oof"} and len(made.jobs) == 2 * (5 + 5)
    assert [run.test for run in made.runs] == [None, None]
    assert set(made.disk) == {job.name for job in made.jobs if job.kind == "oof"}


def test_workers_that_do_not_divide_the_jobs_leave_the_last_round_its_time() -> None:
    """5 folds of one recipe on 2 workers are 3 rounds, on 4 workers 2."""
    rates = {"residual_unet": 10.0, "unet_resnet18": 0.1}
    assert _plan(budget=2000.0, workers=2, rates=rates).seconds == pytest.approx(1960 / 3, abs=0.1)
    assert _plan(budget=2000.0, workers=4, rates=rates).seconds == pytest.approx(1960 / 2, abs=0.1)


# ---------------------------------------------------------------- filling the machine


def both(rates: dict[int, float]) -> Any:
    return {"residual_unet": rates, "unet_resnet18": rates}


def test_the_workers_that_finish_first_are_chosen() -> None:
    """Ten folds; on two workers five rounds, on four three, on eight two."""
    even = {1: 100.0, 2: 50.0, 4: 25.0}
    assert _plan(workers=None, rates=both(even)).workers == 1
    # 5 / 55 and 3 / 34 are less than 10 / 100
    better = {1: 100.0, 2: 55.0, 4: 34.0}
    chosen = _plan(workers=None, rates=both(better))
    assert chosen.workers == 4 and {job.site.threads for job in chosen.jobs} == {2}
    # 1 % is noise
    noise = {1: 100.0, 2: 50.5}
    assert _plan(workers=None, rates=both(noise)).workers == 1
    # what was not measured with both is not chosen, and what is asked for is done
    assert _plan(workers=None, rates={"residual_unet": better, "unet_resnet18": 100.0}).workers == 1
    assert _plan(workers=3, rates={}).workers == 3 and _plan(workers=None, rates={}).workers == 1


def test_five_folds_do_not_go_well_with_two_workers() -> None:
    """Three rounds at 0.55 of the speed take longer than five at full speed, unless the fifth may have all cores."""
    rates: Any = both({1: 100.0, 2: 55.0})
    five = {"residual_unet": {1: 100.0, 2: 55.0}, "unet_resnet18": {1: 100.0, 2: 55.0}}
    assert _plan(workers=None, rates=five, folds=(0, 1, 2)).workers == 2  # six jobs
    one_recipe = [Speeds("bf16", None, five["residual_unet"], 1.0, 1, 10**9)]
    assert pick_workers(one_recipe, 5, 1, 0) == 2  # 2 / 55 + 1 / 100 against 5 / 100
    assert pick_workers(one_recipe, 5, 1, 0, last_alone_is_faster=False) == 1
    assert _plan(workers=None, rates=rates, folds=(0, 1, 2, 3)).workers == 2  # eight jobs
    made = _plan(("train.min_epochs=5",), workers=None, budget=300.0, rates=rates)  # room for one recipe only
    assert len(made.runs) == 1 and made.workers == 1 and made.seconds == pytest.approx((300 - 23) / 5, abs=0.1)


def test_workers_stay_within_the_memory() -> None:
    rates: Any = both({1: 100.0, 2: 90.0, 4: 80.0, 8: 50.0})
    assert _plan(workers=None, rates=rates).workers == 4  # 10 jobs in 3 rounds at 80, in 2 at 50
    assert _plan(workers=None, rates=rates, folds=(0, 1, 2, 3)).workers == 8
    # 16.8 of the 24 GB, each worker with 1 GB and its images
    six = Sizes(train=1000, test=0, input=5 * 10**6, output=1.0)
    made = _plan(workers=None, rates=rates, sizes=six, folds=(0, 1, 2, 3))
    assert made.workers == 2 and made.memory_bytes == 2 * 6 * 10**9


def test_every_gpu_gets_a_worker() -> None:
    rates: Any = both({1: 100.0})
    assert _plan(workers=None, devices=5, rates=rates).workers == 5
    assert _plan(workers=None, devices=4, rates=rates).workers == 4  # 3 rounds
    shared: Any = both({1: 100.0, 2: 90.0})
    assert _plan(workers=None, devices=5, rates=shared).workers == 10


def test_a_training_is_compiled_where_that_pays_within_its_length() -> None:
    made = Compiled(train=200.0, train_seconds=30.0, predict=800.0, predict_seconds=10.0)
    rates: Any = {"residual_unet": 100.0}
    sizes = Sizes(train=1000, test=10_000, input=1, output=1.0)

    def compiles(*overrides: str, site: Site = SITE, **options: Any) -> dict[str, str]:
        jobs = _plan(overrides, site, sizes=sizes, rates=rates, compiled={"residual_unet": made}, **options).jobs
        return {job.kind: job.site.compile for job in jobs if job.recipe["name"] == "residual_unet"}

    # 800 images an epoch: 7 epochs take 56 s, compiled 28 s and 30 to compile; 8 take 64 and 62. Of the predictions, 200
    # images take half a second, 10,000 take 25, compiled 12.5 and 10 to compile
    assert compiles("train.epochs=7") == {"train": "off", "oof": "off", "test": "on"}
    assert compiles("train.epochs=8") == {"train": "on", "oof": "off", "test": "on"}
    # with a budget: 60 s at 100 are as much as 30 s at 200
    seconds = {budget: compiles(budget=budget)["train"] for budget in (10 * 59 / 0.99 + 22, 10 * 61 / 0.99 + 22)}
    assert list(seconds.values()) == ["off", "on"]
    assert set(compiles("train.epochs=8", site=replace(SITE, compile="off")).values()) == {"off"}
    assert set(compiles("train.epochs=1", site=replace(SITE, compile="on")).values()) == {"on"}


def test_what_was_measured_reaches_the_jobs_and_no_key() -> None:
    rates: Any = {"residual_unet": 100.0}
    made = _plan(rates=rates)
    jobs = {job.name: job for job in made.jobs}
    assert jobs["residual_unet fold 0"].site.precision == "bf16"
    assert jobs["unet_resnet18 fold 0"].site.precision == "auto"
    asked = _plan(rates=rates, site=replace(SITE, precision="fp32"))
    assert {job.site.precision for job in asked.jobs} == {"fp32"}
    assert [job.key.hash for job in made.jobs] == [job.key.hash for job in _plan().jobs]
