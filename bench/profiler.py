"""Where the time of a training step goes, by kind of operation, from torch's profiler on the device at hand.

    python bench/profiler.py [--data DIR] [--recipe residual_unet] [--picture FILE.png] [--quick] [--out bench/out/profiler.json]

Whole epochs of podium's loop without torch.compile: batch, augmentation, step, average. On a CPU the time is that of the
thread that calls the operations; on a GPU it is what the kernels take, and what is left of the wall clock is "nothing to
do". Control: the same steps without the profiler, whose seconds per step are printed beside the profiled ones, since
profiling slows small operations down. --picture draws the bars (needs matplotlib).
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # before torch: its profiler complains where there is no GPU

import torch
from _data import Given, given, recipe
from _machine import ratio, start, title, write_results
from _training import epoch_seconds, machine_here, make_source, make_trainer
from torch.profiler import ProfilerActivity, profile, record_function

from podium.config import Recipe
from podium.errors import UserError
from podium.training.source import Batch, Source

NEEDS = ()
DATA, AVERAGE, OPTIMISER, OTHER, IDLE = "data and augmentation", "average", "optimiser", "other", "nothing to do"
LABEL = "bench: "
"""Before the names of the phases that are marked here; only they and the optimiser's own mark say more than an operation."""
KINDS = {
    "casts and copies": r"aten::(copy_|to|_to_copy|contiguous|clone)$|ToCopyBackward|Memcpy",
    "convolution, backward": r"convolution_backward|ConvolutionBackward",
    "convolution, forward": r"aten::\w*conv(olution|\d)",
    "batch norm": r"batch_norm|BatchNorm",
    "activation": r"relu|Relu|threshold_backward|clamp_min|[sS]ilu|[gG]elu|[sS]igmoid",
    "loss": r"cross_entropy|log_softmax|LogSoftmax|nll_loss|NllLoss",
    "matrix products": r"aten::(addmm|mm|bmm|linear|matmul)$|(Addmm|Mm|Bmm)Backward",
    "additions": r"aten::(add|cat)_?\b|(Add|Cat)Backward",
    "pooling, enlarging, dropout": r"aten::(mul|div|fill|bernoulli|zero)_?\b|pool|upsample|Upsample|dropout|(Mul|Div)Backward",
    OPTIMISER: r"linalg_vector_norm|AccumulateGrad",
}
"""Kind → what names its operations have; the first that fits counts, the innermost operation before those around it."""


