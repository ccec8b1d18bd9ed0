"""How cost grows with images, pixels, folds and models, three sizes of each.

    python bench/growth.py [--parts images,pixels,folds,models] [--quick] [--out bench/out/growth.json]

All data are made up (the Mars sample's generator), so that every size is there. images: whole epochs of podium's loop over a
resident source; seconds per image should not depend on how many there are, and memory grows by what an image takes. pixels:
the same number of images in three sizes, seconds per 10⁶ pixels. folds and models: the whole command in a process of its own,
from the file to the packed submission, with fixed epochs and one worker; "in training" is what the trainings say of
themselves, the rest is start, reading, folds, prediction, blend and packing. Sizes of images alternate in rounds and figures
are medians; memory is measured in a process for each size.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from _data import competition, recipe
from _machine import ROOT, alternate, measure, ratio, resident_mb, start, title, write_results

from podium.config import Recipe
from podium.config_file import write_yaml
from podium.data.fit import Fit
from podium.data.part import Part
from podium.data.ragged import Ragged
from podium.data.sample import write_sample
from podium.data.sample_mars import mars

NEEDS = ()
PARTS = ("images", "pixels", "folds", "models")
IMAGES, QUICK_IMAGES = (500, 1000, 2000), (256, 512, 768)
SIDES = ((32, 64), (64, 128), (128, 256))
FOLDS, MODELS = (2, 3, 5), (1, 2, 3)
SCENES = 64
"""Different pictures of the made-up data; an epoch repeats them."""
NARROW = ("net.widths=[8,16]",)
"""The net of the quick form, and of whole runs, whose costs around the training are what is asked."""


def main() -> None:
    """Measure what is asked for, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="which of them, with commas")
    parser.add_argument("--recipe", default="residual_unet")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a narrow net, fewer images, folds and models, one round")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "growth.json")
    args = parser.parse_args()
    parts = [part for part in args.parts.split(",") if part]
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        parser.error(f"--parts {unknown[0]}: allowed: {', '.join(PARTS)}")
    rounds = 1 if args.quick else args.rounds
    chosen = recipe(args.recipe, *(NARROW if args.quick else ()))
    print(f"{title()}; {chosen.name}, batch {chosen.train.batch}")
    results: dict[str, Any] = {"recipe": chosen.name, "net": chosen.net.model_dump(mode="json")}
    ratios: list[dict[str, Any]] = []
    if "images" in parts:
        results["images"] = table = images_part(chosen, rounds, QUICK_IMAGES if args.quick else IMAGES)
        ratios.append(ratio("seconds per image, most / fewest images", table[-1]["ms_each"] / table[0]["ms_each"]))
    if "pixels" in parts:
        results["pixels"] = table = pixels_part(chosen, rounds, 2 if args.quick else 5)
        ratios.append(
            ratio("seconds per pixel, most / fewest pixels", table[-1]["s_per_megapixel"] / table[0]["s_per_megapixel"])
        )
    if "folds" in parts or "models" in parts:
        results |= runs_part([part for part in parts if part in ("folds", "models")], args.quick)
        for part in ("folds", "models"):
            if part in results:
                ratios.append(ratio(f"seconds around one more of {part}", results[part]["around_each"]))
    write_results(args.out, results, ratios)


# ---------------------------------------------------------------- the loop


