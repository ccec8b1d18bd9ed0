"""Preprocessing: every step against an answer that is known, and all of them pure, in order and true to dtype and size."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from podium.config_base import Settings
from podium.config_preprocess import (
    CentralCell,
    Clahe,
    Illumination,
    ImageStep,
    StainMacenko,
    Standardise,
    Steps,
    image_steps,
)
from podium.errors import UserError
from podium.preprocess import apply, check
from podium.preprocess.central_cell import background_colour, box, central_object, colour_distance, two_thresholds
from podium.preprocess.clahe import equalise_fine
from podium.preprocess.illumination import background
from podium.preprocess.stain import stain_vectors

EVERY_STEP: list[ImageStep] = [
    Illumination(),
    Illumination(sigma=0.02),
    Illumination(mode="subtract"),
    Clahe(),
    StainMacenko(),
    CentralCell(),
    CentralCell(mode="crop"),
]
RANGE = {"uint8": 255, "uint16": 65535, "float32": 1}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# ---------------------------------------------------------------- settings


class Given(Settings):
    preprocess: Steps = ()


def read(steps: Any) -> tuple[Any, ...]:
    """As the configuration is read: from JSON, strictly."""
    return Given.model_validate_json(TypeAdapter(Any).dump_json({"preprocess": steps}), strict=True).preprocess


def test_a_bare_name_takes_the_defaults_and_the_order_is_kept():
    steps = read(["clahe", {"name": "illumination", "sigma": 1}, "stain_macenko", "central_cell", "standardise"])
    assert steps == (Clahe(), Illumination(sigma=1.0), StainMacenko(), CentralCell(), Standardise())
    assert image_steps(steps) == steps[:-1]
    assert read([]) == ()


def test_options_are_read_as_written_and_survive_json():
    stains = [[0.6, 0.7, 0.3], [0.2, 0.9, 0.5]]
    steps = read(
        [
            {"name": "clahe", "clip": 3, "tiles": 4},
            {"name": "stain_macenko", "stains": stains, "maxima": [2, 1]},
            {"name": "central_cell", "mode": "crop", "margin": 0.5},
        ]
    )
    assert steps[0] == Clahe(clip=3.0, tiles=4) and steps[2].margin == 0.5
    assert steps[1].stains == ((0.6, 0.7, 0.3), (0.2, 0.9, 0.5)) and steps[1].maxima == (2.0, 1.0)
    loaded = Given(preprocess=steps)
    assert Given.model_validate_json(loaded.model_dump_json(), strict=True) == loaded
    assert Given.model_validate(loaded.model_dump(mode="json")) == loaded


@pytest.mark.parametrize(
    ("steps", "where", "said"),
    [
        (["clahee"], (), "clahee: is no step; did you mean 'clahe'? allowed: standardise, illumination, clahe,"),
        ([{"name": "clahe", "clipp": 2}], (), "clahe.clipp: unknown option; did you mean 'clip'? allowed: clip, tiles"),
        ([{"clahe": {"clip": 2}}], (), "name: a step has none; write it as in {name: clahe}; allowed: standardise,"),
        (["clahe", {"name": "clahe", "clip": 3}], (), "clahe: is named 2 times; name every step once"),
        (["standardise", "clahe"], (), "standardise: stands before another step; put it last"),
        (["standardise", "standardise"], (), "standardise: is named 2 times; name every step once"),
        (
            [{"name": "central_cell", "margin": 0.1}],
            (0, "central_cell"),
            "margin: does nothing with mode: soft; remove it or set mode: crop",
        ),
        (
            [{"name": "central_cell", "mode": "crop", "feather": 0.1}],
            (0, "central_cell"),
            "feather: does nothing with mode: crop; remove it or set mode: soft",
        ),
        (
            [{"name": "stain_macenko", "stains": [[0.3, 0.4, 0.2], [0.6, 0.8, 0.4]]}],
            (0, "stain_macenko"),
            "stains: the two colours are the same but for their strength; give two that differ",
        ),
        ([{"name": "clahe", "clip": 0}], (0, "clahe", "clip"), "greater than 0"),
        ([{"name": "clahe", "clip": "2"}], (0, "clahe", "clip"), "valid number"),
        ([{"name": "clahe", "tiles": 0}], (0, "clahe", "tiles"), "greater than 0"),
        ([{"name": "illumination", "sigma": 1.5}], (0, "illumination", "sigma"), "less than or equal to 1"),
        ([{"name": "illumination", "mode": "add"}], (0, "illumination", "mode"), "'divide' or 'subtract'"),
        ([{"name": "stain_macenko", "alpha": 50}], (0, "stain_macenko", "alpha"), "less than 50"),
    ],
)
def test_what_is_wrong_is_said_with_a_way_out(steps, where, said):
    with pytest.raises(ValidationError) as caught:
        read(steps)
    problem = caught.value.errors()[0]
    assert tuple(part for part in problem["loc"] if not str(part).startswith("function-")) == ("preprocess", *where)
    assert problem["msg"].removeprefix("Value error, ").startswith(said) or said in problem["msg"]


def test_steps_that_do_not_fit_the_competition_are_refused():
    check([StainMacenko(), CentralCell(), Clahe(), Standardise()], "segmentation", 3)
    check([CentralCell(mode="crop"), Illumination()], "classification", 1)
    with pytest.raises(UserError, match=r"^preprocess\.stain_macenko: needs .* these have 1 channel; remove the step"):
        check([Clahe(), StainMacenko()], "classification", 1)
    with pytest.raises(UserError, match="these have 4 channels;"):
        check([StainMacenko()], "segmentation", 4)
    with pytest.raises(UserError, match=r"^preprocess\.central_cell\.mode: .* segmentation; set mode: soft"):
        check([CentralCell(mode="crop")], "segmentation", 3)


# ---------------------------------------------------------------- what all steps have in common


def picture(kind: str, dtype: str, shape: tuple[int, int, int], seed: int) -> np.ndarray:
    values = rng(seed).random(shape)
    if kind == "constant":
        values = np.full(shape, values.flat[0])
    elif kind == "black":
        values = np.zeros(shape)
    elif kind == "blob":
        rows, columns = np.mgrid[: shape[1], : shape[2]]
        values = 0.9 - 0.6 * np.exp(-((rows - shape[1] / 2) ** 2 + (columns - shape[2] / 2) ** 2) / 20) + 0.02 * values
    scaled = values * RANGE[dtype]
    return (scaled if dtype == "float32" else np.rint(scaled)).astype(dtype)


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(EVERY_STEP),
    st.sampled_from(["noise", "constant", "black", "blob"]),
    st.sampled_from(list(RANGE)),
    st.sampled_from([1, 3, 4]),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 99),
)
@example(Clahe(tiles=64), "noise", "uint16", 3, 8, 8, 0)
@example(CentralCell(), "constant", "float32", 3, 8, 8, 0)
@example(StainMacenko(), "noise", "uint8", 3, 8, 8, 0)
@example(Illumination(sigma=1), "noise", "uint8", 1, 1, 40, 0)
@example(CentralCell(mode="crop"), "blob", "uint16", 3, 40, 30, 0)
def test_dtype_and_size_are_kept_and_the_input_too(step, kind, dtype, channels, height, width, seed):
    channels = 3 if isinstance(step, StainMacenko) else channels
    image = picture(kind, dtype, (channels, height, width), seed)
    before = image.copy()
    image.setflags(write=False)
    result = apply([step], image)
    assert (image == before).all()
    assert result.dtype == image.dtype and result.shape[0] == channels and np.isfinite(result).all()
    assert not np.shares_memory(result, image) and result.flags.writeable and result.flags.c_contiguous
    if getattr(step, "mode", "") == "crop":
        assert 1 <= result.shape[1] <= height and 1 <= result.shape[2] <= width
    else:
        assert result.shape == image.shape
    if kind in ("constant", "black") and not isinstance(step, Clahe | StainMacenko):
        np.testing.assert_allclose(result, image, rtol=1e-6)
    assert (apply([step], image) == result).all()


def test_no_step_changes_nothing_and_standardise_is_not_done_here():
    image = picture("noise", "uint8", (3, 9, 7), 1)
    for steps in ([], [Standardise()]):
        result = apply(steps, image)
        assert (result == image).all() and not np.shares_memory(result, image)


def test_steps_are_done_in_the_order_given():
    shading = np.linspace(0.2, 1, 64)
    image = (rng().integers(60, 200, (1, 64, 64)) * shading).astype(np.uint8)
    a, b = Illumination(), Clahe()
    forth, back = apply([a, b], image), apply([b, a], image)
    assert (forth == apply([b], apply([a], image))).all()
    assert (back == apply([a], apply([b], image))).all()
    assert (forth != back).mean() > 0.5


def test_what_is_no_picture_is_refused():
    with pytest.raises(ValueError, match="float64"):
        apply([], np.zeros((1, 4, 4)))
    with pytest.raises(ValueError, match="4, 4"):
        apply([], np.zeros((4, 4), np.uint8))


def test_a_mask_is_never_cropped_away_from_its_picture_and_a_label_may_be():
    image, _ = discs([(20, 20, 8)])
    crop = [CentralCell(mode="crop")]
    with pytest.raises(ValueError, match="under its mask"):
        apply(crop, image, np.zeros((1, 40, 40), np.uint8))
    assert apply(crop, image, np.zeros((1, 1, 1), np.uint8)).shape[1] < 40
    soft = apply([CentralCell()], image, np.zeros((1, 40, 40), np.uint8))
    assert soft.shape == image.shape


# ---------------------------------------------------------------- illumination


def mirrored_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur by its definition, the image mirrored as often as the kernel needs."""
    reach = int(np.ceil(6 * sigma))
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    wide = np.pad(image.astype(np.float64), reach, mode="symmetric")
    rows = np.apply_along_axis(np.convolve, 0, wide, kernel, "valid")
    return np.apply_along_axis(np.convolve, 1, rows, kernel, "valid")


