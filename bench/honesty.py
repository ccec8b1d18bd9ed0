"""Is the nested score true? Made-up competitions whose true scores are known.

    python bench/honesty.py [--competitions 2000] [--images 40 160 500] [--processes N]

A competition: 4 to 10 models that tell classes with noise of their own, partly shared, one in three with a taste for some class;
five folds. Two procedures are judged on it, nested and on all images: ``auto``, podium's whole choice by its own rules (method,
weights, mean, factors of classes), and ``greedy``, selection with replacement without asking whether it pays, as competitors do.
To keep it cheap greedy selection with a geometric mean and Optuna are left out. The truth is what the final choice scores on
pictures that nobody has seen, many more of them. Told per size and procedure: mean error of the nested and of the in-sample
score, with the error of that mean, and how often the truth lies within the nested score's 90 % percentile bootstrap interval
over images. The metric is accuracy, whose expectation does not depend on how many images there are: macro F1 or a mean IoU over few
images is itself biased, which has nothing to do with choosing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from _machine import ROOT, print_ratios, ratio, write_results
from _machine import start as run

from podium import metrics
from podium.blend import choose
from podium.blend.choose import Chooser, Wanted
from podium.blend.table import FoldSet, Table
from podium.config import Competition
from podium.config_file import validate
from podium.cores import cores
from podium.data.ragged import Ragged
from podium.decode import Decision
from podium.estimate import bootstrap, nested

NEEDS = ()
FOLDS, CLASSES = 5, 4
SHARES = (0.4, 0.3, 0.2, 0.1)
FRESH = 6000
"""Pictures that the truth is measured on."""
PROCEDURES = ("auto", "greedy")
WAYS = tuple(way for way in choose.WAYS if way not in (("simplex", "arithmetic"), ("greedy", "geometric")))


def competition() -> Competition:
    """Four classes, scored by accuracy."""
    raw = {
        "name": "made_up",
        "task": "classification",
        "data": {"format": "npz", "file": "-", "train": {"image": {"key": "i"}, "target": {"key": "t"}}},
        "classes": [f"c{k}" for k in range(CLASSES)],
        "metric": {"name": "accuracy"},
        "models": ["m"],
    }
    return validate(Competition, raw, "bench/honesty.py")


def pictures(
    rng: np.random.Generator, count: int, skill: np.ndarray, taste: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Truth (N, 1, 1, 1) and each model's float16 probabilities (N, C, 1, 1). skill: noise of each model's logits; taste: (M, C)."""
    truth = rng.choice(CLASSES, count, p=SHARES)
    signal = 2.0 * np.eye(CLASSES)[truth]
    hard = 1.0 * rng.standard_normal((count, CLASSES))
    found = []
    for noise, prefers in zip(skill, taste, strict=True):
        logits = signal + hard + noise * rng.standard_normal((count, CLASSES)) + prefers
        odds = np.exp(logits - logits.max(1, keepdims=True))
        found.append((odds / odds.sum(1, keepdims=True)).astype(np.float16)[..., None, None])
    return truth.astype(np.uint8).reshape(count, 1, 1, 1), found


def table(given: Competition, truth: np.ndarray, predicted: list[np.ndarray], folds: int) -> Table:
    """Pictures dealt out to folds."""
    ids = np.arange(len(truth)).astype(str)
    rows = {k: np.arange(k, len(truth), folds) for k in range(folds)}
    volumes = {k: [Ragged.stack(p[mine], ids[mine]) for p in predicted] for k, mine in rows.items()}
    targets = Ragged.stack(truth, ids)
    return Table(given, metrics.of(given), targets, volumes, rows, np.arange(len(truth)))


