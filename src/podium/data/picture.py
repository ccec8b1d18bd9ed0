"""One picture file: decoded to an array with the values that are stored in it, or, for a mask, to class indices.

What is read is what is stored: EXIF orientation is not applied (an image would no longer lie on its mask, and most code
that has ever been trained on such files does not either), and colour profiles, gamma and resolution are ignored.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from podium.config_data import NO_LABEL_NAME
from podium.data.chunk import NO_LABEL, PIXELS
from podium.errors import UserError

MAX_PIXELS = 1_000_000_000
"""A picture with more is refused: the file is a trap, or the wrong reader's."""
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow's own limit refuses honest pictures of 180 million pixels

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000")
"""What is opened at all; among what else Pillow knows are formats that start other programs."""

TOP = 65535  # of grey values in masks, and of uint16
TIFF_DEPTH = 258  # the tag of the bits per channel
PNG_DEPTH, PNG_COLOUR, PNG_GREY_ALPHA = 24, 25, 4  # where the header has them, and one of its kinds of colour

Colour = Literal["keep", "grey", "rgb"]
Pixels = Literal["uint8", "uint16", "float32"]


class BadPicture(ValueError):
    """A picture that cannot be used, said in one sentence with the file and the way out; what readers tell ``Bad``."""


@dataclass(frozen=True, eq=False)
class Lookup:
    """What the values of masks mean.

    table: int16 (65536,), class index of each value, 255 for no label, -1 where the value is not allowed. allowed: the
    values that are, for people to read; remedy: what to do about others.
    """

    table: np.ndarray
    allowed: str
    remedy: str


def value_lookup(values: Mapping[str, int | Sequence[int]] | None, classes: Sequence[str]) -> Lookup:
    """The meaning of mask values: of a map from class names to one value or several, or, without, class indices.

    Without a map 255 means no label, with one what ``no_label`` names. Two classes with one value, or a value above 65535, are a UserError.
    """
    table = np.full(TOP + 1, -1, np.int16)
    if values is None:
        table[: len(classes)] = np.arange(len(classes))
        table[NO_LABEL] = NO_LABEL
        allowed = f"0 to {len(classes) - 1} ({', '.join(classes)}) and {NO_LABEL} for no label"
        return Lookup(table, allowed, "correct the mask, or say with data.values what its values mean")
    owners: dict[int, str] = {}
    for name, given in values.items():
        for value in (given,) if isinstance(given, int) else given:
            if value > TOP:
                raise UserError(f"data.values: value {value} of class '{name}' is above {TOP}, which no mask can hold")
            other = owners.setdefault(value, name)
            if other != name:
                raise UserError(
                    f"data.values: classes '{other}' and '{name}' both have value {value}; give each value to one class"
                )
            table[value] = NO_LABEL if name == NO_LABEL_NAME else classes.index(name)
    allowed = ", ".join(f"{value} ({owners[value]})" for value in sorted(owners))
    return Lookup(table, allowed, "correct the mask or data.values")


def decode(path: Path, colour: Colour, dtype: Pixels) -> np.ndarray:
    """The picture as (C, H, W) of ``dtype``, C being 1 or 3.

    colour: ``keep`` leaves grey grey and colour RGB, whether there is a palette or CMYK behind it; ``grey`` weighs the
    channels after ITU-R BT.601; ``rgb`` repeats grey three times.
    dtype: ``uint8`` takes pictures of up to 8 bits per channel. ``uint16`` multiplies these by 257, so that white is
    65535 at every depth. ``float32`` divides 8 bits by 255 and 16 by 65535, so that white is 1; 32-bit integers and
    floats, which have no white, stay as they are, also integers under ``uint16``.

    Raises BadPicture where the file is unreadable or no picture, transparent in places, or deeper than ``dtype``.
    """
    stored = _stored(path, as_mask=False)
    if stored.ndim == 3 and colour == "grey":
        stored = _grey(stored)
    converted = _converted(stored, PIXELS[dtype], path)
    if converted.ndim == 2 and colour == "rgb":
        return np.repeat(converted[None], 3, axis=0)
    return np.ascontiguousarray(converted[None] if converted.ndim == 2 else converted.transpose(2, 0, 1))


