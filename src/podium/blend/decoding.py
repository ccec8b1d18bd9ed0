"""Steps of the decoding chosen on the rows of some folds, each taken only where it helps on folds that it was not chosen on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from podium.blend.biases import FLAT, Biases
from podium.blend.points import choose_points
from podium.blend.table import FoldSet, Table, without
from podium.blend.tries import Steps, Tries
from podium.config import Competition
from podium.decode import Decision
from podium.decode_steps import Name, Step
from podium.estimate import bootstrap, flat_middle, nested, paired, worse_parts
from podium.metrics import OfConfusion

THRESHOLDS = tuple(round(0.2 + 0.02 * i, 2) for i in range(31))
AMOUNTS: dict[Name, tuple[float, ...]] = {
    "fill_holes": (16, 64, 0),
    "closing": (1, 2),
    "opening": (1, 2),
    "min_area": (8, 16, 32, 64, 128, 256),
    "largest": (1,),
}
"""What is tried of each step, in order: of several that score alike the middle one is taken."""


def options_of(competition: Competition) -> int:
    """How many ways of decoding are tried on every image of a mask competition, for one set of folds."""
    return len(THRESHOLDS) * (len(competition.scored) == 2) + len(_shaped(competition)) * sum(
        map(len, AMOUNTS.values())
    )


def _shaped(competition: Competition) -> tuple[int, ...]:
    """The classes whose shapes may be changed: of two the second, since what surrounds it is no shape."""
    scored = competition.scored
    return scored if len(scored) > 2 or competition.unscored else scored[1:]


def with_steps(table: Table, folds: FoldSet, decision: Decision) -> Decision:
    """``decision`` with the steps of the decoding that were chosen on ``folds`` for its blend, and what each gained.

    Questions and grades get points. Classes get a threshold, where there are two, or a factor each; then, of masks, what
    ``AMOUNTS`` lists, class by class. A step is taken only where its score on folds that it was not chosen on is better
    than without it beyond one standard error of the difference, and no class is worse beyond one.
    """
    competition = table.competition
    if competition.task in ("multilabel", "regression"):
        chosen = choose_points(table, folds, decision)
        if chosen is None:
            return decision
        return replace(decision, steps=(Step("points", None, chosen[0]),), gains=(chosen[1],))
    if table.metric.needs != "labels":
        return decision
    search = _Search(table, folds, decision)
    scored = competition.scored
    if len(scored) == 2:
        search.try_out([[Step("threshold", scored[1], (value,)) for value in THRESHOLDS if value != 0.5]])
    elif isinstance(table.metric, OfConfusion):
        search.try_biases()
    if competition.masks:
        for name, amounts in AMOUNTS.items():
            search.try_out([[Step(name, of, (amount,)) for amount in amounts] for of in _shaped(competition)])
    return replace(decision, steps=search.steps, gains=search.gains)


@dataclass(frozen=True, eq=False)
class _Tried:
    """Further steps, with the statistics of all rows under them, and what each gains where it was not chosen."""

    steps: Steps
    stats: np.ndarray
    gains: tuple[float, ...] = ()


class _Search:
    """What has been chosen so far, and its statistics on all rows of the folds."""

    def __init__(self, table: Table, folds: FoldSet, decision: Decision) -> None:
        self.table, self.folds, self.decision = table, folds, decision
        self.groups = table.groups_of(folds)
        self.tries = Tries(table, decision)
        self.column = np.concatenate([np.full(len(table.rows[k]), k) for k in folds])
        self.steps: Steps = ()
        self.gains: tuple[float, ...] = ()
        self.stats = self._score([()])[0].stats
        std = bootstrap(table.metric, self.stats, self.groups, 200).std
        self.tolerance = FLAT * std

    def try_out(self, families: list[list[Step]]) -> None:
        """Take of each family, the same step in several amounts, the best one where it helps.

        Families are tried apart, and what helps is taken together where it helps together.
        """
        tried = self._score([(step,) for family in families for step in family])
        found: list[_Tried] = []
        for family in families:
            own = [each for each in tried if each.steps[0] in family]
            if (taken := self._best(own)) is not None:
                found.append(taken)
        if len(found) > 1:
            (joined,) = self._score([tuple(step for each in found for step in each.steps)])
            best = max(found, key=lambda each: self._signed(each.stats))
            gains = tuple(gain for each in found for gain in each.gains)
            better = self._signed(joined.stats) > self._signed(best.stats)
            found = [replace(joined, gains=gains) if better else best]
        if found:
            self._take(found[0])

    def _take(self, found: _Tried) -> None:
        self.steps, self.gains = (*self.steps, *found.steps), (*self.gains, *found.gains)
        self.stats = found.stats

    def try_biases(self) -> None:
        """Take factors of the classes where those that are chosen without each fold help there; before all other steps."""
        biases = Biases(self.table, self.decision)
        chosen = biases.choose(self.folds)
        if len(self.folds) < 2 or not any(chosen):
            return
        honest = np.concatenate([biases.stats(biases.choose(without(self.folds, k)), k) for k in self.folds])
        stats = np.concatenate([biases.stats(chosen, k) for k in self.folds])
        if (gain := self._gain(honest, stats)) is not None:
            self._take(_Tried((Step("bias", None, chosen),), stats, (gain,)))

    def _gain(self, honest: np.ndarray, stats: np.ndarray) -> float | None:
        """By how much a step is better than without it where it was not chosen (honest); None where that is not beyond one
        standard error, where it is no better all in all, or a class suffers."""
        now = self._signed(self.stats)
        gain = self._signed(honest) - now
        if gain <= 0 or self._signed(stats) <= now:
            return None
        if gain <= paired(self.table.metric, honest, self.stats, self.groups, 200).std:
            return None
        return None if worse_parts(self.table.metric, honest, self.stats, self.groups) else gain

    def _best(self, family: list[_Tried]) -> _Tried | None:
        """The member of a family that helps where it was not chosen; None where none does."""
        metric = self.table.metric
        candidates = np.stack([each.stats for each in family])
        if (candidates == self.stats).all():
            return None

        def choose(rows: np.ndarray) -> int:
            scores = np.array([self._signed(stats[rows]) for stats in candidates])
            return flat_middle(scores, self.tolerance)

        if len(self.folds) < 2:
            return None  # nothing can be told of a step where it was chosen
        honest = nested(choose, lambda choice, rows: candidates[choice][rows], self.column, metric.value)
        chosen = family[honest.choice]
        gain = self._gain(honest.stats, chosen.stats)
        return None if gain is None else replace(chosen, gains=(gain,))

    def _signed(self, stats: np.ndarray) -> float:
        value = self.table.metric.value(stats)
        return value if self.table.metric.higher_is_better else -value

    def _score(self, options: Sequence[Steps]) -> list[_Tried]:
        """Statistics of further steps, each after those that are taken already."""
        found = self.tries.stats(self.steps, options, self.folds)
        return [_Tried(steps, stats) for steps, stats in zip(options, found, strict=True)]
