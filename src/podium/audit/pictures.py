"""Contact sheets as small PNG files: galleries of images with captions, and images before and after preprocessing."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from podium.data.chunk import NO_LABEL
from podium.data.ragged import Ragged
from podium.store import write_atomically

LIMIT = 200_000  # bytes of a sheet
MOST = 400  # pictures on a sheet
COLOURS = np.array(  # one per class after the first: told apart by colour-blind eyes too (Okabe and Ito 2008)
    [(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167)],
    np.uint8,
)
_NO_LABEL_COLOUR = (160, 160, 160)
_GAP = 4  # pixels between cells
_LINE = 14  # pixels of a caption
_SAMPLE = 30_000  # pixels that a palette is made of
_PAPER, _INK = (255, 255, 255), (40, 40, 40)


def gallery(
    path: Path,
    images: Ragged,
    rows: Sequence[int] | np.ndarray,
    captions: Sequence[str],
    columns: int = 8,
    cell: int = 128,
    targets: Ragged | None = None,
) -> None:
    """Write a PNG of some images side by side, each fitted into a square of ``cell`` pixels, its caption below.

    images: (C, H, W) of any dtype and size; one channel is grey, the first three of more are red, green and blue.
    Bytes are shown as they are, other types from the least to the greatest value among the rows shown. rows: which,
    in this order. captions: one each, cut where they do not fit. targets: masks (1, H, W) laid over the images, class
    0 clear and 255 grey; labels of one pixel are left out. The file stays below 200 kB: where it would not, colours
    are reduced, then the cells. More than 400 images are a ValueError.
    """
    chosen = np.asarray(rows, np.int64).tolist()
    if len(chosen) != len(captions):
        raise ValueError(f"{len(chosen)} rows and {len(captions)} captions")
    limits = _limits([images[row] for row in chosen])
    shown = [_display(images[row], *limits) for row in chosen]
    if targets is not None:
        shown = [_overlay(picture, targets[row][0]) for picture, row in zip(shown, chosen, strict=True)]
    _write(path, [[picture] for picture in shown], captions, columns, cell)


def before_after(
    path: Path,
    before: list[np.ndarray],
    after: list[np.ndarray],
    captions: Sequence[str],
    columns: int = 4,
    cell: int = 128,
) -> None:
    """Write a PNG of pairs: each image (C, H, W) before a preprocessing at the left, after it at the right.

    Bytes are shown as they are; of other types all images on one side share a scale, which may differ between the
    sides, since a preprocessing may change what values mean. Sizes may differ.
    """
    if not len(before) == len(after) == len(captions):
        raise ValueError(f"{len(before)} images before, {len(after)} after and {len(captions)} captions")
    left, right = _limits(before), _limits(after)
    pairs = [[_display(a, *left), _display(b, *right)] for a, b in zip(before, after, strict=True)]
    _write(path, pairs, captions, columns, cell)


def _limits(arrays: Sequence[np.ndarray]) -> tuple[float, float]:
    """The values shown as black and as white."""
    if all(array.dtype == np.uint8 for array in arrays):
        return 0.0, 255.0
    finite = [array[np.isfinite(array)] for array in arrays]
    least = min((float(values.min()) for values in finite if values.size), default=0.0)
    greatest = max((float(values.max()) for values in finite if values.size), default=1.0)
    return least, greatest if greatest > least else least + 1.0


def _display(image: np.ndarray, least: float, greatest: float) -> np.ndarray:
    """(C, H, W) of any dtype → uint8 (H, W, 3)."""
    colour = image[:3] if len(image) >= 3 else image[[0, 0, 0]]
    if colour.dtype != np.uint8:
        scaled = (colour.astype(np.float64) - least) * (255 / (greatest - least))
        colour = np.clip(np.rint(np.nan_to_num(scaled, nan=0.0)), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(colour.transpose(1, 2, 0))


def _overlay(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mix a class's colour into an (H, W, 3) picture; a mask of another size (a label) changes nothing."""
    if mask.shape != picture.shape[:2]:
        return picture
    table = np.zeros((NO_LABEL + 1, 3), np.uint8)
    table[1:NO_LABEL] = COLOURS[np.arange(NO_LABEL - 1) % len(COLOURS)]
    table[NO_LABEL] = _NO_LABEL_COLOUR
    mixed = (picture.astype(np.uint16) * 3 + table[mask].astype(np.uint16) * 2) // 5
    return np.where((mask > 0)[..., None], mixed, picture).astype(np.uint8)