def one(images: int, seed: int) -> dict[str, float]:
    """One competition: its scores as podium tells them, and the truth."""
    choose.WAYS = WAYS
    rng = np.random.default_rng((images, seed))
    models = int(rng.integers(4, 11))
    skill = rng.uniform(0.8, 2.2, models)
    taste = np.where(rng.random((models, 1)) < 1 / 3, rng.normal(0, 0.6, (models, CLASSES)), 0.0)
    given = competition()
    seen = table(given, *pictures(rng, images, skill, taste), FOLDS)
    metric, column = seen.metric, np.concatenate([np.full(len(seen.rows[k]), k) for k in seen.folds])
    chooser = Chooser(seen, Wanted())
    fresh = table(given, *pictures(rng, FRESH, skill, taste), 1)
    plain = metric.value(fresh.stats(Decision((1 / models,) * models), 0))

    def greedily(folds: FoldSet) -> Decision:
        return Decision(chooser.weights["greedy", "arithmetic"][folds], method="greedy")

    told: dict[str, float] = {}
    for name, decide in (("auto", chooser.decide), ("greedy", greedily)):
        found = nested(partial(_on, decide, column), partial(_stats, chooser, column), column, metric.value)
        interval = bootstrap(metric, found.stats, seen.groups_of(seen.folds), 1000)
        truth = metric.value(fresh.stats(found.choice, 0))
        told |= {
            f"{name} nested": found.nested - truth,
            f"{name} in sample": found.in_sample - truth,
            f"{name} covered": float(interval.low <= truth <= interval.high),
            f"{name} gain": truth - plain,
            f"{name} tuned": float(found.choice.method != "uniform" or bool(found.choice.steps)),
        }
    return told


def _on(decide: Callable[[FoldSet], Decision], column: np.ndarray, rows: np.ndarray) -> Decision:
    return decide(tuple(np.unique(column[rows]).tolist()))


def _stats(chooser: Chooser, column: np.ndarray, decision: Decision, rows: np.ndarray) -> np.ndarray:
    return np.concatenate([chooser.stats(decision, k) for k in np.unique(column[rows]).tolist()])


def summed_up(rows: list[dict[str, float]]) -> dict[str, float]:
    """Means with the error of the mean."""
    told: dict[str, float] = {"competitions": len(rows)}
    for key in rows[0]:
        values = np.array([row[key] for row in rows])
        told[key] = float(values.mean())
        told[f"{key} error"] = float(values.std(ddof=1) / np.sqrt(len(values)))
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--competitions", type=int, default=2000)
    parser.add_argument("--images", type=int, nargs="+", default=[40, 160, 500])
    parser.add_argument("--processes", type=int, default=cores())
    parser.add_argument("--quick", action="store_true", help="short, to see that it works")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "out" / "honesty.json")
    given = parser.parse_args()
    if given.quick:
        given.competitions, given.images = 6, [40]
    results: dict[str, dict[str, float]] = {}
    with ProcessPoolExecutor(given.processes) as pool:
        for images in given.images:
            start = time.perf_counter()
            rows = list(pool.map(partial(one, images), range(given.competitions), chunksize=4))
            told = summed_up(rows) | {"minutes": (time.perf_counter() - start) / 60}
            results[str(images)] = told
            for name in PROCEDURES:
                print(
                    f"{images} images, {name}: nested {told[f'{name} nested']:+.4f} ± {told[f'{name} nested error']:.4f}, in sample "
                    f"{told[f'{name} in sample']:+.4f} ± {told[f'{name} in sample error']:.4f}, the truth within the 90 % interval "
                    f"{told[f'{name} covered']:.1%}, gain over uniform {told[f'{name} gain']:+.4f}, tuned {told[f'{name} tuned']:.0%}",
                    flush=True,
                )
    whole = not given.quick and given.competitions >= 2000
    # greedy selection by itself is told as a warning, nothing is wanted of it
    ratios = [
        ratio(
            f"auto: nested score's error, {images} images", abs(told["auto nested"]), ("<=", 0.003) if whole else None
        )
        for images, told in results.items()
    ]
    if "40" in results:
        in_sample = results["40"]["auto in sample"]
        ratios.append(ratio("auto: in-sample score's error, 40 images", in_sample, (">=", 0.01) if whole else None))
    print_ratios(ratios)
    write_results(given.out, results, ratios)


if __name__ == "__main__":
    run(main)
