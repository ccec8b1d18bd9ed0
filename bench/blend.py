"""Scoring blend weights: what is kept compactly against the straightforward evaluation, in one run.

    python bench/blend.py [--images 2505] [--models 8] [--vectors 1000] [--plain 3]

Made-up out-of-fold probabilities of Mars' size: 8 models that agree where real ones do, float16, 2,505 × 5 × 64 × 128, five folds.
The straightforward evaluation is what a notebook does for each weight vector: the weighted mean of all volumes in float32,
argmax, one confusion matrix. Both must give the same matrices.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np
from _machine import ROOT, print_ratios, ratio, title, write_results
from _machine import start as run

from podium.blend.compact import build
from podium.data.ragged import Ragged
from podium.errors import UserError

NEEDS = ("memory_gb", 6)

CLASSES, HEIGHT, WIDTH, FOLDS = 5, 64, 128, 5


def made_up(images: int, models: int, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Probabilities of each model, float16 (N, C, H, W) with an empty class 0, and truth (N, H, W), where 0 is not scored.

    Terrain lies in patches that all models see; each adds smooth doubts of its own. Their size is chosen so that the models
    agree as much as four recipes did on real images.
    """
    rng = np.random.default_rng(seed)
    volumes = [np.zeros((images, CLASSES, HEIGHT, WIDTH), np.float16) for _ in range(models)]
    truth = np.empty((images, HEIGHT, WIDTH), np.uint8)
    for start in range(0, images, 64):
        n = min(64, images - start)
        common = 4.0 * _smooth(rng, n, 8)
        truth[start : start + n] = (common + 1.2 * _smooth(rng, n, 8)).argmax(1) + 1
        truth[start : start + n][_smooth(rng, n, 8)[:, 0] > 0.7] = 0
        for volume in volumes:
            logits = 1.6 * (common + 0.8 * _smooth(rng, n, 8) + 0.35 * _smooth(rng, n, 2))
            odds = np.exp(logits - logits.max(1, keepdims=True))
            volume[start : start + n, 1:] = odds / odds.sum(1, keepdims=True)
    return volumes, truth


def _smooth(rng: np.random.Generator, n: int, patch: int) -> np.ndarray:
    """Noise of deviation 1, even over squares of ``patch`` pixels, float32 (n, C - 1, H, W)."""
    coarse = rng.standard_normal((n, CLASSES - 1, HEIGHT // patch, WIDTH // patch), np.float32)
    return coarse.repeat(patch, 2).repeat(patch, 3)


def plain(volumes: list[np.ndarray], truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The confusion matrix of one weight vector, (C, C), some images at a time."""
    counts = np.zeros(CLASSES * CLASSES, np.int64)
    for start in range(0, len(truth), 64):
        block = slice(start, start + 64)
        blend = volumes[0][block].astype(np.float32) * np.float32(weights[0])
        for volume, weight in zip(volumes[1:], weights[1:], strict=True):
            blend = blend + volume[block].astype(np.float32) * np.float32(weight)
        blend[:, 0] = -1
        told = blend.argmax(1)
        counts += np.bincount((truth[block].astype(np.int64) * CLASSES + told).reshape(-1), minlength=len(counts))
    return counts.reshape(CLASSES, CLASSES)


def both(images: int, models: int, vectors: int, straightforward: int) -> dict[str, float]:
    """Time and memory of both evaluations, which must agree."""
    volumes, truth = made_up(images, models)
    ids = np.array([str(i) for i in range(images)])
    folds = {
        k: [Ragged.stack(volume[rows], ids[rows]) for volume in volumes]
        for k, rows in enumerate(np.array_split(np.arange(images), FOLDS))
    }
    targets, weights = Ragged.stack(truth[:, None], ids), np.random.default_rng(1).dirichlet(np.ones(models), vectors)
    start = time.perf_counter()
    compact = build(folds, targets, CLASSES, unscored=0)
    built = time.perf_counter()
    sums = compact.sums(weights).sum(1)
    scored = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    for vector, found in zip(weights[:straightforward], sums, strict=False):
        if not (plain(volumes, truth, vector) == found).all():
            raise UserError("the compact evaluation differs from the straightforward one; do not use it")
    each = (time.perf_counter() - scored) / straightforward
    same = np.ones(truth.shape, bool)
    first = volumes[0].argmax(1)
    for volume in volumes[1:]:
        same &= volume.argmax(1) == first
    return {
        "all_models_agree": float(same.mean()),
        "undecided": sum(every.size for every in compact.undecided) / truth.size,
        "of_two_classes": sum(every.size for every in compact.undecided if every.bits.shape[1] == 2) / truth.size,
        "build_s": built - start,
        "score_s": scored - built,
        "plain_s_per_vector": each,
        "ratio": each * vectors / (scored - built),
        "ratio_with_build": each * vectors / (scored - start),
        "peak_gb": peak,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2505)
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--vectors", type=int, default=1000)
    parser.add_argument("--plain", type=int, default=3, help="weight vectors evaluated straightforwardly")
    parser.add_argument("--quick", action="store_true", help="short, to see that it works")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "out" / "blend.json")
    given = parser.parse_args()
    if given.quick:
        given.images, given.vectors = 200, 100
    found = both(given.images, given.models, given.vectors, given.plain)
    print(f"{title()}: {given.vectors} weight vectors for {given.models} models on {given.images} images")
    for name, value in found.items():
        print(f"  {name.replace('_', ' ')}: {value:.3g}")
    whole = not given.quick and given.images >= 2505 and given.models >= 8
    ratios = [
        ratio("plain evaluation / compact", found["ratio"], (">=", 100.0) if whole else None),
        ratio(
            "seconds for 1,000 weight vectors", 1000 * found["score_s"] / given.vectors, ("<=", 30.0) if whole else None
        ),
        ratio("most memory, GB", found["peak_gb"], ("<=", 6.0) if whole else None),
    ]
    print_ratios(ratios)
    write_results(given.out, {"images": given.images, "models": given.models, "vectors": given.vectors} | found, ratios)


if __name__ == "__main__":
    run(main)
