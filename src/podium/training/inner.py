"""The inner split: training images that are set aside, so that a training may be steered without the fold it is scored on."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from podium import metrics, nets
from podium.config import Competition
from podium.data.fit import Fit
from podium.data.part import Part
from podium.data.ragged import Ragged
from podium.folds import Folds
from podium.inference.predict import predict_to
from podium.scoring import stats_of
from podium.training.machine import Machine


def set_aside(folds: Folds, rows: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """``rows`` in two, ascending: those to train on, and about ``share`` of them to score on; groups stay whole.

    Groups are taken at even distances from a list ordered by stratum, at random within one, so that every stratum gives
    its share. At least one group is on either side where there are two.
    """
    groups, first = np.unique(folds.groups[rows], return_index=True)
    sizes = np.array([int((folds.groups[rows] == group).sum()) for group in groups])
    random = np.random.default_rng(seed).permutation(len(groups))
    order = np.lexsort((random, folds.strata[rows][first]))
    taken, owed = np.zeros(len(groups), bool), 0.0
    for place, size in enumerate(sizes[order].tolist()):
        owed += size * share
        if owed >= size / 2:
            taken[place], owed = True, owed - size
    if len(groups) > 1 and taken.all() | ~taken.any():
        taken[len(groups) // 2] ^= True
    inside = np.isin(folds.groups[rows], groups[order][taken])
    return rows[~inside], rows[inside]


class Inner:
    """Scores a net on the rows that were set aside, with the competition's metric and as it will predict."""

    def __init__(
        self, competition: Competition, part: Part, rows: np.ndarray, fit: Fit, views: tuple[str, ...], machine: Machine
    ) -> None:
        self.given = (competition, part, rows, fit, views, machine)

    def score(self, model: nets.Model, weights: dict[str, torch.Tensor]) -> float:
        """The metric of ``model`` with other ``weights``, its sign turned where lower is better; its own come back afterwards."""
        competition, part, rows, fit, views, machine = self.given
        own = {name: value.detach().clone() for name, value in model.state_dict().items()}
        training = model.training
        try:
            model.load_state_dict(weights)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "inner.npy"
                predict_to(path, [model.eval()], competition, part, rows, fit, views, machine)
                metric = metrics.of(competition)
                assert part.targets is not None
                _, stats = stats_of(metric, competition, part.targets, [Ragged.open(path)])
                value = metric.value(stats)
                return value if metric.higher_is_better else -value
        finally:
            model.load_state_dict(own)
            model.train(training)
