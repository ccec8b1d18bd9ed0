"""The plan: competition, recipes and options become a graph of jobs, with the seconds, disk and memory it will need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from podium.config import Competition, Recipe
from podium.errors import UserError
from podium.jobs import Job, Site, fold_key, oof_key, robust_key, run_key, test_key
from podium.speeds import Speeds, compiling_pays, compiling_prediction_pays, pick_workers
from podium.store import Key

# What a run costs around its folds: starting workers, reading, blending, packing.
RESERVE_SECONDS = 20.0
RESERVE_SHARE = 0.01


@dataclass(frozen=True)
class Sizes:
    """How much there is: kept training images, test images; what one image needs.

    input: bytes of an image and its target at the net's working size. output: pixels of a mask in its own size, 1 for a label;
    the mean where images differ. pieces: of the working size that an image is cut into, the mean where they differ. corrupted:
    copies of training images, which their folds' nets predict too.
    """

    train: int
    test: int
    input: int
    output: float
    pieces: float = 1.0
    corrupted: int = 0

    @property
    def resident(self) -> int:
        """Bytes of all training images and targets at the working size."""
        return int(self.train * self.pieces) * self.input


@dataclass(frozen=True)
class Run:
    """One recipe's part of a plan: its folder, its key, and the folders and keys of what comes out of it."""

    recipe: Recipe
    key: Key
    folder: Path
    seconds: float | None
    weights: dict[int, Path]
    oof: dict[int, tuple[Path, Key]]
    test: tuple[Path, Key] | None
    corrupted: dict[int, tuple[Path, Key]] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What will be done. left_out: recipes that a budget has no room for, with the reason in ``notes``.

    workers: processes that work side by side. disk: bytes that each prediction will take, by job.
    """

    site: Site
    jobs: tuple[Job, ...]
    runs: tuple[Run, ...]
    folds: tuple[int, ...]
    seed: int
    budget: float | None
    seconds: float | None
    workers: int
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    disk: Mapping[str, int]
    memory_bytes: int


@dataclass(frozen=True)
class Means:
    """What there is to work with. speeds: of each recipe as measured; one that is not there is taken to be fast enough.

    workers: as asked for, None to choose. devices: GPUs to spread workers over, 1 on a CPU. cores: of the processor.
    """

    speeds: Mapping[str, Speeds]
    workers: int | None = 1
    devices: int = 1
    cores: int = 1

    def pick(self, recipes: Sequence[Recipe], folds: int, sizes: Sizes, budget: bool) -> int:
        """How many workers are to train these recipes."""
        if self.workers is not None:
            return self.workers
        known = [self.speeds[recipe.name] for recipe in recipes if recipe.name in self.speeds]
        jobs = len(recipes) * folds
        if len(known) < len(recipes):
            return 1
        return pick_workers(
            known, jobs, self.devices, sizes.resident, last_alone_is_faster=not budget and len(recipes) == 1
        )

    def site(self, site: Site, workers: int) -> Site:
        """The same with the threads that each worker has."""
        if site.threads is not None or workers == 1:
            return site
        return replace(site, threads=max(1, self.cores // workers))


ONE = Means({})


def plan(
    competition: Competition,
    recipes: Sequence[Recipe],
    folds: Sequence[int],
    site: Site,
    sizes: Sizes,
    runs_folder: Path,
    data_id: str,
    folds_id: str,
    seed: int = 0,
    budget: float | None = None,
    means: Means = ONE,
) -> Plan:
    """Make the plan; pure: no file is read or written, and the same arguments give the same plan.

    budget: seconds for the whole run; with it the speeds tell how many recipes have room to become useful
    (``train.min_epochs`` each).
    """
    notes: list[str] = []
    chosen, seconds, workers = list(recipes), None, means.pick(recipes, len(folds), sizes, budget=False)
    if budget is not None:
        _check_budget(recipes)
        chosen, seconds, workers = _share(recipes, len(folds), sizes, budget, means, notes)
    left_out = tuple(recipe.name for recipe in recipes if recipe not in chosen)
    runs, jobs = [], []
    given = means.site(site, workers)
    for recipe in chosen:
        sites = _sites(given, recipe, means.speeds.get(recipe.name), len(folds), sizes, seconds)
        run, its_jobs = _recipe_jobs(
            competition, recipe, folds, sites, sizes, runs_folder, data_id, folds_id, seed, seconds
        )
        runs.append(run)
        jobs += its_jobs
    volume = int(competition.answers * sizes.output * (4 if competition.numbers else 2))
    images = {"oof": sizes.train, "robust": sizes.corrupted, "test": sizes.test * competition.folds.count}
    per_job = {kind: -(-count // competition.folds.count) * volume for kind, count in images.items()}
    disk = {job.name: per_job[job.kind] for job in jobs if job.kind != "train"}
    # torch itself with activations of a batch, where it was not measured
    own = max((means.speeds[r.name].memory if r.name in means.speeds else 1_500_000_000 for r in chosen), default=0)
    memory = workers * (sizes.resident + own)
    return Plan(
        given,
        tuple(jobs),
        tuple(runs),
        tuple(folds),
        seed,
        budget,
        seconds,
        workers,
        left_out,
        tuple(notes),
        disk,
        memory,
    )


def _check_budget(recipes: Sequence[Recipe]) -> None:
    for recipe in recipes:
        if recipe.train.by_epochs:
            raise UserError(
                f"recipe '{recipe.name}': its schedule, a plateau, ends when the scores say so, a --budget by the clock; leave "
                "the budget out, or choose other --models"
            )


def _sites(
    site: Site, recipe: Recipe, speeds: Speeds | None, folds: int, sizes: Sizes, seconds: float | None
) -> dict[str, Site]:
    """How a recipe's jobs of each kind are to use the machine."""
    if speeds is None:
        return dict.fromkeys(
            ("train", "oof", "robust", "test"), replace(site, compile="on" if site.compile == "on" else "off")
        )
    precision = speeds.precision if site.precision == "auto" else site.precision
    settled = replace(site, precision=precision, micro_batch=speeds.micro_batch)
    pieces = sizes.train * sizes.pieces
    trained = None if seconds is not None else recipe.train.epochs * pieces * (folds - 1) / folds
    pays = {
        "train": compiling_pays(speeds, trained, seconds),
        "oof": compiling_prediction_pays(speeds, pieces / folds, 1),
        "robust": compiling_prediction_pays(speeds, sizes.corrupted * sizes.pieces / folds, 1),
        "test": compiling_prediction_pays(speeds, sizes.test * sizes.pieces, folds),
    }
    return {
        kind: replace(settled, compile="on" if site.compile == "on" or (site.compile == "auto" and pay) else "off")
        for kind, pay in pays.items()
    }


