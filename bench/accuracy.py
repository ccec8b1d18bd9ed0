"""Scores at equal time: podium's command against the plain loop that competitors write, on the same folds.

    python bench/accuracy.py [--data FOLDER] [--recipe residual_unet] [--minutes 2] [--folds 0] [--keep FOLDER]
    python bench/accuracy.py --minutes 8 --folds 0 1 2 3 4 --keep runs/accuracy     # 80 minutes for Mars

The plain loop: DataLoader with two workers, albumentations, smp's U-Net on ResNet-18, AdamW and half a cosine, in fp32, an
unscored class left out of loss and answers. podium: the command itself with a budget of as many minutes a fold, its start,
measuring and predictions included. Both are scored out of fold by the competition's metric, and the gain has the interval of
a paired bootstrap over groups. keep: where both leave their results; what lies there already is not trained again. steps: of
the plain loop, instead of minutes, where the machine is not free to be timed. One training a fold and side: from seed to seed
scores differ by about 0.02 on a Mars fold.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
from _data import competition, place
from _machine import ROOT, describe, print_ratios, ratio, start, title, write_results
from loop import Tiles
from torch.utils.data import DataLoader

from podium import metrics
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.estimate import paired
from podium.metrics import Metric
from podium.prepare import Options, Prepared, prepare
from podium.store import read_json, write_atomically, write_json

NEEDS = ()
LR, DECAY, BATCH = 1e-3, 1e-2, 32
Stats = dict[int, np.ndarray]


def plain_net(given: Prepared, fold: int, seconds: float, steps: int | None) -> tuple[torch.nn.Module, int, float]:
    """The plain loop's net after so many seconds (or steps) on the rows outside ``fold``, its steps and seconds."""
    torch.manual_seed(0)
    part, unscored = given.dataset.train, given.competition.unscored_index
    rows, _ = given.folds.rows(fold)
    assert part.targets is not None
    tiles = Tiles(np.array(part.images.stacked[rows, 0]), np.array(part.targets.stacked[rows, 0]))
    loader = DataLoader(tiles, BATCH, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True)
    net = smp.Unet("resnet18", encoder_weights=None, in_channels=1, classes=len(given.competition.classes))
    optimiser = torch.optim.AdamW(net.parameters(), LR, weight_decay=DECAY)
    loss_of = torch.nn.CrossEntropyLoss(ignore_index=-100 if unscored is None else unscored)
    began, step = time.monotonic(), 0
    while True:
        for images, masks in loader:
            done = step / steps if steps else (time.monotonic() - began) / seconds
            if done >= 1:
                return net.eval(), step, time.monotonic() - began
            for group in optimiser.param_groups:
                group["lr"] = LR * min(1, done / 0.05 + 0.01) * 0.5 * (1 + math.cos(math.pi * done))
            optimiser.zero_grad()
            loss_of(net(images), masks).backward()
            optimiser.step()
            step += 1


@torch.inference_mode()
def plain_labels(given: Prepared, net: torch.nn.Module, fold: int) -> np.ndarray:
    """Its labels for the rows of ``fold``, uint8 (n, H, W)."""
    images = given.dataset.train.images.stacked[given.folds.rows(fold)[1]]
    found = []
    for first in range(0, len(images), 128):
        logits = net(torch.from_numpy(np.array(images[first : first + 128])).float().div(255))
        if given.competition.unscored_index is not None:
            logits[:, given.competition.unscored_index] = -1e9
        found.append(logits.argmax(1).to(torch.uint8).numpy())
    return np.concatenate(found)


