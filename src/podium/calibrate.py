"""What a plan needs to know of this machine: measured where it is not known yet and worth the time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from podium.config import Competition, Recipe
from podium.cores import cores
from podium.engines.measure import measure
from podium.errors import UserError
from podium.jobs import Site
from podium.plan import Means, Sizes
from podium.speeds import Notes, counts_to_try, devices, key_of

WORTH_STEPS = 1000
"""Without a budget, a run of fewer steps ends before measuring pays."""
SIDE_BY_SIDE_STEPS = 4000
SIDE_BY_SIDE_BUDGET = 600.0
"""From so many steps, or seconds, it is also measured how many workers serve best."""


def find_means(
    competition: Competition,
    recipes: Sequence[Recipe],
    site: Site,
    sizes: Sizes,
    shape: Sequence[int],
    folds: Sequence[int],
    path: Path,
    say: Callable[[str], None],
    workers: int | None = None,
    budget: float | None = None,
    may_measure: bool = True,
) -> Means:
    """The means of a run. path: runs/machine.json. shape: (channels, height, width) of the net's input.

    may_measure: whether to try recipes out that nothing is known of; else a budget is taken to have room for all.
    """
    notes = Notes.read(path)
    keys = {recipe.name: key_of(competition, recipe, shape, site) for recipe in recipes}
    known = {name: found for name, key in keys.items() if (found := notes.get(key))}
    counts = _counts(recipes, site, sizes, len(folds), workers, budget)
    missing = [
        recipe
        for recipe in recipes
        if counts is not None and (recipe.name not in known or set(counts) - set(known[recipe.name].tried))
    ]
    if missing and may_measure:
        say(f"measuring how this machine trains fastest (once; kept in {path})")
        for recipe in missing:
            try:
                found = measure(competition, recipe, site, folds[0], counts or ())
            except UserError as error:
                say(f"note: {recipe.name} could not be measured ({error}); it is taken to be fast enough")
            else:
                known[recipe.name] = notes.put(keys[recipe.name], found)
    elif missing and budget is not None:
        names = ", ".join(recipe.name for recipe in missing)
        say(
            f"note: this machine has not been measured yet with {names}; the plan takes it that the budget has room for all"
        )
    return Means(known, workers, devices(site), cores())


def _counts(
    recipes: Sequence[Recipe], site: Site, sizes: Sizes, folds: int, workers: int | None, budget: float | None
) -> tuple[int, ...] | None:
    """Numbers of workers on one device to measure beside one; None where the run is too short to measure anything."""
    drawn = sizes.train * sizes.pieces
    steps = sum(recipe.train.epochs * drawn / recipe.train.batch for recipe in recipes) * folds
    if budget is None and steps < WORTH_STEPS:
        return None
    if workers is not None:
        on_one = -(-workers // devices(site))
        return (on_one,) if on_one > 1 else ()
    long = steps >= SIDE_BY_SIDE_STEPS if budget is None else budget >= SIDE_BY_SIDE_BUDGET
    return counts_to_try(len(recipes) * folds, site) if long else ()
