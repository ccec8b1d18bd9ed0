"""Stain normalisation (Macenko et al., A method for normalizing histology slides for quantitative analysis, ISBI 2009)."""

from __future__ import annotations

import numpy as np

from podium.config_preprocess import StainMacenko
from podium.errors import UserError
from podium.preprocess.values import full_range, like

STRONGEST = 99
"""Percentile of the concentrations that stands for a picture's maximum."""

LEAST_SINE = 0.03
"""Sine of the angle between the two stains (under 2 degrees): below, they cannot be told apart and noise would be blown up."""

FLOAT_RANGE = -1.0, 2.0
"""float32 pictures are meant to lie in 0..1, with room for what resampling adds; others were certainly scaled otherwise."""


def normalise_stains(image: np.ndarray, settings: StainMacenko) -> np.ndarray:
    """``image`` as if it had been stained and scanned like the reference; the same shape and dtype.

    image: (3, H, W) in red, green and blue; uint8 and uint16 over their whole range, float32 over 0..1 (UserError for
    another range). The optical density of a pixel is −ln(value / white). The two main directions of the densities of
    all tissue pixels span a plane; the extreme angles in it (percentiles alpha and 100 − alpha) are the two stains.
    Each pixel's concentrations follow by least squares, are scaled so that their 99th percentiles over the tissue
    become the reference's, and are turned back into light with the reference's stains.

    A picture with too little tissue, or with one stain only, is returned as it is.
    """
    if image.dtype.kind == "f" and not FLOAT_RANGE[0] <= float(image.min()) <= float(image.max()) <= FLOAT_RANGE[1]:
        raise UserError(
            f"preprocess.stain_macenko: needs float32 pictures within 0..1, found {image.min():g}..{image.max():g}; "
            "set data.dtype: uint8, or scale the pictures"
        )
    scale = full_range(image)
    light = image.reshape(3, -1).T.astype(np.float64) / scale
    density = -np.log(np.maximum(light, 1 / 255) / settings.white)  # black has no density; 1/255 is the least in 8 bits
    tissue = density[(density >= settings.beta).all(axis=1)]
    if len(tissue) < max(2, settings.min_tissue * len(density)):
        return image
    stains = stain_vectors(tissue, settings.alpha)
    if np.linalg.norm(np.cross(*stains)) < LEAST_SINE:
        return image
    solve = np.linalg.pinv(stains)
    strongest = np.percentile(tissue @ solve, STRONGEST, axis=0)
    if (strongest <= 0).any():
        return image
    reference = np.array(settings.stains)
    reference /= np.linalg.norm(reference, axis=1, keepdims=True)
    concentrations = density @ solve * (np.array(settings.maxima) / strongest)
    result = np.minimum(settings.white * np.exp(-concentrations @ reference), 1)
    return like((result * scale).T.reshape(image.shape), image)


def stain_vectors(tissue: np.ndarray, alpha: float) -> np.ndarray:
    """float64 (2, 3), unit length: the first stain is the one that takes more of the red, haematoxylin for H&E.

    tissue: optical densities (N, 3). alpha: percentile of the angles at which the stains are read.
    """
    _, _, directions = np.linalg.svd(
        tissue.T @ tissue
    )  # the right singular vectors of ``tissue`` itself, without its N rows
    plane = directions[:2]
    plane = plane * np.where(plane.sum(axis=1, keepdims=True) < 0, -1, 1)
    x, y = plane @ tissue.T
    angles = np.percentile(np.arctan2(y, x), [alpha, 100 - alpha])
    stains = np.stack([np.cos(angles), np.sin(angles)], axis=1) @ plane
    return stains if stains[0, 0] >= stains[1, 0] else stains[::-1]
