"""How a competition's models are put together."""

from __future__ import annotations

from typing import Literal

from podium.config_base import Settings


class BlendSettings(Settings):
    """What of the blend is chosen on out-of-fold predictions; all that is chosen is scored where it was not.

    method: how the weights are found: ``uniform``, the best ``single`` model, ``greedy`` selection with replacement, or Optuna
    on the ``simplex``; ``auto``: of all these the simplest within one standard error of the best. mean: ``arithmetic`` or
    ``geometric``, ``auto`` for either. decode: whether thresholds, factors of the classes and steps that change shapes are
    chosen too.
    """

    method: Literal["auto", "uniform", "single", "greedy", "simplex"] = "auto"
    mean: Literal["auto", "arithmetic", "geometric"] = "auto"
    decode: bool = True