@pytest.mark.parametrize(("sigma", "within"), [(1.5, 0.001), (7.0, 0.001), (20.0, 0.004), (45.0, 0.004)])
def test_the_background_is_a_gaussian_blur_also_where_the_kernel_is_larger_than_the_picture(sigma, within):
    image = rng(3).integers(0, 256, (37, 61)).astype(np.uint8)
    image[:12, :20] //= 4
    expected = mirrored_blur(image, sigma)
    np.testing.assert_allclose(background(image, sigma), expected, rtol=within)


@pytest.mark.parametrize("dtype", list(RANGE))
def test_a_flat_picture_under_a_ramp_of_light_becomes_flat(dtype):
    ramp = np.linspace(0.4, 0.6, 128)
    image = np.broadcast_to(ramp, (1, 64, 128)) * RANGE[dtype]
    image = (image if dtype == "float32" else np.rint(image)).astype(dtype)
    even = apply([Illumination(sigma=0.05)], image) / np.float64(RANGE[dtype])
    assert np.ptp(even) < 0.04 and np.ptp(even[..., 16:-16]) < 0.007
    assert even.mean() == pytest.approx(0.5, abs=0.002)


def test_shading_that_the_mirror_continues_is_divided_out_as_the_formula_says():
    # a cosine over half a period keeps its form under a mirrored blur, and is damped by exp(−(πσ)² / 2)
    wave = np.cos(np.pi * (np.arange(96) + 0.5) / 96)
    image = np.broadcast_to(0.5 + 0.2 * wave, (1, 96, 96)).astype(np.float32)
    damped = np.exp(-((np.pi * 0.1) ** 2) / 2)
    divided = (0.5 + 0.2 * wave) / (0.5 + 0.2 * damped * wave)
    np.testing.assert_allclose(apply([Illumination(sigma=0.1)], image)[0, 5], divided / divided.mean() * 0.5, atol=1e-3)
    subtracted = 0.5 + 0.2 * (1 - damped) * wave
    np.testing.assert_allclose(apply([Illumination(sigma=0.1, mode="subtract")], image)[0, 5], subtracted, atol=1e-3)


