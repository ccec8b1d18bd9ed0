"""Near duplicates: planted copies are found, what merely resembles is not joined, and neither is a chain."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from podium.audit import descriptor, near_compare, near_groups
from podium.audit.forest import LEAF, near_pairs
from podium.audit.near import Near, across, near_duplicates
from podium.audit.near_brightness import unexplained
from podium.audit.near_compare import compare, rings, tolerance
from podium.audit.near_pictures import INVERSE, ORIENTATIONS, Pictures, luma, turn
from podium.audit.near_shift import best_shift
from podium.data.ragged import Ragged

SHIFTS = ((2, 0), (0, 2), (-2, 0), (0, -2), (2, 2), (-2, 2), (2, -2), (-2, -2))


def ragged(pictures: Sequence[np.ndarray], prefix: str = "r") -> Ragged:
    """Pictures (C, H, W) of any sizes."""
    values = np.concatenate([picture.reshape(-1) for picture in pictures])
    shapes = np.array([picture.shape for picture in pictures])
    return Ragged(values, shapes, np.array([f"{prefix}{i}" for i in range(len(pictures))]))


def eight(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def clouds(seed: int, count: int, channels: int, height: int, width: int, grain: float = 3.0) -> np.ndarray:
    """Smooth noise, uint8 (count, channels, height, width)."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((count, height + 32, width + 32, channels)).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(one, (0, 0), grain).reshape(one.shape) for one in noise])[:, 16:-16, 16:-16]
    smooth /= smooth.std(axis=(1, 2, 3), keepdims=True)
    return eight(128 + 40 * smooth.transpose(0, 3, 1, 2))


def noise(seed: int, count: int, channels: int, side: int) -> np.ndarray:
    """Sharp noise."""
    return np.random.default_rng(seed).integers(0, 256, (count, channels, side, side), np.uint8)


def stroke(points: np.ndarray, side: int = 28) -> np.ndarray:
    """A white line through ``points`` (n, 2), in pixels, on black."""
    canvas = np.zeros((side, side), np.uint8)
    cv2.polylines(canvas, [np.rint(points * 16).astype(np.int32)[:, None]], False, 255, 2, cv2.LINE_AA, 4)
    return canvas[None]


def digits(seed: int, count: int) -> np.ndarray:
    """Crooked strokes of 28 × 28, one in twenty nearly straight, as ones are."""
    rng = np.random.default_rng(seed)
    out = []
    for number in range(count):
        if number % 20:
            out.append(stroke(rng.uniform(6, 22, (int(rng.integers(3, 6)), 2))))
        else:
            lean, bend, top, bottom = rng.uniform((-6, -3, 3, 20), (6, 3, 8, 25))
            out.append(stroke(np.array([[14 + lean, top], [14 + bend, 14], [14 - lean, bottom]])))
    return np.stack(out)


def jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    image = Image.fromarray(picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    back = np.array(Image.open(file))
    return back[None] if back.ndim == 2 else np.ascontiguousarray(back.transpose(2, 0, 1))


def shifted(picture: np.ndarray, down: int, right: int, mode: str) -> np.ndarray:
    """Moved, with what moves in made up by ``np.pad``; "new" is noise."""
    _, height, width = picture.shape
    if mode == "new":
        padded = np.random.default_rng(int(picture.sum())).integers(0, 256, (len(picture), height + 4, width + 4))
        padded[:, 2:-2, 2:-2] = picture
    else:
        padded = np.pad(picture, ((0, 0), (2, 2), (2, 2)), mode=mode)  # type: ignore[call-overload]
    return padded[:, 2 - down : 2 - down + height, 2 - right : 2 - right + width].astype(np.uint8)


KINDS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "jpeg 50": lambda x, i: jpeg(x, 50),
    "jpeg 75": lambda x, i: jpeg(x, 75),
    "jpeg 90": lambda x, i: jpeg(x, 90),
    "times 1.1": lambda x, i: eight(x * 1.1),
    "times 0.9": lambda x, i: eight(x * 0.9),
    "plus 25": lambda x, i: eight(x + 25.0),
    "minus 25": lambda x, i: eight(x - 25.0),
    "shift edge": lambda x, i: shifted(x, *SHIFTS[i % 8], "edge"),
    "shift reflect": lambda x, i: shifted(x, *SHIFTS[i % 8], "reflect"),
    "shift new": lambda x, i: shifted(x, *SHIFTS[i % 8], "new"),
    "flip h": lambda x, i: x[:, :, ::-1],
    "flip v": lambda x, i: x[:, ::-1],
    "rot90": lambda x, i: np.rot90(x, 1, (1, 2)),
    "rot180": lambda x, i: np.rot90(x, 2, (1, 2)),
    "rot270": lambda x, i: np.rot90(x, 3, (1, 2)),
}
FAMILIES: dict[str, Callable[[], np.ndarray]] = {
    "digits 28": lambda: digits(0, 400),
    "clouds 64x128": lambda: clouds(1, 200, 1, 64, 128),
    "faint clouds 64x128": lambda: eight(100 + (clouds(2, 200, 1, 64, 128, 2.0) - 128.0) / 8),
    "colour clouds 96": lambda: clouds(3, 80, 3, 96, 96),
    "colour noise 96": lambda: noise(4, 80, 3, 96),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_planted_copies_are_found_and_nothing_else(family: str) -> None:
    originals = list(FAMILIES[family]())
    rows, source, kind_of = list(originals), list(range(len(originals))), [""] * len(originals)
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(len(originals)), len(KINDS)))
    each = 20
    for number, kind in enumerate(KINDS):
        for i in order[number * each : (number + 1) * each].tolist():
            rows.append(np.ascontiguousarray(KINDS[kind](originals[i], i)))
            source.append(i)
            kind_of.append(kind)
    groups = near_duplicates(ragged(rows)).groups
    found = defaultdict(list)
    for row in range(len(originals), len(rows)):
        found[kind_of[row]].append(groups[row] == groups[source[row]])
    shares = {kind: float(np.mean(hits)) for kind, hits in found.items()}
    assert set(shares) == set(KINDS)
    assert min(shares.values()) >= 0.95, shares
    assert len(np.unique(groups[: len(originals)])) == len(originals)  # no two originals together


def test_pairs_say_how_the_second_is_turned() -> None:
    picture, *others = clouds(5, 12, 1, 40, 56)
    rows = [*others[:3], picture, *others[3:]]
    for name in ORIENTATIONS[1:]:
        # The copy must be turned by ``name`` to match: it is turned the other way beforehand.
        copy = jpeg(np.ascontiguousarray(turn(picture, INVERSE[ORIENTATIONS.index(name)])), 90)
        found = near_duplicates(ragged([*rows, copy]))
        assert [(pair.first, pair.second, pair.orientation) for pair in found.pairs] == [(3, len(rows), name)]
        assert 0.9 < found.pairs[0].correlation <= 1
        expected = [*range(len(rows)), 3]
        assert found.groups.tolist() == expected
    assert (turn(picture, ORIENTATIONS.index("rot90")) == np.rot90(picture, 1, (1, 2))).all()
    assert (turn(picture, ORIENTATIONS.index("rot270")) == np.rot90(picture, -1, (1, 2))).all()
    assert (turn(picture, ORIENTATIONS.index("flip h")) == picture[..., ::-1]).all()
    for number in range(8):
        assert (turn(turn(picture, number), INVERSE[number]) == picture).all()


def test_a_chain_is_cut_where_its_ends_differ() -> None:
    first, last = (clouds(seed, 1, 1, 48, 48)[0].astype(float) for seed in (6, 7))
    steps = 61
    chain = [eight(128 + np.cos(t) * (first - 128) + np.sin(t) * (last - 128)) for t in np.linspace(0, 2, steps)]
    neighbours = compare(
        Pictures.of([ragged(chain)]), np.arange(steps - 1), np.arange(1, steps), np.zeros(steps - 1, int)
    )
    assert neighbours.copies().all()  # so that links alone would join them all
    groups = near_duplicates(ragged([*chain, *clouds(8, 20, 1, 48, 48)])).groups[:steps]
    assert 3 < len(np.unique(groups)) < steps / 2
    a, b = np.triu_indices(steps, 1)
    together = groups[a] == groups[b]
    likeness = compare(Pictures.of([ragged(chain)]), a[together], b[together], np.zeros(together.sum(), int), reach=2)
    assert likeness.copies(slack=2).mean() > 0.98


