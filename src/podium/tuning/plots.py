"""Pictures of a study: how it went, which settings mattered, and the score over each of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

LEAST = 3
"""Whole trials below which a picture says nothing."""


def save(study: optuna.Study, folder: Path, metric: str) -> list[Path]:
    """Draw what the study's whole trials have room for, as PNG files in ``folder``; returns their paths."""
    import matplotlib

    matplotlib.use("Agg")  # no screen is needed
    import matplotlib.pyplot as plt
    from optuna.visualization import matplotlib as draw

    whole = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(whole) < LEAST:
        return []
    varied = [key for key in whole[0].params if len({str(t.params.get(key)) for t in whole}) > 1]
    always = [key for key in varied if all(key in trial.params for trial in whole)]
    pictures: dict[str, Callable[[], Any]] = {
        "history": lambda: draw.plot_optimization_history(study, target_name=metric)
    }
    if always:
        pictures["slices"] = lambda: draw.plot_slice(study, params=always, target_name=metric)
    if always and len({trial.value for trial in whole}) > 1:
        pictures["importances"] = lambda: draw.plot_param_importances(study, params=always, target_name=metric)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, picture in pictures.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture()
            plt.gcf().savefig(folder / f"{name}.png", dpi=120, bbox_inches="tight")
        plt.close("all")
        paths.append(folder / f"{name}.png")
    return paths
