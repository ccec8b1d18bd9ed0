"""What each kind of corruption costs each model, as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from podium.blend.oof import Oof
from podium.config import Recipe
from podium.config_validation import unseen
from podium.corruptions.copies import Corrupted
from podium.estimate import over_repeats
from podium.metrics import Metric
from podium.store import write_atomically

COLUMNS = ["model", "kind", "strength", "copies", "score", "trained"]


def write_corrupted(
    path: Path, metric: Metric, copies: Corrupted, models: Sequence[Oof], recipes: Mapping[str, Recipe]
) -> None:
    """Write a csv with the score of every model on every kind, at all strengths together and at each.

    models: statistics of the copies. recipes: of the models by name; what is no recipe's has no ``trained``, which says
    whether an operation of the recipe's augmentation resembles the kind.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for model in models:
        kinds, strengths = copies.kinds[model.rows], copies.strengths[model.rows]
        names = sorted(set(kinds.tolist()))
        recipe = recipes.get(model.name)
        new = set(unseen(names, recipe.augment)) if recipe else set()
        for kind in names:
            of_kind = kinds == kind
            for strength in (None, *sorted(set(strengths[of_kind].tolist()))):
                inside = of_kind if strength is None else of_kind & (strengths == strength)
                trained = ("no" if kind in new else "yes") if recipe else ""
                score = f"{over_repeats(metric, model.stats[inside]):.6f}"
                table.writerow([model.name, kind, strength or "all", int(np.sum(inside)), score, trained])
    write_atomically(path, text.getvalue())
