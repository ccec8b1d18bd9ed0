"""Metrics of numbers: RMSE and MAE, where LOWER is better, and R², where higher is.

Sums are float64. A number that is not known is nowhere in them: NaN in float targets, 255 in uint8 targets, which are the
indices of ordered classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from podium.data.chunk import NO_LABEL
from podium.metrics.base import Additive, Needs, as_images, quotient


@dataclass(frozen=True)
class MeanError(Additive):
    """Root of the mean squared error (``rmse``) or mean absolute error (``mae``). LOWER is better; there are no parts.

    ``sklearn.metrics.root_mean_squared_error`` and ``mean_absolute_error``. With nothing known the score is infinite: the
    worst. Statistics are float64 (N, 2): the sum of the errors, squared or absolute, and their count.
    """

    kind: Literal["rmse", "mae"]

    higher_is_better: ClassVar[bool] = False
    needs: ClassVar[Needs] = "values"

    @property
    def parts(self) -> tuple[str, ...]:
        return ()

    @property
    def shape(self) -> tuple[int, ...]:
        return (2,)

    def stats(self, truth: np.ndarray, output: np.ndarray) -> np.ndarray:
        """truth: (N, H, W) or (H, W), float32 or uint8. output: float of the same shape."""
        target, told, known = _known(truth, output)
        error = np.abs(told - target)
        return np.stack([(error**2 if self.kind == "rmse" else error).sum(axis=1), known.sum(axis=1)], axis=1)

    def values(self, sums: np.ndarray) -> np.ndarray:
        mean = np.where(sums[:, 1] > 0, quotient(sums[:, 0], sums[:, 1]), np.inf)
        return np.sqrt(mean) if self.kind == "rmse" else mean

    def _parts_of(self, total: np.ndarray) -> tuple[float | None, ...]:
        return ()


@dataclass(frozen=True)
class R2(Additive):
    """Share of the truth's variance that is explained: 1 - squared errors / squared distances from the mean. Higher is better.

    ``sklearn.metrics.r2_score``. Where the truth does not vary it is 1 for a perfect prediction and 0 for any other; with
    nothing known 0. Statistics are float64 (N, 4): count, sum of truths, of their squares, of squared errors.
    """

    needs: ClassVar[Needs] = "values"

    @property
    def parts(self) -> tuple[str, ...]:
        return ()

    @property
    def shape(self) -> tuple[int, ...]:
        return (4,)

    def stats(self, truth: np.ndarray, output: np.ndarray) -> np.ndarray:
        """truth: (N, H, W) or (H, W), float32 or uint8. output: float of the same shape."""
        target, told, known = _known(truth, output)
        columns = [known, target, target**2, (told - target) ** 2]
        return np.stack([column.sum(axis=1, dtype=np.float64) for column in columns], axis=1)

    def values(self, sums: np.ndarray) -> np.ndarray:
        count, total, squares, errors = np.asarray(sums, np.float64).T
        apart = squares - quotient(total**2, count)
        varies = apart > 1e-12 * squares  # below that it is the rounding of the two sums
        alike = (errors == 0) & (count > 0)
        return np.where(varies, 1 - errors / np.where(varies, apart, 1), alike)

    def _parts_of(self, total: np.ndarray) -> tuple[float | None, ...]:
        return ()


def _known(truth: np.ndarray, output: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth and output as float64 (N, P), both 0 where nothing is known, and where something is."""
    if truth.shape != output.shape:
        raise ValueError(f"truth {truth.shape} and values {output.shape} must be of one shape")
    truth, output = as_images(truth, output)
    if not np.isfinite(output).all():
        raise ValueError("values hold what is not a finite number")
    known = np.isfinite(truth) if truth.dtype.kind == "f" else truth != NO_LABEL
    flat = (np.where(known, array.astype(np.float64), 0.0).reshape(len(truth), -1) for array in (truth, output))
    return *flat, known.reshape(len(truth), -1)