def mask(path: Path, lookup: Lookup) -> np.ndarray:
    """The mask as uint8 (1, H, W) class indices, 255 for no label.

    Of a picture with a palette the palette's indices are the values. A colour picture must have three equal channels.
    White of a one-bit picture is 1, or 255 where only that has a meaning; grey of 2 or 4 bits is spread over 0 to 255,
    as every viewer and library does. Raises BadPicture as ``decode`` does, and where a value has no meaning.
    """
    stored = _stored(path, as_mask=True)
    if stored.ndim == 3:
        coloured = (stored != stored[..., :1]).any(axis=2)
        if coloured.any():
            y, x = _first(coloured)
            raise BadPicture(
                f"{path}, pixel ({y}, {x}): is of colour {tuple(stored[y, x].tolist())} where a mask holds one grey "
                f"value; save the mask as a grey or palette picture"
            )
        stored = stored[..., 0]
    if stored.dtype == np.bool_:
        stored = stored * np.uint8(1 if lookup.table[1] >= 0 else 255)
    if stored.dtype in (np.uint8, np.uint16):
        found = lookup.table[stored]
    else:
        with np.errstate(invalid="ignore"):  # NaN is no whole number either
            whole = (stored >= 0) & (stored <= TOP) & (stored == np.floor(stored))
        found = np.where(whole, lookup.table[np.where(whole, stored, 0).astype(np.int64)], -1)
    wrong = found < 0
    if wrong.any():
        y, x = _first(wrong)
        count = int(wrong.sum())
        others = f" ({count} such pixels)" if count > 1 else ""
        jpeg = "; JPEG changes values, save masks as PNG" if path.suffix.lower() in (".jpg", ".jpeg") else ""
        raise BadPicture(
            f"{path}, pixel ({y}, {x}): value {stored[y, x].item():.10g} means no class{others}, allowed are "
            f"{lookup.allowed}; {lookup.remedy}{jpeg}"
        )
    return found.astype(np.uint8)[None]


# ---------------------------------------------------------------- from the file to an array


