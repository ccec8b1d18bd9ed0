"""What the board says of trainings that did not begin with the weights that were asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def note(recipe: str, starts: Mapping[int, Mapping[str, Any]]) -> str | None:
    """One sentence on a recipe's folds, None where all began as asked for.

    starts: by fold, what ``done.json`` has under ``net`` (``nets.pretrained.Start``).
    """
    scratch = [fold for fold, start in starts.items() if start.get("why")]
    others = sorted({start["weights"] for start in starts.values() if not start.get("why") and start.get("weights")})
    if scratch:
        which = "was trained" if len(scratch) == len(starts) else f"folds {_listed(scratch)} were trained"
        rest = f", the others began with {_listed(others)}" if len(scratch) < len(starts) else ""
        return (
            f"{recipe}: {which} from scratch, since {starts[scratch[0]]['why']}{rest}; with --set net.pretrained=required "
            "all begin with the weights or none"
        )
    if len(others) > 1:
        return f"{recipe}: its folds began with different weights, {_listed(others)}; train it again for equal ones"
    return None


def _listed(items: list[Any]) -> str:
    return ", ".join(map(str, items))
