"""A test set as one stream: seconds, the share that is not the nets', and memory as the test set grows.

    python bench/predict.py [--images 10022] [--nets 5] [--recipe residual_unet] [--widths 8,16,32] [--rounds 5]

Made-up images of 64 x 128, five nets, four views, from ``predict_to``: images are read, predicted, averaged and written as
float16. On a CPU the nets are narrow, so that it ends in minutes. The control is the same nets on one fixed batch of turned
images as often as the stream has batches: nothing is read, averaged or written; both take turns, on a part of the images.

Memory is measured at three sizes, the last the whole, each in a process of its own: the highest resident memory during the
stream above that before it, when nets and images were there and a few images had been predicted. The volume is written, not
mapped, so the system's cache of the file is not in it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _data import competition, recipe
from _machine import ROOT, Measured, alternate, measure, median_ratio, print_ratios, ratio, start, title, write_results
from _training import machine_here, wait

from podium import nets
from podium.config import Recipe
from podium.data.fit import Fit
from podium.data.part import Part
from podium.data.ragged import Ragged
from podium.inference.predict import batch_size, predict_to
from podium.inference.views import turn
from podium.training.compiled import compiled

NEEDS = ("memory_gb", 2)
HEIGHT, WIDTH = 64, 128
SAME = Fit((HEIGHT, WIDTH), "same")
VIEWS = ("identity", "hflip", "vflip", "rot180")
NARROW = "8,16,32"
GROWN = 0.05
"""Bytes of memory that a byte more of the volume may cost."""


class Stream:
    """Nets and images, ready to be predicted; memory and time are measured after that."""

    def __init__(self, settings: Recipe, count: int, images: int, folder: Path) -> None:
        self.machine, self.competition, self.folder = machine_here(), competition("mars"), folder
        self.models = []
        for seed in range(count):
            torch.manual_seed(seed)
            model = nets.build(settings.net, "segmentation", 1, len(self.competition.scored), [0.4], [0.2])
            self.models.append(model.place(self.machine.torch_device).eval())
        values = np.random.default_rng(0).integers(0, 256, (images, 1, HEIGHT, WIDTH), np.uint8)
        self.part = Part("test", Ragged.stack(values, np.arange(images).astype(str)), None, "0")
        self.batch = batch_size(VIEWS, self.machine, HEIGHT * WIDTH)
        self(min(images, 4 * self.batch))
        wait(self.machine.torch_device)

    def __call__(self, images: int) -> float:
        """Seconds for so many images, from the first to the volume's last byte on the disk."""
        path = self.folder / "stream.npy"
        began = time.perf_counter()
        predict_to(path, self.models, self.competition, self.part, np.arange(images), SAME, VIEWS, self.machine, _say)
        seconds = time.perf_counter() - began
        if len(Ragged.open(path)) != images:
            raise SystemExit(f"{path} does not hold {images} images")
        path.unlink()
        return seconds

    @torch.inference_mode()
    def nets_alone(self, images: int) -> float:
        """Seconds of the nets for as many batches, all on the same turned images."""
        device = self.machine.torch_device
        forwards = [compiled(model, self.machine, lambda text: None) for model in self.models]
        fixed = turn(
            torch.from_numpy(self.part.images.stacked[: self.batch]).to(device).float() / self.part.scale, VIEWS
        )
        wait(device)
        began = time.perf_counter()
        for first in range(0, images, self.batch):
            x = fixed[: len(VIEWS) * min(self.batch, images - first)]
            for forward in forwards:
                with self.machine.autocast():
                    forward(x)
        wait(device)
        return time.perf_counter() - began


def _say(event: dict[str, Any]) -> None:
    if event["event"] == "note":
        print(f"note: {event['text']}")


def prepare(settings: Recipe, count: int, images: int, folder: Path) -> Stream:
    """What is there before memory is measured."""
    stream = Stream(settings, count, images, folder)
    if stream.machine.torch_device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(stream.machine.torch_device)
    return stream