@pytest.mark.parametrize("mode", ["divide", "subtract"])
def test_every_channel_keeps_its_own_mean(mode):
    image = (rng(5).random((3, 40, 56)) * 0.3 + np.array([0.2, 0.35, 0.5]).reshape(3, 1, 1)).astype(np.float32)
    result = apply([Illumination(mode=mode)], image)
    np.testing.assert_allclose(result.mean((1, 2)), image.mean((1, 2)), rtol=1e-5)


def test_dividing_scales_with_the_light_and_subtracting_moves_with_it():
    image = (rng(6).random((1, 32, 32)) * 0.4 + 0.1).astype(np.float32)
    np.testing.assert_allclose(apply([Illumination()], image * 2), apply([Illumination()], image) * 2, rtol=1e-5)
    step = Illumination(mode="subtract")
    np.testing.assert_allclose(apply([step], image + 0.3), apply([step], image) + 0.3, rtol=1e-5)


def test_black_regions_are_not_blown_up_and_whole_numbers_do_not_wrap():
    image = np.full((1, 64, 128), 200, np.uint8)
    image[:, :, :64] = 0
    image[0, 32, 16] = 1
    assert apply([Illumination(sigma=0.03)], image)[0, 32, 16] < 150
    image[:, :, :64] = 20
    image[0, 8:56:16, 32] = 130, 150, 170
    assert (apply([Illumination(sigma=0.03)], image)[0, 8:56:16, 32] == 255).all()


