"""A kernel's script run as Kaggle would: in a clean process, offline, with nothing attached but its data set and the data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.hosted import ROOT
from podium.kernel.script import NAME

NOWHERE = "http://127.0.0.1:9"
"""An address where nothing answers: what asks for the network anyway fails at once."""
KEPT = ("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "NVIDIA_VISIBLE_DEVICES")
"""Variables that a GPU may need; nothing else of this process's is handed on."""
MOST = 1e-3
"""Share of labels that may differ: on a GPU, sums in another order turn a few pixels that are undecided anyway."""


@dataclass(frozen=True)
class Rehearsed:
    """What a rehearsal gave. content: the file's bytes; loaded: packages that were imported, with their versions."""

    content: bytes
    labels: Ragged
    loaded: dict[str, str]


def rehearse(folder: Path, data: Path, slug: str, dataset: str, log: Path) -> Rehearsed:
    """Run the script of ``folder``/kernel on the competition's own test images.

    data: the folder of the competition's files; dataset: the data set's name. What the script says goes to ``log``; where
    it fails, a UserError has its last line.
    """
    with _kaggle(folder / "dataset", data, slug, dataset) as kaggle:
        report = kaggle / "report"
        report.mkdir()
        command = [sys.executable, "-I", str(folder / "kernel" / NAME), "--as-recorded", "--report", str(report)]
        with log.open("wb") as said:
            done = subprocess.run(
                command,
                cwd=kaggle / "working",
                env=_environment(kaggle),
                stdout=said,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode != 0:
            words = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["nothing"]
            raise UserError(f"the kernel's script ended with exit code {done.returncode}, its last words: {words[-1]}")
        (path,) = (kaggle / "working").glob("submission.*")
        loaded = json.loads((report / "loaded.json").read_text(encoding="utf-8"))
        return Rehearsed(path.read_bytes(), Ragged.open(report / "labels.npy", mmap=False), loaded)


def different(ours: Ragged, theirs: Ragged) -> float:
    """The share of labels, joined by id, in which two predictions of the same images differ; other images are a UserError.

    Numbers differ where they are a thousandth apart.
    """
    if sorted(ours.ids.tolist()) != sorted(theirs.ids.tolist()):
        raise UserError(
            f"the kernel's script predicted {len(theirs)} other images than the {len(ours)} of the local test set; both must "
            "read the same files"
        )
    wrong = 0
    for i, name in enumerate(ours.ids.tolist()):
        a, b = ours[i], theirs[theirs.index[name]]
        same = np.isclose(a, b, rtol=1e-3, atol=1e-6) if a.dtype.kind == "f" else a == b
        wrong += int(np.size(same) - np.count_nonzero(same)) if a.shape == b.shape else a.size
    return wrong / ours.values.size


@contextmanager
def _kaggle(bundle: Path, data: Path, slug: str, dataset: str) -> Iterator[Path]:
    """A folder laid out like /kaggle, with links to what is attached."""
    with tempfile.TemporaryDirectory(prefix="podium-kaggle-") as name:
        kaggle = Path(name).resolve()
        for folder in ("input", "working", "home", "tmp"):
            (kaggle / folder).mkdir()
        (kaggle / "input" / slug).symlink_to(data.resolve(), target_is_directory=True)
        (kaggle / "input" / dataset).symlink_to(bundle.resolve(), target_is_directory=True)
        yield kaggle


def _environment(kaggle: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    proxies = {
        name: NOWHERE for each in ("http", "https", "all") for name in (f"{each}_proxy", f"{each.upper()}_PROXY")
    }
    return {
        **kept,
        **proxies,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]),
        "HOME": str(kaggle / "home"),
        "TMPDIR": str(kaggle / "tmp"),
        "PYTHONPATH": "",
        "PIP_NO_INDEX": "1",
        "HF_ENDPOINT": NOWHERE,
        "KAGGLE_KERNEL_RUN_TYPE": "Batch",
        ROOT: str(kaggle),
    }