def plain(given: Prepared, metric: Metric, args: argparse.Namespace) -> tuple[Stats, list[dict[str, Any]]]:
    """The plain loop's statistics per fold, and what its trainings were like."""
    found, facts = {}, []
    assert given.dataset.train.targets is not None
    for fold in args.folds:
        path = args.keep / f"plain-fold{fold}.npy"
        _, rows = given.folds.rows(fold)
        if not path.exists():
            net, steps, seconds = plain_net(given, fold, 60 * args.minutes, args.steps)
            write_json(path.with_suffix(".json"), {"steps": steps, "seconds": seconds, "machine": describe()})
            write_atomically(path, partial(np.save, arr=plain_labels(given, net, fold)))
            print(f"plain loop, fold {fold}: {steps} steps, {steps * BATCH / seconds:.1f} images/s", flush=True)
        labels = np.load(path, allow_pickle=False)
        if len(labels) != len(rows):
            raise UserError(f"{path}: is of other folds; remove it, so that fold {fold} is trained again")
        predicted = Ragged.stack(labels[:, None], given.folds.ids[rows])
        found[fold] = metrics.image_stats(metric, given.dataset.train.targets, predicted)
        facts.append(read_json(path.with_suffix(".json")))
    return found, facts


def ours(args: argparse.Namespace, where: list[str]) -> tuple[Stats, str, float]:
    """The command's statistics per fold, its run's name, and the minutes that it took."""
    minutes = args.minutes * len(args.folds)
    command = [sys.executable, "-m", "podium", "train", args.competition, "--models", args.recipe, *where]
    command += ["--folds", ",".join(map(str, args.folds)), "--budget", f"{round(minutes * 60)}s"]
    command += ["--out", str(args.keep), "--json"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PODIUM_ROOT": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"podium train: {done.stderr.strip().splitlines()[-1]}")
    answer = json.loads(done.stdout)
    row = next(row for row in answer["rows"] if row["kind"] == "model")
    folder = next(args.keep.glob(f"**/{args.recipe}-{row['run']}"))
    found = {}
    for fold in args.folds:
        (path,) = folder.glob(f"fold{fold}/oof-*/stats-*/stats.npy")
        found[fold] = np.load(path, allow_pickle=False)
    return found, folder.name, answer["minutes"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with the competition's file")
    parser.add_argument("--competition", default="mars", help="one of masks, whose images have one channel and size")
    parser.add_argument("--recipe", default="residual_unet")
    parser.add_argument("--minutes", type=float, default=2.0, help="a fold")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--folds", type=int, nargs="+", default=[0])
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--quick", action="store_true", help="the sample, a few seconds")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "out" / "accuracy.json")
    args = parser.parse_args()
    if args.quick:
        args.minutes = 0.1
    origin = place(competition(args.competition), args.data)
    where = ["--sample"] if origin.sample or args.quick else ["--data", str(origin.folder)]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        args.keep = args.keep or Path(folder)
        measure(args, where)


def measure(args: argparse.Namespace, where: list[str]) -> None:
    """Train both sides, or read what is there, and print the comparison."""
    data = None if where == ["--sample"] else Path(where[1])
    options = Options(data=data, sample=data is None, folds=tuple(args.folds), out=args.keep)
    given = prepare(args.competition, options, lambda text: None)
    metric = metrics.of(given.competition)
    theirs, facts = plain(given, metric, args)
    found, run, minutes = ours(args, where)
    rows = np.concatenate([given.folds.rows(fold)[1] for fold in args.folds])
    a, b = (np.concatenate([stats[fold] for fold in args.folds]) for stats in (found, theirs))
    gain = paired(metric, a, b, given.folds.groups[rows])
    results: dict[str, Any] = {"run": run, "minutes": minutes, "plain": facts}
    print(f"\n{title()}, {len(args.folds)} folds of {args.minutes:g} minutes\n")
    for name, stats in ((args.recipe, a), ("plain loop", b)):
        score = metric.score(stats)
        results[name] = {"score": score.value, "classes": score.parts}
        of_classes = ", ".join(
            f"{label} {value:.3f}" for label, value in zip(metric.parts, score.parts, strict=True) if value is not None
        )
        print(f"{name:20} {score.value:.4f}  ({of_classes})")
    print(f"{'gain':20} {gain.mean:+.4f}  (90 % of resamples {gain.low:+.4f} to {gain.high:+.4f})\n")
    results["gain"] = {"mean": gain.mean, "low": gain.low, "high": gain.high}
    asked = None if args.quick or where == ["--sample"] else (">=", 0.08)
    ratios = [ratio(f"{args.recipe} - plain loop, mean of resamples", gain.mean, asked)]
    print_ratios(ratios)
    write_results(args.out, results, ratios)


if __name__ == "__main__":
    start(main)