def whole(stream: Stream, settings: Recipe, count: int, images: int, folder: Path) -> dict[str, float | None]:
    """Predict all; seconds, and the most that the GPU held, 10⁶ bytes."""
    device = stream.machine.torch_device
    seconds = stream(images)
    peak = torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else None
    return {"seconds": seconds, "gpu_mb": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10022)
    parser.add_argument("--nets", type=int, default=5)
    parser.add_argument("--recipe", default="residual_unet")
    parser.add_argument("--widths", help=f"the net's, where it takes some; {NARROW} on a CPU, the recipe's on a GPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few images and a tiny net, to see that it works")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "out" / "predict.json")
    args = parser.parse_args()
    if args.quick:
        args.images, args.widths, args.rounds = 240, "4,8", 2
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.out.parent) as folder:  # on a disk, which /tmp may not be
        run(args, Path(folder))


def run(args: argparse.Namespace, folder: Path) -> None:
    """Measure, print and write."""
    machine = machine_here()
    cuda = machine.torch_device.type == "cuda"
    settings = recipe(args.recipe)
    widths = args.widths or (NARROW if not cuda and settings.net.widths else None)
    if widths:
        settings = recipe(args.recipe, f"net.widths=[{widths}]")
    sizes = [args.images // 16, args.images // 4, args.images]
    runs = {images: measure(whole, settings, args.nets, images, folder, prepare=prepare) for images in sizes}
    part = args.images if cuda else sizes[0]
    stream = Stream(settings, args.nets, part, folder)
    rounds = alternate({"stream": lambda: stream(part), "nets": lambda: stream.nets_alone(part)}, args.rounds)
    share = 1 - median_ratio(rounds["nets"], rounds["stream"])
    seconds = runs[args.images].value["seconds"]
    volume_mb = {images: images * HEIGHT * WIDTH * len(stream.competition.classes) * 2 / 1e6 for images in sizes}
    grown = (runs[sizes[-1]].peak_mb - runs[sizes[0]].peak_mb) / (volume_mb[sizes[-1]] - volume_mb[sizes[0]])
    what = f"{settings.name} {widths or ''}".strip()
    print(
        f"{title()}, {machine.precision}, {args.nets} nets ({what}), {len(VIEWS)} views, {stream.batch} images at once"
    )
    print(f"{'images':>8} {'seconds':>9} {'images/s':>9} {'volume MB':>10} {'peak MB':>8}" + " GPU MB" * cuda)
    for images, found in runs.items():
        print(_line(images, found, volume_mb[images]))
    print(f"outside the nets, on {part:,} images: {100 * share:.1f} % of the time")
    ratios = [
        ratio("images per second, whole stream", args.images / seconds),
        ratio("share of the time outside the nets", share),
        # a small volume is less than what an allocator keeps at its own discretion
        ratio("memory grown / volume grown", grown, None if args.quick else ("<=", GROWN)),
    ]
    print_ratios(ratios)
    write_results(
        args.out,
        {
            "recipe": settings.name,
            "widths": settings.net.widths,
            "nets": args.nets,
            "views": VIEWS,
            "precision": machine.precision,
            "threads": machine.threads,
            "images_at_once": stream.batch,
            "sizes": [
                {"images": n, "volume_mb": volume_mb[n], "peak_mb": found.peak_mb, **found.value}
                for n, found in runs.items()
            ],
            "seconds": seconds,
            "images_per_second": args.images / seconds,
            "share_outside_nets": share,
            "rounds": {"images": part, **rounds, "median": {k: statistics.median(v) for k, v in rounds.items()}},
        },
        ratios,
    )


def _line(images: int, found: Measured, volume_mb: float) -> str:
    seconds, gpu = found.value["seconds"], found.value["gpu_mb"]
    line = f"{images:8,} {seconds:9.2f} {images / seconds:9.1f} {volume_mb:10.1f} {found.peak_mb:8.1f}"
    return line if gpu is None else f"{line} {gpu:6.0f}"


if __name__ == "__main__":
    start(main)
