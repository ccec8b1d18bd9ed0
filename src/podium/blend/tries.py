"""Statistics of a blend's images under further steps of the decoding, many tried side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from podium import side_by_side
from podium.blend.table import FoldSet, Table
from podium.combine import combined, take
from podium.data.chunk import NO_LABEL
from podium.data.ragged import Ragged
from podium.decode import Decision, decoded, weighed
from podium.decode_steps import SHAPES, Step, changes, reshaped
from podium.metrics import OfConfusion, image_stats
from podium.metrics.counts import confusion

Steps = tuple[Step, ...]
Piece = tuple[np.ndarray, np.ndarray]
"""Ids (n,) and what their classes score, float32 (n, C, H, W)."""
ROOM = 1 << 30
"""Bytes of blended images that are kept, since one kind of step is tried after the other; more are blended each time."""
Changed = list[tuple[int, np.ndarray, np.ndarray | int]]
"""Images that a step changes: number, flat indices of the pixels, their new labels."""


class Tries:
    """Scores steps on the images of a table, blended as ``decision`` says. What was scored before is remembered."""

    def __init__(self, table: Table, decision: Decision) -> None:
        self.table, self.decision = table, decision
        self._kept: dict[int, list[Piece]] = {}
        self._room = ROOM

    def stats(self, taken: Steps, options: Sequence[Steps], folds: FoldSet) -> list[np.ndarray]:
        """Statistics (n, ...) of the folds' images under each of ``options``, done after the steps that are ``taken``."""
        each = zip(*(self._of_fold(taken, options, k) for k in folds), strict=True)
        return [np.concatenate(stats) for stats in each]

    def _of_fold(self, taken: Steps, options: Sequence[Steps], fold: int) -> list[np.ndarray]:
        """The same of one fold; its images are gone through once for all options that are new."""
        known, base = self.table.known, ("steps", self.decision.weights, self.decision.mean, taken, fold)
        todo = [steps for steps in options if (*base, steps) not in known]
        if todo:
            found = side_by_side.each(lambda piece: self._block(piece, taken, todo), self._pieces(fold))
            for steps, stats in zip(todo, zip(*found, strict=True), strict=True):
                known[(*base, steps)] = np.concatenate(stats)
        return [known[(*base, steps)] for steps in options]

    def _pieces(self, fold: int) -> Iterable[Piece]:
        """Ids and blended scores of some of a fold's images at a time."""
        if fold in self._kept:
            return self._kept[fold]
        first = self.table.volumes[fold][0]
        size = int(first.offsets[-1]) * np.dtype(np.float32).itemsize
        if size > self._room:
            return self._blended(fold)
        self._room -= size
        self._kept[fold] = list(self._blended(fold))
        return self._kept[fold]

    def _blended(self, fold: int) -> Iterator[Piece]:
        volumes, decision, at = self.table.volumes[fold], self.decision, 0
        for scores in combined(volumes, decision.weights, self.table.competition.unscored_index, decision.mean):
            yield volumes[0].ids[at : at + len(scores)], scores
            at += len(scores)

    def _block(self, piece: Piece, taken: Steps, options: Sequence[Steps]) -> list[np.ndarray]:
        ids, scores = piece
        table, mean = self.table, self.decision.mean
        unscored = table.competition.unscored_index
        before = weighed(scores.copy(), unscored, mean, taken)
        images = _images(table, ids, reshaped(before.argmax(1).astype(np.uint8), before, taken))
        found = []
        # one step in several amounts, side by side in ``options``, is worked out together
        for family, members in groupby(options, _family):
            some = list(members)
            if family is not None:
                found += images.changed_by([steps[0] for steps in some], before)
                continue
            for steps in some:
                if any(step.name not in SHAPES for step in steps):
                    told = decoded(scores.copy(), unscored, mean, (*taken, *steps))
                else:
                    told = reshaped(images.labels, before, steps)
                output = Ragged.stack(told[:, None].astype(np.uint8), ids)
                found.append(image_stats(table.metric, table.targets, output))
        return found


def _family(steps: Steps) -> tuple[str, int | None] | None:
    """What steps have in common that differ by their amount alone; None of all that do not change shapes, or are several."""
    return (steps[0].name, steps[0].of) if len(steps) == 1 and steps[0].name in SHAPES else None


@dataclass(frozen=True, eq=False)
class _Images:
    """Images with labels, and what few changes make of their statistics.

    truth, labels: uint8 (n, H, W). stats: (n, ...). matrices: int64 (n, C, C), [truth, predicted], where statistics follow
    from these.
    """

    table: Table
    truth: np.ndarray
    labels: np.ndarray
    stats: np.ndarray
    matrices: np.ndarray | None

    def changed_by(self, family: Sequence[Step], scores: np.ndarray) -> list[np.ndarray]:
        """Statistics (n, ...) of the images under each of one step in several amounts; scores (n, C, H, W)."""
        changed: list[Changed] = [[] for _ in family]
        for image, (label, score) in enumerate(zip(self.labels, scores, strict=True)):
            for mine, (at, told) in zip(changed, changes(label, score, family), strict=True):
                if len(at):
                    mine.append((image, at, told))
        return [self._restated(mine) if mine else self.stats for mine in changed]

    def _restated(self, changed: Changed) -> np.ndarray:
        metric = self.table.metric
        if self.matrices is not None:
            assert isinstance(metric, OfConfusion)
            return metric.of_confusion(self._recounted(self.matrices, changed))
        rows = [image for image, _, _ in changed]
        labels = self.labels[rows]
        for label, (_, at, told) in zip(labels, changed, strict=True):
            label.reshape(-1)[at] = told
        stats = self.stats.copy()
        stats[rows] = metric.stats(self.truth[rows], labels)
        return stats

    def _recounted(self, matrices: np.ndarray, changed: Changed) -> np.ndarray:
        classes, size = matrices.shape[1], self.labels[0].size
        where = np.concatenate([image * size + at for image, at, _ in changed])
        told = np.concatenate([np.broadcast_to(told, len(at)) for _, at, told in changed])
        truth = self.truth.reshape(-1)[where]
        labelled = truth != NO_LABEL
        where, told, truth = where[labelled], told[labelled], truth[labelled]
        row = (where // size * classes + truth) * classes
        new = np.bincount(row + told, minlength=matrices.size)
        old = np.bincount(row + self.labels.reshape(-1)[where], minlength=matrices.size)
        return matrices + (new - old).reshape(matrices.shape)


def _images(table: Table, ids: np.ndarray, labels: np.ndarray) -> _Images:
    metric, truth = table.metric, take(table.targets, ids)[:, 0]
    if isinstance(metric, OfConfusion):
        matrices = confusion(truth, labels, len(table.competition.classes))
        return _Images(table, truth, labels, metric.of_confusion(matrices), matrices)
    return _Images(table, truth, labels, metric.stats(truth, labels), None)
