"""What the loop around the model costs, and what it gains over a loop as people write it; all in one run.

    python bench/loop.py --data FOLDER [--recipe unet_resnet18] [--rounds 5] [--steps 20] [--plain-steps 40]

real: podium's source, augmentation and step. fixed: the same step on one batch that is already there, so that all data work
is taken out. plain: a DataLoader with workers, albumentations and fp32, same net and batch; plain_bf16: the same with bf16
and channels-last. Rounds alternate between real and fixed, and the ratio is the median over rounds, since machines are noisy.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import albumentations as A
import numpy as np
import torch
from _machine import write_results
from torch.utils.data import DataLoader, Dataset

from podium import nets
from podium.config import Competition, Recipe
from podium.config_file import load_competition, load_recipe
from podium.data.fit import plan_fit
from podium.data.part import Part
from podium.data.reading import open_dataset
from podium.training.fold import Trainer
from podium.training.machine import Machine, detect
from podium.training.source import Batch, Resident

ROOT = Path(__file__).resolve().parents[1]


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


def plain(
    competition: Competition, recipe: Recipe, part: Part, device: torch.device, steps: int, workers: int, bf16: bool
) -> float:
    """Images per second of the plain loop; the first fifth of the steps warms up."""
    assert part.targets is not None
    tiles = Tiles(np.array(part.images.stacked[:, 0]), np.array(part.targets.stacked[:, 0]))  # in memory, not mapped
    loader = DataLoader(
        tiles, recipe.train.batch, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=workers > 0
    )
    net = nets.build(recipe.net, competition.task, 1, len(competition.classes)).to(device).train()
    if bf16:
        net = net.place(device)  # channels-last
    optimiser = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=1e-2)
    ignored = competition.unscored_index
    loss_of = torch.nn.CrossEntropyLoss(ignore_index=-100 if ignored is None else ignored)
    seen, start, step, warm = 0, 0.0, 0, steps // 5
    while step < steps:
        for images, masks in loader:
            if step == warm:
                _wait(device)
                seen, start = 0, time.perf_counter()
            optimiser.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits = net(images.to(device))
            loss_of(logits.float(), masks.to(device)).backward()
            optimiser.step()
            seen, step = seen + len(images), step + 1
            if step == steps:
                break
    _wait(device)
    return seen / (time.perf_counter() - start)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rounds(
    competition: Competition, recipe: Recipe, source: Resident, machine: Machine, count: int, steps: int
) -> tuple[list[float], list[float]]:
    """Images per second of the real loop and of the loop on one fixed batch, ``count`` of each, alternating."""
    trainer = Trainer(competition, recipe, source, machine, 10**6, 0)
    device = machine.torch_device
    fixed = next(source.epoch(0, 0, 0, recipe.augment))

    def batches(kind: str, epoch: int) -> Iterator[Batch]:
        if kind == "fixed":
            yield from [fixed] * steps
            return
        done = 0
        while done < steps:
            for batch in source.epoch(0, 0, epoch, recipe.augment):
                yield batch
                done += 1
                if done == steps:
                    return

    found: dict[str, list[float]] = {"real": [], "fixed": []}
    for number in range(count + 1):
        for kind in ("real", "fixed") if number % 2 else ("fixed", "real"):
            _wait(device)
            start = time.perf_counter()
            losses = [trainer.step(batch, 0) for batch in batches(kind, number)]
            float(torch.stack(losses).mean())
            if number:  # the first round warms up
                found[kind].append(steps * source.batch / (time.perf_counter() - start))
    return found["real"], found["fixed"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the competition's file")
    parser.add_argument("--competition", default="mars")
    parser.add_argument("--recipe", default="unet_resnet18")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--plain-steps", type=int, default=40)
    parser.add_argument("--loader-workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "out" / "loop.json")
    args = parser.parse_args()
    competition = load_competition(ROOT / "configs" / "competitions" / f"{args.competition}.yaml")
    recipe = load_recipe(ROOT / "configs" / "models" / f"{args.recipe}.yaml")
    with tempfile.TemporaryDirectory() as cache:
        measure(competition, recipe, args, Path(cache))


def measure(competition: Competition, recipe: Recipe, args: argparse.Namespace, cache: Path) -> None:
    """Measure all loops, print and write the figures. cache: where the decoded data may lie meanwhile."""
    dataset = open_dataset(competition, args.data, cache).dataset
    part, fit = dataset.train, plan_fit(dataset.parts, competition.data.fit)
    machine = detect()
    torch.set_num_threads(machine.threads)
    rows = np.arange(len(part))[: len(part) * 4 // 5]
    source = Resident(part, rows, fit, competition, recipe.train.rarest_rate, recipe.train.batch, machine.torch_device)
    real, fixed = rounds(competition, recipe, source, machine, args.rounds, args.steps)
    slow = plain(competition, recipe, part, machine.torch_device, args.plain_steps, args.loader_workers, bf16=False)
    fast = plain(competition, recipe, part, machine.torch_device, args.plain_steps, args.loader_workers, bf16=True)
    gain = statistics.median(b / a for a, b in zip(real, fixed, strict=True))
    speed = statistics.median(real)
    table = {
        "real": speed,
        "fixed": statistics.median(fixed),
        "fixed / real": gain,
        "plain": slow,
        "real / plain": speed / slow,
        "plain_bf16": fast,
        "real / plain_bf16": speed / fast,
    }
    for name, value in table.items():
        print(f"{name:>18} {value:9.3f}" + ("" if "/" in name else " images/s"))
    setting = {
        "precision": machine.precision,
        "recipe": recipe.name,
        "batch": recipe.train.batch,
        "workers": args.loader_workers,
    }
    write_results(args.out, setting | table | {"rounds": {"real": real, "fixed": fixed}})


if __name__ == "__main__":
    main()
