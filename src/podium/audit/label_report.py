"""``podium audit --labels``: probable label errors, from the out-of-fold predictions of the last run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from podium import metrics, pipeline, remembered
from podium.audit.labels import ImageLabels, RegionLabels, rank_images, rank_regions, write
from podium.audit.pictures import gallery
from podium.blend.oof import volume
from podium.errors import UserError
from podium.estimate import best
from podium.plan import Run
from podium.prepare import Options, Prepared, Say, prepare
from podium.scoring import fold_score
from podium.store import Folder

SHOWN = 32
"""Images on the contact sheet."""


@dataclass(frozen=True)
class LabelReport:
    """model: whose predictions were believed, and how well it scores. judged: how many images it has predicted."""

    competition: str
    model: str
    score: float
    judged: int
    found: ImageLabels | RegionLabels
    file: str
    picture: str | None


def audit_labels(name: str, options: Options, say: Say) -> LabelReport:
    """Rank the labels that the best model of the last run disagrees with; labels.csv and labels.png in the audit's folder."""
    if not options.asks:
        options = remembered.last_options(name, options)
    prepared = prepare(name, options, say)
    task = prepared.competition.task
    if task not in ("classification", "segmentation"):
        raise UserError(f"{name}: doubtful labels are searched for among classes and masks, and the task is {task}")
    plan = pipeline.make_plan(prepared, options, say, measure=False)
    scored = [(run, score) for run in plan.runs if (score := _score(run, prepared)) is not None]
    if not scored:
        raise UserError(f"{name}: no model has predicted all its folds yet; run first: podium train {name}")
    run, score = scored[best([score for _, score in scored], metrics.of(prepared.competition))]
    folds, classes = prepared.folds, prepared.competition.classes
    first = [fold for fold in run.oof if fold < folds.count]  # of repeats the first: an image is judged once
    volumes = [volume(*run.oof[fold], fold, folds, len(classes)) for fold in first]
    targets = prepared.source.train.targets
    assert targets is not None
    search = rank_images if task == "classification" else rank_regions
    found = search(targets, volumes, classes, prepared.competition.unscored_index)
    judged = sum(len(predicted) for predicted in volumes)
    folder = prepared.workspace.audit(prepared.name)
    file = write(folder, found)
    picture = _picture(prepared, found, folder)
    return LabelReport(prepared.name, run.recipe.name, score, judged, found, str(file), picture)


def _score(run: Run, prepared: Prepared) -> float | None:
    """Mean score over its folds, None where one is missing."""
    folders = [Folder(path, key) for path, key in run.oof.values()]
    if any(folder.done is None for folder in folders):
        return None
    return mean(fold_score(folder, prepared.competition, prepared.dataset.train) for folder in folders)


def _picture(prepared: Prepared, found: ImageLabels | RegionLabels, folder: Path) -> str | None:
    train = prepared.source.train
    path = folder / "labels.png"
    path.unlink(missing_ok=True)
    items: dict[str, str] = {}
    if isinstance(found, ImageLabels):
        for suspect in found.suspects:
            if suspect.probable:
                items[suspect.id] = f"{suspect.id}: {suspect.given} > {suspect.suggested}"
    else:
        for region in found.regions:
            items.setdefault(region.id, f"{region.id}: {region.given} > {region.suggested}")
    shown = list(items.items())[:SHOWN]
    if not shown:
        return None
    rows = [train.images.index[name] for name, _ in shown]
    gallery(path, train.images, rows, [text for _, text in shown], targets=train.targets)
    return str(path)