def _share(
    recipes: Sequence[Recipe], folds: int, sizes: Sizes, budget: float, means: Means, notes: list[str]
) -> tuple[list[Recipe], float, int]:
    """The recipes that a budget has room for, the seconds of each of their folds, and the workers."""
    available = max(1.0, budget - RESERVE_SECONDS - RESERVE_SHARE * budget)
    rows = sizes.train * sizes.pieces

    def epochs(recipe: Recipe) -> float:
        speeds = means.speeds.get(recipe.name)
        return seconds * speeds.rate(workers, means.devices) / rows if speeds else float("inf")

    for count in range(len(recipes), 0, -1):
        workers = means.pick(recipes[:count], folds, sizes, budget=True)
        rounds = -(-count * folds // workers)  # jobs side by side end together, so the last round may have idle workers
        seconds = round(available / rounds, 1)
        short = [recipe for recipe in recipes[:count] if epochs(recipe) < recipe.train.min_epochs]
        if not short or count == 1:
            break
    if count < len(recipes):
        names = ", ".join(recipe.name for recipe in recipes[count:])
        notes.append(
            f"the budget has room for {count} of {len(recipes)} recipes to train at least their min_epochs on {folds} "
            f"folds; left out: {names}"
        )
    if short:
        notes.append(
            f"the budget gives {recipes[0].name} about {epochs(recipes[0]):.1f} epochs a fold, fewer than its "
            f"min_epochs {recipes[0].train.min_epochs}; a longer --budget or fewer --folds would serve better"
        )
    return list(recipes[:count]), seconds, workers


def _recipe_jobs(
    competition: Competition,
    recipe: Recipe,
    folds: Sequence[int],
    sites: Mapping[str, Site],
    sizes: Sizes,
    runs_folder: Path,
    data_id: str,
    folds_id: str,
    seed: int,
    seconds: float | None,
) -> tuple[Run, list[Job]]:
    classes, seed = competition.answers, seed + recipe.seed
    key = run_key(competition, recipe, seed, seconds, data_id, folds_id)
    folder = runs_folder / f"{recipe.name}-{key.short}"
    given: dict[str, Any] = {
        "competition": competition.model_dump(mode="json"),
        "recipe": recipe.model_dump(mode="json"),
        "seed": seed,
    }
    jobs, weights, oof, corrupted, keys = [], {}, {}, {}, []
    for fold in folds:
        name, weights_key = f"{recipe.name} fold {fold}", fold_key(key, fold)
        keys.append(weights_key)
        weights[fold] = folder / f"fold{fold}"
        predicted = oof_key(weights_key, recipe, classes)
        oof[fold] = (weights[fold] / f"oof-{predicted.short}", predicted)
        jobs.append(
            Job(
                "train",
                name,
                folder=str(weights[fold]),
                key=weights_key,
                fold=fold,
                seconds=seconds,
                test_images=round(sizes.test * sizes.pieces),
                corrupted_images=round(sizes.corrupted * sizes.pieces / competition.folds.count),
                site=sites["train"],
                **given,
            )
        )
        jobs.append(
            Job(
                "oof",
                f"{name} oof",
                folder=str(oof[fold][0]),
                key=predicted,
                fold=fold,
                weights=(str(weights[fold]),),
                needs=(name,),
                site=sites["oof"],
                **given,
            )
        )
        site = sites["robust"]
        if site.corrupted is not None:
            judged = robust_key(weights_key, recipe, classes, site.corrupted)
            corrupted[fold] = (weights[fold] / f"robust-{judged.short}", judged)
            jobs.append(
                Job(
                    "robust",
                    f"{name} corrupted",
                    folder=str(corrupted[fold][0]),
                    key=judged,
                    fold=fold,
                    weights=(str(weights[fold]),),
                    needs=(name,),
                    site=site,
                    **given,
                )
            )
    if not sizes.test:
        return Run(recipe, key, folder, seconds, weights, oof, None, corrupted), jobs
    tested = test_key(keys, recipe, classes)
    test_folder = folder / f"test-{tested.short}"
    jobs.append(
        Job(
            "test",
            f"{recipe.name} test",
            folder=str(test_folder),
            key=tested,
            weights=tuple(str(weights[fold]) for fold in folds),
            needs=tuple(f"{recipe.name} fold {fold}" for fold in folds),
            site=sites["test"],
            **given,
        )
    )
    return Run(recipe, key, folder, seconds, weights, oof, (test_folder, tested), corrupted), jobs
