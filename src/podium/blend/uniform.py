"""The uniform blend: the mean of the models' probabilities, scored on their out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from podium import metrics
from podium.blend.oof import Oof, gather, layout, volume
from podium.blend.points import find
from podium.config import Competition
from podium.data.part import Part
from podium.data.ragged import Ragged
from podium.decode import finish, mean
from podium.estimate import over_repeats
from podium.folds import Folds
from podium.jobs import OOF, STATS, TEST, VERSIONS
from podium.metrics import Metric
from podium.plan import Run
from podium.scoring import also, scored_by, stats_of
from podium.store import Folder, Key, read_json, write_json

NAME = "uniform blend"
CORRUPTED = "corrupted.npy"


@dataclass(frozen=True, eq=False)
class Blend:
    """Weights per model, and the statistics of the blended out-of-fold predictions.

    steps: of the decoding, what was chosen on those predictions, with its scores; all statistics are then of choices made
    without the fold that they are of. corrupted: of corrupted copies, None where there are none. also: further metrics
    by name.
    """

    folder: Path
    key: str
    weights: dict[str, float]
    oof: Oof
    corrupted: Oof | None
    also: dict[str, float]
    steps: tuple[dict[str, Any], ...]

    @property
    def points(self) -> tuple[float, ...] | None:
        """Thresholds or cut points, where any were chosen."""
        return next((tuple(step["points"]) for step in self.steps), None)


def make(
    runs: Sequence[Run],
    competition: Competition,
    folds: Folds,
    part: Part,
    runs_folder: Path,
    copies: tuple[Part, Folds] | None = None,
) -> Blend:
    """Blend ``runs`` with equal weights; what was blended before is read back. copies: corrupted ones and their folds."""
    weights = {run.recipe.name: 1 / len(runs) for run in runs}
    results = [result for run in runs for result in (*run.oof.values(), *run.corrupted.values())]
    settings = {"weights": weights} | scored_by(competition) | {"also": [str(metric) for metric in competition.also]}
    key = Key("blend", VERSIONS["blend"], settings, tuple(key.hash for _, key in results))
    folder = Folder(runs_folder / f"blend-{key.short}", key)
    files = (STATS, "blend.json", "decode.json", *([CORRUPTED] if copies else []))
    with folder.lock():
        made_of = [Folder(path, key).file_sum(OOF) for path, key in results]
        if folder.done is None or folder.done["oof"] != made_of:
            made = _Blended(runs, list(weights.values()), competition, folds, part)
            metric = metrics.of(competition)
            oof = made.stats(metric)
            np.save(folder.file(STATS), oof.stats)
            if copies is not None:
                np.save(folder.file(CORRUPTED), made.stats(metric, copies).stats)
            models = {run.recipe.name: {"run": run.key.hash, "weight": weights[run.recipe.name]} for run in runs}
            scores = {
                "score": over_repeats(metric, oof.stats),
                "also": {
                    name: over_repeats(other, made.stats(other).stats) for name, other in also(competition).items()
                },
            }
            write_json(
                folder.file("blend.json"), {"method": "uniform", "mean": "arithmetic", "models": models} | scores
            )
            write_json(folder.file("decode.json"), {"unscored": competition.unscored, "steps": made.steps})
            folder.finish(files, oof=made_of)
        folder.verify()
        chosen = tuple(runs[0].oof)
        oof = Oof(NAME, *layout(chosen, folds), np.load(folder.file(STATS), allow_pickle=False))
        corrupted = None
        if copies is not None:
            stats = np.load(folder.file(CORRUPTED), allow_pickle=False)
            corrupted = Oof(NAME, *layout(chosen, copies[1]), stats)
        others = read_json(folder.file("blend.json"))["also"]
        steps = tuple(read_json(folder.file("decode.json"))["steps"])
        return Blend(folder.path, key.hash, weights, oof, corrupted, others, steps)


def test_labels(
    runs: Sequence[Run], weights: dict[str, float], unscored: int | None, points: tuple[float, ...] | None = None
) -> Ragged:
    """The labels of the test set: the same ``finish`` as for out-of-fold predictions."""
    volumes = []
    for run in runs:
        assert run.test is not None
        path, key = run.test
        Folder(path, key).verify()
        volumes.append(Ragged.open(path / TEST))
    return finish(volumes, [weights[run.recipe.name] for run in runs], unscored, points)


class _Blended:
    """The blend of out-of-fold predictions; points are chosen once, and each fold is decoded with those chosen without it."""

    def __init__(
        self, runs: Sequence[Run], weights: list[float], competition: Competition, folds: Folds, part: Part
    ) -> None:
        self.runs, self.weights, self.competition = runs, weights, competition
        self.part, self.folds = part, folds
        self.steps: list[dict[str, Any]] = []
        self.by_fold: dict[int, tuple[float, ...]] = {}
        if not competition.masks:
            self._choose()

    def stats(self, metric: Metric, copies: tuple[Part, Folds] | None = None) -> Oof:
        """A metric's statistics of the images, or of corrupted ``copies`` of them and their folds."""
        part, folds = copies or (self.part, self.folds)
        assert part.targets is not None
        pieces = {}
        for fold in self.runs[0].oof:
            volumes, points = self._volumes(fold, copies), self.by_fold.get(fold)
            pieces[fold] = stats_of(metric, self.competition, part.targets, volumes, self.weights, points)
        return gather(NAME, pieces, folds)

    def _volumes(self, fold: int, copies: tuple[Part, Folds] | None = None) -> list[Ragged]:
        results = [(run.corrupted if copies else run.oof)[fold] for run in self.runs]
        folds = copies[1] if copies else self.folds
        return [volume(*result, fold, folds, self.competition.answers) for result in results]

    def _choose(self) -> None:
        assert self.part.targets is not None
        predicted = {}
        for fold in self.runs[0].oof:
            blend = mean(self._volumes(fold), self.weights, self.competition.unscored_index)
            predicted[fold] = blend.ids, blend.stacked[:, -1, :, 0]  # the last channel: "yes", or the number
        gathered = gather(NAME, predicted, self.folds)
        ids, metric = self.folds.ids[gathered.rows], metrics.of(self.competition)
        found = find(metric, self.competition, gathered, ids, self.part.targets)
        if found is not None:
            self.by_fold = found.by_fold
            said = {key: getattr(found, key) for key in ("points", "in_sample", "nested", "plain")}
            self.steps = [{"step": "points"} | said]
