"""A model_zip tried out as a grader would: unpacked, run in a fresh process, its answers held against podium's own."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TOLERANCE = 1e-4
"""Of probabilities; and the lead of a label below which another one is as good."""
MORE = 3
"""Images beyond a batch: the second one is then not full."""
FEW = 5
"""Images of the trials of other dtypes."""
WIDER = {
    "uint8": ("int32", "int64", "float32", "float64"),
    "uint16": ("int32", "int64", "float32", "float64"),
    "float32": ("float64",),
}
"""By dtype of the training images: others that hold the same values and that a grader might use."""
RUNNER = Path(__file__).with_name("grader.py")


@dataclass(frozen=True)
class Trial:
    """How it went. errors: sentences, none where all agreed. images: of the largest trial; its milliseconds per image.

    difference: the largest between two probabilities. memory: bytes, the most that the process had.
    """

    errors: tuple[str, ...]
    images: int = 0
    milliseconds: float = 0.0
    difference: float = 0.0
    memory: int = 0


def pick(rows: np.ndarray, batch: int) -> np.ndarray:
    """Which of the training rows a file is tried on: spread over all, one batch and a few more, again where they are few."""
    count = batch + MORE
    spread = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(np.int64)
    return np.resize(rows[spread], count)


def cases(dtype: str, count: int) -> list[tuple[str, int]]:
    """(dtype, images) of each call of ``predict``; the first is all images as they are."""
    first = [(dtype, count), (dtype, 1), (dtype, 0)]
    return first + [(wider, min(FEW, count)) for wider in WIDER[dtype]]


def run(archive: Path, images: Path, reference: Path) -> Trial:
    """Unpack a file that was just packed and let it answer. images, reference: see ``export.make``."""
    given = np.load(images, mmap_mode="r", allow_pickle=False)
    asked = cases(given.dtype.name, len(given))
    with tempfile.TemporaryDirectory(prefix="podium-grader-") as name:
        model, order, answers = (Path(name) / part for part in ("model", "order", "answers"))
        for folder in (model, order, answers):
            folder.mkdir()
        with zipfile.ZipFile(archive) as file:
            file.extractall(model)
        (order / "images.npy").symlink_to(images.resolve())
        calls = [{"dtype": dtype, "images": count} for dtype, count in asked]
        (order / "order.json").write_text(json.dumps({"paths": _places(), "cases": calls}), encoding="utf-8")
        command = [sys.executable, "-I", str(RUNNER), str(order), str(answers)]
        done = subprocess.run(command, cwd=model, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:300]
            return Trial((f"model.py failed by itself: {last}",))
        facts = json.loads((answers / "facts.json").read_text(encoding="utf-8"))
        return _judge(asked, answers, reference, facts)


def _places() -> list[str]:
    """The folders in which numpy and onnxruntime lie: an isolated interpreter may not look there."""
    found = [importlib.util.find_spec(name) for name in ("numpy", "onnxruntime")]
    return sorted({str(Path(spec.origin).parents[1]) for spec in found if spec is not None and spec.origin is not None})


def _judge(asked: list[tuple[str, int]], answers: Path, reference: Path, facts: dict[str, float]) -> Trial:
    errors, largest = [], 0.0
    with np.load(reference, allow_pickle=False) as file:
        probabilities, labels, decided = file["probabilities"], file["labels"], file["decided"]
    best = np.sort(decided, axis=1)[:, ::-1]
    clear = best[:, 0] - best[:, 1] > TOLERANCE
    for i, (dtype, count) in enumerate(asked):
        where = f"on {count} images as {dtype}"
        said = np.load(answers / f"labels{i}.npy", allow_pickle=False)
        shares = np.load(answers / f"probabilities{i}.npy", allow_pickle=False)
        if said.shape != (count,) or said.dtype.kind not in "iu":
            errors.append(f"{where}: predict gave {said.dtype} {said.shape}, expected integers ({count},)")
            continue
        if shares.shape != (count, probabilities.shape[1]):
            errors.append(f"{where}: probabilities are {shares.shape}, expected {(count, probabilities.shape[1])}")
            continue
        apart = np.abs(shares - probabilities[:count]).max(axis=1, initial=0.0)
        largest = max(largest, float(apart.max(initial=0.0)))
        odd = np.flatnonzero(~(apart <= TOLERANCE))  # what is not a number is odd too
        if len(odd):
            errors.append(
                f"{where}: image {odd[0]} has a probability that differs by {apart[odd[0]]:.2g} from podium's own, and so "
                f"have {len(odd) - 1} more; allowed are {TOLERANCE:g}"
            )
        wrong = np.flatnonzero((said != labels[:count]) & clear[:count])
        if len(wrong):
            at = int(wrong[0])
            errors.append(
                f"{where}: image {at} is labelled {said[at]}, podium itself says {labels[at]}, and so it is with "
                f"{len(wrong) - 1} more"
            )
    count = asked[0][1]
    return Trial(tuple(errors), count, 1000 * facts["seconds"] / count, largest, int(facts["memory"]))