def test_strokes_that_correlate_are_not_joined() -> None:
    rng = np.random.default_rng(9)
    lean = np.repeat(np.linspace(-6, 6, 10), 6)
    ones = [stroke(np.array([[14 + d, 5], [14 - d, 23]]) + rng.normal(0, 0.5, (2, 2))) for d in lean]
    flat = np.stack(ones).reshape(len(ones), -1)
    nearest = np.sort(np.corrcoef(flat) - 2 * np.eye(len(ones)), axis=1)[:, -1]
    assert np.median(nearest) > 0.95
    assert near_duplicates(ragged(ones)).groups.tolist() == list(range(len(ones)))


def test_a_thing_on_the_same_ground_makes_another_picture() -> None:
    ground, *others = clouds(10, 30, 1, 96, 96)
    pictures = []
    for row, column in ((20, 20), (60, 30), (40, 70)):
        picture = ground.astype(float)
        picture[:, row : row + 10, column : column + 10] += 25
        pictures.append(eight(picture))
    found = near_duplicates(ragged([ground, *pictures, *others]))
    assert found.groups.tolist() == list(range(33))


def test_colours_count() -> None:
    grey = clouds(11, 20, 1, 48, 48).astype(float) - 128
    weights = np.array([0.299, 0.587, 0.114])
    change = np.array([1.0, -0.2, 0.0])
    change[2] = -(weights[:2] @ change[:2]) / weights[2]  # brightness stays the same
    reddish = eight(128 + grey / 4 + np.abs(grey) / 2 * change[:, None, None])
    plain = eight(128 + grey / 4 + 0 * change[:, None, None])
    assert np.abs(luma(reddish.astype(np.float32)) - luma(plain.astype(np.float32))).max() < 1.5
    assert near_duplicates(ragged([*reddish, *plain])).groups.tolist() == list(range(40))


def test_blank_pictures_are_joined_only_where_equal() -> None:
    levels = [np.full((1, 32, 32), level, np.uint8) for level in (0, 7, 7, 100, 250, 100)]
    rng = np.random.default_rng(12)
    nearly = [(100 + rng.integers(0, 2, (1, 32, 32))).astype(np.uint8) for _ in range(30)]
    ramp = [eight(np.broadcast_to(np.linspace(a, a + 4, 32), (1, 32, 32))) for a in (50, 90)]
    found = near_duplicates(ragged([*levels, *nearly]))
    assert found.groups[:6].tolist() == [0, 1, 1, 2, 3, 2]
    assert len(np.unique(found.groups[6:])) == 30
    assert found.pairs == ()
    assert near_duplicates(ragged([*levels[:2], *ramp])).groups.tolist() == [0, 1, 2, 3]


def test_hundreds_of_equal_copies() -> None:
    joke, *others = clouds(13, 40, 3, 32, 32)
    rows = [*others, *[joke] * 300, jpeg(joke, 80), np.ascontiguousarray(joke[:, ::-1])]
    found = near_duplicates(ragged(rows))
    assert found.groups.tolist() == [*range(39), *[39] * 302]
    assert sorted((pair.first, pair.second) for pair in found.pairs) == [(39, 339), (39, 340), (339, 340)]


def test_more_copies_than_neighbours_make_one_group() -> None:
    picture, *others = clouds(14, 60, 1, 40, 40)
    rng = np.random.default_rng(15)
    copies = [eight(shifted(picture, *SHIFTS[i % 8], "edge") + rng.normal(0, 2, picture.shape)) for i in range(40)]
    copies += [eight(picture + rng.normal(0, 2, picture.shape)) for _ in range(80)]
    groups = near_duplicates(ragged([picture, *copies, *others])).groups
    assert np.mean(groups[:121] == 0) > 0.97
    assert len(np.unique(groups[121:])) == 59


def test_order_does_not_matter() -> None:
    originals = list(clouds(16, 30, 1, 32, 48)) + list(digits(17, 30))
    rows = [*originals, *(np.ascontiguousarray(KINDS[kind](originals[i], i)) for i, kind in enumerate(KINDS))]
    rows += [rows[3], rows[40], rows[40]]
    one = near_duplicates(ragged(rows))
    assert len(np.unique(one.groups)) == len(originals)
    order = np.random.default_rng(18).permutation(len(rows))
    two = near_duplicates(ragged([rows[i] for i in order]))

    def partition(found: Near, names: Sequence[int]) -> set[frozenset[int]]:
        return {frozenset(np.asarray(names)[found.groups == g].tolist()) for g in set(found.groups.tolist())}

    assert partition(one, range(len(rows))) == partition(two, order.tolist())
    _, first = np.unique(two.groups, return_index=True)
    assert (np.diff(first) > 0).all()  # numbered by first occurrence
    correlations = [[round(pair.correlation, 5) for pair in found.pairs] for found in (one, two)]
    assert correlations[0] == correlations[1] == sorted(correlations[0], reverse=True)