def main() -> None:
    """Profile, print a table, write JSON, draw where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, help="folder of the competition's data; default: the usual places, else the sample"
    )
    parser.add_argument("--competition", default="mars")
    parser.add_argument("--recipe", default="residual_unet")
    parser.add_argument("--steps", type=int, default=20, help="steps that are profiled")
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="draw the bars")
    parser.add_argument("--quick", action="store_true", help="4 steps")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "profiler.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        steps = 4 if args.quick else args.steps
        measure(given(args.competition, args.data, Path(cache)), recipe(args.recipe), steps, args.out, args.picture)


def measure(found: Given, chosen: Recipe, steps: int, out: Path, picture: Path | None) -> None:
    """Time the steps without and with the profiler, sort what it saw, print and write."""
    machine = machine_here()
    images = steps * chosen.train.batch
    source = make_source(found.dataset.train, images, found.fit, found.competition, chosen, machine, None)
    trainer = make_trainer(found.competition, chosen, source, machine)
    epoch_seconds(trainer, source, chosen, 0)
    bare = epoch_seconds(trainer, source, chosen, 1)
    cuda = machine.torch_device.type == "cuda"
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if cuda else [])
    with marked(source, trainer), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Warning: Profiler clears events")  # there is one cycle only
        with profile(activities=activities) as seen:
            profiled = epoch_seconds(trainer, source, chosen, 2)
    micros, largest = sort(seen.events(), cuda)
    if cuda:
        micros[IDLE] = max(0.0, profiled * 1e6 - sum(micros.values()))
    total = sum(micros.values())
    shares = {kind: time / total for kind, time in _falling(micros).items()}
    height, width = source.shape[1:]
    what = f"{chosen.name}, batch {chosen.train.batch} of {height}×{width}, {machine.precision}"
    print(f"{title()}; {what}")
    print(f"{1000 * bare / steps:.1f} ms per step, {1000 * profiled / steps:.1f} with the profiler")
    for kind, share in shares.items():
        print(f"{share:7.1%}  {kind}")
    print("largest under 'other':", ", ".join(f"{name} {time / total:.1%}" for name, time in list(largest.items())[:3]))
    facts = {
        "data": found.origin.name,
        "recipe": chosen.name,
        "machine": machine.describe(),
        "steps": steps,
        "ms_per_step": 1000 * bare / steps,
        "ms_per_step_profiled": 1000 * profiled / steps,
        "shares": shares,
    }
    write_results(out, facts, [ratio(f"{kind}, share of a step", shares.get(kind, 0.0)) for kind in (DATA, OPTIMISER)])
    if picture is not None:
        speed = f"{1000 * bare / steps:.0f} ms per step"
        draw(picture, shares, f"Where the time of a training step goes: {what}\n{title()}; {speed}")


@contextmanager
def marked(source: Source, trainer: Any) -> Iterator[None]:
    """Within, the profiler sees which operations make batches and which keep the average."""
    epoch, update = source.epoch, trainer.average.update

    def marked_epoch(*arguments: Any) -> Iterator[Batch]:
        batches = epoch(*arguments)
        while True:
            with record_function(LABEL + DATA):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def marked_update(*arguments: Any) -> None:
        with record_function(LABEL + AVERAGE):
            update(*arguments)

    vars(source)["epoch"], vars(trainer.average)["update"] = marked_epoch, marked_update
    try:
        yield
    finally:
        del vars(source)["epoch"], vars(trainer.average)["update"]


def sort(events: Any, cuda: bool) -> tuple[dict[str, float], dict[str, float]]:
    """Microseconds by kind, and those under "other" by operation: each operation's own time, without what it calls."""
    micros: defaultdict[str, float] = defaultdict(float)
    largest: defaultdict[str, float] = defaultdict(float)
    for event in events:
        if event.device_type != torch.autograd.DeviceType.CPU:
            continue  # a kernel; its time is also that of the operation which launched it
        own = float(event.self_device_time_total if cuda else event.self_cpu_time_total)
        names = [event.name]
        around = event.cpu_parent
        while around is not None:
            names.append(around.name)
            around = around.cpu_parent
        kind = kind_of(names)
        micros[kind] += own
        if kind == OTHER:
            largest[event.name] += own
    return _falling(micros), _falling(largest)


def _falling(times: dict[str, float]) -> dict[str, float]:
    return dict(sorted(((name, time) for name, time in times.items() if time > 0), key=lambda item: -item[1]))


def kind_of(names: list[str]) -> str:
    """The kind of an operation; names: its own and those of the operations around it, from the inside out."""
    for name in names:
        if name.startswith(LABEL):
            return name.removeprefix(LABEL)
    # clipping and the fused optimiser are the ones that work on all tensors at once
    if any(name.startswith(("Optimizer.", "aten::_foreach")) for name in names):
        return OPTIMISER
    for name in names:
        for kind, pattern in KINDS.items():
            if re.search(pattern, name):
                return kind
    return OTHER


def draw(path: Path, shares: dict[str, float], heading: str) -> None:
    """Horizontal bars, the longest on top."""
    try:
        import matplotlib
    except ImportError:
        raise UserError("--picture: needs matplotlib; install it, or leave the option out") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    kinds = list(shares)[::-1]
    figure, axes = pyplot.subplots(figsize=(9, 0.38 * len(kinds) + 1.4), layout="constrained")
    bars = axes.barh(kinds, [100 * shares[kind] for kind in kinds], color="#4477aa")
    axes.bar_label(bars, [f"{shares[kind]:.1%}" for kind in kinds], padding=3)
    figure.suptitle(heading, fontsize=11, x=0.01, ha="left")
    axes.set_xlabel("% of the time")
    axes.set_xlim(0, 112 * max(shares.values()))
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    print(f"picture: {path}")


if __name__ == "__main__":
    start(main)
