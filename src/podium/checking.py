"""``podium check``: a file held against all that is known of the competition, and scored where the truth is at hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from podium import metrics
from podium.config import Competition
from podium.config_model_zip import ModelZip
from podium.data.chunk import NO_LABEL
from podium.data.kinds import kinds
from podium.data.part import Part
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.prepare import Options, Say, open_data, read_competition
from podium.submission.checks.model_zip import check_model_zip
from podium.submission.checks.report import Report
from podium.submission.checks.shares import agreement, odd_shares, transposed
from podium.submission.history import packed
from podium.submission.pack import LEDGER
from podium.submission.reading import read
from podium.submission.validate import check_file, with_sample

LITTLE = 0.9
"""Agreement with our own predictions, as a share of what another reading reaches, below which that reading is suspected."""


@dataclass(frozen=True)
class Checked:
    """The verdict on a file.

    of_sample: held against the built-in sample, for want of the competition's data. score: by the competition's metric, where
    the truth was given; parts: of the score, by name.
    """

    report: Report
    of_sample: bool
    metric: str = ""
    score: float | None = None
    parts: dict[str, float | None] | None = None


def check(name: str, path: Path, options: Options, say: Say, truth: Path | None = None) -> Checked:
    """Check a file from anywhere against format, test set, ``sample_submission``, training labels and our own predictions.

    truth: a file of the same format with the right answers. A file with errors is neither compared nor scored.
    """
    workspace, competition = read_competition(name, options)
    settings = competition.submission
    if settings is None:
        raise UserError(
            f"{name}: its configuration has no 'submission', so there is nothing to check a file against; add it"
        )
    if isinstance(settings, ModelZip):
        if truth is not None:
            raise UserError(f"--truth {truth}: a model_zip holds code, not answers; leave --truth out")
        return Checked(check_model_zip(path, competition, own=False), False)
    origin, opened = open_data(workspace, competition, options, say)
    dataset = opened.dataset
    if dataset.test is None:
        raise UserError(
            f"{name}: its configuration has no 'data.test', so there is nothing to check a file against; add it"
        )
    test = dataset.test.images
    report = with_sample(check_file(path, competition, test.ids, test.shapes), path, settings, origin.folder)
    if report.errors:
        if truth is not None:
            say("the file has errors: it is not scored")
        return Checked(report, origin.sample)
    report = replace(report, warnings=(*report.warnings, *_odd(report, competition, dataset.train)))
    if settings.needs == "labels" and competition.masks:
        told = read(path, competition, test.ids, test.shapes)
        seen = _suspected(told, dataset.train, len(competition.classes))
        book = workspace.submissions / LEDGER
        seen += _beside_ours(path, told, competition, book, origin.name, test)
        report = replace(report, warnings=(*report.warnings, *seen))
    if truth is None:
        return Checked(report, origin.sample)
    metric = metrics.of(competition)
    score = metrics.image_stats(metric, *_answers(path, truth, competition, metric.needs, test))
    found = metric.score(score)
    return Checked(
        report, origin.sample, str(competition.metric), found.value, dict(zip(metric.parts, found.parts, strict=True))
    )


def _odd(report: Report, competition: Competition, train: Part) -> list[str]:
    """Classes that are predicted much more or less often than they occur in training."""
    if not competition.classes or train.targets is None or competition.task == "multilabel":
        return []
    labels = kinds(train.targets, competition)[0].values
    counts = np.bincount(labels[labels != NO_LABEL], minlength=len(competition.classes))
    return odd_shares(report.counts, counts.tolist(), competition.classes, competition.unscored_index)


def _suspected(told: Ragged, train: Part, classes: int) -> list[str]:
    if not told.uniform or train.targets is None:
        return []
    found = transposed(told.stacked[:, 0], train.targets, classes)
    return [found] if found else []


def _beside_ours(path: Path, told: Ragged, competition: Competition, book: Path, name: str, test: Ragged) -> list[str]:
    """A warning where the file agrees with what was packed last far better when it is read otherwise."""
    rows = [row for row in packed(book, name) if (book.parent / row["file"]).is_file()]
    if not rows or not told.uniform or (book.parent / rows[-1]["file"]).resolve() == path.resolve():
        return []
    ours = book.parent / rows[-1]["file"]
    try:
        known = read(ours, competition, test.ids, test.shapes)
    except UserError:  # packed in another format, or of other test images
        return []
    as_it_is, turned, shifted = agreement(told.stacked[:, 0], known.stacked[:, 0])
    said = f"{as_it_is:.1%} of the pixels are as in {ours.name}"
    if as_it_is < LITTLE * turned:
        return [f"{said}, read column by column {turned:.1%}: rows and columns seem swapped"]
    if as_it_is < LITTLE * shifted:
        return [f"{said}, with each image beside the one before it {shifted:.1%}: rows seem to stand under other ids"]
    return []


def _answers(path: Path, truth: Path, competition: Competition, needs: str, test: Ragged) -> tuple[Ragged, Ragged]:
    """Truth and predictions as the metric takes them."""
    if not truth.is_file():
        raise UserError(f"{truth}: there is no such file; name one with the right answers")
    found = check_file(truth, competition, test.ids, test.shapes)
    if found.errors:
        more = f" (and {len(found.errors) - 1} more)" if len(found.errors) > 1 else ""
        raise UserError(
            f"--truth {truth}: {found.errors[0]}{more}; the right answers come in the format of a submission"
        )
    settings = competition.submission
    assert settings is not None
    right, told = (read(each, competition, test.ids, test.shapes) for each in (truth, path))
    if settings.needs == "probabilities":
        right = _labels(right)
        told = told if needs == "probabilities" else _labels(told)
    elif needs == "probabilities":
        raise UserError(
            f"{competition.name}: its metric {competition.metric} is of probabilities, and {path.name} holds labels; it cannot "
            f"be scored"
        )
    return right, told


def _labels(probabilities: Ragged) -> Ragged:
    """The most probable classes, or the answers that are more likely yes than no, uint8 (1, H, W)."""
    items = [each.argmax(0).astype(np.uint8)[None] for each in probabilities]
    shapes = np.array([item.shape for item in items], np.int64)
    return Ragged(np.concatenate([item.reshape(-1) for item in items]), shapes, probabilities.ids)