def test_sizes_and_channels_may_differ() -> None:
    grey, wide, colour = clouds(19, 10, 1, 40, 40), clouds(20, 10, 1, 40, 64), clouds(21, 10, 3, 40, 40)
    half = cv2.resize(clouds(22, 1, 1, 80, 80, 5)[0, 0], (40, 40), interpolation=cv2.INTER_AREA)[None]
    rows = [*grey, *wide, *colour, clouds(22, 1, 1, 80, 80, 5)[0]]
    of_colour = eight(luma(colour[2].astype(np.float32)))[None]
    copies = [np.ascontiguousarray(np.rot90(wide[3], 1, (1, 2))), jpeg(colour[4], 80), of_colour, half]
    groups = near_duplicates(ragged([*rows, *copies])).groups
    assert groups.tolist() == [*range(31), 13, 24, 22, 30]


def test_large_pictures_may_be_shifted_too() -> None:
    large = list(clouds(23, 5, 1, 400, 300, 2.0))
    copies = [shifted(picture, *SHIFTS[i], "edge") for i, picture in enumerate(large)]
    turned = [np.ascontiguousarray(np.rot90(shifted(picture, 2, -2, "edge"), 1, (1, 2))) for picture in large]
    assert near_duplicates(ragged([*large, *copies, *turned])).groups.tolist() == [*range(5)] * 3


@pytest.mark.parametrize("kind", ["uint16", "float32", "float64"])
def test_other_types_of_pixels(kind: str) -> None:
    originals = clouds(25, 40, 1, 32, 32)
    copies = [KINDS[name](originals[i], i) for i, name in enumerate(KINDS)]
    rows = np.stack([*originals, *copies]).astype(np.float64)
    scale = {"uint16": 16.0, "float32": 1 / 255, "float64": 1.0}[kind]
    pixels = (rows * scale).astype(kind)
    if kind == "float32":
        pixels[30, 0, 0, 0] = np.nan
        pixels[31, 0, 5, 5] = np.inf
    found = near_duplicates(Ragged.stack(pixels, np.arange(len(pixels)).astype(str)))
    assert found.groups.tolist() == [*range(40), *range(len(KINDS))]


def test_across_names_training_and_test_rows() -> None:
    pictures = clouds(26, 40, 1, 32, 48)
    train = [*pictures[:20], pictures[4]]
    test = [pictures[30], pictures[4], jpeg(pictures[7], 80), pictures[31], pictures[4], jpeg(pictures[31], 90)]
    test.append(np.ascontiguousarray(pictures[9][:, :, ::-1]))
    found = across(ragged(train), ragged(test, "t"))
    assert [(pair.first, pair.second, pair.orientation) for pair in found] == [
        (4, 1, "as is"),
        (4, 4, "as is"),
        (9, 6, "flip h"),
        (7, 2, "as is"),
    ]
    assert [pair.correlation for pair in found[:2]] == [1, 1]
    assert across(ragged(train), ragged([pictures[35]], "t")) == ()


def test_few_rows_or_none() -> None:
    nothing = Ragged(np.zeros(0, np.uint8), np.zeros((0, 3), np.int64), np.zeros(0, np.str_))
    assert near_duplicates(nothing).groups.shape == (0,)
    assert (
        across(nothing, ragged([clouds(27, 1, 1, 8, 8)[0]]))
        == across(ragged([clouds(27, 1, 1, 8, 8)[0]]), nothing)
        == ()
    )
    assert near_duplicates(ragged([clouds(27, 1, 1, 8, 8)[0]])).groups.tolist() == [0]
    tiny = [np.array([[[i % 3, i % 3]]], np.uint8) for i in range(6)]
    assert near_duplicates(ragged(tiny)).groups.tolist() == [0, 1, 2, 0, 1, 2]
    with_shapes = [np.full((1, 1, 1), 3, np.uint8), np.full((3, 7, 5), 3, np.uint8), np.full((1, 1, 2), 3, np.uint8)]
    assert near_duplicates(ragged(with_shapes)).groups.tolist() == [0, 1, 2]


