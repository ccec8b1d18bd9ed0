"""The whole choice between models and labels, on any folds: method and weights first, the decoding then."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from podium.blend.decoding import options_of, with_steps
from podium.blend.evaluate import Counted, Evaluator, evaluator
from podium.blend.search import METHODS
from podium.blend.table import FoldSet, Table, without
from podium.combine import Mean
from podium.data.ragged import Ragged
from podium.decode import Decision
from podium.estimate import simplest

LONGEST = 300.0
"""Seconds beyond which a search of weights, or of the decoding, is not begun unasked."""
EVALUATIONS = 2000
"""About how many weight vectors a search scores, over all sets of folds."""
PROBE = 16
"""Images by which is measured how long a metric takes."""
Way = tuple[str, Mean]
WAYS: tuple[Way, ...] = (
    ("uniform", "arithmetic"),
    ("uniform", "geometric"),
    ("single", "arithmetic"),
    ("greedy", "arithmetic"),
    ("greedy", "geometric"),
    ("simplex", "arithmetic"),
)
"""Methods and means that are compared, the simplest first."""


@dataclass(frozen=True)
class Wanted:
    """What is left to choose. method, mean: only this one, None for any. decode: whether steps of the decoding are chosen."""

    method: str | None = None
    mean: Mean | None = None
    decode: bool = True
    seed: int = 0


class Chooser:
    """Makes the whole choice on any of a table's folds; what several sets of folds need is calculated once.

    weights: what each way found on each set of folds.
    """

    def __init__(self, table: Table, wanted: Wanted, say: Callable[[str], None] = lambda text: None) -> None:
        self.table, self.wanted = table, wanted
        self._evaluators: dict[Mean, Evaluator] = {}
        self.weights: dict[Way, dict[FoldSet, tuple[float, ...]]] = {}
        self._decisions: dict[FoldSet, Decision] = {}
        self.notes: list[str] = []
        self.decodes = wanted.decode and self._can_score_steps() and self._can_decode()
        self.ways = self._ways()
        sets = [folds for count in range(3) for folds in _without_some(table.folds, count)]
        for method, mean in self.ways:
            say(f"blend: {method}, {mean} mean")
            found = METHODS[method](self._evaluator(mean), sets, table.metric.higher_is_better, wanted.seed)
            self.weights[method, mean] = dict(zip(sets, found, strict=True))

    def decide(self, folds: FoldSet) -> Decision:
        """Choose on ``folds``, all of the table's or all but one."""
        if folds not in self._decisions:
            method, mean = self._way(folds)
            decision = Decision(self.weights[method, mean][folds], mean, (), method)
            if self.decodes:
                decision = with_steps(self.table, folds, decision)
            self._decisions[folds] = decision
        return self._decisions[folds]

    def stats(self, decision: Decision, fold: int) -> np.ndarray:
        """Statistics of a fold's images under a decision."""
        if decision.steps:
            return self.table.stats(decision, fold)
        return self._evaluator(decision.mean).stats(decision.weights, fold)

    def _way(self, folds: FoldSet) -> Way:
        """The simplest way within one standard error of the best, each scored on folds that its weights were not found on."""
        if len(self.ways) == 1 or len(folds) < 2:
            return self.ways[0]
        judged = []
        for way in self.ways:
            each = [self._evaluator(way[1]).stats(self.weights[way][without(folds, k)], k) for k in folds]
            judged.append(np.concatenate(each))
        return self.ways[simplest(judged, self.table.metric, self.table.groups_of(folds))]

    def _ways(self) -> tuple[Way, ...]:
        wanted, table = self.wanted, self.table
        if table.models == 1:
            return (("uniform", "arithmetic"),)
        ways = [
            (method, mean) for method, mean in WAYS if wanted.method in (None, method) and wanted.mean in (None, mean)
        ]
        if not ways:
            assert wanted.method is not None
            ways = [(wanted.method, wanted.mean or "arithmetic")]
        if table.competition.numbers:
            ways = [way for way in ways if way[1] == "arithmetic"] or [(ways[0][0], "arithmetic")]
        if len(table.folds) < 3 and wanted.method is None:
            self.notes.append("fewer than three folds cannot tell methods apart: the blend is uniform")
            return (("uniform", "arithmetic"),)
        return tuple(self._affordable(ways))

    def _affordable(self, ways: list[Way]) -> list[Way]:
        """Without searches where one evaluation takes so long that they would take very much longer, unless asked for."""
        if self.wanted.method is not None or isinstance(self._evaluator("arithmetic"), Counted):
            return ways
        start = time.perf_counter()
        even = np.full((1, self.table.models), 1 / self.table.models)
        self._evaluator("arithmetic").values(even, [self.table.folds])
        each = time.perf_counter() - start
        if each * EVALUATIONS <= LONGEST:
            return ways
        self.notes.append(
            f"one weight vector takes {each:.1f} s to score by this metric: weights were not searched; "
            "--method greedy does it all the same"
        )
        return [way for way in ways if way[0] in ("uniform", "single")]

    def _can_score_steps(self) -> bool:
        """Whether the choice of steps can be made anew without a fold: on one that is left nothing is chosen."""
        if len(self.table.folds) >= 3:
            return True
        self.notes.append("fewer than three folds cannot tell what a step of the decoding is worth: none is taken")
        return False

    def _can_decode(self) -> bool:
        """Whether steps on shapes can be tried in a few minutes: metrics of boundaries and objects look at every image anew."""
        table = self.table
        if not table.competition.masks or table.metric.needs != "labels":
            return True
        fold = table.folds[0]
        first = table.volumes[fold][0]
        some = Ragged(first.values[: first.offsets[: PROBE + 1][-1]], first.shapes[:PROBE], first.ids[:PROBE])
        start = time.perf_counter()
        table.plain([some], [1.0], "arithmetic")
        each = (time.perf_counter() - start) / len(some)
        images = sum(len(rows) for rows in table.rows.values())
        if each * images * options_of(table.competition) <= 4 * LONGEST:  # blending, most of it, is done once for all
            return True
        self.notes.append(
            f"steps of the decoding were not tried: this metric takes {1000 * each:.0f} ms an image, which is too long"
        )
        return False

    def _evaluator(self, mean: Mean) -> Evaluator:
        if mean not in self._evaluators:
            table, competition = self.table, self.table.competition
            self._evaluators[mean] = evaluator(
                table.volumes,
                table.targets,
                len(competition.classes),
                competition.unscored_index,
                table.metric,
                mean,
                table.plain,
            )
        return self._evaluators[mean]


def _without_some(folds: FoldSet, count: int) -> list[FoldSet]:
    """All sets of folds with ``count`` left out, those that are left not being empty."""
    return [left for out in combinations(folds, count) if (left := without(folds, *out))]
