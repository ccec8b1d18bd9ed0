"""How fast each recipe runs on this machine: what was measured, where it is kept, and what follows from it.

Measured once per machine and kept in runs/machine.json, so that the same command makes the same plan again. It is state of
the machine: recorded with results, never part of what identifies them.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from podium.config import Competition, Recipe
from podium.cores import cores, gpus, processor
from podium.jobs import Site
from podium.store import Key, read_json, write_json

GAIN = 1.03
"""How much faster several workers must be than one before they are the default: less is within the noise."""
ROOM = 0.7
"""Share of a device's memory that workers side by side may take together by plan."""


@dataclass(frozen=True)
class Compiled:
    """The same with torch.compile: images per second, and the seconds that compiling takes."""

    train: float
    train_seconds: float
    predict: float
    predict_seconds: float


@dataclass(frozen=True)
class Speeds:
    """What one worker does in a second. A worker is a process with its share of a device.

    precision: the one that was fastest. micro_batch: images that memory has room for at once, None where it is the batch.
    train: images trained per second by each worker, by the number of workers on one device. predict: images predicted, with
    all their views, by one worker alone. memory: bytes of the device (on a CPU, of main memory) that a worker takes beside
    its training images. capacity: all bytes of that device. compiled: None where it was not tried. tried: numbers of workers
    that were measured, also those that failed.
    """

    precision: str
    micro_batch: int | None
    train: Mapping[int, float]
    predict: float
    memory: int
    capacity: int
    compiled: Compiled | None = None
    tried: tuple[int, ...] = ()

    def rate(self, workers: int, devices: int = 1) -> float:
        """Images trained per second by each of ``workers``, spread over the devices; of the next larger number measured."""
        on_one = -(-workers // devices)
        known = [count for count in self.train if count >= on_one]
        if known:
            return self.train[min(known)]
        most = max(self.train)
        return self.train[most] * most / on_one  # a machine that is full shares what it has


@dataclass(frozen=True)
class Notes:
    """runs/machine.json: what has been measured, by key."""

    path: Path
    known: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Notes:
        """What was kept; an empty book where there is none."""
        return cls(path, read_json(path) or {})

    def get(self, key: Key) -> Speeds | None:
        """What is known of a recipe, None if nothing (or something that an older version wrote)."""
        raw = self.known.get(key.hash)
        if not isinstance(raw, dict) or "train" not in raw:
            return None
        train = {int(count): rate for count, rate in raw["train"].items()}
        compiled = Compiled(**raw["compiled"]) if raw["compiled"] else None
        return Speeds(**(raw | {"train": train, "compiled": compiled, "tried": tuple(raw["tried"])}))

    def put(self, key: Key, speeds: Speeds) -> Speeds:
        """Keep it, joined with what was known: rates of further numbers of workers in proportion to that of one."""
        old = self.get(key)
        if old is not None:
            scale = old.train[1] / speeds.train[1]
            more = {count: round(rate * scale, 1) for count, rate in speeds.train.items()}
            speeds = replace(old, train=more | dict(old.train), tried=tuple(sorted({*old.tried, *speeds.tried})))
        self.known[key.hash] = asdict(speeds)
        write_json(self.path, self.known)
        return speeds


def key_of(competition: Competition, recipe: Recipe, shape: Sequence[int], site: Site) -> Key:
    """What speeds depend on: the net and its input (channels, height, width), and the machine as it is to be used."""
    what = {
        "net": recipe.net.model_dump(mode="json"),
        "batch": recipe.train.batch,
        "task": competition.task,
        "shape": list(shape),
        "views": len(recipe.predict.views),
        "per_image": [step.model_dump(mode="json") for step in recipe.augment.per_image],
    }
    where = {
        "device": site.device,
        "precision": site.precision,
        "source": site.source,
        "threads": site.threads,
        "compile": site.compile,
        "cores": cores(),
        "processor": processor(),
        "gpus": len(gpus()),
        "system": platform.system(),
    }
    return Key("speeds", 1, what | where)


def counts_to_try(jobs: int, site: Site) -> tuple[int, ...]:
    """Numbers of workers on one device that are worth measuring: powers of two, no more than jobs or cores to feed them."""
    most = min(-(-jobs // devices(site)), cores() // (site.threads or 1), 8)
    return tuple(2**power for power in range(1, max(1, most).bit_length()) if 2**power <= most)


def devices(site: Site) -> int:
    """How many devices there are to spread workers over: GPUs, unless one of them or the CPU is asked for."""
    return max(1, len(gpus())) if site.device in ("auto", "cuda") else 1


def pick_workers(
    speeds: Sequence[Speeds], jobs: int, device_count: int, images: int, last_alone_is_faster: bool = True
) -> int:
    """How many workers finish ``jobs`` equal trainings soonest, as far as memory goes.

    Trainings end together, so what counts is the number of rounds times the time of one. images: bytes of training images
    that each worker keeps. last_alone_is_faster: a training that is left over has the machine for itself; not with a budget,
    since all are given the same, and not where recipes differ and rounds do not end together.
    """

    def fits(workers: int) -> bool:
        on_one = -(-workers // device_count)
        measured = all(on_one in one.train for one in speeds)
        return measured and all(on_one * (one.memory + images) < ROOM * one.capacity for one in speeds)

    def time(workers: int) -> float:
        rounds, left = divmod(jobs, workers)
        alone = left == 1 and last_alone_is_faster
        last = 1 if alone else workers
        return sum(
            rounds / one.rate(workers, device_count) + (1 / one.rate(last, device_count) if left else 0.0)
            for one in speeds
        )

    best = 1
    counts = {device_count * count for one in speeds for count in one.train} | set(range(1, device_count + 1))
    for workers in sorted(counts):
        if workers <= jobs and fits(workers) and time(workers) * GAIN < time(best):
            best = workers
    return best


def compiling_pays(speeds: Speeds, trained: float | None, seconds: float | None) -> bool:
    """Whether a training is better off compiled: ``trained`` images long, or ``seconds``."""
    made = speeds.compiled
    if made is None:
        return False
    if seconds is not None:
        return (seconds - made.train_seconds) * made.train > seconds * speeds.rate(1)
    assert trained is not None
    return trained / made.train + made.train_seconds < trained / speeds.rate(1)


def compiling_prediction_pays(speeds: Speeds, images: float, nets: int) -> bool:
    """Whether a prediction of ``images`` by each of ``nets`` is better off compiled; every net is compiled for itself."""
    made = speeds.compiled
    if made is None:
        return False
    return nets * (images / made.predict + made.predict_seconds) < nets * images / speeds.predict
