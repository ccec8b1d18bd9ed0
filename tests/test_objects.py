"""Objects out of masks: found, split, filled and measured, with shapes whose values are worked out by hand."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import ndimage

from podium.config_objects import Objects
from podium.objects.find import Found, find, kind_names
from podium.objects.measure import Measures, measure

CLASSES = ("background", "cell", "nucleus")


def objects(**values: Any) -> Objects:
    return Objects.model_validate(values)


def found(labels: np.ndarray, classes: tuple[str, ...] = CLASSES, unscored: int | None = None, **values: Any) -> Found:
    return find(labels, objects(**values), classes, unscored)


def picture(*rows: str) -> np.ndarray:
    """A mask drawn in figures; a dot is 0, a question mark has no label."""
    figures = {".": 0, "?": 255} | {str(i): i for i in range(10)}
    return np.array([[figures[pixel] for pixel in row] for row in rows], np.uint8)


def disc(size: tuple[int, int], *centres: tuple[float, float], radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.any([np.hypot(rows - y, columns - x) <= radius for y, x in centres], axis=0).astype(np.uint8)


def test_settings_are_strict():
    with pytest.raises(ValidationError, match="distance: does nothing with split: components; remove it or set split"):
        objects(distance=5)
    with pytest.raises(ValidationError, match="Extra inputs"):
        objects(minimum=5)
    with pytest.raises(ValidationError):
        objects(split="watershed", distance=0)
    assert objects(split="watershed").distance == 10
    for settings_ in (objects(), objects(split="watershed", distance=7)):
        assert Objects.model_validate(settings_.model_dump(mode="json")) == settings_


def test_connectivity_decides_whether_corners_join():
    labels = picture("1...", ".1..", "..11")
    assert len(found(labels)) == 1
    # numbered by their first pixels, row by row
    assert found(labels, connectivity=4).numbers.tolist() == [[1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 3, 3]]
    assert found(labels).numbers.dtype == np.int32


def test_foreground_joins_what_classes_part():
    labels = picture("11..2", "12..2", ".....", "1....")
    joined = found(labels)
    assert joined.numbers.tolist() == [[1, 1, 0, 0, 2], [1, 1, 0, 0, 2], [0] * 5, [3, 0, 0, 0, 0]]
    assert kind_names(objects(), CLASSES, None) == ("foreground",) and joined.kinds.tolist() == [0, 0, 0]
    apart = found(labels, of="classes")
    assert apart.numbers.tolist() == [[1, 1, 0, 0, 2], [1, 3, 0, 0, 2], [0] * 5, [4, 0, 0, 0, 0]]
    assert kind_names(objects(of="classes"), CLASSES, None) == ("cell", "nucleus")
    assert apart.kinds.tolist() == [0, 1, 1, 0]


def test_the_background_is_the_unscored_class_or_the_first():
    labels = picture("0012", "0012")
    assert found(labels, unscored=1).numbers.tolist() == [[1, 1, 0, 2]] * 2
    assert kind_names(objects(of="classes"), CLASSES, 1) == ("background", "nucleus")
    assert found(labels, unscored=1, of="classes").kinds.tolist() == [0, 1]
    assert found(labels, unscored=2, of="classes").kinds.tolist() == [0, 1]


def test_a_ring_is_filled_and_a_bay_is_not():
    labels = picture("......1", ".111..1", ".1.1..1", ".111.11", "......1")
    assert np.bincount(found(labels).numbers.ravel()).tolist() == [20, 6, 9]
    assert np.bincount(found(labels, fill_holes=False).numbers.ravel()).tolist() == [21, 6, 8]
    # what touches the picture's edge is not enclosed
    assert (found(picture("1.1", "1.1", "111")).numbers > 0).sum() == 7


def test_the_corner_that_joins_an_object_parts_the_background():
    diamond = picture("..1..", ".1.1.", "..1..")
    assert (found(diamond).numbers > 0).sum() == 5
    four = found(diamond, connectivity=4)
    assert len(four) == 4 and (four.numbers > 0).sum() == 4


def test_a_hole_belongs_to_the_one_class_around_it():
    labels = picture("1111111", "1.....1", "1.222.1", "1.2.2.1", "1.222.1", "1.....1", "1111111")
    apart = found(np.pad(labels, 1), of="classes").numbers[1:-1, 1:-1]
    # the gap between the two rings is fenced by both classes and stays; the middle is the inner ring's
    assert apart[3, 3] == apart[2, 2] == 2 and (apart == 2).sum() == 9
    assert apart[1, 1] == 0 and (apart == 1).sum() == 24
    assert (found(np.pad(labels, 1)).numbers == 1).sum() == 49


def test_pixels_without_a_label_belong_to_nothing():
    labels = np.pad(picture("1111111", "1???1.1", "1?.?111", "1???111", "1111111"), 1)
    got = found(labels).numbers[1:-1, 1:-1]
    # nobody knows what encloses the pixel among unlabelled ones; the hole at the right is one
    assert got[2, 2] == 0 and got[1, 5] == 1 and (got > 0).sum() == 35 - 9
    cut = picture("11?11", "11?11")
    assert found(cut).numbers.tolist() == [[1, 1, 0, 2, 2]] * 2


def test_small_objects_go_and_numbers_close_up():
    labels = picture("1.11.111")
    assert found(labels, min_area=2).numbers.tolist() == [[0, 0, 1, 1, 0, 2, 2, 2]]
    assert found(labels, min_area=2).kinds.tolist() == [0, 0]
    assert len(found(labels, min_area=4)) == 0
    # holes are filled before areas are counted
    assert len(found(np.pad(picture("111", "1.1", "111"), 1), min_area=9)) == 1
    assert len(found(np.pad(picture("111", "1.1", "111"), 1), min_area=9, fill_holes=False)) == 0


def test_two_touching_discs_are_split_by_watershed_and_not_by_components():
    labels = disc((40, 60), (20, 18), (20, 36), radius=10)
    assert len(found(labels)) == 1
    split = found(labels, split="watershed", distance=12)
    assert len(split) == 2
    # the cut runs half-way between the centres, at column 27, and takes nothing away
    assert ((split.numbers > 0) == (labels > 0)).all()
    assert (split.numbers[:, :27] <= 1).all() and np.isin(split.numbers[:, 28:], (0, 2)).all()
    # centres are 18 apart: as soon as more is asked for they are one
    assert len(found(labels, split="watershed", distance=18)) == 2
    assert len(found(labels, split="watershed", distance=19)) == 1


def test_what_does_not_get_narrow_is_not_split():
    bar = np.zeros((30, 120), np.uint8)
    bar[5:25, 5:115] = 1
    assert len(found(bar, split="watershed", distance=5)) == 1
    assert len(found(disc((50, 50), (25, 25), radius=20), split="watershed", distance=3)) == 1
    # one missing pixel is a ragged outline, even where the middle is a single row; three on either side are a waist
    waist = bar.copy()
    waist[25, 5:115], waist[5, 60] = 1, 0
    assert len(found(waist, split="watershed", distance=5)) == 1
    waist[5:8, 55:65] = waist[23:26, 55:65] = 0
    assert len(found(waist, split="watershed", distance=5)) == 2


def test_the_edge_cuts_an_object_off_and_does_not_end_it():
    half = disc((20, 40), (0, 20), radius=15)
    assert len(found(half, split="watershed", distance=5)) == 1
    assert len(found(np.ones((20, 30), np.uint8), split="watershed", distance=5)) == 1


def test_watershed_with_classes_cuts_each_by_itself():
    labels = disc((40, 60), (20, 18), (20, 36), radius=10)
    labels[:, 30:] *= 2
    split = found(labels, of="classes", split="watershed", distance=8)
    assert len(split) == 2 and split.kinds.tolist() == [0, 1]


@pytest.mark.parametrize("split", ["components", "watershed"])
def test_empty_masks_have_no_objects(split):
    for shape in ((7, 5), (1, 1), (0, 3)):
        got = found(np.zeros(shape, np.uint8), split=split)
        assert len(got) == 0 and got.numbers.shape == shape and not got.numbers.any()
    assert len(found(np.full((4, 4), 255, np.uint8), split=split)) == 0
    assert list(measure("a", np.zeros((1, 7, 5), np.uint8), 255.0, found(np.zeros((7, 5), np.uint8)), ["f"])) == []


def test_values_that_are_no_class_are_refused():
    with pytest.raises(ValueError, match=r"neither a class \(0..2\) nor 255"):
        found(picture("13"))
    with pytest.raises(ValueError, match="expected uint8"):
        found(np.zeros((2, 2), np.int64))
    with pytest.raises(ValueError, match="expected uint8"):
        found(np.zeros((1, 2, 2), np.uint8))


MASKS = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).choice([0, 1, 2, 255], (9, 11), p=[0.4, 0.4, 0.15, 0.05]).astype(np.uint8)
)


@settings(max_examples=60, deadline=None)
@given(MASKS, st.sampled_from([4, 8]), st.sampled_from(["classes", "foreground"]))
def test_components_are_those_of_scipy(labels, connectivity, of):
    got = found(labels, of=of, connectivity=connectivity, fill_holes=False)
    structure = ndimage.generate_binary_structure(2, 1 if connectivity == 4 else 2)
    regions = [np.isin(labels, (1, 2))] if of == "foreground" else [labels == 1, labels == 2]
    for kind, region in enumerate(regions):
        expected, count = ndimage.label(region, structure)
        assert (got.kinds == kind).sum() == count
        pairs = {(a, b) for a, b in zip(got.numbers[region].tolist(), expected[region].tolist(), strict=True)}
        assert len(pairs) == count and (got.numbers[region] > 0).all()


@settings(max_examples=60, deadline=None)
@given(MASKS, st.sampled_from([4, 8]))
def test_holes_of_the_foreground_are_those_of_scipy(labels, connectivity):
    labels = np.where(labels == 255, 0, labels).astype(np.uint8)
    background = ndimage.generate_binary_structure(2, 2 if connectivity == 4 else 1)
    expected = ndimage.binary_fill_holes(labels > 0, background)
    assert ((found(labels, connectivity=connectivity).numbers > 0) == expected).all()


@settings(max_examples=60, deadline=None)
@given(MASKS, st.sampled_from([4, 8]), st.sampled_from(["classes", "foreground"]), st.integers(1, 4))
def test_watershed_only_cuts(labels, connectivity, of, distance):
    whole = found(labels, of=of, connectivity=connectivity)
    parts = found(labels, of=of, connectivity=connectivity, split="watershed", distance=distance)
    assert ((whole.numbers > 0) == (parts.numbers > 0)).all()
    for number, kind in enumerate(parts.kinds.tolist(), 1):
        owner = np.unique(whole.numbers[parts.numbers == number])
        assert len(owner) == 1 and whole.kinds[owner[0] - 1] == kind
        structure = ndimage.generate_binary_structure(2, 1 if connectivity == 4 else 2)
        assert ndimage.label(parts.numbers == number, structure)[1] == 1  # every part hangs together


# ---------------------------------------------------------------- measured


def measured(labels: np.ndarray, image: np.ndarray | None = None, scale: float = 255.0) -> list[Measures]:
    image = np.zeros((1, *labels.shape), np.uint8) if image is None else image
    return list(measure("a", image, scale, found(labels), ["foreground"]))


def test_a_rectangle():
    labels = np.zeros((20, 30), np.uint8)
    labels[3:9, 10:20] = 1
    image = np.full((2, 20, 30), 255, np.uint8)
    image[0, 3:9, 10:20], image[1, 3:9, 10:15], image[1, 3:9, 15:20] = 51, 0, 102
    (one,) = measured(labels, image)
    assert (one.image, one.id, one.kind, one.area) == ("a", 1, "foreground", 60)
    assert (one.top, one.left, one.bottom, one.right) == (3, 10, 9, 20)
    assert (one.centroid_y, one.centroid_x) == (5.5, 14.5)
    assert one.perimeter == 2 * (5 + 9)  # from centre to centre of the border's pixels
    assert one.solidity == pytest.approx(1, abs=1e-12)
    # the variance of n positions in a row is (n² - 1) / 12
    assert one.eccentricity == pytest.approx(np.sqrt(1 - (6**2 - 1) / (10**2 - 1)), abs=1e-9)
    # 51 in one channel, half 0 and half 102 in the other: 51 on the mean of both
    assert one.mean_intensity == pytest.approx(51 / 255, abs=1e-12)


def test_a_disc_is_round_and_a_corner_is_not_solid():
    (one,) = measured(disc((60, 60), (30, 29), radius=20))
    assert one.eccentricity == pytest.approx(0, abs=1e-6)
    assert (one.centroid_y, one.centroid_x) == pytest.approx((30, 29), abs=1e-9)
    assert one.area == pytest.approx(np.pi * 20**2, rel=0.01)
    assert one.perimeter == pytest.approx(2 * np.pi * 20, rel=0.06)
    assert one.solidity > 0.95
    # an L of three 4 × 4 squares: 48 pixels in a hull of 64 less a corner of half a square
    corner = np.zeros((12, 12), np.uint8)
    corner[2:10, 2:10] = 1
    corner[2:6, 6:10] = 0
    (one,) = measured(corner)
    assert one.area == 48 and one.solidity == pytest.approx(48 / 56, rel=0.06)


def test_pixels_and_lines_are_measured_without_a_warning():
    labels = picture("1.......", "...11111", "........", "1.......", ".1......", "..1.....")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixel, line, diagonal = measured(labels)
    assert (pixel.area, pixel.eccentricity, pixel.solidity) == (1, 0, 1)
    assert (line.area, line.solidity) == (5, 1)
    assert line.eccentricity == 1
    assert diagonal.area == 3 and np.isfinite([diagonal.perimeter, diagonal.eccentricity, diagonal.solidity]).all()


def test_intensity_is_scaled_by_the_type_and_floats_are_taken_as_they_are():
    labels = picture("11", "..")
    for dtype, scale in ((np.uint8, 255), (np.uint16, 65535), (np.float32, 1)):
        image = np.array([[[scale, 0], [scale, scale]]], dtype)
        assert measured(labels, image, float(scale))[0].mean_intensity == 0.5
    with pytest.raises(ValueError, match="differ in size"):
        measured(labels, np.zeros((1, 3, 2), np.uint8))
