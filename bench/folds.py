"""Five folds side by side against one after the other: the whole `podium train` of a small net, in turn.

    python bench/folds.py [--data FOLDER] [--recipe residual_unet] [--epochs 1] [--rounds 2] [--workers 2]

Every run is the command itself with a seed of its own: start, training, out-of-fold predictions and scores.
The data are decoded and the fold file is made before the clock starts. `one` has all cores for one worker, `several` shares
them. How many jobs there are matters: five folds on two workers are three rounds, so the table also shows the speed of a
full machine, which is what ten folds would get.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _data import competition, place
from _machine import ROOT, alternate, median_ratio, print_ratios, ratio, start, title, write_results

from podium.cores import cores
from podium.errors import UserError

NEEDS = ()


def podium(*arguments: str) -> dict[str, Any]:
    """Run the command and give its answer."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PODIUM_ROOT": str(ROOT)}
    command = [sys.executable, "-m", "podium", *arguments, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{' '.join(arguments)}: {done.stderr.strip().splitlines()[-1]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with the competition's file")
    parser.add_argument("--competition", default="mars")
    parser.add_argument("--recipe", default="residual_unet")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2, help="workers of the run side by side")
    parser.add_argument("--quick", action="store_true", help="the sample, one epoch, one round")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "out" / "folds.json")
    args = parser.parse_args()
    if args.quick:
        args.epochs, args.rounds = 1, 1
    origin = place(competition(args.competition), args.data)
    where = ["--sample"] if origin.sample or args.quick else ["--data", str(origin.folder)]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        measure(args, where, Path(folder))


def measure(args: argparse.Namespace, where: list[str], folder: Path) -> None:
    """Take turns, print and write."""
    some = [
        args.competition,
        *where,
        "--models",
        args.recipe,
        "--set",
        f"train.epochs={args.epochs}",
        "--out",
        str(folder),
    ]
    podium("fold", args.competition, *where, "--out", str(folder))
    seed = iter(range(10**6))  # what a run has made is not made again, so each has its own
    minutes: list[dict[str, Any]] = []

    def train(workers: int, folds: str) -> float:
        began = time.perf_counter()
        board = podium("train", *some, "--folds", folds, "--workers", str(workers), "--seed", str(next(seed)))
        seconds = time.perf_counter() - began
        minutes.append({"workers": workers, "folds": folds, "seconds": seconds, "score": board["rows"][0]["score"]})
        return seconds

    even = ",".join(map(str, range(5 - 5 % args.workers)))
    variants = {
        "five folds, one worker": lambda: train(1, "0,1,2,3,4"),
        f"five folds, {args.workers} workers": lambda: train(args.workers, "0,1,2,3,4"),
        f"folds {even}, one worker": lambda: train(1, even),
        f"folds {even}, {args.workers} workers": lambda: train(args.workers, even),
    }
    found = alternate(variants, args.rounds, warm_up=False)
    print(f"{args.recipe}, {args.epochs} epochs a fold, {cores()} cores; {title()}")
    for name, seconds in found.items():
        print(f"{name:>28} {statistics.median(seconds):8.1f} s")
    one, several, full_one, full = found.values()
    measured = [
        ratio("five folds: one after the other / side by side", median_ratio(one, several)),
        ratio("machine full all the time: one after the other / side by side", median_ratio(full_one, full)),
    ]
    print_ratios(measured)
    for item in measured:
        print(f"{item['name']}: {item['value']:.3f}")
    write_results(
        args.out, {"workers": args.workers, "epochs": args.epochs, "runs": minutes, "seconds": found}, measured
    )


if __name__ == "__main__":
    start(main)
