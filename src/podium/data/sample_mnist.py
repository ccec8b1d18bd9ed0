"""A stand-in for MNIST in the csv layout of Kaggle's Digit Recognizer: scikit-learn's handwritten digits, enlarged."""

from __future__ import annotations

import numpy as np

from podium.errors import UserError

SIDE, BOX, CLASSES = 28, 20, 10
"""Digits fill a box in the middle of the picture, as MNIST's do."""


def mnist(seed: int, rows: int, test_rows: int) -> dict[str, np.ndarray | str]:
    """train.csv (label, pixel0 to pixel783) and test.csv without labels, every digit as often as any other.

    The pictures are those of ``sklearn.datasets.load_digits``: 1,797 of 8×8 pixels in 17 steps of grey (Alpaydin & Kaynak
    1998), stretched bilinearly to 20×20. No digit is in both files. More rows than there are digits: UserError.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    rng = np.random.Generator(np.random.PCG64(seed))
    queues = [rng.permutation(np.flatnonzero(digits.target == label)).tolist() for label in range(CLASSES)]
    wanted = rows + test_rows
    if -(-wanted // CLASSES) > min(map(len, queues)):
        most = CLASSES * min(map(len, queues))
        raise UserError(f"mnist: scikit-learn's digits are enough for {most} rows and not for {wanted}; ask for fewer")
    train = rng.permutation([queues[row % CLASSES].pop() for row in range(rows)])
    test = rng.permutation([queues[row % CLASSES].pop() for row in range(rows, wanted)])
    names = [f"pixel{number}" for number in range(SIDE * SIDE)]
    return {
        "train.csv": _table(["label", *names], [[digits.target[row], *_enlarged(digits.images[row])] for row in train]),
        "test.csv": _table(names, [_enlarged(digits.images[row]) for row in test]),
    }


def _enlarged(digit: np.ndarray) -> list[int]:
    """The pixels, 0 to 255, of an 8×8 digit of 0 to 16."""
    from PIL import Image

    grey = np.rint(digit * (255 / 16)).astype(np.uint8)
    picture = np.zeros((SIDE, SIDE), np.uint8)
    margin = (SIDE - BOX) // 2
    large = Image.fromarray(grey).resize((BOX, BOX), Image.Resampling.BILINEAR)
    picture[margin : margin + BOX, margin : margin + BOX] = np.asarray(large)
    return [int(value) for value in picture.ravel()]


def _table(header: list[str], rows: list[list[int]]) -> str:
    return "\n".join([",".join(header), *(",".join(map(str, row)) for row in rows)]) + "\n"
