"""Jobs: what a worker anywhere is given, as plain JSON, and how it carries them out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from podium.config import Competition, Recipe
from podium.errors import UserError
from podium.store import DONE, Folder, Key, read_json, verify, write_json

if TYPE_CHECKING:  # torch is imported in the workers only
    from podium.corruptions.copies import Corrupted
    from podium.data.fit import Fit
    from podium.data.part import Dataset, Part
    from podium.folds import Folds
    from podium.training.machine import Machine

Emit = Callable[[dict[str, Any]], None]
VERSIONS = {"run": 1, "fold": 1, "oof": 1, "robust": 1, "stats": 1, "test": 1, "blend": 2}
"""Raised by hand when the code of a kind changes what its results mean."""
OOF, TEST, STATS = "oof.npy", "test.npy", "stats.npy"


def weights_file(kept: str) -> str:
    """Name of a fold's file of weights: ``ema``, ``last`` or ``best``."""
    return f"{kept}.safetensors"


@dataclass(frozen=True)
class Site:
    """Where a run's data lie, shared by all jobs of a plan, and how its machine is to be used.

    corrupted: data_id of the corrupted copies in the same cache, None where there are none.
    compile: ``auto`` only as long as nothing has decided; a job is given ``on`` or ``off``.
    """

    name: str
    cache: str
    data_id: str
    source_id: str
    folds: str
    device: str = "auto"
    precision: str = "auto"
    source: str = "auto"
    threads: int | None = None
    compile: str = "auto"
    micro_batch: int | None = None
    corrupted: str | None = None


@dataclass(frozen=True)
class Job:
    """One unit of work: train a fold, predict its out-of-fold rows or corrupted copies of them (robust), or predict the
    test set with a recipe's folds.

    name: unique in its plan, for people and for ``needs``. folder: where its result goes, with its key.
    weights: folders of the trained folds it reads. seconds: what a fold may cost, None where epochs count; test_images and
    corrupted images will be predicted by its net beside its fold and are part of that cost.
    """

    kind: Literal["train", "oof", "robust", "test"]
    name: str
    competition: dict[str, Any]
    recipe: dict[str, Any]
    site: Site
    folder: str
    key: Key
    seed: int
    fold: int = -1
    weights: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    seconds: float | None = None
    test_images: int = 0
    corrupted_images: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values only."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Job:
        """The inverse of ``to_json``, also after a trip through JSON text."""
        key = raw["key"] | {"inputs": tuple(raw["key"]["inputs"])}
        tuples = {name: tuple(raw[name]) for name in ("weights", "needs")}
        return cls(**(raw | tuples | {"site": Site(**raw["site"]), "key": Key(**key)}))

    @property
    def result(self) -> Folder:
        """Its result on disk."""
        return Folder(Path(self.folder), self.key)

    @property
    def done(self) -> dict[str, Any] | None:
        """What its finished result says of itself; None too where it was made of weights that are no longer there.

        With a budget, and on a GPU, training the same fold again gives other weights under the same key.
        """
        record = self.result.done
        return record if record is not None and record.get("weights", []) == self.weights_now() else None

    def weights_now(self) -> list[str | None]:
        """The checksums of the weights that it predicts with, None for those that are not there."""
        records = [read_json(Path(path) / DONE) for path in self.weights]
        name = weights_file(self.recipe["train"]["keep"])
        return [record["files"][name]["sha256"] if record else None for record in records]


def run_key(
    competition: Competition, recipe: Recipe, seed: int, seconds: float | None, data_id: str, folds_id: str
) -> Key:
    """Identity of a recipe's training on a fold file: all that changes the weights, and nothing else."""
    train = recipe.train.model_dump(
        mode="json", exclude={"min_epochs", "keep", "inner"} | ({"epochs"} if seconds is not None else set())
    )
    train["inner"] = recipe.train.inner if recipe.train.needs_inner else None
    if train["rarest_rate_end"] is None:
        del train["rarest_rate_end"]
    settings = {
        "net": recipe.net.identity(),
        "loss": recipe.loss.model_dump(mode="json"),
        "augment": recipe.augment.model_dump(mode="json"),
        "train": train,
        "mix": [mix.model_dump(mode="json") for mix in recipe.mix],
        "task": competition.task,
        "scored": list(competition.scored),
        "standardise": competition.standardised,
        "fit": fit.model_dump(mode="json") if (fit := competition.data.fit) else None,
        "seed": seed,
        "seconds": seconds,
    }
    return Key("run", VERSIONS["run"], settings, (data_id, folds_id))


def fold_key(run: Key, fold: int) -> Key:
    """Identity of one fold's weights."""
    return Key("fold", VERSIONS["fold"], {"fold": fold}, (run.hash,))


def _predicts(recipe: Recipe, classes: int) -> dict[str, Any]:
    """What predictions depend on beside the trained folds; which of their weights are taken is a choice made afterwards."""
    return {"views": list(recipe.predict.views), "classes": classes, "weights": recipe.train.keep}


def oof_key(weights: Key, recipe: Recipe, classes: int) -> Key:
    """Identity of one fold's out-of-fold predictions."""
    return Key("oof", VERSIONS["oof"], _predicts(recipe, classes), (weights.hash,))


