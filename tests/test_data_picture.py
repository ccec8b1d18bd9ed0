"""Decoding one picture: the values that are stored arrive, on a known scale, and bad files get one sentence."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from podium.data.picture import MAX_PIXELS, BadPicture, Colour, Lookup, Pixels, decode, mask, value_lookup
from podium.errors import UserError

GREY = np.array([[0, 1, 128], [7, 254, 255]], np.uint8)
RGB = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [10, 20, 30]]], np.uint8)
CLASSES = ["background", "cytoplasm", "nucleus"]


def image(values: object, mode: str, size: tuple[int, int]) -> Image.Image:
    """A picture of a mode that numpy has no type for; ``size`` is height and width."""
    made = Image.new(mode, size[::-1])
    made.putdata(list(values))  # type: ignore[call-overload]
    return made


def saved(folder: Path, made: Image.Image | np.ndarray, name: str = "a.png", **options: object) -> Path:
    made = made if isinstance(made, Image.Image) else Image.fromarray(made)
    made.save(folder / name, **options)  # type: ignore[arg-type]
    return folder / name


def written(folder: Path, array: np.ndarray, name: str = "a.png") -> Path:
    """By OpenCV, which writes 16 bits per colour; ``array`` is RGB or RGBA."""
    order = [2, 1, 0, 3][: array.shape[2]]
    assert cv2.imwrite(str(folder / name), array[..., order])
    return folder / name


def png(folder: Path, rows: bytes, size: tuple[int, int], depth: int, kind: int, *more: tuple[bytes, bytes]) -> Path:
    """A PNG put together by hand: rows with their filter byte, kind of colour, further chunks before the pixels."""
    header = struct.pack(">IIBBBBB", size[1], size[0], depth, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), *more, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path = folder / "made.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(held)) + name + held + struct.pack(">I", zlib.crc32(name + held))
            for name, held in chunks
        )
    )
    return path


def complaint(path: Path, colour: Colour = "keep", dtype: Pixels = "uint8", lookup: Lookup | None = None) -> str:
    with pytest.raises(BadPicture) as caught:
        mask(path, lookup) if lookup else decode(path, colour, dtype)
    text = str(caught.value)
    assert text.startswith(str(path)) and "\n" not in text
    return text


# ---------------------------------------------------------------- images: modes and formats


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.gif", "a.pgm", "a.jp2"])
def test_grey_stays_as_it_is_in_every_lossless_format(tmp_path: Path, name: str) -> None:
    found = decode(saved(tmp_path, GREY, name), "keep", "uint8")
    assert found.dtype == np.uint8 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, GREY[None])


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.ppm", "a.webp", "a.jp2"])
def test_colour_becomes_channels_first(tmp_path: Path, name: str) -> None:
    options = {"lossless": True} if name == "a.webp" else {}
    found = decode(saved(tmp_path, RGB, name, **options), "keep", "uint8")
    assert found.dtype == np.uint8 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, [RGB[..., channel] for channel in range(3)])


def test_a_jpeg_of_one_colour_is_that_colour(tmp_path: Path) -> None:
    np.testing.assert_array_equal(
        decode(saved(tmp_path, np.full((8, 16), 77, np.uint8), "a.jpg"), "keep", "uint8"), np.full((1, 8, 16), 77)
    )
    red = decode(saved(tmp_path, np.full((8, 16, 3), [200, 30, 60], np.uint8), "a.jpeg"), "keep", "uint8")
    assert red.shape == (3, 8, 16)
    assert np.abs(red.astype(int) - np.array([200, 30, 60])[:, None, None]).max() <= 2


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_one_bit_is_black_and_white(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, Image.fromarray(np.array([[0, 255, 255]], np.uint8)).convert("1"), name)
    assert decode(path, "keep", "uint8").tolist() == [[[0, 255, 255]]]
    assert decode(path, "keep", "uint16").tolist() == [[[0, 65535, 65535]]]
    assert decode(path, "keep", "float32").tolist() == [[[0, 1, 1]]]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.gif", "a.bmp"])
def test_a_palette_of_colours_becomes_rgb_and_one_of_greys_grey(tmp_path: Path, name: str) -> None:
    indices = Image.fromarray(np.array([[0, 1, 2, 1]], np.uint8), "L")
    coloured, grey = indices.copy(), indices.copy()
    coloured.putpalette([9, 9, 9, 255, 0, 0, 1, 2, 3])
    grey.putpalette([9, 9, 9, 200, 200, 200, 1, 1, 1])
    found = decode(saved(tmp_path, coloured, name), "keep", "uint8")
    assert found.tolist() == [[[9, 255, 1, 255]], [[9, 0, 2, 0]], [[9, 0, 3, 0]]]
    if name != "a.tif":  # a TIFF's palette has 256 entries, the rest of Pillow's is a ramp of grey
        assert decode(saved(tmp_path, grey, name), "keep", "uint8").tolist() == [[[9, 200, 1, 200]]]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    inks = [(0, 0, 0, 0), (0, 255, 255, 0), (0, 0, 0, 255), (255, 0, 0, 0)]
    found = decode(saved(tmp_path, image(inks, "CMYK", (1, 4)), "a.tif"), "keep", "uint8")
    assert found[:, 0].T.tolist() == [[255, 255, 255], [255, 0, 0], [0, 0, 0], [0, 255, 255]]


def test_alpha_is_dropped_where_everything_is_opaque(tmp_path: Path) -> None:
    assert decode(saved(tmp_path, image([(1, 255), (2, 255)], "LA", (1, 2))), "keep", "uint8").tolist() == [[[1, 2]]]
    path = saved(tmp_path, image([(1, 2, 3, 255), (4, 5, 6, 255)], "RGBA", (1, 2)))
    assert decode(path, "keep", "uint8").tolist() == [[[1, 4]], [[2, 5]], [[3, 6]]]


@pytest.mark.parametrize(
    "made",
    [
        image([(1, 255), (2, 254)], "LA", (1, 2)),
        image([(1, 2, 3, 255), (4, 5, 6, 0)], "RGBA", (1, 2)),
    ],
)
def test_a_transparent_pixel_is_refused(tmp_path: Path, made: Image.Image) -> None:
    text = complaint(saved(tmp_path, made))
    assert "pixel (0, 1): is transparent, one of 1" in text and "without transparency" in text


def test_transparency_by_colour_or_palette_is_refused_where_a_pixel_has_it(tmp_path: Path) -> None:
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "L")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    grey16 = np.array([[500, 900]], np.uint16)
    assert "pixel (0, 1)" in complaint(saved(tmp_path, palette, transparency=1))
    assert "pixel (0, 0)" in complaint(saved(tmp_path, palette, transparency=bytes([128, 255, 255])))
    assert "pixel (1, 1)" in complaint(saved(tmp_path, GREY, transparency=254))
    assert "pixel (1, 0)" in complaint(saved(tmp_path, RGB, transparency=(0, 0, 255)))
    assert "pixel (0, 1)" in complaint(saved(tmp_path, grey16, transparency=900), dtype="uint16")
    assert decode(saved(tmp_path, palette, transparency=2), "keep", "uint8").shape == (3, 1, 2)
    assert decode(saved(tmp_path, GREY, transparency=99), "keep", "uint8").tolist() == [GREY.tolist()]
    assert decode(saved(tmp_path, grey16, transparency=9), "keep", "uint16").tolist() == [[[500, 900]]]


def test_a_palette_with_an_alpha_channel(tmp_path: Path) -> None:
    for alpha, opaque in ((255, True), (9, False)):
        made = Image.new("PA", (2, 1), (1, 255))
        made.putpalette([9, 9, 9, 255, 0, 7])
        made.putpixel((0, 0), (0, alpha))
        path = saved(tmp_path, made, "a.tif")
        assert mask(path, value_lookup(None, CLASSES)).tolist() == [[[0, 1]]]
        if opaque:
            assert decode(path, "keep", "uint8").tolist() == [[[9, 255]], [[9, 0]], [[9, 7]]]
        else:
            assert "pixel (0, 0): is transparent" in complaint(path)


def test_orientation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter for showing
    flat = np.full((8, 24), 50, np.uint8)
    assert decode(saved(tmp_path, flat, "a.jpg", exif=exif), "keep", "uint8").shape == (1, 8, 24)
    assert decode(saved(tmp_path, GREY, exif=exif), "keep", "uint8").tolist() == [GREY.tolist()]


# ---------------------------------------------------------------- images: colour and depth


def test_colour_becomes_grey_as_pillow_does_it_and_grey_colour(tmp_path: Path) -> None:
    assert decode(saved(tmp_path, RGB), "grey", "uint8").tolist() == [[[76, 150], [29, 18]]]
    many = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        decode(saved(tmp_path, many), "grey", "uint8")[0], np.asarray(Image.fromarray(many).convert("L"))
    )
    white = np.full((1, 2, 3), 65535, np.uint16)
    assert decode(written(tmp_path, white), "grey", "uint16").tolist() == [[[65535, 65535]]]
    np.testing.assert_array_equal(decode(saved(tmp_path, GREY), "rgb", "uint8"), [GREY] * 3)
    np.testing.assert_array_equal(decode(saved(tmp_path, GREY), "grey", "uint8"), [GREY])
    np.testing.assert_array_equal(decode(saved(tmp_path, RGB), "rgb", "uint8"), RGB.transpose(2, 0, 1))


def test_eight_bits_on_the_other_scales(tmp_path: Path) -> None:
    path = saved(tmp_path, GREY)
    deep = decode(path, "keep", "uint16")
    assert deep.dtype == np.uint16 and deep.tolist() == [[[0, 257, 32896], [1799, 65278, 65535]]]
    real = decode(path, "keep", "float32")
    assert real.dtype == np.float32
    np.testing.assert_array_equal(real[0], GREY.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jp2", "a.pgm"])
def test_sixteen_bits_of_grey(tmp_path: Path, name: str) -> None:
    values = np.array([[0, 255, 256], [4095, 65534, 65535]], np.uint16)
    path = saved(tmp_path, values, name)
    deep = decode(path, "keep", "uint16")
    assert deep.dtype == np.uint16 and deep.dtype.isnative and deep.tolist() == [values.tolist()]
    np.testing.assert_array_equal(decode(path, "keep", "float32")[0], values.astype(np.float32) / np.float32(65535))
    assert "16 bits per channel; set data.dtype: uint16" in complaint(path)


def test_a_tiff_from_the_other_side(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(
        b"MM\x00*" + struct.pack(">I", 12) + struct.pack(">HH", 1, 515) + struct.pack(">H", 8)
        + b"".join(
            struct.pack(">HHI", tag, 4, 1) + struct.pack(">I", value)
            for tag, value in [(256, 2), (257, 1), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (279, 4)]
        )
        + bytes(4)
    )  # fmt: skip
    found = decode(tmp_path / "a.tif", "keep", "uint16")
    assert found.dtype.isnative and found.tolist() == [[[1, 515]]]


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_of_colour_are_not_cut_down(tmp_path: Path, name: str) -> None:
    values = np.arange(24, dtype=np.uint16).reshape(2, 4, 3) * 2849
    path = written(tmp_path, values, name)
    np.testing.assert_array_equal(decode(path, "keep", "uint16"), values.transpose(2, 0, 1))
    assert "16 bits per channel; set data.dtype: uint16" in complaint(path)
    alpha = np.full((2, 4, 1), 65535, np.uint16)
    path = written(tmp_path, np.concatenate([values, alpha], axis=2), name)
    np.testing.assert_array_equal(decode(path, "keep", "uint16"), values.transpose(2, 0, 1))
    alpha[1, 2] = 100
    path = written(tmp_path, np.concatenate([values, alpha], axis=2), name)
    assert "pixel (1, 2): is transparent" in complaint(path, dtype="uint16")


def test_sixteen_bits_of_grey_with_alpha(tmp_path: Path) -> None:
    rows = b"\x00" + struct.pack(">4H", 515, 65535, 300, 65535)
    assert decode(png(tmp_path, rows, (1, 2), 16, 4), "keep", "uint16").tolist() == [[[515, 300]]]


def test_deep_colour_of_other_formats_is_refused(tmp_path: Path) -> None:
    values = np.arange(64 * 64 * 3, dtype=np.uint16).reshape(64, 64, 3)
    for name in ("a.ppm", "a.jp2"):
        assert "16 bits per colour cannot be read; save it as RGB in a PNG" in complaint(
            written(tmp_path, values, name), dtype="uint16"
        )
    path = saved(tmp_path, np.asarray(values % 256, np.uint8), "a.jp2")
    np.testing.assert_array_equal(decode(path, "keep", "uint8"), (values % 256).transpose(2, 0, 1))


def test_whole_numbers_of_32_bits_have_no_scale(tmp_path: Path) -> None:
    path = saved(tmp_path, np.array([[0, 300, 65535]], np.int32), "a.tif")
    assert decode(path, "keep", "uint16").tolist() == [[[0, 300, 65535]]]
    assert decode(path, "keep", "float32").tolist() == [[[0, 300, 65535]]]
    assert "32 bits per channel" in complaint(path)
    for value in (-1, 65536):
        path = saved(tmp_path, np.array([[0, value]], np.int32), "a.tif")
        text = complaint(path, dtype="uint16")
        assert f"pixel (0, 1): value {value} is outside 0 to 65535" in text and "float32" in text


def test_floats_stay_as_they_are(tmp_path: Path) -> None:
    path = saved(tmp_path, np.array([[-0.5, 1000.25]], np.float32), "a.tif")
    assert decode(path, "keep", "float32").tolist() == [[[-0.5, 1000.25]]]
    for dtype in ("uint8", "uint16"):
        assert "set data.dtype: float32" in complaint(path, dtype=dtype)  # type: ignore[arg-type]
    path = saved(tmp_path, np.array([[1], [np.nan]], np.float32), "a.tif")
    assert "pixel (1, 0): value nan is not a number" in complaint(path, dtype="float32")


@given(
    values=hnp.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        st.one_of(
            st.tuples(st.integers(1, 9), st.integers(1, 9)),
            st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)),
        ),
    )
)
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_back(tmp_path: Path, values: np.ndarray) -> None:
    colour = values.ndim == 3
    path = written(tmp_path, values) if colour else saved(tmp_path, values)
    found = decode(path, "keep", values.dtype.name)  # type: ignore[arg-type]
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values.transpose(2, 0, 1) if colour else values[None])


# ---------------------------------------------------------------- files that are no good


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    assert "no such file" in complaint(path)
    path.write_bytes(b"")
    assert "is empty" in complaint(path)
    path.write_text("not a picture")
    assert "is not a picture of a known format (PNG, JPEG" in complaint(path)
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")  # Pillow would start a program for it
    assert "is not a picture of a known format" in complaint(path)
    path.unlink()
    path.mkdir()
    assert "cannot be read (Is a directory)" in complaint(path)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp", "a.webp", "a.jp2"])
def test_a_picture_that_is_cut_short(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    path = saved(tmp_path, rng.integers(0, 256, (40, 40, 3), dtype=np.uint8), name)
    path.write_bytes(path.read_bytes()[:-900])
    assert "fetch it again" in complaint(path)
    assert "fetch it again" in complaint(path, lookup=value_lookup(None, CLASSES))


def test_several_pictures_in_one_file(tmp_path: Path) -> None:
    pages = [Image.fromarray(GREY), Image.fromarray(GREY.T.copy()).resize((3, 2))]
    for name in ("a.tif", "a.gif", "a.png", "a.webp"):
        path = saved(tmp_path, pages[0], name, save_all=True, append_images=pages[1:])
        assert "holds 2 pictures; save the one that is meant" in complaint(path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [40_000, 100_000])
def test_a_trap_of_a_picture(tmp_path: Path, side: int) -> None:
    assert side * side > MAX_PIXELS
    assert "more than 1,000,000,000 pixels" in complaint(png(tmp_path, b"", (side, side), 8, 0))


def test_colours_nobody_can_convert(tmp_path: Path) -> None:
    assert "mode LAB" in complaint(saved(tmp_path, Image.new("LAB", (2, 2)), "a.tif"))


@given(st.sampled_from(["a.png", "a.jpg", "a.tif", "a.bmp", "a.gif", "a.webp", "a.pgm"]), st.data())
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore")
def test_damage_gives_a_picture_or_a_sentence(tmp_path: Path, name: str, data: st.DataObject) -> None:
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / name)
    held = bytearray((tmp_path / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        held[data.draw(st.integers(0, len(held) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / name).write_bytes(held)
    try:
        assert decode(tmp_path / name, "keep", "float32").ndim == 3
    except BadPicture as error:
        assert str(error).startswith(str(tmp_path / name))


# ---------------------------------------------------------------- masks


def test_masks_by_values(tmp_path: Path) -> None:
    lookup = value_lookup({"nucleus": (255, 200), "background": 0, "cytoplasm": 128}, CLASSES)
    found = mask(saved(tmp_path, np.array([[0, 128], [255, 200]], np.uint8)), lookup)
    assert found.dtype == np.uint8 and found.tolist() == [[[0, 1], [2, 2]]]


def test_masks_of_class_indices(tmp_path: Path) -> None:
    assert mask(saved(tmp_path, np.array([[0, 1], [2, 255]], np.uint8)), value_lookup(None, CLASSES)).tolist() == [
        [[0, 1], [2, 255]]
    ]


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_deep_masks(tmp_path: Path, name: str) -> None:
    lookup = value_lookup({"background": 0, "cytoplasm": 256, "nucleus": 65535}, CLASSES)
    assert mask(saved(tmp_path, np.array([[0, 256, 65535]], np.uint16), name), lookup).tolist() == [[[0, 1, 2]]]
    wide = np.repeat(np.array([[[0], [256], [65535]]], np.uint16), 3, axis=2)
    assert mask(written(tmp_path, wide, name), lookup).tolist() == [[[0, 1, 2]]]


def test_masks_of_other_numbers(tmp_path: Path) -> None:
    lookup = value_lookup(None, CLASSES)
    assert mask(saved(tmp_path, np.array([[0, 2]], np.int32), "a.tif"), lookup).tolist() == [[[0, 2]]]
    assert mask(saved(tmp_path, np.array([[0, 2]], np.float32), "a.tif"), lookup).tolist() == [[[0, 2]]]
    for value, said in [(0.5, "0.5"), (-1, "-1"), (70000, "70000"), (np.nan, "nan"), (np.inf, "inf")]:
        path = saved(tmp_path, np.array([[0, value]], np.float32), "a.tif")
        assert f"pixel (0, 1): value {said} means no class" in complaint(path, lookup=lookup)


def test_palette_masks_are_their_indices_even_where_shown_transparent(tmp_path: Path) -> None:
    made = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "L")
    made.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    path = saved(tmp_path, made, transparency=0)
    assert mask(path, value_lookup(None, CLASSES)).tolist() == [[[0, 1, 2]]]


def test_colour_masks_are_grey_where_their_channels_are_equal(tmp_path: Path) -> None:
    lookup = value_lookup({"background": 0, "cytoplasm": 128, "nucleus": 255}, CLASSES)
    same = np.repeat(np.array([[[0], [128]]], np.uint8), 3, axis=2)
    assert mask(saved(tmp_path, same), lookup).tolist() == [[[0, 1]]]
    assert mask(saved(tmp_path, image([(0, 255), (255, 255)], "LA", (1, 2))), lookup).tolist() == [[[0, 2]]]
    same[0, 1] = [0, 0, 128]
    text = complaint(saved(tmp_path, same), lookup=lookup)
    assert "pixel (0, 1): is of colour (0, 0, 128)" in text and "save the mask as a grey" in text
    assert "transparent" in complaint(saved(tmp_path, image([(0, 255), (255, 3)], "LA", (1, 2))), lookup=lookup)


def test_white_of_one_bit_is_one_or_else_255(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1"))
    assert mask(path, value_lookup(None, ["no", "yes"])).tolist() == [[[0, 1]]]
    assert mask(path, value_lookup({"no": 0, "yes": 255}, ["no", "yes"])).tolist() == [[[0, 1]]]
    assert mask(path, value_lookup({"no": (0, 255), "yes": 1}, ["no", "yes"])).tolist() == [[[0, 1]]]
    text = complaint(path, lookup=value_lookup({"no": 0, "yes": 7}, ["no", "yes"]))
    assert "pixel (0, 1): value 255 means no class" in text


def test_grey_of_two_bits_is_spread(tmp_path: Path) -> None:
    path = png(tmp_path, b"\x00" + bytes([0b00011011]), (1, 4), 2, 0)
    assert decode(path, "keep", "uint8").tolist() == [[[0, 85, 170, 255]]]
    lookup = value_lookup({"background": (0, 85), "cytoplasm": 170, "nucleus": 255}, CLASSES)
    assert mask(path, lookup).tolist() == [[[0, 0, 1, 2]]]


def test_a_value_outside_the_map_is_named_with_its_pixel_and_what_is_allowed(tmp_path: Path) -> None:
    lookup = value_lookup({"background": 0, "cytoplasm": 128, "nucleus": (255, 200)}, CLASSES)
    path = saved(tmp_path, np.array([[0, 128, 0], [255, 127, 3]], np.uint8))
    assert complaint(path, lookup=lookup) == (
        f"{path}, pixel (1, 1): value 127 means no class (2 such pixels), allowed are 0 (background), "
        f"128 (cytoplasm), 200 (nucleus), 255 (nucleus); correct the mask or data.values"
    )
    text = complaint(path, lookup=value_lookup(None, CLASSES))
    assert "pixel (0, 1): value 128 means no class (3 such pixels)" in text
    assert "allowed are 0 to 2 (background, cytoplasm, nucleus) and 255 for no label" in text and "data.values" in text
    path = saved(tmp_path, np.full((8, 8), 127, np.uint8), "a.jpg")
    assert complaint(path, lookup=lookup).endswith("save masks as PNG")


def test_maps_that_contradict_themselves() -> None:
    with pytest.raises(UserError, match="data.values: classes 'background' and 'nucleus' both have value 0"):
        value_lookup({"background": 0, "cytoplasm": 128, "nucleus": (255, 0)}, CLASSES)
    with pytest.raises(UserError, match="data.values: value 65536 of class 'nucleus' is above 65535"):
        value_lookup({"background": 0, "cytoplasm": 128, "nucleus": 65536}, CLASSES)