def made_up(height: int, width: int) -> Part:
    """Mars-like pictures of a size that is 64×128 enlarged or thinned out by a whole number."""
    stack = mars(0, SCENES, 0, 1)["training_set"].astype(np.uint8)
    thinned = stack[:, :, :: max(1, 64 // height), :: max(1, 128 // width)]
    stack = thinned.repeat(max(1, height // 64), axis=2).repeat(max(1, width // 128), axis=3)
    ids = np.arange(SCENES).astype(str)
    return Part("train", Ragged.stack(stack[:, :1], ids), Ragged.stack(stack[:, 1:], ids), "made up")


def loop(chosen: Recipe, images: int, size: tuple[int, int]) -> Callable[[], float]:
    """Seconds of an epoch over that many images, ready to be called."""
    from _training import epoch_seconds, machine_here, make_source, make_trainer

    machine = machine_here()
    source = make_source(made_up(*size), images, Fit(size, "same"), competition("mars"), chosen, machine, None)
    trainer = make_trainer(competition("mars"), chosen, source, machine)
    numbers = count()
    return lambda: epoch_seconds(trainer, source, chosen, next(numbers))


def images_part(chosen: Recipe, rounds: int, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Seconds per epoch and per image, and memory, for each number of images."""
    batch = chosen.train.batch
    found = alternate({str(images): loop(chosen, images, SIDES[1]) for images in numbers}, rounds)
    print(f"\n{'images':>8} {'s an epoch':>11} {'ms each':>8} {'MB of images':>13} {'MB in training':>15}   (64×128)")
    table = []
    for images in numbers:
        seconds, trained = statistics.median(found[str(images)]), images // batch * batch
        run = measure(first_steps, chosen, images, prepare=load)
        stored, peak = run.value
        row = {"images": images, "seconds": seconds, "ms_each": 1000 * seconds / trained, "images_mb": stored}
        table.append(row | {"training_mb": peak or run.peak_mb})
        print(
            f"{images:8,} {seconds:11.2f} {row['ms_each']:8.2f} {stored:13.1f} {peak or run.peak_mb:15.1f}", flush=True
        )
    # of the larger two: the buffers that rows are read through are as large for both
    more = (table[-1]["images_mb"] - table[-2]["images_mb"]) / (numbers[-1] - numbers[-2])
    print(
        f"one more image takes {1000 * more:.1f} kB; its pixels and mask are {2 * SIDES[1][0] * SIDES[1][1] / 1000:.1f} kB"
    )
    return table


def load(chosen: Recipe, images: int) -> Part:
    """torch and the pictures, before the level of memory is taken."""
    import _training  # noqa: F401

    return made_up(*SIDES[1])


def first_steps(part: Part, chosen: Recipe, images: int) -> tuple[float, float | None]:
    """MB that a source of that many images takes on the device that holds them, and MB of a GPU after three steps.

    On a CPU the second is None; whoever measures this call knows it.
    """
    import torch
    from _training import machine_here, make_source, make_trainer, wait

    machine, mars_settings = machine_here(), competition("mars")
    device = machine.torch_device
    cuda = device.type == "cuda"
    before = resident_mb()
    source = make_source(part, images, Fit(SIDES[1], "same"), mars_settings, chosen, machine, None)
    stored = torch.cuda.memory_allocated(device) / 1e6 if cuda else resident_mb() - before
    trainer = make_trainer(mars_settings, chosen, source, machine)
    for step, batch in zip(range(3), source.epoch(0, 0, 0, chosen.augment), strict=False):
        trainer.step(batch, step)
    wait(device)
    return stored, torch.cuda.max_memory_allocated(device) / 1e6 if cuda else None


def pixels_part(chosen: Recipe, rounds: int, steps: int) -> list[dict[str, Any]]:
    """Seconds per megapixel for each size of image."""
    images = steps * chosen.train.batch
    found = alternate({str(size): loop(chosen, images, size) for size in SIDES}, rounds)
    print(f"\n{'size':>8} {'ms an image':>12} {'s a megapixel':>14}")
    table = []
    for size in SIDES:
        seconds = statistics.median(found[str(size)])
        megapixels = images * size[0] * size[1] / 1e6
        row = {"size": size, "ms_each": 1000 * seconds / images, "s_per_megapixel": seconds / megapixels}
        table.append(row)
        print(f"{f'{size[0]}×{size[1]}':>8} {row['ms_each']:12.2f} {row['s_per_megapixel']:14.3f}", flush=True)
    return table


# ---------------------------------------------------------------- the whole command


def runs_part(parts: Sequence[str], quick: bool) -> dict[str, Any]:
    """Whole runs with several numbers of folds (of one model) and of models (on two folds), one worker at a time."""
    sizes = {"folds": FOLDS[: 2 if quick else 3], "models": MODELS[: 2 if quick else 3]}
    cases = {
        part: [(size, 1) if part == "folds" else (FOLDS[0], size) for size in sizes[part]] for part in parts
    }  # as (folds, models)
    wanted = list(dict.fromkeys(case for part in parts for case in cases[part]))
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        project(root)
        variants = {str(case): partial(whole_run, root, *case) for case in wanted}
        if not quick:
            whole_run(root, *wanted[0])  # the first reads libraries from the disk and measures the machine
        seconds = alternate(variants, 1, warm_up=False)
    results: dict[str, Any] = {}
    for part in parts:
        print(f"\n{part:>8} {'s in all':>9} {'in training':>12} {'around it':>10}")
        table = []
        for size, case in zip(sizes[part], cases[part], strict=True):
            whole, training = seconds[str(case)][0]
            table.append({part: size, "seconds": whole, "training": training, "around": whole - training})
            print(f"{size:8} {whole:9.2f} {training:12.2f} {whole - training:10.2f}")
        each, fixed = np.polyfit([row[part] for row in table], [row["around"] for row in table], 1)
        results[part] = {"table": table, "fixed": float(fixed), "around_each": float(each)}
        print(f"around the training: {fixed:.1f} s fixed and {each:.1f} s for each of the {part}", flush=True)
    return results


def project(root: Path) -> None:
    """A project with the Mars competition, made-up data for it, and as many recipes as are wanted at most."""
    (root / "configs" / "competitions").mkdir(parents=True)
    shutil.copy(ROOT / "configs" / "competitions" / "mars.yaml", root / "configs" / "competitions")
    raw = recipe("residual_unet", *NARROW).model_dump(mode="json", exclude={"name"})
    for number in range(max(MODELS)):
        # not quite alike, as recipes are
        changed = raw | {"net": raw["net"] | {"dropout": number / 100}}
        write_yaml(root / "configs" / "models" / f"model{number}.yaml", changed)
    write_sample("mars", root / "data" / "mars" / "mars_for_students.npz", rows=120, outliers=4, test_rows=48)


def whole_run(root: Path, folds: int, models: int) -> tuple[float, float]:
    """Seconds of ``podium run`` with nothing done before, and those of them that its trainings took."""
    for made in ("runs/mars-sample", "folds", "submissions"):
        shutil.rmtree(root / made, ignore_errors=True)
    names = ",".join(f"model{number}" for number in range(models))
    settings = ["--set", "train.epochs=2", "--set", f"folds.count={folds}", "--workers", "1"]
    command = [sys.executable, "-m", "podium", "run", "mars", "--models", names, *settings, "--json"]
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=root, env=environment(root), capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise SystemExit(f"{' '.join(command[1:])} ended with exit code {done.returncode}:\n{done.stderr}")
    records = sorted((root / "runs" / "mars-sample").glob("*/fold*/done.json"))
    if len(records) != folds * models:
        raise SystemExit(f"{len(records)} trainings were done where {folds} folds of {models} models were asked for")
    return seconds, sum(json.loads(path.read_text())["result"]["seconds"] for path in records)


def environment(root: Path) -> dict[str, str]:
    """This environment without what would lead the command to other data or to Kaggle."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PODIUM_", "KAGGLE_"))}
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    return kept | {"PODIUM_ROOT": str(root), "HOME": str(root), "PYTHONPATH": os.pathsep.join(filter(None, paths))}


if __name__ == "__main__":
    start(main)
