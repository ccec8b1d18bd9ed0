"""Boundary F1: how well the outlines of masks agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from podium.metrics.base import Additive, as_images, known_parts, mean_of, quotient
from podium.metrics.regions import Of, Regions, counted, regions


@dataclass(frozen=True)
class BoundaryF1(Additive):
    """F1 of the boundary pixels of each class but the background, image by image (Csurka et al. 2013). Higher is better.

    Precision is the share of predicted boundary pixels with a true one within ``tolerance`` pixels (Euclidean), recall
    that of true ones with a predicted one; F1 = 2 P R / (P + R). A region's boundary is those of its pixels that have one
    outside of it above, below or beside them; what lies beyond the picture's edge is outside, too. Pixels without a label,
    and those of an unscored class, belong to no region, neither in truth nor in prediction.

    A class that an image has neither in truth nor in prediction scores 1 there, one that it has in either alone 0. The
    score is the mean over images, then over classes; an image without a single labelled pixel is left out, and with
    none left the score is 0. of: ``classes``, or ``foreground``: all but the background joined as one. Statistics are
    float64 (N, P, 2): score, 1.
    """

    tolerance: float
    of: Of
    classes: tuple[str, ...]
    unscored: int | None

    @property
    def parts(self) -> tuple[str, ...]:
        return self._regions.names

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.parts), 2

    def stats(self, truth: np.ndarray, output: np.ndarray) -> np.ndarray:
        """truth: uint8 (N, H, W) or (H, W), 255 where there is no label. output: class indices of the same shape."""
        if truth.shape != output.shape:
            raise ValueError(f"truth {truth.shape} and labels {output.shape} must be of one shape")
        truth, output = as_images(truth, output)
        found = np.zeros((len(truth), *self.shape))
        for row, (image, labels) in enumerate(zip(truth, output, strict=True)):
            known = counted(image, self.unscored)
            if not known.any():
                continue
            for part, members in enumerate(self._regions.members):
                score = boundary_f1(np.isin(image, members), np.isin(labels, members) & known, self.tolerance)
                found[row, part] = score, 1
        return found

    def values(self, sums: np.ndarray) -> np.ndarray:
        return mean_of(quotient(sums[..., 0], sums[..., 1]), sums[..., 1] > 0)

    def _parts_of(self, total: np.ndarray) -> tuple[float | None, ...]:
        return known_parts(quotient(total[:, 0], total[:, 1]), total[:, 1] > 0)

    @property
    def _regions(self) -> Regions:
        return regions(self.classes, self.unscored, self.of)


def boundary_f1(truth: np.ndarray, told: np.ndarray, tolerance: float) -> float:
    """F1 of the boundaries of two regions, bool (H, W); 1 where both are empty, 0 where one is."""
    if not truth.any() or not told.any():
        return float(truth.any() == told.any())
    true, mine = _boundary(truth), _boundary(told)
    precision = _near(true, tolerance)[mine].mean()
    recall = _near(mine, tolerance)[true].mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def _boundary(region: np.ndarray) -> np.ndarray:
    """The pixels of a region that have one outside of it, or the picture's edge, above, below or beside them."""
    inside = np.pad(region, 1)
    return region & ~(inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:])


def _near(boundary: np.ndarray, tolerance: float) -> np.ndarray:
    """The pixels within ``tolerance`` of a boundary."""
    import cv2

    apart = cv2.distanceTransform((~boundary).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # squared distances of pixels are whole numbers: rounding takes float32 out of the comparison
    return np.asarray(np.rint(apart.astype(np.float64) ** 2) <= tolerance**2 + 1e-9)
