"""What the loop around the net costs, and what it gains over a loop as people write it; all in one run.

    python bench/loop.py [--data FOLDER] [--recipe unet_resnet18] [--rounds 5] [--steps 12]

real: podium's source, augmentation and step. fixed: the same step on one batch that is already there, so that all data work
is taken out. plain: a DataLoader with two workers, albumentations and fp32, same net and batch; plain bf16: the same with
bf16, channels-last and the best number of workers of those tried. Each is a process of its own, podium's with the variables
that its workers have; the four take turns, and a ratio is the median over the rounds, since machines are noisy.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext, redirect_stdout, suppress
from functools import partial
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import torch
from _data import Given, given, recipe
from _machine import ROOT, alternate, median_ratio, print_ratios, ratio, start, title, write_results
from _training import machine_here, make_source, make_trainer, wait
from torch.utils.data import DataLoader, Dataset

from podium import nets
from podium.config import Recipe
from podium.cores import cores
from podium.engines.local import environment
from podium.jobs import Site
from podium.training.source import Batch

NEEDS = ()
WARM = 5
"""Steps of a turn before its clock starts: what readers had got ready while others had their turn is used up."""


class Tiles(Dataset):
    """One image at a time, as a competitor writes it."""

    def __init__(self, images: np.ndarray, masks: np.ndarray) -> None:
        self.images, self.masks = images, masks
        self.augment = A.Compose([A.HorizontalFlip(), A.VerticalFlip(), A.RandomBrightnessContrast(0.2, 0.2, p=0.5)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        done = self.augment(image=self.images[i][..., None], mask=self.masks[i])
        image, mask = done["image"][..., 0], done["mask"]
        return torch.from_numpy(np.ascontiguousarray(image)).float().div(255)[None], torch.from_numpy(
            np.ascontiguousarray(mask)
        ).long()


class Plain:
    """The plain loop; a call trains ``steps`` steps and gives images per second."""

    def __init__(self, on: Given, recipe: Recipe, device: torch.device, workers: int, bf16: bool) -> None:
        part, competition = on.dataset.train, on.competition
        assert part.targets is not None
        # in memory, not mapped
        tiles = Tiles(np.array(part.images.stacked[:, 0]), np.array(part.targets.stacked[:, 0]))
        loader = DataLoader(
            tiles, recipe.train.batch, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=workers > 0
        )
        self.batches = chain.from_iterable(repeat(loader))
        self.device, self.bf16 = device, bf16
        net = nets.build(recipe.net, competition.task, 1, len(competition.classes)).net.to(device).train()
        if bf16:
            net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        self.net = net
        self.optimiser = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=1e-2)
        ignored = competition.unscored_index
        self.loss = torch.nn.CrossEntropyLoss(ignore_index=-100 if ignored is None else ignored)

    def __call__(self, steps: int) -> float:
        seen, began = 0, 0.0
        for step, (images, masks) in enumerate(islice(self.batches, WARM + steps)):
            if step == WARM:
                wait(self.device)
                began = time.perf_counter()
            self.optimiser.zero_grad()
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                logits = self.net(images.to(self.device))
            self.loss(logits.float(), masks.to(self.device)).backward()
            self.optimiser.step()
            seen += len(images) if step >= WARM else 0
        wait(self.device)
        return seen / (time.perf_counter() - began)


class Ours:
    """Podium's loop, or its step on one fixed batch."""

    def __init__(self, on: Given, recipe: Recipe, fixed: bool) -> None:
        part, machine = on.dataset.train, machine_here()
        source = make_source(part, len(part) * 4 // 5, on.fit, on.competition, recipe, machine, None)
        self.source, self.recipe = source, recipe
        self.trainer = make_trainer(on.competition, recipe, source, machine)
        self.batches = repeat(next(source.epoch(0, 0, 0, recipe.augment))) if fixed else self._endless()

    def _endless(self) -> Iterator[Batch]:
        epoch = 0
        while True:
            yield from self.source.epoch(0, 0, epoch, self.recipe.augment)
            epoch += 1

    def __call__(self, steps: int) -> float:
        for batch in islice(self.batches, 1):
            self.trainer.step(batch, 0)
        wait(self.source.device)
        began = time.perf_counter()
        losses = [self.trainer.step(batch, 0) for batch in islice(self.batches, steps)]
        float(torch.stack(losses).mean())
        return steps * self.source.batch / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with the competition's file")
    parser.add_argument("--competition", default="mars")
    parser.add_argument("--recipe", default="unet_resnet18")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument(
        "--loader-workers", help="numbers of workers to try with bf16, e.g. 0,1,2; default by the cores"
    )
    parser.add_argument("--quick", action="store_true", help="one short round, to see that it works")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "out" / "loop.json")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.steps = 1, 2
    with tempfile.TemporaryDirectory() as cache:
        on = given(args.competition, args.data, Path(cache))
        measure(args, on.origin.folder, on.origin.sentence(), cache)


