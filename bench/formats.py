"""Packing in every submission format: seconds and memory of writing, reading back and comparing, and the file's size.

    python bench/formats.py [--rows 2000] [--quick] [--out bench/out/formats.json]

Masks of 64x128 with four classes in smooth patches, and labels and probabilities of fifty times as many images. Each format
runs in a process of its own; memory is the peak above the array of predictions.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _machine import measure, start, title, write_results
from pydantic import TypeAdapter

from podium.config import Competition
from podium.config_submission import AnySubmission
from podium.data.ragged import Ragged
from podium.submission.pack import pack

NEEDS = ("memory_gb", 2)
ROWS = 2000
HEIGHT, WIDTH = 64, 128
CLASSES = ["soil", "bedrock", "sand", "big_rock"]
TIMES = 50
FORMATS: list[tuple[str, str, dict[str, Any]]] = [
    ("segmentation", "wide_csv", {}),
    ("segmentation", "wide_csv, gzip", {"compress": "gzip"}),
    ("segmentation", "rle_csv, per class", {"per": "class"}),
    ("segmentation", "rle_csv, per object", {"per": "object", "name": "{id}_{class}"}),
    ("segmentation", "png_zip", {"values": {name: 60 * k for k, name in enumerate(CLASSES)}}),
    ("segmentation", "npy", {}),
    ("segmentation", "npz", {}),
    ("segmentation", "npz, probabilities", {"of": "probabilities", "dtype": "float16"}),
    ("classification", "label_csv", {}),
    ("classification", "probability_csv", {}),
]


def made_for(task: str, name: str, options: dict[str, Any]) -> Competition:
    """A competition that asks for one format."""
    submission: AnySubmission = TypeAdapter(AnySubmission).validate_python({"format": name.split(",")[0], **options})
    raw = {
        "name": "made",
        "task": task,
        "data": {"format": "npz", "file": "-", "train": {"key": "-", "target": 1}, "test": {"key": "-"}},
        "classes": CLASSES,
        "metric": {"name": "mean_iou" if task == "segmentation" else "accuracy"},
        "models": ["none"],
    }
    return Competition.model_validate(raw).model_copy(update={"submission": submission})


def predictions(given: Competition, rows: int, *_: object) -> Ragged:
    """Made up: patches eight pixels wide, or random labels."""
    from scipy import ndimage

    rng = np.random.default_rng(0)
    assert given.submission is not None
    probable = given.submission.needs == "probabilities"
    if not given.masks:
        rows *= TIMES
        values = rng.random((rows, len(CLASSES), 1, 1), np.float32)
        labels = values.argmax(1, keepdims=True).astype(np.uint8)
        stack = values / values.sum(1, keepdims=True) if probable else labels
    else:
        coarse = rng.random((64, len(CLASSES), HEIGHT, WIDTH), np.float32)
        smooth = ndimage.uniform_filter(coarse, (0, 0, 9, 9))
        chosen = rng.integers(0, len(smooth), rows)
        shares, labels = smooth / smooth.sum(1, keepdims=True), smooth.argmax(1)[:, None].astype(np.uint8)
        stack = (shares if probable else labels)[chosen]
    return Ragged.stack(stack, np.arange(rows).astype(str))


def packed(given: Ragged, competition: Competition, rows: int, folder: Path) -> Path:
    """The whole: write, flush, read back and compare, hash, name, ledger."""
    return pack(folder, competition, "bench", given, given.ids, given.shapes).path


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the rows")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "formats.json")
    options = parser.parse_args()
    rows = max(20, options.rows // 20) if options.quick else options.rows
    options.out.parent.mkdir(parents=True, exist_ok=True)
    print(title())
    print(f"{rows:,} masks of {HEIGHT}x{WIDTH}, {rows * TIMES:,} labels")
    print(f"{'':24} {'seconds':>8} {'MB above array':>15} {'MB of file':>11}")
    table = []
    with tempfile.TemporaryDirectory(dir=options.out.parent) as name:
        for task, called, more in FORMATS:
            competition = made_for(task, called, more)
            done = measure(packed, competition, rows, Path(name), prepare=predictions)
            row = {"name": called, "seconds": done.seconds, "peak_mb": done.peak_mb}
            row["file_mb"] = done.value.stat().st_size / 1e6
            done.value.unlink()
            table.append(row)
            print(f"{called:24} {row['seconds']:8.2f} {row['peak_mb']:15.1f} {row['file_mb']:11.2f}", flush=True)
    write_results(options.out, {"rows": rows, "labels": rows * TIMES, "table": table}, [])


if __name__ == "__main__":
    start(main)
