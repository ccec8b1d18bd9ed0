"""The search for near duplicates: seconds, memory and what it finds among made-up pictures with planted copies.

    python bench/audit.py [--sizes 12500,25000,50000,100000] [--side 96] [--quick] [--out bench/out/audit.json]

Pictures are cells of random shape and colour before clouds of noise, RGB; every tenth row is a copy of another row:
recompressed (JPEG of quality 50 to 90), a tenth brighter or darker, shifted by two pixels with other content moving in,
flipped or turned. Each size runs in a process of its own; memory is the peak above the array of pictures. Seconds per
picture should hardly grow with the number of pictures.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from _machine import measure, print_ratios, ratio, start, title, write_results

from podium.audit.near import near_duplicates
from podium.data.ragged import Ragged

NEEDS = ("memory_gb", 5)
KINDS = ("jpeg", "brightness", "shift", "flip", "turn")
COPIES = 10
"""Every so many rows there is a copy."""
BLOCK = 1000
TARGET_SECONDS, TARGET_GB, TARGET_FOUND, TARGET_WRONG = 600.0, 16.0, 0.95, 0.001
TARGET_ROWS = 100_000


def pictures(rows: int, side: int) -> tuple[Ragged, list[tuple[str, int, int]]]:
    """Rows of (3, side, side) uint8, and the planted copies as (kind, row, row of the original)."""
    stack = np.empty((rows, 3, side, side), np.uint8)
    for first in range(0, rows, BLOCK):
        stop = min(first + BLOCK, rows)
        stack[first:stop] = cells(np.random.default_rng([side, first]), stop - first, side)
    rng = np.random.default_rng(rows)
    order = rng.permutation(rows)
    count = rows // COPIES
    planted = []
    for number, (row, original) in enumerate(zip(order[:count], order[count : 2 * count], strict=True)):
        kind = KINDS[number % len(KINDS)]
        stack[row] = copy(rng, kind, stack[original], stack[row])
        planted.append((kind, int(row), int(original)))
    return Ragged.stack(stack, np.arange(rows).astype(str)), planted


def cells(rng: np.random.Generator, count: int, side: int) -> np.ndarray:
    """uint8 (count, 3, side, side): a textured ellipse before a cloudy ground."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    frequency[0, 0] = np.inf
    white = rng.standard_normal((count, 2, side, side), np.float32)
    clouds = np.fft.irfft2(np.fft.rfft2(white) / frequency**1.2, (side, side)).astype(np.float32)
    clouds /= clouds.std(axis=(2, 3), keepdims=True)
    place = (np.arange(side, dtype=np.float32) / side - 0.5)[None]
    y, x = place[:, :, None], place[:, None, :]

    def between(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, (count, 1, 1)).astype(np.float32)

    angle, top, left = between(0, np.pi), between(-0.15, 0.15), between(-0.15, 0.15)
    along = (x - left) * np.cos(angle) + (y - top) * np.sin(angle)
    beside = (y - top) * np.cos(angle) - (x - left) * np.sin(angle)
    inside = 0.5 - 0.5 * np.tanh(15 * (np.hypot(along / between(0.15, 0.35), beside / between(0.15, 0.35)) - 1))
    ground = (rng.uniform(150, 230, (count, 3)).astype(np.float32))[:, :, None, None] + 12 * clouds[:, :1]
    cell = (rng.uniform(60, 170, (count, 3)).astype(np.float32))[:, :, None, None] + 20 * clouds[:, 1:]
    image = ground + inside[:, None] * (cell - ground) + rng.normal(0, 2, (count, 1, side, side)).astype(np.float32)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def copy(rng: np.random.Generator, kind: str, image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """A copy (3, H, H) of an image; what moves in at a shift comes from ``other``."""
    if kind == "jpeg":
        quality = int(rng.integers(50, 91))
        _, coded = cv2.imencode(".jpg", image.transpose(1, 2, 0)[..., ::-1].copy(), [cv2.IMWRITE_JPEG_QUALITY, quality])
        return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)[..., ::-1].transpose(2, 0, 1)
    if kind == "brightness":
        return np.clip(np.rint(image * rng.choice([0.9, 1.1])), 0, 255).astype(np.uint8)
    if kind == "shift":
        down, right = rng.choice([-2, 2], 2).tolist()
        out = other.copy()
        out[:, _to(down), _to(right)] = image[:, _to(-down), _to(-right)]
        return out
    if kind == "flip":
        return np.flip(image, int(rng.integers(1, 3)))
    return np.rot90(image, int(rng.integers(1, 4)), (1, 2))