def test_values_below_zero_cannot_be_divided():
    image = np.full((1, 8, 8), -0.5, np.float32)
    with pytest.raises(UserError, match=r"^preprocess\.illumination: .* below 0.*; set mode: subtract"):
        apply([Illumination()], image)
    np.testing.assert_allclose(apply([Illumination(mode="subtract")], image), image)


# ---------------------------------------------------------------- clahe


def dim(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """A dim picture with structure and noise, uint8."""
    rows, columns = np.mgrid[: shape[-2], : shape[-1]]
    waves = 60 + 25 * np.sin(rows / 9) * np.cos(columns / 14)
    return np.clip(np.broadcast_to(waves, shape) + rng(seed).normal(0, 6, shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("clip", "tiles"), [(2.0, 8), (4.0, 3), (1.0, 1)])
def test_grey_pictures_are_equalised_as_opencv_does(clip, tiles):
    image = dim((1, 128, 160))
    expected = cv2.createCLAHE(clip, (tiles, tiles)).apply(image[0])
    assert (apply([Clahe(clip=clip, tiles=tiles)], image)[0] == expected).all()
    assert expected.std() > image.std()


def test_small_pictures_have_fewer_tiles_so_that_the_limit_still_means_something():
    image = dim((1, 64, 40))
    assert (apply([Clahe()], image)[0] == cv2.createCLAHE(2.0, (2, 4)).apply(image[0])).all()
    spread = [apply([Clahe(clip=clip)], image).std() for clip in (1, 2, 4)]
    assert spread[0] < spread[1] < spread[2]


def test_the_fine_mapping_is_opencvs_to_a_level_on_whole_numbers():
    image = (dim((512, 512), 4) * np.linspace(0.3, 2, 512)).clip(0, 255).astype(np.uint8)
    image[:300] //= 2
    image[0, 0], image[-1, -1] = 0, 255
    for clip in (1.0, 3.0):
        # large tiles, since cv2 spreads what was cut off in whole counts, of which a small tile has few
        expected = cv2.createCLAHE(clip, (2, 2)).apply(image).astype(float)
        found = equalise_fine(image, Clahe(clip=clip, tiles=2))
        assert np.abs(found - expected).max() < 2 and np.abs(found - expected).mean() < 0.6


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 3])
def test_more_than_8_bits_are_limited_too_and_lose_no_levels(dtype, channels):
    fine = (dim((channels, 64, 64)) + rng(1).random((channels, 64, 64))) / 256
    image = (fine * 4095 if dtype == "uint16" else fine).astype(dtype)
    results = [apply([Clahe(clip=clip)], image) for clip in (1, 2, 4)]
    spread = [result.astype(float).std() for result in results]
    assert image.std() * 0.9 < spread[0] < spread[1] < spread[2]
    levels = len(np.unique(image[0]))
    assert levels > 800 and len(np.unique(results[1][0])) > 0.9 * levels
    assert image.max() < 4096 and results[2].max() < (65535 if dtype == "uint16" else 1)


def test_floats_of_any_range_keep_it():
    image = ((dim((1, 48, 48)) + rng().random((1, 48, 48))) / 255).astype(np.float32)
    moved = apply([Clahe()], image * 500 - 100)
    np.testing.assert_allclose(moved, apply([Clahe()], image) * 500 - 100, atol=1)
    assert moved.min() >= (image * 500 - 100).min() - 1e-3 and moved.max() <= (image * 500 - 100).max() + 1e-3
    bright = colours(64, 64).astype(np.float32)
    moved = apply([Clahe()], bright)
    assert moved.max() > 150 and abs(moved - apply([Clahe()], bright / bright.max()) * bright.max()).max() < 3
    flat = np.full((1, 20, 20), -7.5, np.float32)
    assert (apply([Clahe()], flat) == flat).all()


