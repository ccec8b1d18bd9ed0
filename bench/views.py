"""All views of a batch through the net at once, against ttach's wrapper, which takes one view after the other.

    python bench/views.py [--recipe residual_unet] [--images 64] [--batches 2,4,8,16,32] [--rounds 9]

The same net, views, device, precision and made-up images of 64 x 128, which lie on the device already; both give the mean of
the views' probabilities, and that they are the same is checked. First both are timed with every number of images at once,
then each with its own best, in turn; a ratio is the median over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import ttach
from _data import recipe
from _machine import ROOT, alternate, median_ratio, print_ratios, ratio, start, title, write_results
from _training import machine_here, wait
from torch import nn

from podium import nets
from podium.inference.predict import predict_batch
from podium.training.compiled import compiled

NEEDS = ()
HEIGHT, WIDTH, CLASSES = 64, 128, 4
VIEWS = ("identity", "hflip", "vflip", "rot180")
WANTED = {"cpu": 1.0, "cuda": 1.5}
TOLERANCE = {"fp32": 1e-4, "bf16": 0.05, "fp16": 0.01}
"""How far probabilities may differ: a net in low precision rounds differently with another number of images."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="residual_unet")
    parser.add_argument("--images", type=int, help="images per turn; 64 on a CPU, 4096 on a GPU")
    parser.add_argument("--batches", help="numbers of images at once to try, e.g. 4,8,16")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--compile", choices=("on", "off"), help="podium's net compiled; as the machine is set otherwise"
    )
    parser.add_argument("--quick", action="store_true", help="few images and rounds, to see that it works")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "out" / "views.json")
    args = parser.parse_args()
    cuda = machine_here().torch_device.type == "cuda"
    args.images = args.images or (4096 if cuda else 64)
    args.batches = [int(n) for n in (args.batches or ("16,64,256,1024" if cuda else "2,4,8,16,32")).split(",")]
    if args.quick:
        args.images, args.batches, args.rounds = args.images // 4, args.batches[1:3], 2
    measure(args)


def measure(args: argparse.Namespace) -> None:
    """Time both with every batch, then each with its best; print and write."""
    machine, settings = machine_here(), recipe(args.recipe)
    machine = replace(machine, compile=args.compile or machine.compile)
    device = machine.torch_device
    torch.manual_seed(0)
    net = nets.build(settings.net, "segmentation", 1, CLASSES, [0.4], [0.2]).place(device).eval()
    forward = compiled(net, machine, lambda text: print(f"note: {text}"))
    flips = ttach.Compose([ttach.HorizontalFlip(), ttach.VerticalFlip()])  # their product: the same four views
    wrapper = ttach.SegmentationTTAWrapper(nn.Sequential(net, nn.Softmax(1)), flips, merge_mode="mean")
    images = torch.randint(0, 256, (args.images, 1, HEIGHT, WIDTH), dtype=torch.uint8, device=device)

    def at_once(some: torch.Tensor) -> torch.Tensor:
        return predict_batch([forward], some, VIEWS, machine)

    def one_by_one(some: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(), machine.autocast():
            answers: torch.Tensor = wrapper(some / 255)
            return answers

    def seconds(predict: Callable[[torch.Tensor], torch.Tensor], batch: int) -> float:
        wait(device)
        began = time.perf_counter()
        for some in images.split(batch):
            predict(some)
        wait(device)
        return time.perf_counter() - began

    ways = {"podium": at_once, "ttach": one_by_one}
    apart = float((at_once(images[:16]) - one_by_one(images[:16])).abs().max())
    if apart > TOLERANCE[machine.precision]:
        raise SystemExit(f"podium's probabilities differ from ttach's by {apart:.3g}")
    tried = alternate(
        {f"{way} {batch}": partial(seconds, ways[way], batch) for batch in args.batches for way in ways},
        max(1, args.rounds // 3),
    )
    speeds = {way: {n: args.images / statistics.median(tried[f"{way} {n}"]) for n in args.batches} for way in ways}
    best = {way: max(speeds[way], key=speeds[way].__getitem__) for way in ways}
    rounds = alternate({way: partial(seconds, ways[way], best[way]) for way in ways}, args.rounds)
    gain = median_ratio(rounds["ttach"], rounds["podium"])
    print(f"{title()}, {machine.precision}, {settings.name}, compile {machine.compile}, {len(VIEWS)} views, images/s")
    print(f"{'images at once':>16} {'podium':>9} {'ttach':>9} {'ratio':>7}")
    for n in args.batches:
        print(f"{n:>16} {speeds['podium'][n]:9.1f} {speeds['ttach'][n]:9.1f} {_same(tried, n):7.3f}")
    own = {way: args.images / statistics.median(rounds[way]) for way in ways}
    bests = f"best: {best['podium']}, {best['ttach']}"
    print(f"{bests:>16} {own['podium']:9.1f} {own['ttach']:9.1f} {gain:7.3f}")
    ratios = [
        ratio("views at once / ttach, each with its best batch", gain, (">=", WANTED[device.type])),
        *(ratio(f"views at once / ttach, {n} images", _same(tried, n)) for n in args.batches),
    ]
    print_ratios(ratios)
    write_results(
        args.out,
        {
            "recipe": settings.name,
            "precision": machine.precision,
            "threads": machine.threads,
            "compile": machine.compile,
            "images": args.images,
            "views": VIEWS,
            "largest_difference": apart,
            "images_per_second": speeds,
            "best_batch": best,
            "best_images_per_second": own,
            "seconds": {"tried": tried, "best": rounds},
        },
        ratios,
    )


def _same(tried: dict[str, list[float]], batch: int) -> float:
    return median_ratio(tried[f"ttach {batch}"], tried[f"podium {batch}"])


if __name__ == "__main__":
    start(main)
