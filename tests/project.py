"""A small competition in its own folder, and the real command run on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from podium.config import Competition
from podium.data.part import Dataset
from podium.data.reading import open_dataset

SOURCE = Path(__file__).resolve().parents[1] / "src"
CLASSES = ["background", "dark", "bright", "rare"]

COMPETITION = """
name: tiny
task: segmentation
kaggle: tiny-competition
data:
  format: npz
  file: tiny.npz
  train: {key: train, image: 0, target: 1}
  test: {key: test}
classes: [background, dark, bright, rare]
unscored: background
metric: {name: mean_iou, convention: keras}
rules: {pretrained: forbidden}
folds: {count: 3, seed: 0}
submission: {format: wide_csv}
blend: {method: uniform, mean: arithmetic, decode: false}
models: [small]
"""

SMALL = """
net: {name: residual_unet, widths: [4, 8]}
augment: {batch: [flip_h, {name: noise, p: 1.0}]}
train: {epochs: 3, batch: 8, lr: 1e-2, rarest_rate: 2}
predict: {views: [identity, hflip]}
"""

OTHER = """
like: small
net: {name: residual_unet, widths: [4, 6], dropout: 0.2}
"""


def make_project(root: Path, rows: int = 24, test_rows: int = 7) -> Path:
    """A project with one competition, two recipes, and its data in data/tiny."""
    for name, text in (("competitions/tiny", COMPETITION), ("models/small", SMALL), ("models/other", OTHER)):
        path = root / "configs" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    write_data(root / "data" / "tiny" / "tiny.npz", rows, test_rows)
    return root


def write_data(path: Path, rows: int = 24, test_rows: int = 7) -> None:
    """Pictures of dark and bright stripes, some with a rare very bright square; the border is unlabelled."""
    rng = np.random.default_rng(0)
    masks = np.ones((rows, 16, 24), np.int64)
    for row in range(rows):
        masks[row, :, rng.integers(4, 20) :] = 2
        if row % 3 == 0:
            masks[row, 4:8, 4 : 6 + row % 5] = 3
        masks[row, 15 - row // 24, row % 24] = 0  # no two masks are equal, or they would be outliers
    masks[:, :1] = 0
    grey = np.array([100, 60, 150, 230])
    images = np.clip(grey[masks] + rng.normal(0, 8, masks.shape), 0, 255).round()
    test = np.clip(grey[masks[:test_rows]] + rng.normal(0, 8, (test_rows, 16, 24)), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, train=np.stack([images, masks], axis=1).astype(np.float64), test=test)


def environment(root: Path) -> dict[str, str]:
    """An environment in which nothing but the project itself decides where data comes from."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PODIUM_", "KAGGLE_"))}
    home = root / "home"
    home.mkdir(exist_ok=True)
    return kept | {"PODIUM_ROOT": str(root), "PYTHONPATH": str(SOURCE), "HOME": str(home), "OMP_NUM_THREADS": "1"}


def start(root: Path, *arguments: str, more: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """The real command in its own process group."""
    return subprocess.Popen(
        [sys.executable, "-m", "podium", *arguments],
        cwd=root,
        env=environment(root) | (more or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def podium(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the real command to its end."""
    process = start(root, *arguments)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def podium_json(root: Path, *arguments: str) -> Any:
    """Run the real command with --json; it must succeed and print exactly one JSON object."""
    done = podium(root, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def kill_after(process: subprocess.Popen[str], seconds: float) -> bool:
    """Kill -9 the command alone, its workers have to notice; False when it had ended before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            return False
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    return True


def read(competition: Competition, folder: Path, skip_bad: bool = False) -> Dataset:
    """A competition's data as its files hold them, read without a word."""
    cache = Path(tempfile.mkdtemp(prefix="cache-", dir=folder))
    return open_dataset(competition, folder, cache, lambda text: None, skip_bad).source