def colours(height: int = 128, width: int = 128) -> np.ndarray:
    base = dim((3, height, width), 7).astype(np.float64)
    return np.clip(base * np.array([1.5, 0.8, 1.1]).reshape(3, 1, 1) + 20, 0, 255).astype(np.uint8)


def test_of_colour_pictures_the_lightness_is_equalised_about_as_by_opencvs_lab():
    image = colours()
    lab = cv2.cvtColor(np.ascontiguousarray(image.transpose(1, 2, 0)), cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(2.0, (8, 8)).apply(np.ascontiguousarray(lab[..., 0]))
    expected = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).transpose(2, 0, 1).astype(float)
    assert np.abs(apply([Clahe()], image) - expected).mean() < 1.5
    assert np.abs(image - expected).mean() > 8


@pytest.mark.parametrize("dtype", list(RANGE))
def test_of_colour_pictures_the_hue_stays(dtype):
    # colours that stay within the range at every lightness that comes up
    image = np.clip(dim((3, 64, 64), 7) * np.array([1.1, 0.95, 1.0]).reshape(3, 1, 1) + 20, 0, 255) / 255
    image = (np.rint(image * RANGE[dtype]) if dtype != "float32" else image).astype(dtype)
    result = apply([Clahe()], image)

    def lab(picture: np.ndarray) -> np.ndarray:
        scaled = (picture / np.float64(RANGE[dtype])).astype(np.float32)
        return cv2.cvtColor(np.ascontiguousarray(scaled.transpose(1, 2, 0)), cv2.COLOR_RGB2LAB)

    before, after = lab(image), lab(result)
    assert np.abs(after[..., 0] - before[..., 0]).mean() > 1
    inside = (result > 0).all(0) & (result < RANGE[dtype]).all(0)
    assert inside.mean() > 0.9
    assert np.abs(after[..., 1:] - before[..., 1:])[inside].max() < (1.5 if dtype == "uint8" else 0.7)


def test_grey_in_three_channels_stays_grey():
    image = np.repeat(dim((1, 64, 64)), 3, axis=0)
    result = apply([Clahe()], image).astype(int)
    assert np.ptp(result, axis=0).max() <= 1 and np.abs(result - image).mean() > 2


def test_four_channels_are_equalised_one_by_one():
    image = dim((4, 64, 64))
    result = apply([Clahe()], image)
    for channel in range(4):
        assert (result[channel] == apply([Clahe()], image[channel, None])[0]).all()


# ---------------------------------------------------------------- stain_macenko

RUIFROK = np.array([[0.65, 0.70, 0.29], [0.20, 0.80, 0.56]])
OTHER = np.array([[0.50, 0.75, 0.43], [0.15, 0.93, 0.34]])
WHITE = StainMacenko().white


