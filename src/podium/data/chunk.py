"""What readers hand over: a few images with their ids and targets at a time, so that no reader needs room for all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from podium.errors import UserError

PIXELS: dict[str, np.dtype] = {name: np.dtype(name) for name in ("uint8", "uint16", "float32")}
"""What ``data.dtype`` may ask for."""
NO_LABEL = 255


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some rows of a part, in order.

    ids: texts. images: (C, H, W) each, of the dtype that the competition asks for; one (n, C, H, W) array where sizes
    are equal, or a list. targets: uint8, (1, H, W) masks, (1, 1, 1) labels or (1, K, 1) answers, or float32 (1, 1, 1)
    numbers, likewise; None for test rows.
    groups: a text per row, where a table says which rows belong together.
    """

    ids: Sequence[str]
    images: Sequence[np.ndarray] | np.ndarray
    targets: Sequence[np.ndarray] | np.ndarray | None = None
    groups: Sequence[str] | None = None

    def __post_init__(self) -> None:
        for what in (self.images, self.targets, self.groups):
            if what is not None and len(what) != len(self.ids):
                raise ValueError(f"{len(self.ids)} ids with {len(what)} items")


@dataclass
class Bad:
    """What becomes of bad rows: an error at the first one, or, with ``skip``, a list of what was left out.

    A reader calls it with one sentence (file, row or id, what is wrong, the way out) and, where it returns, goes on
    without that row. may_skip: off for test rows, every one of which a submission needs.
    """

    skip: bool = False
    skipped: list[str] = field(default_factory=list)
    may_skip: bool = True

    def __call__(self, sentence: str) -> None:
        """Report one bad row."""
        if not self.may_skip:
            raise UserError(f"{sentence}; a test image cannot be left out, the submission needs it")
        if not self.skip:
            raise UserError(f"{sentence}; or leave such rows out with --skip-bad")
        self.skipped.append(sentence)


Progress = Callable[[int, int], None]
"""Told how many rows of how many are decoded."""
Chunks = Iterator[Chunk]
LINE_SECONDS = 3.0


def lines(what: str, say: Callable[[str], None]) -> Progress:
    """Progress as lines of text, one every few seconds; what is quick says nothing."""
    last = time.monotonic()

    def progress(done: int, of: int) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_SECONDS and done < of:
            last = time.monotonic()
            say(f"{what} {done} of {of} images")

    return progress


@dataclass(frozen=True)
class Reading:
    """What every reader is given.

    folder: the competition's data. classes: names, in the order of their indices. task: what an answer is. first_id:
    number of the first test row where ids are row numbers. bad, progress: to be called as the reading goes on.
    """

    folder: Path
    classes: tuple[str, ...]
    task: str
    first_id: int
    bad: Bad
    progress: Progress = lambda done, of: None

    @property
    def masks(self) -> bool:
        """Whether targets are masks."""
        return self.task == "segmentation"

    @property
    def target_dtype(self) -> np.dtype:
        """What targets are kept in: uint8, or float32 where they are numbers without classes."""
        return np.dtype(np.float32 if self.task == "regression" and not self.classes else np.uint8)