def test_memory_mapped_rows_and_progress(tmp_path: Path) -> None:
    pictures = clouds(28, 30, 1, 32, 32)
    ragged([*pictures, jpeg(pictures[5], 80)]).save(tmp_path / "images.npy")
    told: list[float] = []
    found = near_duplicates(Ragged.open(tmp_path / "images.npy"), told.append)
    assert found.groups.tolist() == [*range(30), 5]
    assert told == sorted(told) and 0 < told[0] < 0.5 and told[-1] == 1


# The steps


def test_nearest_pairs_are_those_of_an_exhaustive_search() -> None:
    points = np.random.default_rng(29).standard_normal((LEAF, 3)).astype(np.float32)
    distance = np.linalg.norm(points[:, None] - points[None], axis=2) + np.diag(np.full(LEAF, np.inf))
    expected = {
        (min(i, j), max(i, j))
        for i in range(LEAF)
        for j in np.argsort(distance[i])[:3].tolist()
        if distance[i, j] <= 0.5
    }
    assert set(map(tuple, near_pairs(points, 3, 0.5).tolist())) == expected
    side = np.arange(LEAF) % 4 == 0
    pairs = near_pairs(points, 3, 9.0, side)
    assert (side[pairs[:, 0]] != side[pairs[:, 1]]).all()
    other = np.where(side[:, None] != side[None], distance, np.inf)
    assert {tuple(sorted((i, int(other[i].argmin())))) for i in range(LEAF)} <= set(map(tuple, pairs.tolist()))


def test_trees_find_what_lies_close() -> None:
    rng = np.random.default_rng(30)
    points = rng.standard_normal((3001, 12)).astype(np.float32) * 20
    close = points[:500] + rng.standard_normal((500, 12)).astype(np.float32)
    pairs = near_pairs(np.concatenate([points, close]), 8, 20.0)
    found = set(map(tuple, pairs.tolist()))
    assert np.mean([(i, 3001 + i) in found for i in range(500)]) > 0.99
    assert len(pairs) < 5000
    assert near_pairs(points[:1], 8, 20.0).shape == near_pairs(points[:0], 8, 20.0).shape == (0, 2)


def test_invariants_do_not_change_under_turns_and_orientations_are_told() -> None:
    pictures = clouds(31, 6, 1, 32, 32)[:, 0].astype(np.float32)
    spectra, contrast = descriptor.spectra_of(pictures)
    plain = descriptor.invariants(spectra)
    assert contrast.min() > 5
    for number in range(8):
        turned, same = descriptor.spectra_of(np.ascontiguousarray(turn(pictures, number)))
        np.testing.assert_allclose(descriptor.invariants(turned), plain, atol=1e-3 * plain.max())
        np.testing.assert_allclose(same, contrast, rtol=1e-4)
        likeness = descriptor.alike(spectra, turned)
        assert (likeness.argmax(axis=1) == INVERSE[number]).all()
        np.testing.assert_allclose(likeness.max(axis=1), 1, atol=1e-4)


def test_shift_is_measured_in_parts_of_a_pixel() -> None:
    base = clouds(32, 3, 1, 120, 160, 6)[:, 0].astype(np.float32)
    first, second = base[:, 10:70, 10:90], base[:, 12:72, 7:87]
    down, right, correlation = best_shift(first, second, 1)
    np.testing.assert_allclose(np.stack([down, right], 1), [[-2, 3]] * 3, atol=0.05)
    np.testing.assert_allclose(correlation, 1, atol=1e-6)
    halves = [
        np.stack([cv2.resize(one, (40, 30), interpolation=cv2.INTER_AREA) for one in part]) for part in (first, second)
    ]
    down, right, _ = best_shift(halves[0], halves[1], 1)
    np.testing.assert_allclose(np.stack([down, right], 1), [[-1, 1.5]] * 3, atol=0.15)


