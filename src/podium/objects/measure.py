"""What can be said of each object: its size, shape, brightness and place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from skimage.measure import regionprops

from podium.objects.find import Found


@dataclass(frozen=True)
class Measures:
    """One object; the fields are the columns of the table, in order (``kind`` is called ``class`` there).

    image: the image's id. id: the object's number in it, from 1. kind: its class, or ``foreground``.
    area: pixels. perimeter: pixels, along the centres of its border pixels, corners rounded (Benkrid & Crookes 2000).
    eccentricity: of the ellipse with the same second moments, 0 for a circle, towards 1 for a line.
    solidity: area as a share of the convex hull's, 1 without dents.
    mean_intensity: mean over its pixels and all channels, 0..1 of the pixel type's range; float images as they are.
    centroid_y, centroid_x: pixels, the centre of the top left pixel being (0, 0). top, left, bottom, right: the box in
    pixels, the last two exclusive, so that bottom - top is its height.
    """

    image: str
    id: int
    kind: str
    area: int
    perimeter: float
    eccentricity: float
    solidity: float
    mean_intensity: float
    centroid_y: float
    centroid_x: float
    top: int
    left: int
    bottom: int
    right: int


def measure(name: str, image: np.ndarray, scale: float, found: Found, kinds: Sequence[str]) -> Iterator[Measures]:
    """The objects of one image, in the order of their numbers.

    name: the image's id. image: (C, H, W) of any dtype. scale: what its pixels are divided by. kinds: ``kind_names``.
    """
    if image.shape[1:] != found.numbers.shape:
        raise ValueError(f"image {image.shape} and objects {found.numbers.shape} differ in size")
    grey = image.mean(axis=0, dtype=np.float64) / scale
    light = np.bincount(found.numbers.reshape(-1), grey.reshape(-1), len(found) + 1)
    for region in regionprops(found.numbers):
        number, area = int(region.label), int(region.area)
        top, left, bottom, right = (int(at) for at in region.bbox)
        y, x = region.centroid
        yield Measures(
            image=name,
            id=number,
            kind=kinds[found.kinds[number - 1]],
            area=area,
            perimeter=float(region.perimeter),
            eccentricity=float(region.eccentricity),
            solidity=float(region.solidity),
            mean_intensity=float(light[number] / area),
            centroid_y=float(y),
            centroid_x=float(x),
            top=top,
            left=left,
            bottom=bottom,
            right=right,
        )
