"""What streaming costs: images trained per second with training images read as they are drawn, against resident ones.

    python bench/streamed.py [--data DIR] [--recipe residual_unet] [--readers 0,1,2] [--quick] [--out bench/out/streamed.json]

Control: the resident source in the same run, same net, recipe, device, batch and images. Every round is a whole epoch of
each variant, so that no reading process works ahead into another's time; rounds alternate, the figures are medians, and
ratios are taken round by round. ``per_image`` variants do an affine change and noise with albumentations while reading;
their control is the resident source without, since it cannot do that. "data alone" makes the batches and trains nothing.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

from _data import Given, given, recipe
from _machine import alternate, median_ratio, ratio, start, title, write_results
from _training import data_seconds, epoch_seconds, machine_here, make_source, make_trainer

from podium.config import Recipe
from podium.cores import cores
from podium.training.source import Source

NEEDS = ()
PER_IMAGE = [{"name": "Affine", "p": 0.5, "rotate": [-15, 15]}, {"name": "GaussNoise", "p": 0.3}]


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, help="folder of the competition's data; default: the usual places, else the sample"
    )
    parser.add_argument("--competition", default="mars")
    parser.add_argument("--recipe", default="residual_unet")
    parser.add_argument("--readers", help="numbers of reading processes; default: 0, 1, 2, 4, .. up to the cores")
    parser.add_argument(
        "--steps", type=int, help="steps of an epoch, one of each variant per round; default: 12, GPU 100"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="4 steps, one round")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "streamed.json")
    args = parser.parse_args()
    if args.quick:
        args.steps, args.rounds = args.steps or 4, 1
    with tempfile.TemporaryDirectory() as cache:
        measure(given(args.competition, args.data, Path(cache)), recipe(args.recipe), args)


def measure(found: Given, plain: Recipe, args: argparse.Namespace) -> None:
    """Measure all variants, print and write the figures."""
    machine = machine_here()
    steps = args.steps or (100 if machine.torch_device.type == "cuda" else 12)
    images = steps * plain.train.batch
    changed = plain.model_dump(mode="json")
    changed["augment"]["per_image"] = PER_IMAGE
    per_image = Recipe.model_validate(changed)
    numbers = [int(text) for text in args.readers.split(",")] if args.readers else _numbers_of_readers()

    def source_of(chosen: Recipe, readers: int | None) -> tuple[Source, Recipe]:
        part = found.dataset.train
        return make_source(part, images, found.fit, found.competition, chosen, machine, readers), chosen

    sources = {"resident": source_of(plain, None)}
    sources |= {f"streamed, {readers} readers": source_of(plain, readers) for readers in numbers}
    sources |= {f"per_image, {readers} readers": source_of(per_image, readers) for readers in numbers}
    trainer = make_trainer(found.competition, plain, sources["resident"][0], machine)
    epochs = count()

    def trained(source: Source, chosen: Recipe) -> float:
        return images / epoch_seconds(trainer, source, chosen, next(epochs))

    def alone(source: Source, chosen: Recipe) -> float:
        return images / data_seconds(source, chosen, next(epochs))

    def variants(work: Callable[[Source, Recipe], float]) -> dict[str, Callable[[], float]]:
        return {name: partial(work, *one) for name, one in sources.items()}

    whole = alternate(variants(trained), args.rounds)
    data = alternate(variants(alone), args.rounds)
    share = {name: median_ratio(speeds, whole["resident"]) for name, speeds in whole.items()}
    print(f"{title()}; {plain.name}, batch {plain.train.batch}, {args.rounds} rounds of {images} images")
    print(f"{'images per second':24} {'trained':>9} {'to resident':>12} {'data alone':>11}")
    table = []
    for name in sources:
        speed, only = statistics.median(whole[name]), statistics.median(data[name])
        print(f"{name:24} {speed:9.1f} {share[name]:12.3f} {only:11.0f}")
        table.append(
            {"name": name, "trained": speed, "to_resident": share[name], "data_alone": only, "rounds": whole[name]}
        )
    ratios = []
    for kind in ("streamed", "per_image"):
        best = max((name for name in sources if name.startswith(kind)), key=lambda name: share[name])
        ratios.append(ratio(f"{best} / resident", share[best]))
    setting = {"data": found.origin.name, "recipe": plain.name, "batch": plain.train.batch, "images": images}
    write_results(args.out, setting | {"machine": machine.describe(), "per_image": PER_IMAGE, "table": table}, ratios)


def _numbers_of_readers() -> list[int]:
    """0, 1, 2, 4, .. as far as there are cores, 2 at least."""
    return [0] + [2**power for power in range(8) if 2**power <= max(2, min(16, cores()))]


if __name__ == "__main__":
    start(main)
