"""Features by hand, planted odd images at the top of the ranking, and odd content found again elsewhere."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from podium.audit import outliers, thorough
from podium.audit.features import average, features, principal
from podium.audit.outliers import rank, standardise
from podium.data.ragged import Ragged


def stacked(images: np.ndarray) -> Ragged:
    return Ragged.stack(images, [f"r{i}" for i in range(len(images))])


def ragged(items: list[np.ndarray]) -> Ragged:
    shapes = np.array([item.shape for item in items], np.int64)
    return Ragged(
        np.concatenate([item.reshape(-1) for item in items]), shapes, np.array([f"r{i}" for i in range(len(items))])
    )


def textures(count: int, size: int = 32, seed: int = 0) -> np.ndarray:
    """uint8 (count, 1, size, size): smooth slopes in any direction under fine noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    slope = rng.normal(0, 15, (2, count, 1, 1, 1))
    images = (
        100
        + rng.normal(0, 10, (count, 1, 1, 1))
        + slope[0] * y
        + slope[1] * x
        + rng.normal(0, 6, (count, 1, size, size))
    )
    return np.clip(images, 0, 255).round().astype(np.uint8)


def face(size: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc with two dark eyes, and where it is."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    eyes = (np.hypot(x - 0.35, y + 0.1) < 0.25) | (np.hypot(x + 0.35, y + 0.1) < 0.25)
    return np.where(eyes, 10, 240).astype(np.uint8), np.hypot(x, y) <= 1


def with_face(image: np.ndarray, size: int, top: int, left: int) -> None:
    drawing, inside = face(size)
    part = image[0, top : top + size, left : left + size]
    part[inside] = drawing[inside]


# ---------------------------------------------------------------- features


@pytest.mark.parametrize(("height", "width"), [(4, 6), (3, 5), (2, 2), (1, 1), (7, 4)])
def test_average_is_the_mean_over_areas(height: int, width: int) -> None:
    image = np.random.default_rng(0).random((2, 3, height, width)).astype(np.float32)
    rows, columns = 2, 3
    # every pixel cut into small squares, so that each cell holds whole ones
    fine = image.repeat(rows, axis=2).repeat(columns, axis=3)
    expected = fine.reshape(2, 3, rows, height, columns, width).mean(axis=(3, 5))
    np.testing.assert_allclose(average(image, rows, columns), expected, rtol=1e-6)


def test_features_of_a_flat_image_by_hand() -> None:
    image = np.stack([np.full((5, 9), level, np.uint8) for level in (30, 60, 120)])[None]
    (row,) = features(stacked(image), size=8)
    grey, colour, quantiles, gradients, lost = np.split(row, [16, 16 + 12, 28 + 9, 37 + 32])
    np.testing.assert_allclose(grey, 70 / 4, rtol=1e-5)  # 16 of them, each weighs a quarter
    np.testing.assert_allclose(colour, np.repeat([-40, -10, 50], 4) / 12**0.5, rtol=1e-5)
    np.testing.assert_allclose(quantiles, 0.5 * 70 / 3, rtol=1e-5)
    np.testing.assert_allclose(gradients, 0, atol=1e-4)
    np.testing.assert_allclose(lost, 0, atol=1e-4)


def test_gradients_know_direction_and_quarter() -> None:
    image = np.full((1, 1, 8, 8), 100, np.float32)
    image[0, 0, :4, 4:] += np.arange(4) * 10  # rises to the right, in the upper right quarter
    (row,) = features(stacked(image), size=8)
    gradients = row[16 + 9 : 16 + 9 + 32].reshape(2, 2, 8) * 32**0.5 / 8
    assert gradients[0, 1, 0] == gradients.max() > 5
    assert gradients[1, 0].max() == 0


def test_features_do_not_depend_on_company_sizes_or_order() -> None:
    images = np.random.default_rng(0).integers(0, 255, (12, 3, 20, 30)).astype(np.uint8)
    whole = features(stacked(images))
    np.testing.assert_allclose(features(stacked(images[5:6]))[0], whole[5], rtol=1e-5)
    mixed = features(ragged([images[0], images[1][:, :7], images[2], images[3][:, :, :9], images[4]]))
    np.testing.assert_allclose(mixed[[0, 2, 4]], whole[[0, 2, 4]], rtol=1e-5)
    assert whole.dtype == np.float32


def test_features_of_mixed_channels_and_odd_values() -> None:
    grey, colour = np.full((1, 4, 4), 10, np.uint8), np.full((3, 4, 4), 10, np.uint8)
    mixed = features(ragged([grey, colour]))
    assert (mixed[0] == mixed[1]).all() and (mixed[0] == features(stacked(grey[None]))[0]).all()
    assert np.isfinite(features(stacked(np.array([[[[np.nan, np.inf], [1, 2]]]], np.float32)))).all()
    with pytest.raises(ValueError, match="multiple of 4"):
        features(stacked(grey[None]), size=10)


def test_principal_components_explain_what_is_of_low_rank() -> None:
    rng = np.random.default_rng(0)
    table = (rng.normal(size=(200, 3)) @ rng.normal(size=(3, 40))).astype(np.float32)
    scores, residual = principal(table, components=3)
    assert scores.shape == (200, 3) and residual.max() < 1e-3
    table[7, 11] += 0.5
    _, residual = principal(table, components=3)
    assert residual.argmax() == 7
    assert residual[7] == pytest.approx(0.5, abs=0.1)
    np.testing.assert_allclose(np.linalg.norm(scores[0] - scores[1]), np.linalg.norm(table[0] - table[1]), rtol=1e-3)


# ---------------------------------------------------------------- ranking


def test_planted_images_rank_first() -> None:
    images = textures(200)
    with_face(images[17], 14, 3, 12)
    images[90] = 255 - images[90] // 2
    found = rank([f"r{i}" for i in range(200)], features(stacked(images)))
    assert {entry.id for entry in found.ranking[:2]} == {"r17", "r90"}
    assert found.apart >= 2 and len(found.ranking) == 100
    assert found.scores[17] == next(entry.score for entry in found.ranking if entry.id == "r17")
    assert [entry.score for entry in found.ranking] == sorted((entry.score for entry in found.ranking), reverse=True)
    assert json.loads(json.dumps(asdict(found), default=np.ndarray.tolist))["ranking"][0]["id"] in ("r17", "r90")


def test_copies_hide_an_image_unless_they_are_named() -> None:
    images = textures(200)
    with_face(images[17], 14, 3, 12)
    images[100:130] = images[17]
    groups = np.arange(200)
    groups[100:130] = 17
    names, table = [f"r{i}" for i in range(200)], features(stacked(images))
    found = rank(names, table, groups)
    assert found.ranking[0].id == "r17" and found.ranking[0].score > 3.5
    assert (found.scores[100:130] == found.scores[17]).all()
    assert sum(entry.id in {f"r{i}" for i in range(100, 130)} for entry in found.ranking) == 0
    hidden = rank(names, table)
    assert (hidden.scores[17] < hidden.scores).sum() > 30


@pytest.mark.parametrize("references", [10_000, 60])
def test_neighbour_distance_against_brute_force(monkeypatch: pytest.MonkeyPatch, references: int) -> None:
    monkeypatch.setattr(outliers, "REFERENCES", references)
    scores = np.random.default_rng(5).normal(size=(150, 4)).astype(np.float32)
    sample = np.sort(np.random.default_rng(1).permutation(150)[:references])
    distances = np.linalg.norm(scores[:, None].astype(np.float64) - scores[sample], axis=2)
    distances[sample, np.arange(len(sample))] = np.inf  # a row is no neighbour of itself
    expected = np.sort(distances, axis=1)[:, :5].mean(axis=1)
    np.testing.assert_allclose(outliers._neighbour_distance(scores, 1), expected, rtol=1e-4)


def test_standardised_by_hand() -> None:
    # median 3, absolute deviations 2 1 0 1 97 with the median 1
    np.testing.assert_allclose(
        standardise(np.array([1.0, 2, 3, 4, 100]), logarithm=False)[[1, 3]], [-1 / 1.4826, 1 / 1.4826]
    )
    assert standardise(np.full(4, 7.0)).tolist() == [0, 0, 0, 0]
    assert standardise(np.zeros(4)).tolist() == [0, 0, 0, 0]
    assert standardise(np.array([0.0, 0, 0, 5])).argmax() == 3  # more than half of them equal


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_and_constant_images(count: int) -> None:
    table = features(stacked(np.full((count, 1, 8, 8), 50, np.uint8)))
    found = rank([f"r{i}" for i in range(count)], table)
    assert found.scores.tolist() == [0] * count and found.apart == 0
    assert [entry.id for entry in found.ranking] == [f"r{i}" for i in range(count)]  # ties by id


def test_no_images_and_wrong_lengths() -> None:
    assert rank([], np.zeros((0, 5), np.float32)).ranking == ()
    with pytest.raises(ValueError, match="do not fit"):
        rank(["a"], np.zeros((2, 5), np.float32))


# ---------------------------------------------------------------- autoencoder and templates


@pytest.fixture(scope="module")
def searched() -> Any:
    """Faces of two sizes in rows 5, 6 and 40, of 120; rows 100 to 103 are one picture, which row 70 holds in small."""
    images = textures(120)
    for row, size, top, left in ((5, 14, 3, 12), (6, 14, 15, 2), (40, 20, 8, 8)):
        with_face(images[row], size, top, left)
    rng = np.random.default_rng(9)
    images[100:104] = rng.integers(0, 2, (8, 8)).repeat(4, axis=0).repeat(4, axis=1) * 150 + 50
    images[70, 0, 10:26, 6:22] = images[100, 0, ::2, ::2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thorough, "STEPS", 60)
        copies = (("r100", "r101", "r102", "r103"),)
        return thorough.thorough(stacked(images), copies, listed=6), images


def test_autoencoder_ranks_odd_images_first(searched: Any) -> None:
    found, _ = searched
    assert {odd.id for odd in found.odd[:5]} == {"r5", "r6", "r40", "r70", "r100"}
    assert len(found.odd) == 6 and found.odd[4].score > 2 * found.odd[5].score > 0
    assert found.scores[101] == found.scores[100]
    (top, left, bottom, right) = next(odd.box for odd in found.odd if odd.id == "r5")
    # the box lies on the face: rows 3 to 17, columns 12 to 26
    assert 1 <= top < bottom <= 20 and 9 <= left < right <= 29 and (bottom - top) * (right - left) >= 30


def test_odd_and_repeated_content_is_found_elsewhere(searched: Any) -> None:
    found, _ = searched
    matches = {match.id: match for match in found.matches}
    assert set(matches) <= {"r5", "r6", "r40", "r70"}  # and not the copies, which are known
    copy = matches["r70"]
    assert copy.template == "r100" and copy.score > 0.9
    assert np.abs(np.array(copy.box) - (10, 6, 26, 22)).max() <= 2
    faces = {"r5", "r6", "r40"}
    assert len(faces & set(matches)) >= 2
    assert all(matches[name].template in faces - {name} for name in faces & set(matches))
    assert found.templates[0] == thorough.Template("r100", (0, 0, 32, 32), "occurs 4 times", 1)
    assert sum(template.found for template in found.templates) == len(found.matches)
    assert json.dumps(asdict(found), default=np.ndarray.tolist)


def test_thorough_leaves_global_randomness_alone_and_repeats_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(thorough, "STEPS", 5)
    images = ragged([textures(1, size, size)[0] for size in (8, 12, 32, 40, 130)])
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first, second = thorough.thorough(images), thorough.thorough(images)
    assert torch.rand(1) == expected
    assert first.scores.tolist() == second.scores.tolist() and first.odd == second.odd
    for odd in first.odd:
        _, height, width = images.shapes[images.index[odd.id]].tolist()
        assert 0 <= odd.box[0] < odd.box[2] <= height and 0 <= odd.box[1] < odd.box[3] <= width


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 1, 8, 8), (2, 3, 9, 200), (0, 1, 4, 4)])
def test_thorough_of_constant_images(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]) -> None:
    monkeypatch.setattr(thorough, "STEPS", 5)
    found = thorough.thorough(stacked(np.full(shape, 3, np.uint16)))
    assert found.matches == () and len(found.odd) == shape[0]
    assert np.isfinite(found.scores).all()


def test_flat_windows_do_not_match() -> None:
    picture = np.full((20, 20), 100, np.uint8)
    picture[5:11, 5:11] = np.eye(6, dtype=np.uint8) * 2 + 100  # the same pattern, but hardly there
    patch = np.eye(6, dtype=np.uint8) * 200
    assert thorough._best(picture, [patch])[0] == 0
    picture[5:11, 5:11] = np.eye(6, dtype=np.uint8) * 100 + 50
    score, place = thorough._best(picture, [patch])
    assert score == pytest.approx(1, abs=1e-4) and place == (5, 5, 11, 11)
