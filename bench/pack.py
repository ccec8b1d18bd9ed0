"""Packing a Mars-sized submission: seconds and memory of podium's writer, of the whole packing, of pandas and polars.

    python bench/pack.py [--rows 10022] [--quick] [--out bench/out/pack.json]

Each measurement runs in a process of its own; memory is the peak above the array of labels. The writer flushes to the
disk; packing writes, flushes, reads back, compares every value with what was meant, and hashes. pandas and polars only
write; polars is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import filecmp
import statistics
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from _machine import Measured, measure, print_ratios, ratio, start, title, write_results

from podium.config import Competition
from podium.data.ragged import Ragged
from podium.submission import wide_csv
from podium.submission.pack import pack

NEEDS = ("memory_gb", 1)
HEIGHT, WIDTH = 64, 128
ROWS = 10022
"""Test images of Mars; what is wanted, is wanted of so many."""
TARGET_SECONDS, TARGET_MB = 2.0, 200.0
MARS = Competition.model_validate(
    {
        "name": "mars",
        "task": "segmentation",
        "data": {"format": "npz", "file": "-", "train": {"key": "-", "target": 1}, "test": {"key": "-"}},
        "classes": ["background", "soil", "bedrock", "sand", "big_rock"],
        "unscored": "background",
        "metric": {"name": "mean_iou"},
        "submission": {"format": "wide_csv"},
        "models": ["none"],
    }
)


def labels(rows: int, *_: object) -> Ragged:
    """Random labels 1 to 4."""
    values = np.random.default_rng(0).integers(1, 5, (rows, 1, HEIGHT, WIDTH), np.uint8)
    return Ragged.stack(values, np.arange(rows).astype(str))


def labels_and_pandas(rows: int, *_: object) -> Ragged:
    """The same, with pandas loaded before the clock starts."""
    import pandas  # noqa: F401

    return labels(rows)


def podium_write(given: Ragged, rows: int, folder: Path) -> Path:
    """The writer alone, flushed to the disk."""
    path = folder / "podium.csv"
    wide_csv.write(path, given, MARS)
    return path


def podium_pack(given: Ragged, rows: int, folder: Path) -> Path:
    """The whole: write, flush, read back and compare, hash, name, ledger."""
    return pack(folder, MARS, "bench", given, np.arange(rows).astype(str), given.shapes).path


def pandas_write(given: Ragged, rows: int, folder: Path) -> Path:
    """What one would write by hand."""
    import pandas

    frame = pandas.DataFrame(given.stacked.reshape(rows, -1))
    frame.insert(0, "id", given.ids)
    frame.to_csv(folder / "pandas.csv", index=False)
    return folder / "pandas.csv"


def labels_and_polars(rows: int, *_: object) -> Ragged:
    """The same, with polars loaded."""
    import polars  # noqa: F401

    return labels(rows)


def polars_write(given: Ragged, rows: int, folder: Path) -> Path:
    """What one would write by hand where pandas is too slow."""
    import polars

    matrix = given.stacked.reshape(rows, -1)
    frame = polars.DataFrame(matrix, schema=[str(column) for column in range(matrix.shape[1])], orient="row")
    frame.insert_column(0, polars.Series("id", given.ids.tolist())).write_csv(folder / "polars.csv")
    return folder / "polars.csv"


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, each measured once")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "pack.json")
    options = parser.parse_args()
    runs = 1 if options.quick else 3
    options.rows = options.rows // 10 if options.quick else options.rows
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.out.parent) as name:
        folder = Path(name)
        writes = [measure(podium_write, options.rows, folder, prepare=labels) for _ in range(runs)]
        packs = []
        for _ in range(runs):
            packs.append(measure(podium_pack, options.rows, folder, prepare=labels))
            packs[-1].value.unlink()
        by_pandas = measure(pandas_write, options.rows, folder, prepare=labels_and_pandas)
        by_polars = None
        if find_spec("polars"):
            by_polars = measure(polars_write, options.rows, folder, prepare=labels_and_polars)
        ours = writes[-1].value
        others = [each.value for each in (by_pandas, by_polars) if each is not None]
        identical = all(filecmp.cmp(ours, other, shallow=False) for other in others)
        megabytes = ours.stat().st_size / 1e6
    rows = [
        _row("podium write", writes),
        _row("podium pack (write and read back)", packs),
        _row("pandas to_csv", [by_pandas]),
        *([_row("polars write_csv", [by_polars])] if by_polars else []),
    ]
    array = options.rows * HEIGHT * WIDTH / 1e6
    print(title())
    print(f"{options.rows:,} rows of {HEIGHT}x{WIDTH}, {megabytes:.0f} MB of csv, array {array:.0f} MB")
    print(f"{'':34} {'seconds':>8} {'MB above array':>15}")
    for row in rows:
        print(f"{row['name']:34} {row['seconds']:8.2f} {row['peak_mb']:15.1f}")
    print(f"the same bytes as the others: {'yes' if identical else 'NO'}")
    whole = options.rows >= ROWS
    ratios = [
        ratio("packing Mars, seconds", rows[1]["seconds"] if whole else None, ("<", TARGET_SECONDS)),
        ratio("packing Mars, MB above the array", rows[1]["peak_mb"] if whole else None, ("<", TARGET_MB)),
        ratio("pandas / packing, seconds", rows[2]["seconds"] / rows[1]["seconds"]),
        ratio("polars / writing, seconds", rows[3]["seconds"] / rows[0]["seconds"] if by_polars else None),
    ]
    print_ratios(ratios)
    facts = {"rows": options.rows, "file_mb": megabytes, "identical": identical, "table": rows}
    write_results(options.out, facts, ratios)
    if not identical:
        raise SystemExit("podium's file differs from the others'")


def _row(name: str, runs: list[Measured]) -> dict[str, Any]:
    return {
        "name": name,
        "seconds": statistics.median(run.seconds for run in runs),
        "all_seconds": [run.seconds for run in runs],
        "peak_mb": max(run.peak_mb for run in runs),
    }


if __name__ == "__main__":
    start(main)
