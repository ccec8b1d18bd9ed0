"""Weights found on out-of-fold predictions: the best single model, greedy selection, Optuna on the simplex.

Each search is made for several sets of folds side by side, as nested scores need it: weight vectors that are asked for at the
same time are evaluated together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from podium.blend.evaluate import Evaluator
from podium.blend.table import FoldSet

STEPS = 50
"""Members that greedy selection takes, with replacement."""
TRIALS = 100
"""Weight vectors that Optuna tries."""
TOGETHER = 10
"""Of these so many at a time, which the sampler must do without having seen."""
Search = Callable[[Evaluator, Sequence[FoldSet], bool, int], list[tuple[float, ...]]]


def uniform(evaluator: Evaluator, sets: Sequence[FoldSet], higher: bool, seed: int) -> list[tuple[float, ...]]:
    """Equal weights, whatever the folds: nothing is chosen."""
    return [(1 / evaluator.models,) * evaluator.models] * len(sets)


def single(evaluator: Evaluator, sets: Sequence[FoldSet], higher: bool, seed: int) -> list[tuple[float, ...]]:
    """All weight on the model that scores best on each set of folds; of equals the first."""
    everyone = np.eye(evaluator.models)
    found = evaluator.values(np.tile(everyone, (len(sets), 1)), [folds for folds in sets for _ in everyone])
    scores = _signed(found, higher).reshape(len(sets), -1)
    return [tuple(everyone[row.argmax()].tolist()) for row in scores]


def greedy(evaluator: Evaluator, sets: Sequence[FoldSet], higher: bool, seed: int) -> list[tuple[float, ...]]:
    """Greedy selection with replacement (Caruana et al. 2004, https://doi.org/10.1145/1015330.1015432).

    Begins with the best model and adds, STEPS times in all, the one with which the mean scores best; of equals one that is in
    already, then the first. The shortest beginning that reaches the highest score is taken, its counts as weights.
    All that changes from step to step is one count, and the sums of a step cost as much as M more members' would.
    """
    models = evaluator.models
    counts = np.zeros((len(sets), models), np.int64)
    best = np.full(len(sets), -np.inf)
    kept = counts.copy()
    for step in range(1, STEPS + 1):
        trials = counts[:, None] + np.eye(models, dtype=np.int64)
        vectors = (trials / step).reshape(-1, models)
        found = evaluator.values(vectors, [folds for folds in sets for _ in range(models)])
        scores = _signed(found, higher).reshape(len(sets), models)
        for i, row in enumerate(scores):
            tied = np.flatnonzero(row == row.max())
            inside = tied[counts[i, tied] > 0]
            chosen = int(inside[0] if len(inside) else tied[0])
            counts[i, chosen] += 1
            if row[chosen] > best[i]:
                best[i], kept[i] = row[chosen], counts[i]
    return [tuple((row / row.sum()).tolist()) for row in kept]


def simplex(evaluator: Evaluator, sets: Sequence[FoldSet], higher: bool, seed: int) -> list[tuple[float, ...]]:
    """Optuna's tree-structured Parzen estimator (Bergstra et al. 2011) over weights that are normalised to sum to one.

    The uniform blend and the best single model are tried first. Of equals the first is taken.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    models = evaluator.models
    studies = []
    for at, alone in enumerate(single(evaluator, sets, higher, seed)):
        sampler = optuna.samplers.TPESampler(seed=seed + at, n_startup_trials=4 * models, multivariate=True)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for start in ((1.0,) * models, alone):
            study.enqueue_trial(_named(start))
        studies.append(study)
    best = [(-np.inf, (1 / models,) * models)] * len(sets)
    for _ in range(0, TRIALS, TOGETHER):
        asked = [(i, study.ask()) for i, study in enumerate(studies) for _ in range(TOGETHER)]
        raw = np.array([[trial.suggest_float(f"w{m}", 0.0, 1.0) for m in range(models)] for _, trial in asked])
        total = raw.sum(1, keepdims=True)
        vectors = np.where(total > 0, raw / np.where(total > 0, total, 1), 1 / models)
        found = _signed(evaluator.values(vectors, [sets[i] for i, _ in asked]), higher)
        for (i, trial), vector, score in zip(asked, vectors, found, strict=True):
            studies[i].tell(trial, float(score))
            if score > best[i][0]:
                best[i] = float(score), tuple(vector.tolist())
    return [vector for _, vector in best]


def _named(vector: Sequence[float]) -> dict[str, float]:
    return {f"w{m}": value for m, value in enumerate(vector)}


def _signed(scores: np.ndarray, higher: bool) -> np.ndarray:
    return scores if higher else -scores


METHODS: dict[str, Search] = {"uniform": uniform, "single": single, "greedy": greedy, "simplex": simplex}
"""By how much they choose, the least first."""