def robust_key(weights: Key, recipe: Recipe, classes: int, corrupted: str) -> Key:
    """Identity of what one fold's net makes of corrupted copies of its out-of-fold rows."""
    settings = _predicts(recipe, classes) | {"corrupted": corrupted}
    return Key("robust", VERSIONS["robust"], settings, (weights.hash,))


def test_key(weights: list[Key], recipe: Recipe, classes: int) -> Key:
    """Identity of a recipe's test predictions, the mean over the folds given."""
    return Key(
        "test",
        VERSIONS["test"],
        _predicts(recipe, classes),
        tuple(key.hash for key in weights),
    )


@dataclass(frozen=True, eq=False)
class _Bench:
    """All that jobs of one plan have in common in a worker."""

    competition: Competition
    recipe: Recipe
    dataset: Dataset
    fit: Fit
    folds: Folds
    machine: Machine


def open_site(site: Site) -> tuple[Dataset, Folds]:
    """The data and folds of a run; kept open for the next job."""
    return _open(site.cache, site.data_id, site.source_id, site.folds)


@lru_cache(maxsize=2)
def _open(cache: str, data_id: str, source_id: str, folds: str) -> tuple[Dataset, Folds]:
    from podium.data.cache import open_cached
    from podium.fold_file import load

    dataset = open_cached(Path(cache), data_id)
    return dataset, load(Path(folds), dataset.train.images.ids, source_id)


def execute(job: Job, emit: Emit, allowance: float | None = None, threads: int | None = None) -> dict[str, Any]:
    """Carry out one job in this process and return facts about it; a finished result is left as it is.

    allowance: seconds that a budget leaves for this job now, which may differ from the planned ones. threads: likewise.
    """
    from podium.data.fit import plan_fit
    from podium.training.machine import detect

    competition, recipe = Competition.model_validate(job.competition), Recipe.model_validate(job.recipe)
    site = job.site
    compile = "on" if site.compile == "on" else "off"
    machine = detect(site.device, site.precision, threads or site.threads, site.source, compile, site.micro_batch)
    dataset, folds = open_site(site)
    fit = plan_fit(dataset.parts, competition.data.fit)
    bench = _Bench(competition, recipe, dataset, fit, folds, machine)
    folder = job.result
    with folder.lock():
        if (done := job.done) is not None:
            return done
        write_json(folder.file("job.json"), job.to_json())
        if job.kind == "train":
            from podium.training.fold import train_fold

            seconds = job.seconds if allowance is None else allowance
            train_fold(
                competition,
                recipe,
                job.fold,
                job.seed,
                dataset.train,
                fit,
                folds,
                folder,
                machine,
                seconds,
                job.test_images,
                emit,
                job.corrupted_images,
            )
        elif job.kind in ("oof", "robust"):
            _predict_fold(job, bench, emit)
        else:
            _predict_test(job, bench, emit)
        record = folder.done
        assert record is not None
        return record


def _load_nets(job: Job, bench: _Bench) -> list[Any]:
    import torch

    from podium.inference.predict import load

    torch.set_num_threads(bench.machine.threads)
    channels = bench.dataset.train.channels
    models, name = [], weights_file(bench.recipe.train.keep)
    for path, expected in zip(job.weights, job.key.inputs, strict=True):
        found = verify(Path(path), name)["key"]
        if found != expected:
            raise UserError(
                f"{path}: holds weights of key {found}, {job.name} needs {expected}; run the training again"
            )
        models.append(load(bench.recipe, bench.competition, channels, Path(path) / name, bench.machine, bench.fit.size))
    return models


def _predict(job: Job, bench: _Bench, path: Path, part: Part, rows: np.ndarray, emit: Emit) -> None:
    from podium.inference.predict import predict_to

    predict_to(
        path,
        _load_nets(job, bench),
        bench.competition,
        part,
        rows,
        bench.fit,
        bench.recipe.predict.views,
        bench.machine,
        emit,
    )


def open_copies(site: Site, dataset: Dataset, folds: Folds) -> tuple[Corrupted, Folds]:
    """A run's corrupted copies, and the folds of the images that they are of."""
    from podium.corruptions.copies import open_corrupted

    assert site.corrupted is not None
    copies = open_corrupted(Path(site.cache), site.corrupted, dataset.train)
    return copies, folds.of_copies(copies.part.images.ids, copies.base_row)


def _predict_fold(job: Job, bench: _Bench, emit: Emit) -> None:
    from podium.data.ragged import index_of
    from podium.scoring import fold_score

    part, folds = bench.dataset.train, bench.folds
    if job.kind == "robust":
        copies, folds = open_copies(job.site, bench.dataset, folds)
        part = copies.part
    _, rows = folds.rows(job.fold)
    folder = job.result
    path = folder.file(OOF)
    _predict(job, bench, path, part, rows, emit)
    folder.finish((OOF, index_of(path).name), weights=job.weights_now(), machine=bench.machine.describe())
    emit({"event": "score", "score": fold_score(folder, bench.competition, part)})


def _predict_test(job: Job, bench: _Bench, emit: Emit) -> None:
    from podium.data.ragged import index_of

    test = bench.dataset.test
    assert test is not None
    folder = job.result
    path = folder.file(TEST)
    _predict(job, bench, path, test, np.arange(len(test)), emit)
    folder.finish((TEST, index_of(path).name), weights=job.weights_now(), machine=bench.machine.describe())