def _to(shift: int) -> slice:
    """Where what stays inside the picture lies after a shift."""
    return slice(shift, None) if shift > 0 else slice(None, shift)


def search(given: tuple[Ragged, list[tuple[str, int, int]]], *_: object) -> dict[str, Any]:
    """Search and judge: share found of each kind, and share of the different pictures in a wrong group."""
    images, planted = given
    groups = near_duplicates(images).groups
    found, total = Counter[str](), Counter[str]()
    original = np.arange(len(images))
    for kind, row, source in planted:
        total[kind] += 1
        found[kind] += int(groups[row] == groups[source])
        original[row] = source
    sources: defaultdict[int, set[int]] = defaultdict(set)
    for group, source in zip(groups.tolist(), original.tolist(), strict=True):
        sources[group].add(source)
    wrong = sum(len(members) for members in sources.values() if len(members) > 1)
    return {
        "found": {kind: found[kind] / total[kind] for kind in total},
        "wrong": wrong / len(set(original.tolist())),
    }


def main() -> None:
    """Measure every size, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", default="12500,25000,50000,100000", help="numbers of pictures, with commas")
    parser.add_argument("--quick", action="store_true", help="1,500 and 3,000 pictures")
    parser.add_argument("--side", type=int, default=96, help="height and width in pixels")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "audit.json")
    options = parser.parse_args()
    sizes = "1500,3000" if options.quick else options.sizes
    print(f"{title()}; RGB pictures of {options.side}x{options.side}")
    header = "".join(f"{kind:>11}" for kind in KINDS)
    print(f"{'rows':>8} {'seconds':>8} {'ms each':>8} {'array MB':>9} {'MB above':>9}{header} {'wrong':>8}")
    table = []
    for rows in (int(size) for size in sizes.split(",")):
        run = measure(search, rows, options.side, prepare=pictures)
        row = {
            "rows": rows,
            "seconds": run.seconds,
            "ms_each": 1000 * run.seconds / rows,
            "array_mb": rows * 3 * options.side**2 / 1e6,
            "peak_mb": run.peak_mb,
            **run.value,
        }
        table.append(row)
        shares = "".join(f"{run.value['found'][kind]:11.2%}" for kind in KINDS)
        print(
            f"{rows:8,} {row['seconds']:8.1f} {row['ms_each']:8.3f} {row['array_mb']:9.0f} {row['peak_mb']:9.0f}"
            f"{shares} {row['wrong']:8.3%}",
            flush=True,
        )
    largest = max(table, key=lambda row: row["rows"])
    whole = largest["rows"] >= TARGET_ROWS
    gigabytes = (largest["array_mb"] + largest["peak_mb"]) / 1000
    ratios = [
        ratio(
            "share of copies found, worst kind", min(min(row["found"].values()) for row in table), (">=", TARGET_FOUND)
        ),
        ratio("share of others in a wrong group", max(row["wrong"] for row in table), ("<=", TARGET_WRONG)),
        ratio(f"seconds for {TARGET_ROWS:,}", largest["seconds"] if whole else None, ("<", TARGET_SECONDS)),
        ratio(f"GB for {TARGET_ROWS:,}", gigabytes if whole else None, ("<", TARGET_GB)),
    ]
    print_ratios(ratios)
    write_results(options.out, {"side": options.side, "table": table}, ratios)


if __name__ == "__main__":
    start(main)
