"""Label errors: thresholds and scores by hand, planted errors found first, and equal to a plain loop over the paper's rule."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from podium.audit.labels import Disputed, ImageLabels, Pair, Region, Suspect, rank_images, rank_regions, write
from podium.data.ragged import Ragged
from podium.errors import UserError

Rows = Sequence[Sequence[float]] | np.ndarray


def ragged(arrays: Sequence[np.ndarray], ids: Sequence[str]) -> Ragged:
    values = np.concatenate([array.reshape(-1) for array in arrays])
    return Ragged(values, np.array([array.shape for array in arrays]), np.array(ids, np.str_))


def labels(given: Sequence[int] | np.ndarray, ids: Sequence[str]) -> Ragged:
    return Ragged.stack(np.array(given, np.uint8).reshape(-1, 1, 1, 1), ids)


def predictions(rows: Rows, ids: Sequence[str], dtype: type = np.float32) -> Ragged:
    return Ragged.stack(np.array(rows, dtype)[:, :, None, None], ids)


def chosen(source: Ragged, order: Sequence[int]) -> Ragged:
    return ragged([source[i] for i in order], [str(source.ids[i]) for i in order])


def certain(mask: np.ndarray, classes: int, confidence: float = 1.0) -> np.ndarray:
    """Probabilities (C, H, W) that give ``confidence`` to the classes in a mask and the rest to the others evenly."""
    spread = np.full((classes, *mask.shape), (1 - confidence) / (classes - 1), np.float32)
    np.put_along_axis(spread, mask[None].astype(np.int64), np.float32(confidence), 0)
    return spread


# images


def test_four_images_by_hand() -> None:
    ids = ["r0", "r1", "r2", "r3"]
    rows: Rows = [[0.875, 0.125], [0.125, 0.875], [0.25, 0.75], [0.5, 0.5]]
    found = rank_images(labels([0, 0, 1, 1], ids), predictions(rows, ids), ["cat", "dog"], None)
    assert found.thresholds == {"cat": (0.875 + 0.125) / 2, "dog": (0.75 + 0.5) / 2}
    assert found.judged == 4
    assert found.suspects == (Suspect("r1", "cat", "dog", 0.125, 0.875, 0.75, True),)
    # r3 reaches cat's 0.5 and misses dog's 0.625, so it counts for the joint; but it does not prefer cat to dog
    assert found.pairs == (Pair("cat", "dog", 1.0), Pair("dog", "cat", 1.0))


def test_pairs_are_scaled_to_the_size_of_the_class() -> None:
    ids = list("uvwxyz")
    rows: Rows = [[1, 0], [0.75, 0.25], [0.5, 0.5], [0, 1], [0, 1], [0, 1]]
    found = rank_images(labels([0, 0, 0, 0, 1, 1], ids), predictions(rows, ids), ["a", "b"], None)
    # thresholds 0.5625 and 1: of four a one is confidently b, two confidently a, and w is neither
    assert found.thresholds == {"a": 0.5625, "b": 1.0}
    assert found.pairs == (Pair("a", "b", 4 / 3),)
    assert [row.id for row in found.suspects] == ["x"]


def test_a_doubtful_image_is_listed_but_not_probable() -> None:
    ids = list("uvwxy")
    # threshold of b: (1 + 1) / 2 = 1, which y's 0.5 misses; c's is 0.375, which y's 0.375 reaches and exceeds a's
    rows: list[list[float]] = [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0.25, 0.375, 0.375], [0.125, 0.5, 0.375]]
    found = rank_images(labels([0, 1, 1, 2, 0], ids), predictions(rows, ids), list("abc"), None)
    assert found.thresholds == {"a": 0.5625, "b": 1.0, "c": 0.375}
    # the score takes the largest other probability, the suggestion the confident class
    assert found.suspects == (Suspect("y", "a", "c", 0.125, 0.375, 0.375, True),)
    rows[3] = [0, 0, 1]
    found = rank_images(labels([0, 1, 1, 2, 0], ids), predictions(rows, ids), list("abc"), None)
    assert found.suspects == (Suspect("y", "a", "b", 0.125, 0.5, 0.375, False),)
    assert found.pairs == ()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_one_confidence_throughout_reaches_its_own_mean(dtype: type) -> None:
    # 0.7 has no exact value: a mean rounded up would leave out every example
    ids = [f"r{i:02}" for i in range(13)]
    rows: Rows = [[0.7, 0.3]] * 6 + [[0.3, 0.7]] * 7
    found = rank_images(labels([0] * 6 + [1] * 6 + [0], ids), predictions(rows, ids, dtype), ["a", "b"], None)
    assert [(row.id, row.probable) for row in found.suspects] == [("r12", True)]


def test_planted_errors_come_first() -> None:
    draw = np.random.default_rng(0)
    truth = draw.integers(0, 5, 600)
    logits = draw.normal(size=(600, 5))
    logits[np.arange(600), truth] += 4
    odds = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wrong = draw.choice(600, 40, replace=False)
    given = truth.copy()
    given[wrong] = (truth[wrong] + draw.integers(1, 5, 40)) % 5
    ids = [f"r{i}" for i in range(600)]
    found = rank_images(labels(given, ids), predictions(odds, ids, np.float16), list("abcde"), None)
    planted = {f"r{i}" for i in wrong}
    first = {row.id for row in found.suspects[:40]}
    assert len(first & planted) >= 38
    probable = [row for row in found.suspects if row.probable]
    assert sum(row.suggested == "abcde"[truth[int(row.id[1:])]] for row in probable if row.id in planted) >= 25
    assert 30 <= sum(pair.count for pair in found.pairs) <= 50
    scores = [row.score for row in found.suspects]
    assert scores == sorted(scores, reverse=True)


def plain_images(given: dict[str, int], odds: dict[str, np.ndarray], count: int, unscored: int | None) -> tuple:
    """The same by loops: thresholds, suspects (id, given, suggested, score, probable) best first, and the joint."""
    names = [name for name in given if name in odds and given[name] not in (255, unscored)]
    odds = {name: odds[name].astype(np.float32).copy() for name in names}
    if unscored is not None:
        for row in odds.values():
            row[unscored] = 0
            row /= row.sum()
    threshold = {}
    for c in range(count):
        own = [float(odds[name][c]) for name in names if given[name] == c]
        if own:
            threshold[c] = np.float32(math.fsum(own) / len(own))
    suspects, joint, sizes = [], np.zeros((count, count)), np.zeros(count)
    for name in names:
        row, mine = odds[name], given[name]
        sizes[mine] += 1
        confident = [c for c in threshold if row[c] >= threshold[c]]
        if confident:
            joint[mine, max(confident, key=lambda c: (row[c], c == mine, -c))] += 1
        others = [c for c in threshold if c != mine]
        score = max(row[c] for c in others) - row[mine]
        if score > 0:
            better = [c for c in confident if row[c] > row[mine]]
            best = max(better or others, key=lambda c: (row[c], -c))
            suspects.append((name, mine, best, float(score), bool(better)))
    for c in threshold:
        joint[c] *= sizes[c] / joint[c].sum()
    return threshold, sorted(suspects, key=lambda s: (-s[3], s[0])), joint


@pytest.mark.parametrize("seed", range(12))
def test_images_equal_a_plain_loop(seed: int) -> None:
    draw = np.random.default_rng(seed)
    count, unscored = 5, [None, 0, 3][seed % 3]
    ids = [f"r{i}" for i in range(120)]
    given = draw.choice([0, 1, 2, 3, 255], 120)  # nobody is labelled 4
    odds = np.round(draw.dirichlet(np.ones(count) * 0.5, 120) * 64) / 64 + 1 / 64  # coarse, so that ties occur
    odds = (odds / odds.sum(1, keepdims=True)).astype([np.float16, np.float32][seed % 2])
    predicted = draw.permutation(120)[:100].tolist()
    found = rank_images(
        labels(given, ids), chosen(predictions(odds, ids, odds.dtype.type), predicted), "abcde", unscored
    )
    threshold, suspects, joint = plain_images(
        dict(zip(ids, given.tolist(), strict=True)), {ids[i]: odds[i] for i in predicted}, count, unscored
    )
    assert found.thresholds == {"abcde"[c]: float(value) for c, value in threshold.items()}
    assert [(s.id, s.given, s.suggested, s.score, s.probable) for s in found.suspects] == [
        (name, "abcde"[mine], "abcde"[best], score, probable) for name, mine, best, score, probable in suspects
    ]
    assert len({s.probable for s in found.suspects}) == 2
    off = {("abcde"[i], "abcde"[j]): joint[i, j] for i in range(5) for j in range(5) if i != j and joint[i, j] > 0}
    assert {(pair.given, pair.suggested): pair.count for pair in found.pairs} == pytest.approx(off)
    assert [pair.count for pair in found.pairs] == sorted((pair.count for pair in found.pairs), reverse=True)


# regions


def plain_regions(masks: dict, odds: dict, count: int, unscored: int | None) -> tuple[dict, list, dict]:
    """The same by loops over pixels: thresholds; (id, given, suggested, area, margin, box); disputed share per id."""
    scored = {}
    for name, values in odds.items():
        scored[name] = values.astype(np.float32)
        if unscored is not None:
            scored[name][unscored] = 0
            scored[name] /= scored[name].sum(0)
    own: dict[int, list[float]] = defaultdict(list)
    for name, values in scored.items():
        for (y, x), label in np.ndenumerate(masks[name]):
            if label not in (255, unscored):
                own[int(label)].append(float(values[label, y, x]))
    threshold = {c: np.float32(math.fsum(values) / len(values)) for c, values in sorted(own.items())}
    regions, shares = [], {}
    for name, values in scored.items():
        mask, judged, area = masks[name], 0, 0
        wants = {}
        for (y, x), label in np.ndenumerate(mask):
            if label in (255, unscored):
                continue
            judged += 1
            column = values[:, y, x]
            better = [c for c in threshold if column[c] >= threshold[c] and column[c] > column[label]]
            if better:
                wants[y, x] = max(better, key=lambda c: (column[c], -c))
        seen: set = set()
        for start in wants:
            if start in seen:
                continue
            pixels, queue = set(), [start]
            while queue:
                y, x = queue.pop()
                if (y, x) in pixels or wants.get((y, x)) != wants[start]:
                    continue
                pixels.add((y, x))
                queue += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
            seen |= pixels
            if not any(all((y + i, x + j) in pixels for i in range(3) for j in range(3)) for y, x in pixels):
                continue
            given = np.bincount([mask[pixel] for pixel in pixels]).argmax()
            margin = np.mean([float(values[wants[start]][p]) - float(values[mask[p]][p]) for p in pixels])
            ys, xs = [y for y, _ in pixels], [x for _, x in pixels]
            box = (min(ys), min(xs), max(ys) + 1, max(xs) + 1)
            regions.append((name, int(given), wants[start], len(pixels), margin, box))
            area += len(pixels)
        if area:
            shares[name] = area / judged
    return threshold, regions, shares


@pytest.mark.parametrize("seed", range(8))
def test_regions_equal_a_plain_loop(seed: int) -> None:
    draw = np.random.default_rng(seed)
    unscored = [None, 0][seed % 2]
    masks, odds = {}, {}
    for i in range(8):
        height, width = draw.integers(2, 31, 2).tolist()
        blocks = draw.dirichlet(np.ones(4) * 0.4, (8, 8)).transpose(2, 0, 1)
        values = blocks.repeat(4, 1).repeat(4, 2)[:, :height, :width] + draw.random((4, height, width)) * 0.1
        odds[f"r{i}"] = (values / values.sum(0)).astype(np.float16)
        mask = draw.choice([0, 1, 2], (8, 8)).repeat(4, 0).repeat(4, 1)[:height, :width].astype(np.uint8)
        masks[f"r{i}"] = np.where(draw.random(mask.shape) < 0.03, 255, mask).astype(np.uint8)
    ids = list(masks)
    found = rank_regions(
        ragged([masks[name][None] for name in ids], ids), ragged([odds[name] for name in ids], ids), "abcd", unscored
    )
    threshold, regions, shares = plain_regions(masks, odds, 4, unscored)
    assert found.thresholds == pytest.approx({"abcd"[c]: float(value) for c, value in threshold.items()}, abs=1e-7)
    assert len(found.regions) == len(regions) > 3
    key = {(r.id, r.y0, r.x0, r.y1, r.x1, r.suggested, r.area): r for r in found.regions}
    for name, given, best, area, margin, box in regions:
        region = key[(name, *box, "abcd"[best], area)]
        assert region.given == "abcd"[given]
        assert region.margin == pytest.approx(margin, abs=1e-6)
        assert region.score == pytest.approx(area * margin, abs=1e-4)
    assert {image.id: image.share for image in found.images} == pytest.approx(shares)
    assert [r.score for r in found.regions] == sorted((r.score for r in found.regions), reverse=True)
    assert [i.share for i in found.images] == sorted((i.share for i in found.images), reverse=True)


def test_a_planted_region_is_found_with_its_box() -> None:
    truth = np.zeros((20, 30), np.uint8)
    truth[:, 15:] = 1
    planted = truth.copy()
    planted[4:9, 3:9] = 1  # drawn as b, the model says a
    planted[4, 3] = 255
    small = np.ones((8, 6), np.uint8)
    drawn_small = small.copy()
    drawn_small[2:6, 1:5] = 0
    odds = [certain(truth, 3, 0.75), certain(truth, 3, 0.75), certain(small, 3, 0.75)]
    ids = ["plain", "planted", "small"]
    found = rank_regions(ragged([truth[None], planted[None], drawn_small[None]], ids), ragged(odds, ids), "abc", None)
    assert found.judged == 600 + 599 + 48
    # a: of 300 + 270 + 16 pixels 16 wrong; b: of 300 + 329 + 32 pixels 29 wrong; wrong ones have 0.125
    assert found.thresholds == pytest.approx(
        {"a": (570 * 0.75 + 16 * 0.125) / 586, "b": (632 * 0.75 + 29 * 0.125) / 661}, abs=1e-7
    )
    assert found.regions == (
        Region("planted", "b", "a", 29, 0.625, 29 * 0.625, 4, 3, 9, 9),
        Region("small", "a", "b", 16, 0.625, 10.0, 2, 1, 6, 5),
    )
    assert found.images == (Disputed("small", 1, 48, 16, 16 / 48), Disputed("planted", 1, 599, 29, 29 / 599))


def test_area_times_margin_decides() -> None:
    """A large region of a little doubt may come behind a small one of much, and the majority names the given class."""
    mask = np.zeros((12, 40), np.uint8)
    mask[:, 20:] = 1
    odds = certain(mask, 3, 0.5)
    odds[:, 1:11, 2:12] = np.array([0.4375, 0.5, 0.0625], np.float32)[:, None, None]  # 100 pixels × 0.0625
    odds[:, 2:6, 24:28] = np.array([1, 0, 0], np.float32)[:, None, None]  # 16 pixels × 1
    mask[2, 24:27] = 2
    found = rank_regions(ragged([mask[None]], ["r"]), ragged([odds], ["r"]), "abc", None)
    assert [(r.given, r.suggested, r.area, r.score) for r in found.regions] == [
        ("b", "a", 16, 16),
        ("a", "b", 100, 6.25),
    ]


@pytest.mark.parametrize(("shift", "listed"), [(0, 0), (1, 0), (2, 0), (3, 1)])
@pytest.mark.parametrize("turned", [False, True])
def test_a_border_drawn_aside_is_listed_from_three_pixels(shift: int, listed: int, turned: bool) -> None:
    columns = np.arange(24)
    truth, drawn = (np.broadcast_to(columns >= border, (16, 24)).astype(np.uint8) for border in (10, 10 + shift))
    if turned:
        truth, drawn = truth.T.copy(), drawn.T.copy()
    found = rank_regions(ragged([drawn[None]], ["r"]), ragged([certain(truth, 2)], ["r"]), "ab", None)
    assert len(found.regions) == len(found.images) == listed


def test_the_edge_of_the_image_makes_no_region_thicker() -> None:
    drawn = np.zeros((10, 10), np.uint8)
    truth = drawn.copy()
    truth[:2] = truth[:, -2:] = 1
    drawn[9, 0] = 1
    found = rank_regions(ragged([drawn[None]], ["r"]), ragged([certain(truth, 2)], ["r"]), "ab", None)
    assert found.regions == ()


def test_regions_that_touch_at_a_corner_are_two() -> None:
    drawn = np.zeros((9, 9), np.uint8)
    truth = drawn.copy()
    truth[1:4, 1:4] = truth[4:8, 4:8] = 1
    drawn[8, 0] = truth[8, 0] = 1
    found = rank_regions(ragged([drawn[None]], ["r"]), ragged([certain(truth, 2)], ["r"]), "ab", None)
    assert [(r.area, r.y0, r.x0, r.y1, r.x1) for r in found.regions] == [(16, 4, 4, 8, 8), (9, 1, 1, 4, 4)]
    assert found.images[0].regions == 2


# both


def test_pixels_without_a_scored_label_are_never_listed() -> None:
    """Wherever 255 or the unscored class is drawn, the model may say what it likes; the unscored one is not suggested."""
    truth = np.repeat([[1], [2]], 12, 0).repeat(24, 1).astype(np.uint8)
    drawn = truth.copy()
    drawn[2:8, 2:8], drawn[14:20, 2:8] = 255, 0
    odds = certain(np.where(drawn == truth, truth, 3 - truth), 3)  # confidently the other terrain
    odds[:, 2:8, 12:18] = np.array([0.875, 0.125, 0], np.float32)[:, None, None]  # "background" on soil
    volume = ragged([odds], ["r"])
    volume.values.flags.writeable = False  # as a file on disk is
    found = rank_regions(ragged([drawn[None]], ["r"]), volume, ["background", "soil", "rock"], 0)
    assert found.regions == () and found.images == ()
    assert found.thresholds == {"soil": 1.0, "rock": 1.0}  # after background is taken away soil has all
    assert found.judged == 24 * 24 - 72
    # and where background counts, both its own area and that on soil are listed
    everything = rank_regions(ragged([drawn[None]], ["r"]), volume, ["background", "soil", "rock"], None)
    assert {(r.given, r.suggested) for r in everything.regions} == {("background", "soil"), ("soil", "background")}


def test_images_without_a_scored_label_are_never_listed() -> None:
    ids = list("vwxyz")
    rows: Rows = [[0, 1, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1], [0.75, 0.125, 0.125]]
    found = rank_images(labels([255, 0, 1, 2, 1], ids), predictions(rows, ids), "abc", 0)
    assert (found.suspects, found.pairs, found.judged) == ((), (), 3)
    assert found.thresholds == {"b": 0.75, "c": 1.0}


def test_perfect_predictions_list_nothing() -> None:
    draw = np.random.default_rng(1)
    ids = [f"r{i}" for i in range(30)]
    given = draw.integers(0, 3, 30)
    found = rank_images(labels(given, ids), predictions(np.eye(3)[given], ids), "abc", None)
    assert (found.suspects, found.pairs, found.judged) == ((), (), 30)
    masks = [draw.integers(0, 3, (7, 9)).repeat(4, 1).astype(np.uint8) for _ in range(5)]
    areas = rank_regions(
        ragged([m[None] for m in masks], ids[:5]), ragged([certain(m, 3) for m in masks], ids[:5]), "abc", 0
    )
    assert (areas.regions, areas.images) == ((), ())


def test_a_class_that_nobody_was_labelled_with_is_never_suggested() -> None:
    ids = list("xyz")
    rows: Rows = [[1, 0, 0], [0, 1, 0], [0, 0.0, 1]]
    found = rank_images(labels([0, 1, 1], ids), predictions(rows, ids), "abc", None)
    assert found.suspects == () and set(found.thresholds) == {"a", "b"}
    only_one = rank_images(labels([0, 0, 0], ids), predictions(rows, ids), "abc", None)
    assert only_one.suspects == () and only_one.pairs == ()
    drawn = np.zeros((8, 8), np.uint8)
    areas = rank_regions(ragged([drawn[None]], ["r"]), ragged([certain(drawn + 2, 3)], ["r"]), "abc", None)
    assert areas.regions == () and areas.thresholds == {"a": 0.0}


def test_nothing_to_judge() -> None:
    ids = list("xyz")
    found = rank_images(labels([255, 0, 0], ids), predictions([[1, 0], [0, 1]], ids[:2]), "ab", 0)
    assert (found.suspects, found.pairs, found.thresholds, found.judged) == ((), (), {}, 0)
    empty = rank_regions(ragged([np.full((1, 4, 4), 255, np.uint8)], ["r"]), [], "ab", None)
    assert (empty.regions, empty.images, empty.thresholds, empty.judged) == ((), (), {}, 0)


def test_joined_by_id_whatever_the_order_and_the_files() -> None:
    draw = np.random.default_rng(2)
    ids = [f"r{i}" for i in range(40)]
    targets, odds = labels(draw.integers(0, 3, 40), ids), predictions(draw.dirichlet(np.ones(3), 40), ids)
    found = rank_images(targets, odds, "abc", None)
    assert found.suspects and found.pairs
    for _ in range(3):
        rows, others = draw.permutation(40), draw.permutation(40)
        folds = [chosen(odds, others[k::3].tolist()) for k in range(3)]
        assert rank_images(chosen(targets, rows.tolist()), chosen(odds, others.tolist()), "abc", None) == found
        assert rank_images(chosen(targets, rows.tolist()), folds, "abc", None) == found

    masks = [draw.integers(0, 3, (3, 4)).repeat(5, 0).repeat(5, 1).astype(np.uint8) for _ in range(9)]
    said = [certain(draw.integers(0, 3, (3, 4)).repeat(5, 0).repeat(5, 1), 3, 0.6 + 0.03 * i) for i in range(9)]
    drawn, volumes = ragged([m[None] for m in masks], ids[:9]), ragged(said, ids[:9])
    areas = rank_regions(drawn, volumes, "abc", None)
    assert len(areas.regions) > 5
    rows, others = draw.permutation(9).tolist(), draw.permutation(9).tolist()
    assert rank_regions(chosen(drawn, rows), chosen(volumes, others), "abc", None) == areas
    assert (
        rank_regions(chosen(drawn, rows), [chosen(volumes, others[:4]), chosen(volumes, others[4:])], "abc", None)
        == areas
    )


def test_equal_scores_are_ordered_by_id() -> None:
    ids = ["b", "c", "a", "d"]
    found = rank_images(labels([0, 0, 0, 1], ids), predictions([[0, 1]] * 4, ids), "ab", None)
    assert [row.id for row in found.suspects] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("named", "values", "sentence"),
    [
        (["r0", "r9"], [[1, 0], [0, 1]], "id 'r9': is predicted, but has no label; .* make them anew"),
        (
            ["r0", "r1"],
            [[1, 0, 0], [0, 1, 0]],
            r"id 'r0': is predicted as \(3, 1, 1\) .* its label asks for \(2, 1, 1\)",
        ),
        (
            ["r0", "r1"],
            [[1, 0], [math.nan, 1]],
            "id 'r1': holds predictions that are no numbers; train the model again",
        ),
    ],
)
def test_what_does_not_fit_is_said(named: list[str], values: list[list[float]], sentence: str) -> None:
    for rank in (rank_images, rank_regions):
        with pytest.raises(UserError, match=sentence):
            rank(labels([0, 1], ["r0", "r1"]), predictions(values, named), "ab", None)


def test_an_id_in_two_folds_is_said() -> None:
    odds = predictions([[1, 0], [0, 1]], ["r0", "r1"])
    with pytest.raises(UserError, match="id 'r1': is predicted twice"):
        rank_images(labels([0, 1], ["r0", "r1"]), [odds, chosen(odds, [1])], "ab", None)


def test_other_sizes_and_labels_are_said() -> None:
    drawn = np.zeros((1, 4, 5), np.uint8)
    with pytest.raises(UserError, match=r"\(2, 5, 4\) \(C, H, W\), its label asks for \(2, 4, 5\)"):
        rank_regions(ragged([drawn], ["r"]), ragged([np.ones((2, 5, 4), np.float16)], ["r"]), "ab", None)
    with pytest.raises(ValueError, match="label 7 is no class, there are 2"):
        rank_images(labels([7], ["r"]), predictions([[1, 0]], ["r"]), "ab", None)
    with pytest.raises(ValueError, match="these are masks"):
        rank_images(ragged([drawn], ["r"]), ragged([np.ones((2, 4, 5), np.float16)], ["r"]), "ab", None)


def test_what_is_written(tmp_path: Path) -> None:
    suspects = (
        Suspect("007", "cat", "dog, large", 0.1, 0.7, 0.6, True),
        Suspect("8", "dog, large", "cat", 0.3, 0.4, 0.5, False),
        Suspect('a "b"', "dog, large", "cat", 1 / 3, 2 / 3, 1 / 3, True),
    )
    path = write(tmp_path / "audit", ImageLabels(suspects, (), {}, 3))
    assert path == tmp_path / "audit" / "labels.csv"
    assert path.read_text() == (
        '"id","given","suggested","confidence","suggested_confidence","score"\n'
        '"007","cat","dog, large",0.1,0.7,0.6\n'
        '"a ""b""","dog, large","cat",0.333333,0.666667,0.333333\n'
    )
    mask = np.zeros((8, 8), np.uint8)
    mask[7, 7] = 1
    said = mask.copy()
    said[1:4, 2:7] = 1
    write(
        path.parent,
        rank_regions(ragged([mask[None]], ["r\r1"]), ragged([certain(said, 2, 0.75)], ["r\r1"]), "ab", None),
    )
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"id": "r\r1", "given": "a", "suggested": "b", "area": "15", "margin": "0.5", "score": "7.5"}
        | {"y0": "1", "x0": "2", "y1": "4", "x1": "7"}
    ]
    assert list(rows[0]) == ["id", "given", "suggested", "area", "margin", "score", "y0", "x0", "y1", "x1"]
