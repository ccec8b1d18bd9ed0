"""The uniform blend: the mean of the models' probabilities, scored on their out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from podium.blend.oof import Oof, gather, layout, volume
from podium.config import Competition
from podium.data.part import Part
from podium.data.ragged import Ragged
from podium.decode import finish
from podium.estimate import over_repeats
from podium.folds import Folds
from podium.jobs import OOF, STATS, TEST, VERSIONS
from podium.metrics import Metric, image_stats
from podium.plan import Run
from podium.store import Folder, Key, write_json


@dataclass(frozen=True, eq=False)
class Blend:
    """Weights per model, and the statistics of the blended out-of-fold predictions."""

    folder: Path
    key: str
    weights: dict[str, float]
    oof: Oof


def make(
    runs: Sequence[Run], competition: Competition, folds: Folds, part: Part, metric: Metric, runs_folder: Path
) -> Blend:
    """Blend ``runs`` with equal weights; what was blended before is read back."""
    weights = {run.recipe.name: 1 / len(runs) for run in runs}
    inputs = tuple(key.hash for run in runs for _, key in run.oof.values())
    settings = {"weights": weights, "metric": competition.metric.model_dump(), "unscored": competition.unscored_index}
    key = Key("blend", VERSIONS["blend"], settings, inputs)
    folder = Folder(runs_folder / f"blend-{key.short}", key)
    with folder.lock():
        made_of = [Folder(path, key).file_sum(OOF) for run in runs for path, key in run.oof.values()]
        if folder.done is None or folder.done["oof"] != made_of:
            made = _blended(runs, list(weights.values()), competition, folds, part, metric)
            np.save(folder.file(STATS), made.stats)
            models = {run.recipe.name: {"run": run.key.hash, "weight": weights[run.recipe.name]} for run in runs}
            write_json(
                folder.file("blend.json"),
                {
                    "method": "uniform",
                    "mean": "arithmetic",
                    "models": models,
                    "score": over_repeats(metric.values, made.stats),
                },
            )
            write_json(folder.file("decode.json"), {"unscored": competition.unscored, "steps": []})
            folder.finish((STATS, "blend.json", "decode.json"), oof=made_of)
        folder.verify()
        stats = np.load(folder.file(STATS), allow_pickle=False)
        return Blend(folder.path, key.hash, weights, Oof("uniform blend", *layout(tuple(runs[0].oof), folds), stats))


def test_labels(runs: Sequence[Run], weights: dict[str, float], unscored: int | None) -> Ragged:
    """The labels of the test set: the same ``finish`` as for out-of-fold predictions."""
    volumes = []
    for run in runs:
        assert run.test is not None
        path, key = run.test
        Folder(path, key).verify()
        volumes.append(Ragged.open(path / TEST))
    return finish(volumes, [weights[run.recipe.name] for run in runs], unscored)


def _blended(
    runs: Sequence[Run],
    weights: list[float],
    competition: Competition,
    folds: Folds,
    part: Part,
    metric: Metric,
) -> Oof:
    assert part.targets is not None
    pieces = {}
    for fold in runs[0].oof:
        volumes = [volume(*run.oof[fold], fold, folds, len(competition.classes)) for run in runs]
        labels = finish(volumes, weights, competition.unscored_index)
        pieces[fold] = labels.ids, image_stats(metric, part.targets, labels)
    return gather("uniform blend", pieces, folds)