def amounts(pixels: int = 64 * 64) -> np.ndarray:
    """Concentrations (pixels, 2): some pixels with one stain alone, most with both, some without any."""
    c = rng(11).uniform(0.5, 1.2, (pixels, 2))
    c[: pixels // 8, 1] = 0
    c[pixels // 8 : pixels // 4, 0] = 0
    c[: pixels // 4] *= 1.3
    c[-pixels // 8 :] = 0
    return c


def stained(concentrations: np.ndarray, stains: np.ndarray, dtype: str = "float32") -> np.ndarray:
    unit = stains / np.linalg.norm(stains, axis=1, keepdims=True)
    light = WHITE * np.exp(-concentrations @ unit) * RANGE[dtype]
    side = int(len(concentrations) ** 0.5)
    return (np.rint(light) if dtype != "float32" else light).T.reshape(3, side, side).astype(dtype)


def test_the_stains_of_a_picture_are_found():
    for stains in (RUIFROK, OTHER, RUIFROK[::-1]):
        unit = stains / np.linalg.norm(stains, axis=1, keepdims=True)
        density = amounts() @ unit
        tissue = density[(density > 0.05).all(axis=1)]
        found = stain_vectors(tissue, 1.0)
        expected = unit if unit[0, 0] > unit[1, 0] else unit[::-1]
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", list(RANGE))
def test_a_picture_comes_back_with_the_references_stains_and_strengths(dtype):
    c, step = amounts(), StainMacenko(beta=0.1)
    result = apply([step], stained(c, RUIFROK, dtype))
    unit = np.array(step.stains) / np.linalg.norm(step.stains, axis=1, keepdims=True)
    density = c @ (RUIFROK / np.linalg.norm(RUIFROK, axis=1, keepdims=True))
    tissue = (density >= 0.1).all(axis=1)
    scaled = c * np.array(step.maxima) / np.percentile(c[tissue], 99, axis=0)
    expected = (WHITE * np.exp(-scaled @ unit)).T.reshape(result.shape)
    np.testing.assert_allclose(result / np.float64(RANGE[dtype]), expected, atol=0.012 if dtype == "uint8" else 1e-3)
    found = np.linalg.lstsq(unit.T, -np.log(result.reshape(3, -1) / np.float64(RANGE[dtype]) / WHITE), rcond=None)[0]
    np.testing.assert_allclose(np.percentile(found[:, tissue], 99, axis=1), step.maxima, rtol=0.03)


def test_two_laboratories_with_the_same_tissue_give_nearly_the_same_picture():
    c = amounts()
    first, second = stained(c, RUIFROK, "uint8"), stained(c * [0.7, 1.3], OTHER, "uint8")
    before = np.abs(first.astype(int) - second).mean()
    results = [apply([StainMacenko(beta=0.1)], image).astype(int) for image in (first, second)]
    assert before > 15 and np.abs(results[0] - results[1]).mean() < 1.5


def test_what_darkens_one_channel_alone_is_no_tissue():
    marked = stained(amounts(), RUIFROK)
    tissue = apply([StainMacenko(beta=0.1)], marked)[:, :-8]
    marked[:, -8:] = np.reshape((WHITE, 0.3, WHITE), (3, 1, 1))  # a pen, over pixels without stain
    assert (apply([StainMacenko(beta=0.1)], marked)[:, :-8] == tissue).all()


def test_the_reference_can_be_given():
    c = amounts()
    unit = OTHER / np.linalg.norm(OTHER, axis=1, keepdims=True)
    tissue = ((c @ unit) >= 0.1).all(axis=1)
    high = np.percentile(c[tissue], 99, axis=0)
    step = StainMacenko(beta=0.1, stains=((0.50, 0.75, 0.43), (0.15, 0.93, 0.34)), maxima=(high[0], high[1]))
    image = stained(c, OTHER)
    np.testing.assert_allclose(apply([step], image), image, atol=1e-4)  # it is its own reference
    assert np.abs(apply([step], stained(c, RUIFROK)) - image).max() < 1e-3


def test_pictures_without_tissue_or_with_one_stain_stay_as_they_are():
    white = np.full((3, 32, 32), 244, np.uint8)
    white[:, 0, 0] = [120, 40, 130]
    assert (apply([StainMacenko()], white) == white).all()
    assert (apply([StainMacenko(min_tissue=0)], white) == white).all()
    single = stained(np.stack([rng().uniform(0.5, 2, 1024), np.zeros(1024)], axis=1), RUIFROK)
    assert (apply([StainMacenko()], single) == single).all()
    tissue = stained(amounts(), RUIFROK)
    assert (apply([StainMacenko(min_tissue=0.95)], tissue) == tissue).all()
    assert (apply([StainMacenko(min_tissue=0.5)], tissue) != tissue).any()


def test_floats_that_were_scaled_otherwise_are_refused():
    image = stained(amounts(), RUIFROK) * 255
    with pytest.raises(UserError, match=r"^preprocess\.stain_macenko: .* within 0\.\.1, found .*; set data\.dtype"):
        apply([StainMacenko()], image.astype(np.float32))
    with pytest.raises(UserError, match=r"within 0\.\.1"):
        apply([StainMacenko()], stained(amounts(), RUIFROK) - 2)


# ---------------------------------------------------------------- central_cell

PAPER, INK = (250, 230, 210), (90, 40, 130)


def discs(
    places: list[tuple[float, float, float]], size: tuple[int, int] = (40, 40), dtype: str = "uint8", noise: float = 0
) -> tuple[np.ndarray, list[np.ndarray]]:
    """A picture (3, H, W) with a disc (row, column, radius) per place, and the mask of each."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    masks = [np.hypot(rows - r, columns - c) <= radius for r, c, radius in places]
    anywhere = np.any([np.zeros(size, bool), *masks], axis=0)
    image = np.where(anywhere, np.reshape(INK, (3, 1, 1)), np.reshape(PAPER, (3, 1, 1))).astype(np.float64)
    image += rng(2).normal(0, noise, image.shape)
    scaled = np.clip(image, 0, 255) * RANGE[dtype] / 255
    return (np.rint(scaled) if dtype != "float32" else scaled).astype(dtype), masks


def agreement(found: np.ndarray | None, mask: np.ndarray) -> float:
    """Intersection over union."""
    assert found is not None
    return float((found & mask).sum() / (found | mask).sum())


@pytest.mark.parametrize("dtype", list(RANGE))
@pytest.mark.parametrize("noise", [0, 12])
def test_the_disc_in_the_middle_is_kept_and_the_other_painted_over(dtype, noise):
    image, (middle, other) = discs([(31, 30, 12), (10, 52, 8)], (64, 64), dtype, noise)
    assert agreement(central_object(image, 0.005, 0.5), middle) > 0.93
    result = apply([CentralCell(feather=0)], image)
    kept = cv2.erode(middle.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert (result[:, kept] == image[:, kept]).all()
    away = cv2.dilate(middle.astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
    paper = np.array(PAPER) / 255 * RANGE[dtype]
    assert (np.abs(result[:, away].T - paper) <= (0.02 if noise else 0.002) * RANGE[dtype]).all()
    assert other[away].any() and len(np.unique(result[:, away], axis=1).T) == 1


def test_the_picture_fades_to_the_background_over_the_feather():
    image, (middle, near, far) = discs([(32, 30, 10), (32, 46, 4), (12, 56, 3)], (64, 64))
    found = central_object(image, 0.005, 0.5)
    assert found is not None and agreement(found, middle) > 0.93 and not (found & near).any()
    result = apply([CentralCell(feather=0.25)], image)  # 16 pixels
    paper = np.array(PAPER, float)
    for row, column in np.argwhere(~found):
        away = np.hypot(*(np.argwhere(found) - (row, column)).T).min()
        expected = paper + (image[:, row, column] - paper) * max(0.0, 1 - away / 16)
        np.testing.assert_allclose(result[:, row, column], expected, atol=0.51)
    assert (result[:, found] == image[:, found]).all()
    assert (result[:, near] < 200).any() and (result[:, far].T == PAPER).all()
    assert (apply([CentralCell(feather=0.03)], image) == apply([CentralCell()], image)).all()


def test_a_crop_is_the_box_and_its_margin_in_the_pictures_proportions():
    image, (middle, _) = discs([(40, 30, 9), (8, 52, 6)], (80, 60))
    found = central_object(image, 0.005, 0.5)
    assert found is not None and agreement(found, middle) > 0.95
    mask = np.zeros((80, 60), bool)
    mask[30:50, 25:37] = True  # 20 by 12 pixels
    assert box(mask, 0.0) == (30, 50, 24, 39)  # 20 of 80 rows, so 15 of 60 columns: 3 more
    assert box(mask, 0.1) == (28, 52, 22, 40)  # 24 rows, 18 columns
    mask[:] = False
    mask[0:10, 40:60] = True
    assert box(mask, 0.1) == (0, 32, 36, 60)  # 24 of 60 columns, so 32 of 80 rows; moved into the picture
    assert box(mask, 5.0) == (0, 80, 0, 60)
    top, bottom, left, right = box(found, 0.1)
    cropped = apply([CentralCell(mode="crop")], image)
    assert (cropped == image[:, top:bottom, left:right]).all()
    assert top <= 31 and bottom >= 50 and left <= 21 and right >= 40 and cropped.size < image.size / 3


def test_a_touching_neighbour_is_cut_off_at_the_neck():
    image, (middle, pale) = discs([(32, 30, 12), (32, 50, 9)], (64, 64))
    beyond = pale & ~middle
    image[:, beyond] = np.reshape((200, 180, 170), (3, 1))
    for neck, rest in ((0.0, (0.95, 1.0)), (0.5, (0.0, 0.2)), (0.9, (0.0, 0.05))):
        found = central_object(image, 0.005, neck)
        assert found is not None and found[middle].all()
        assert rest[0] <= found[beyond].mean() <= rest[1]


def test_the_lobes_of_a_nucleus_stay_together():
    image, (one, other) = discs([(32, 26, 8), (32, 43, 7)], (64, 64))
    image[:, 31:33, 30:40] = np.reshape(INK, (3, 1, 1))
    assert agreement(central_object(image, 0.005, 0.7), one | other) > 0.9


def test_the_pale_part_around_a_dark_nucleus_belongs_to_the_object_and_so_do_small_holes():
    image, (cell, nucleus, hole) = discs([(32, 32, 16), (30, 36, 7), (38, 26, 2)], (64, 64))
    image[:, cell] = np.reshape((200, 170, 190), (3, 1))
    image[:, nucleus] = np.reshape(INK, (3, 1))
    image[:, hole] = np.reshape(PAPER, (3, 1))
    assert agreement(central_object(image, 0.005, 0.5), cell) > 0.93


def test_what_is_bright_on_black_or_grey_is_found_too():
    image, (middle, _) = discs([(32, 32, 12), (8, 8, 5)], (64, 64))
    assert agreement(central_object(255 - image, 0.005, 0.5), middle) > 0.93
    assert agreement(central_object(image[:1], 0.005, 0.5), middle) > 0.93


def test_where_nothing_is_convincing_the_picture_stays_as_it_is():
    faint, _ = discs([(32, 32, 12)], (64, 64))
    faint = (faint // 64 + 100).astype(np.uint8)
    uneven, _ = discs([], (64, 64))
    uneven[:, :, 12:] = rng().integers(20, 160, (3, 64, 52))
    pictures = {
        "constant": np.full((3, 64, 64), 77, np.uint8),
        "faint": faint,
        "far from the middle": discs([(10, 10, 8)], (64, 64))[0],
        "too small": discs([(32, 32, 1.5)], (64, 64))[0],
        "over most of the edge": uneven,
    }
    for name, image in pictures.items():
        assert central_object(image, 0.02, 0.5) is None, name
        for mode in ("soft", "crop"):
            assert np.array_equal(apply([CentralCell(mode=mode, min_area=0.02)], image), image), name
    for seed in range(10):
        noise = np.clip(rng(seed).normal(128, 30, (1, 32, 32)), 0, 255).astype(np.uint8)
        assert central_object(noise, 0.005, 0.5) is None
    assert central_object(discs([(32, 32, 5)], (64, 64))[0], 0.005, 0.5) is not None
    assert central_object(discs([(32, 32, 5)], (64, 64))[0], 0.05, 0.5) is None


def test_the_background_is_the_commonest_colour_of_the_border_even_where_it_is_the_smaller_part():
    smooth = np.full((1, 50, 50), 0.8)
    smooth[0, :, :22] = np.linspace(0.1, 0.6, 22)  # more than half of the border, no two alike
    smooth[0, :2, 22:35] = np.linspace(0.1, 0.6, 13)
    assert background_colour(smooth).tolist() == [0.8]


def test_a_notch_at_the_edge_is_no_hole():
    image, _ = discs([], (64, 64))
    image[:, 20:, 20:45] = np.reshape(INK, (3, 1, 1))
    image[:, 59:, 30:35] = np.reshape(PAPER, (3, 1, 1))
    image[:, 35:40, 30:35] = np.reshape(PAPER, (3, 1, 1))
    found = central_object(image, 0.005, 0.5)
    assert found is not None and not found[62, 32] and found[37, 32] and found[55, 32]


def test_what_differs_in_colour_is_further_away_than_what_is_merely_darker():
    smooth = np.array([[[3.0, 3.0]], [[3.0, 0.0]], [[3.0, 0.0]]])
    # mean squares 9 and 3, variances 0 and 2
    np.testing.assert_allclose(colour_distance(smooth, np.zeros(3)), [[3.0, 5**0.5]])


def test_thresholds_lie_in_the_middle_of_gaps():
    # bins 0, 128 and 255 are full, so that any first bin of 1..128 and any second one of 129..255 are as good
    values = np.array([0.0] * 5 + [0.5] * 4 + [1.0] * 3)
    assert two_thresholds(values) == (64.5 / 256, 192 / 256)


def test_two_thresholds_are_otsus_by_trying_all():
    values = np.concatenate([rng(0).normal(m, 0.04, n) for m, n in ((0.1, 500), (0.45, 200), (0.85, 90))]).clip(0, 1)
    low, high = two_thresholds(values)
    bins = np.minimum((values * 256).astype(int), 255)

    def within(first: int, second: int) -> float:
        parts = (bins[bins < first], bins[(bins >= first) & (bins < second)], bins[bins >= second])
        return sum(float(part.var() * len(part)) for part in parts if len(part))

    least = min(within(a, b) for a in range(1, 256, 3) for b in range(a + 1, 256, 3))
    assert within(round(low * 256), round(high * 256)) <= least
    assert 0.2 < low < 0.35 and 0.55 < high < 0.75