def test_clipped_brightness_leaves_nothing() -> None:
    first = noise(33, 4, 3, 24).astype(np.float32)
    for slope, offset in ((1.1, 0), (1, 25), (1, -25), (0.8, 20), (1.3, -60)):
        second = np.clip(slope * first + offset, 0, 255)
        fitted, left = unexplained(first, second)
        np.testing.assert_allclose(fitted, slope, rtol=0.01)
        assert np.abs(left).max() < 2
    _, left = unexplained(first, first)
    assert np.abs(left).max() < 1e-3


def test_tolerance_is_that_of_the_jpeg_table() -> None:
    np.testing.assert_allclose(tolerance(8, 8)[0, 0], 16 / np.sqrt(12), rtol=1e-6)
    np.testing.assert_allclose(tolerance(8, 8)[7, 7], 99 / np.sqrt(12), rtol=1e-6)
    np.testing.assert_allclose(tolerance(8, 8)[0, 1], (11 + 12) / 2 / np.sqrt(12), rtol=1e-6)
    np.testing.assert_allclose(tolerance(16, 16)[4, 2], tolerance(8, 8)[2, 1], rtol=1e-6)
    np.testing.assert_allclose(tolerance(20, 12), tolerance(12, 20).T)
    assert (np.bincount(rings(22, 90)) > 0).all() and rings(1, 1).tolist() == [0]


def test_recompression_leaves_about_its_rounding_error() -> None:
    rng = np.random.default_rng(34)
    pictures = eight(128 + rng.normal(0, 40, (20, 1, 64, 64)))  # every frequency rounded, hardly a pixel clipped
    copies = np.stack([jpeg(picture, 50) for picture in pictures])
    pairs = np.arange(20), np.arange(20, 40), np.zeros(20, int)
    found = compare(Pictures.of([ragged([*pictures, *copies])]), *pairs)
    assert 0.7 < found.residual.mean() < 1.1
    assert found.copies().all()
    worse = compare(Pictures.of([ragged([*pictures, *(jpeg(picture, 10) for picture in pictures)])]), *pairs)
    assert not worse.copies().any()


def test_groups_of_links() -> None:
    asked: list[tuple[int, int]] = []

    def settle(links: dict[tuple[int, int], float], kin: set[tuple[int, int]]) -> list[int]:
        def check(pairs: list[tuple[int, int]]) -> dict[tuple[int, int], float]:
            asked.extend(pairs)
            return {pair: 1.5 for pair in pairs if pair in kin}

        return near_groups.settle(6, links, check).tolist()

    assert settle({}, set()) == [0, 1, 2, 3, 4, 5]
    assert settle({(1, 4): 0.1}, set()) == [0, 1, 2, 3, 1, 5]
    assert asked == []
    # 0 - 1 - 2: the ends must resemble each other, or the weaker link is cut.
    assert settle({(0, 1): 0.1, (1, 2): 0.2}, {(0, 2)}) == [0, 0, 0, 3, 4, 5]
    assert settle({(0, 1): 0.2, (1, 2): 0.1}, set()) == [0, 1, 1, 3, 4, 5]
    # A chain of six falls into pieces whose members are all linked.
    chain = {(i, i + 1): 0.1 for i in range(5)}
    pieces = settle(chain, set())
    assert all(abs(i - j) <= 1 for i in range(6) for j in range(6) if pieces[i] == pieces[j])
    assert len(set(pieces)) <= 4
    # Two cliques joined by one link stay two.
    cliques = {(a, b): 0.1 for a, b in ((0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5), (2, 3))}
    assert settle(cliques, set()) == [0, 0, 0, 3, 3, 3]
    assert near_groups.connected([3, 1, 0, 2], defaultdict(set, {0: {3}, 3: {0}})) == [[0, 3], [1], [2]]


def test_pairs_that_cannot_be_copies() -> None:
    pictures = Pictures.of([ragged([*clouds(35, 1, 1, 32, 64), *clouds(36, 1, 1, 32, 32)])])
    found = compare(pictures, np.array([0]), np.array([1]), np.array([0]))
    assert np.isinf(found.residual).all() and not found.copies(100).any()
    colours = Pictures.of([ragged([*noise(37, 2, 3, 32)])])  # of one shape, but nothing in them correlates
    found = compare(colours, np.array([0]), np.array([1]), np.array([0]))
    assert np.isinf(found.residual).all() and not found.copies(100).any()
    assert near_compare.Likeness.none(0).copies().shape == (0,)