class Loop:
    """A loop in a process of its own; a call lets it train some steps, while the others wait."""

    def __init__(self, competition: str, origin: Path, cache: str, recipe: str, kind: str, workers: int = 0) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        given = (theirs, competition, origin, cache, recipe, kind, workers)
        self.process = context.Process(target=_serve, args=given)
        ours = kind in ("real", "fixed")
        with environment(Site("", "", "", "", ""), 0) if ours else nullcontext():
            self.process.start()
        self.about = self.pipe.recv()

    def __call__(self, steps: int) -> float:
        self.pipe.send(steps)
        return float(self.pipe.recv())

    def close(self) -> None:
        """End the process and its readers."""
        self.pipe.close()
        self.process.join()


def _serve(pipe: Any, competition: str, origin: Path, cache: str, name: str, kind: str, workers: int) -> None:
    with redirect_stdout(io.StringIO()):
        on = given(competition, origin, Path(cache))
    machine, wanted = machine_here(), recipe(name)
    loop: Ours | Plain
    if kind in ("real", "fixed"):
        loop = Ours(on, wanted, kind == "fixed")
    else:
        loop = Plain(on, wanted, machine.torch_device, workers, kind == "plain bf16")
    pipe.send({"device": machine.torch_device.type, "precision": machine.precision})
    with suppress(EOFError):
        while True:
            pipe.send(loop(pipe.recv()))


def measure(args: argparse.Namespace, origin: Path, sentence: str, cache: str) -> None:
    """Measure all loops, print and write the figures."""
    given = (args.competition, origin, cache, args.recipe)
    real = Loop(*given, "real")
    cuda = real.about["device"] == "cuda"
    steps = args.steps * (10 if cuda else 1)  # a turn of some length
    some = [int(text) for text in args.loader_workers.split(",")] if args.loader_workers else []
    counts = some or sorted({2, 4, 8, cores()} if cuda else {0, 1, 2, cores()})
    tried = {}
    for count in counts:
        loop = Loop(*given, "plain bf16", count)
        tried[count] = max(loop(steps) for _ in range(2))
        loop.close()
    best = max(tried, key=lambda count: tried[count])
    loops = {
        "real": real,
        "fixed": Loop(*given, "fixed"),
        "plain": Loop(*given, "plain", 2),
        "plain bf16": Loop(*given, "plain bf16", best),
    }
    found = alternate({name: partial(loop, steps) for name, loop in loops.items()}, args.rounds)
    for loop in loops.values():
        loop.close()
    batch = recipe(args.recipe).train.batch
    print(f"{args.recipe}, batch {batch}, {real.about['precision']}; {title()}")
    for name, rates in found.items():
        more = f" ({best} workers; tried {', '.join(map(str, counts))})" if name == "plain bf16" else ""
        print(f"{name:>12} {statistics.median(rates):9.1f} images/s{more}")
    measured = [
        ratio("real / no data work", median_ratio(found["real"], found["fixed"]), (">=", 0.90 if cuda else 0.95)),
        ratio("real / plain fp32", median_ratio(found["real"], found["plain"]), (">=", 5.0 if cuda else 2.0)),
        ratio("real / plain bf16", median_ratio(found["real"], found["plain bf16"]), (">=", 3.0 if cuda else 1.05)),
    ]
    print_ratios(measured)
    setting = {"recipe": args.recipe, "batch": batch, "precision": real.about["precision"], "steps": steps}
    readers = {"best": best, "tried": tried}
    write_results(args.out, setting | {"data": sentence, "loader workers": readers, "rounds": found}, measured)


if __name__ == "__main__":
    start(main)
