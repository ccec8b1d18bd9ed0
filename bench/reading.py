"""Reading: the competitions' own files for the first time and from the decoded copy, against numpy, Pillow and pandas.

    python bench/reading.py [--data DIR] [--competitions mars,blood] [--quick] [--out bench/out/reading.json]

Every competition of configs/competitions whose files are found is read; of the others the built-in sample where there is
one. "first" is what a first start does: hash, read, check, pair images with targets, write the decoded copy. "again" is
every later start: hash and open the copy. Both then add up all pixels, so that memory-mapped ones are really read. Control:
``np.load``, Pillow or ``pandas.read_csv`` straight to uint8 arrays, added up too, without any check; it must give the same
sum. Each reading is a process of its own with its libraries loaded before the clock starts; rounds alternate, figures are
medians, memory is the peak above the level before. All files have been read just before: what counts is not the disk.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _data import competition, place
from _machine import Measured, alternate, measure, ratio, start, title, write_results

from podium.config_data import FolderData, NpzData, TableData
from podium.data.locate import Origin
from podium.data.part import Dataset
from podium.data.reading import open_dataset
from podium.errors import UserError
from podium.workspace import find_workspace

NEEDS = ()


def main() -> None:
    """Measure every competition that is there, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with a folder per competition; default: the usual places")
    parser.add_argument("--competitions", help="names, with commas; default: all whose files are found")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "reading.json")
    args = parser.parse_args()
    asked = args.competitions.split(",") if args.competitions else None
    names = asked or sorted(path.stem for path in find_workspace().competitions.glob("*.yaml"))
    table, ratios = [], []
    print(f"{title()}; seconds, and MB above the level before")
    print(
        f"{'':14} {'images':>7} {'MB':>6} {'first':>14} {'again':>14} {'plain':>14} {'plain/first':>12} {'plain/again':>12}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            try:
                origin = place(competition(name), args.data)
            except UserError:
                if asked:
                    raise
                print(f"{name}: left out, {competition(name).data.expects} is not here")
                continue
            row = compare(name, origin, Path(folder), 1 if args.quick else args.rounds)
            table.append(row)
            times = {kind: row["seconds"][kind] for kind in ("first", "again", "plain")}
            gains = {kind: times["plain"] / times[kind] for kind in ("first", "again")}
            cells = "".join(f" {times[kind]:7.2f} {row['peak_mb'][kind]:6.0f}" for kind in times)
            print(
                f"{origin.name:14} {row['images']:7,} {row['mb']:6.1f}{cells} {gains['first']:12.2f} {gains['again']:12.2f}"
            )
            ratios += [ratio(f"{origin.name}: plain / {kind}", gain) for kind, gain in gains.items()]
    if not table:
        raise UserError("no competition's files are here; name their folder with --data")
    write_results(args.out, {"table": table}, ratios)


def compare(name: str, origin: Origin, folder: Path, rounds: int) -> dict[str, Any]:
    """Seconds (medians) and MB (largest) of the three ways to read one competition."""
    kept = folder / name
    source = open_dataset(competition(name), origin.folder, kept, lambda text: None).source
    wanted = _sum(source)
    caches = (folder / f"{name}-{number}" for number in range(rounds))
    variants: dict[str, Callable[[], Measured]] = {
        "first": lambda: measure(ours, name, origin.folder, next(caches), prepare=load_ours),
        "again": partial(measure, ours, name, origin.folder, kept, prepare=load_ours),
        "plain": partial(measure, plain, name, origin.folder, prepare=load_plain),
    }
    found = alternate(variants, rounds, warm_up=False)
    for kind, runs in found.items():
        if any(run.value != wanted for run in runs):
            raise SystemExit(f"{name}: '{kind}' read other pixels than the decoded copy holds")
    return {
        "name": origin.name,
        "images": sum(len(part) for part in source.parts),
        "mb": sum(part.images.values.nbytes for part in source.parts) / 1e6,
        "seconds": {kind: statistics.median(run.seconds for run in runs) for kind, runs in found.items()},
        "all_seconds": {kind: [run.seconds for run in runs] for kind, runs in found.items()},
        "peak_mb": {kind: max(run.peak_mb for run in runs) for kind, runs in found.items()},
    }


def load_ours(name: str, *_: object) -> None:
    """What a start has loaded by the time it reads."""
    import cv2  # noqa: F401

    import podium.data.folder
    import podium.data.npz
    import podium.data.table  # noqa: F401


def ours(_: None, name: str, folder: Path, cache: Path) -> int:
    """The sum of all pixels, through podium's reader and its decoded copy."""
    return _sum(open_dataset(competition(name), folder, cache, lambda text: None).source)


def load_plain(name: str, *_: object) -> None:
    """The libraries of the control."""
    import pandas  # noqa: F401
    import PIL.Image  # noqa: F401


def plain(_: None, name: str, folder: Path) -> int:
    """The sum of all pixels, read as one writes it by hand; targets are read too."""
    data = competition(name).data
    if isinstance(data, NpzData):
        images, targets = _plain_npz(data, folder)
    elif isinstance(data, FolderData):
        images, targets = _plain_folder(data, folder)
    else:
        images, targets = _plain_table(data, folder)
    assert len(targets)
    return sum(int(image.sum(dtype=np.int64)) for image in images)


def _plain_npz(data: NpzData, folder: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    file = np.load(folder / data.file)
    arrays = {key: file[key] for key in file.files}

    def take(role: Any) -> np.ndarray:
        values = arrays[role.key]
        if role.index is not None:
            values = values[:, role.index]
        elif role.slice is not None:
            values = values[:, slice(*role.slice)]
        return np.ascontiguousarray(values.astype(np.uint8))

    images = [take(part.array("image")) for part in (data.train, data.test) if part is not None]
    return images, [take(data.train.array("target"))]


def _plain_folder(data: FolderData, folder: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    import PIL.Image

    mode = {"rgb": "RGB", "grey": "L"}.get(data.colour)

    def pictures(template: str, mode: str | None) -> list[np.ndarray]:
        pattern = template.replace("{id}", "*").replace("{class}", "*")
        opened = [PIL.Image.open(path) for path in sorted(folder.glob(pattern))]
        return [np.asarray(image.convert(mode) if mode else image) for image in opened]

    images = [image for part in (data.train, data.test) if part for image in pictures(part.image, mode)]
    return images, pictures(data.train.target or data.train.image, None)


def _plain_table(data: TableData, folder: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    import pandas

    images, targets = [], []
    for part in (data.train, data.test):
        if part is None:
            continue
        if part.pixels is None:
            raise UserError("the control reads pixels in columns only; leave this competition out with --competitions")
        path = folder / part.file
        frame = pandas.read_csv(path if path.exists() else path.with_name(f"{path.name}.gz"))
        columns = [column for column in frame.columns if column.startswith(part.pixels)]
        images.append(frame[columns].to_numpy(np.uint8))
        if part.target is not None:
            targets.append(frame[part.target].to_numpy())
    return images, targets


def _sum(dataset: Dataset) -> int:
    return sum(int(part.images.values.sum(dtype=np.int64)) for part in dataset.parts)


if __name__ == "__main__":
    start(main)