def _write(path: Path, items: list[list[np.ndarray]], captions: Sequence[str], columns: int, cell: int) -> None:
    """Write items of one or two pictures each, in the largest cells (at most ``cell``) that keep the file small."""
    if len(items) > MOST:
        raise ValueError(f"{len(items)} pictures are too many for one sheet, {MOST} at most")
    content = _png(_sheet(items, captions, columns, cell))
    while len(content) > LIMIT and cell > 8:
        # The cells and not the finished sheet, or captions could not be read.
        cell = max(8, int(cell * min(0.9, 0.95 * (LIMIT / len(content)) ** 0.5)))
        content = _png(_sheet(items, captions, columns, cell))
    write_atomically(path, content, sync=False)


def _sheet(items: list[list[np.ndarray]], captions: Sequence[str], columns: int, cell: int) -> Image.Image:
    """Lay out the pictures and their captions; without any there is a note."""
    tiles = [[_fit(picture, cell) for picture in item] for item in items]
    tallest = max((tile.height for item in tiles for tile in item), default=0)  # wide images need no square cells
    across = max((len(item) for item in items), default=1)
    columns = max(1, min(columns, len(items)))
    width, height = across * cell + 3 * _GAP, tallest + _LINE + 2 * _GAP
    lines = max(1, -(-len(items) // columns))
    sheet = Image.new("RGB", (_GAP + columns * width, _GAP + lines * height), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    if not items:
        draw.text((_GAP, _GAP), "nothing to show", _INK, font)
    for number, (item, caption) in enumerate(zip(tiles, captions, strict=True)):
        x, y = _GAP + number % columns * width, _GAP + number // columns * height
        for place, tile in enumerate(item):
            left = x + place * (cell + _GAP // 2) + (cell - tile.width) // 2
            sheet.paste(tile, (left, y + (tallest - tile.height) // 2))
        draw.text((x, y + tallest + 1), _cut(caption, draw, font, width - 2 * _GAP), _INK, font)
    return sheet


def _fit(picture: np.ndarray, cell: int) -> Image.Image:
    """Scale into a square: small ones in whole steps, so that pixels stay square and sharp, large ones by area."""
    height, width = picture.shape[:2]
    factor = cell / max(height, width)
    if factor >= 1:
        whole = int(factor)
        return Image.fromarray(picture).resize((width * whole, height * whole), Image.Resampling.NEAREST)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return Image.fromarray(picture).resize(size, Image.Resampling.BOX)


def _cut(text: str, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The longest beginning that fits, with dots where something is missing."""
    if draw.textlength(text, font) <= width:
        return text
    for length in range(len(text) - 1, 0, -1):
        if draw.textlength(text[:length] + "...", font) <= width:
            return text[:length] + "..."
    return ""


def _png(sheet: Image.Image) -> bytes:
    """Encode as it is (or as grey, where all is); where that is above the limit, with 256 and then with 128 colours."""
    red, green, blue = sheet.split()
    if red.tobytes() == green.tobytes() == blue.tobytes():
        return _encode(red)
    content = _encode(sheet)
    # The colours are chosen on a part of the pixels, as many different ones take minutes.
    share = min(1.0, (_SAMPLE / (sheet.width * sheet.height)) ** 0.5)
    size = max(1, int(sheet.width * share)), max(1, int(sheet.height * share))
    sample = sheet.resize(size, Image.Resampling.NEAREST)
    for colours in (256, 128):
        if len(content) > LIMIT:
            # The colours furthest apart first, then moved to the middle of what they stand for: a median cut alone
            # counts pixels and loses what is small and colourful, which a gallery is there to show.
            palette = sample.quantize(colours, Image.Quantize.MAXCOVERAGE, kmeans=2)
            content = _encode(sheet.quantize(palette=palette, dither=Image.Dither.NONE))
    return content


def _encode(sheet: Image.Image) -> bytes:
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
