"""Pictures with the objects' outlines and numbers on them."""

from __future__ import annotations

import colorsys
import hashlib
import io
from itertools import pairwise
from urllib.parse import quote

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage.segmentation import find_boundaries

from podium.objects.find import Found

LONGER_SIDE = 512
"""Smaller pictures are enlarged in whole steps towards this many pixels, or numbers would hide their objects."""

_GOLDEN = 0.618034  # steps through the hues that keep neighbouring numbers far apart
_TEXT = 14  # pixels of a number's height
_LONGEST = 150  # characters of a file's name
_INK, _PAPER = (255, 255, 255), (0, 0, 0)


def overlay(image: np.ndarray, found: Found) -> bytes:
    """A PNG of the picture with the outline of every object in a colour of its own, and its number.

    image: (C, H, W) of any dtype; three channels are red, green and blue, of others the first is shown grey. Bytes are
    shown as they are, other types from the picture's least to its greatest value.
    """
    if image.shape[1:] != found.numbers.shape:
        raise ValueError(f"image {image.shape} and objects {found.numbers.shape} differ in size")
    factor = max(1, LONGER_SIDE // max(image.shape[1:]))
    picture = _enlarged(_shown(image), factor)
    outline = np.where(find_boundaries(numbers := _enlarged(found.numbers, factor), mode="inner"), numbers, 0)
    colours = np.array([_PAPER, *(colour(number) for number in range(1, len(found) + 1))], np.uint8)
    sheet = Image.fromarray(np.where(outline[..., None] > 0, colours[outline], picture))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TEXT)
    for number, (x, y) in enumerate(_middles(numbers, len(found)), 1):
        draw.text((x, y), str(number), _INK, font, anchor="mm", stroke_width=1, stroke_fill=_PAPER)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def colour(number: int) -> tuple[int, int, int]:
    """The colour of an object's outline."""
    red, green, blue = colorsys.hsv_to_rgb(number * _GOLDEN % 1, 0.9, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def file_name(image_id: str) -> str:
    """A name for an image's overlay without folders or odd characters; different ids never share one."""
    name = quote(image_id, safe=" ()+,=@")
    if len(name) > _LONGEST:
        name = f"{name[: _LONGEST - 17]}-{hashlib.sha256(image_id.encode()).hexdigest()[:16]}"
    return f"{name}.png"


def _shown(image: np.ndarray) -> np.ndarray:
    """(C, H, W) of any dtype → uint8 (H, W, 3)."""
    picture = (image if len(image) == 3 else image[[0, 0, 0]]).transpose(1, 2, 0)
    if picture.dtype == np.uint8:
        return np.ascontiguousarray(picture)
    values = picture.astype(np.float64)
    finite = values[np.isfinite(values)]
    least, greatest = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    scaled = (values - least) * (255 / (greatest - least or 1.0))
    return np.clip(np.rint(np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0)), 0, 255).astype(np.uint8)


def _enlarged(array: np.ndarray, factor: int) -> np.ndarray:
    return array.repeat(factor, axis=0).repeat(factor, axis=1)


def _middles(numbers: np.ndarray, count: int) -> list[tuple[int, int]]:
    """x, y of the pixel of each object that is nearest to its centroid, which may lie outside of it."""
    ys, xs = np.nonzero(numbers)
    order = np.argsort(numbers[ys, xs], kind="stable")
    ends = np.bincount(numbers[ys, xs], minlength=count + 1).cumsum()
    middles = []
    for start, stop in pairwise(ends):
        y, x = ys[order[start:stop]], xs[order[start:stop]]
        nearest = np.argmin((y - y.mean()) ** 2 + (x - x.mean()) ** 2)
        middles.append((int(x[nearest]), int(y[nearest])))
    return middles