def _stored(path: Path, as_mask: bool) -> np.ndarray:
    """(H, W) or (H, W, 3): bool, uint8, uint16, int32 or float32 as stored; of a palette, masks have the indices."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise BadPicture(f"{path}: no such file; put it there") from None
    except OSError as error:
        raise BadPicture(
            f"{path}: cannot be read ({error.strerror}); change its permissions or fetch it again"
        ) from None
    if not raw:
        raise BadPicture(f"{path}: is empty; fetch it again")
    image, deep = _loaded(raw, path)
    if deep:
        found: np.ndarray = _deep_colour(raw, image, path)
    elif image.mode in ("P", "PA"):
        found = np.asarray(image.getchannel(0)) if as_mask else _from_palette(image)
    elif image.mode in ("1", "L", "RGB", "F"):
        found = np.asarray(image)
    elif image.mode in ("LA", "RGBA"):
        found = np.asarray(image)[..., 0 if image.mode == "LA" else slice(3)]
    elif image.mode in ("CMYK", "YCbCr"):
        found = np.asarray(image.convert("RGB"))
    elif image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        found = np.asarray(image).astype(np.uint16)
    elif image.mode == "I":
        found = np.asarray(image)
    else:
        raise BadPicture(f"{path}: has colours in mode {image.mode}; save it as a grey or RGB picture")
    _check_opaque(image, as_mask, path)
    if found.dtype == np.bool_ and not as_mask:
        return found * np.uint8(255)
    return found


def _loaded(raw: bytes, path: Path) -> tuple[Image.Image, bool]:
    """The decoded picture, and whether its colours have more than the 8 bits per channel that Pillow leaves them."""
    try:
        image = Image.open(io.BytesIO(raw), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # a camera's JPEG with its preview
            raise BadPicture(f"{path}: holds {frames} pictures; save the one that is meant as a file of its own")
        deep = _is_deep(image, raw)
        image.load()
    except (BadPicture, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise BadPicture(f"{path}: has more than {MAX_PIXELS:,} pixels; cut it into smaller pictures") from None
    except UnidentifiedImageError:
        raise BadPicture(
            f"{path}: is not a picture of a known format ({', '.join(FORMATS)}), or its beginning is damaged; "
            f"fetch it again"
        ) from None
    except Exception as error:  # Pillow's decoders raise everything there is on damaged files
        said = " ".join(str(error).split()) or type(error).__name__
        raise BadPicture(f"{path}: is damaged or cut short ({said}); fetch it again") from error
    return image, deep


def _is_deep(image: ImageFile, raw: bytes) -> bool:
    if len(image.getbands()) == 1:
        return False  # grey has modes of its own for more bits
    if image.format == "PNG":
        return raw[PNG_DEPTH] > 8
    if isinstance(image, TiffImageFile):
        return max(image.tag_v2.get(TIFF_DEPTH, (1,))) > 8
    if image.format == "JPEG2000":
        start = raw.find(b"\xff\x4f\xff\x51")  # of the codestream; 42 bytes on lies the depth less one
        return start >= 0 and raw[start + 42] & 0x7F >= 8
    if image.format == "PPM":
        coding = image.tile[0].args
        return isinstance(coding, tuple) and int(coding[1]) > 255  # the raw mode and the value of white
    return False


def _deep_colour(raw: bytes, image: Image.Image, path: Path) -> np.ndarray:
    """uint16 (H, W, 3), or (H, W) of grey with alpha, which Pillow would cut down to 8 bits."""
    import cv2

    found = None
    if image.format in ("PNG", "TIFF") and image.mode in ("RGB", "RGBA"):
        found = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None or found.dtype != np.uint16 or found.ndim != 3:
        raise BadPicture(f"{path}: {image.format} with 16 bits per colour cannot be read; save it as RGB in a PNG file")
    grey = image.format == "PNG" and raw[PNG_COLOUR] == PNG_GREY_ALPHA
    return found[..., 0] if grey else found[..., 2::-1]


def _from_palette(image: Image.Image) -> np.ndarray:
    """uint8 (H, W) where every entry of the palette is grey, (H, W, 3) else."""
    rgb = np.asarray(image.convert("RGBA" if "transparency" in image.info else "RGB"))[..., :3]
    entries = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    return rgb[..., 0] if (entries == entries[:, :1]).all() else rgb


def _check_opaque(image: Image.Image, as_mask: bool, path: Path) -> None:
    """Of masks only an alpha channel counts: which entry of a palette is shown as transparent says nothing of values."""
    colour_key = image.info.get("transparency")
    if image.mode in ("LA", "RGBA") or (image.mode == "PA" and not as_mask):
        clear = np.asarray(image.getchannel("A")) < 255
    elif as_mask or colour_key is None:
        return
    elif image.mode.startswith("I;16"):
        clear = np.asarray(image) == colour_key
    else:
        clear = np.asarray(image.convert("RGBA").getchannel("A")) < 255
    if clear.any():
        y, x = _first(clear)
        count = int(clear.sum())
        raise BadPicture(
            f"{path}, pixel ({y}, {x}): is transparent, one of {count}; lay the picture over a background and save it "
            f"without transparency"
        )


# ---------------------------------------------------------------- from what is stored to what is asked for


def _grey(rgb: np.ndarray) -> np.ndarray:
    """Luma after ITU-R BT.601 in whole numbers, as Pillow computes it for 8 bits; the largest sum just fits uint32."""
    red, green, blue = (rgb[..., channel].astype(np.uint32) for channel in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16).astype(rgb.dtype)


def _converted(stored: np.ndarray, dtype: np.dtype, path: Path) -> np.ndarray:
    """``stored`` (uint8, uint16, int32 or float32) on the scale of ``dtype``."""
    if stored.dtype == dtype:
        if dtype == np.float32 and not np.isfinite(stored).all():
            y, x = _first(~np.isfinite(stored))
            raise BadPicture(f"{path}, pixel ({y}, {x}): value {stored[y, x]} is not a number; repair the picture")
        return stored
    if dtype == np.float32:
        scale = {"uint8": 255, "uint16": TOP}.get(stored.dtype.name, 1)
        return stored.astype(np.float32) / np.float32(scale)
    if stored.dtype == np.float32:
        raise BadPicture(f"{path}: holds floating-point values; set data.dtype: float32")
    if dtype == np.uint8:
        bits = 8 * stored.dtype.itemsize
        raise BadPicture(f"{path}: has {bits} bits per channel; set data.dtype: uint16, or save it with 8 bits")
    if stored.dtype == np.uint8:
        return stored.astype(np.uint16) * np.uint16(257)
    outside = (stored < 0) | (stored > TOP)
    if outside.any():
        y, x = _first(outside)
        raise BadPicture(
            f"{path}, pixel ({y}, {x}): value {stored[y, x]} is outside 0 to {TOP}; set data.dtype: float32"
        )
    return stored.astype(np.uint16)


def _first(wrong: np.ndarray) -> tuple[int, int]:
    """y, x of the first True."""
    y, x = np.unravel_index(int(wrong.argmax()), wrong.shape)
    return int(y), int(x)
