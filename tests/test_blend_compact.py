"""What is kept of out-of-fold probabilities scores blends exactly as decoding all images does."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podium.blend import compact as module
from podium.blend.compact import NotCompact, build
from podium.combine import FLOOR, LOGARITHMS
from podium.data.ragged import Ragged
from podium.decode import finish
from podium.metrics.counts import confusion


def made(rng, folds, images, models, classes, levels, unscored, same_size=True):
    """Volumes with few different probabilities, so that ties abound; targets with unlabelled pixels."""
    ids = np.array([f"i{k}" for k in range(folds * images)])
    sizes = [(3, 5)] * len(ids) if same_size else [(2 + k % 3, 3 + k % 2) for k in range(len(ids))]
    truths = [rng.integers(0, classes, (1, *size)).astype(np.uint8) for size in sizes]
    for truth in truths:
        truth[rng.random(truth.shape) < 0.1] = 255
    targets = ragged(truths, ids)
    volumes: dict[int, list[Ragged]] = {}
    for fold in range(folds):
        mine = np.arange(fold * images, (fold + 1) * images)
        volumes[fold] = []
        for _ in range(models):
            order = rng.permutation(mine)
            volumes[fold].append(
                ragged([probabilities(rng, classes, sizes[k], levels, unscored) for k in order], ids[order])
            )
    return volumes, targets


def probabilities(rng, classes, size, levels, unscored):
    values = rng.integers(0, levels, (classes, *size)).astype(float)
    if unscored is not None:
        values[unscored] = 0
    return (values / np.maximum(values.sum(0), 1e-9)).astype(np.float16)


def ragged(items, ids):
    shapes = np.array([item.shape for item in items], np.int64)
    return Ragged(np.concatenate([item.reshape(-1) for item in items]), shapes, np.asarray(ids, np.str_))


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    models=st.integers(1, 6),
    classes=st.integers(2, 6),
    images=st.integers(1, 5),
    levels=st.integers(2, 40),
    leave_out=st.booleans(),
    same_size=st.booleans(),
    mean=st.sampled_from(["arithmetic", "geometric"]),
    many=st.sampled_from([1, 1 << 16]),
)
def test_it_equals_decoding_every_image_ties_included(
    seed, models, classes, images, levels, leave_out, same_size, mean, many
):
    with patch.object(module, "MANY", many):
        equal(seed, models, classes, images, levels, leave_out, same_size, mean)


def equal(seed, models, classes, images, levels, leave_out, same_size, mean):
    rng = np.random.default_rng(seed)
    unscored = int(rng.integers(classes)) if leave_out and classes > 2 else None
    volumes, targets = made(rng, 2, images, models, classes, levels, unscored, same_size)
    kept = build(volumes, targets, classes, unscored, mean)
    weights = rng.dirichlet(np.full(models, 0.5), 6)
    weights[0] = 1 / models
    weights[1] = np.eye(models)[-1]
    weights[2] = rng.multinomial(10, np.full(models, 1 / models)) / 10
    sums = kept.sums(weights)
    assert sums.shape == (6, 2, classes, classes)
    for vector, found in zip(weights, sums, strict=True):
        for place, fold in enumerate(kept.folds):
            labels = finish(volumes[fold], vector.tolist(), unscored, mean=mean)
            rows = [targets.index[name] for name in labels.ids.tolist()]
            pairs = zip(rows, labels, strict=True)
            expected = np.concatenate([confusion(targets[row][0], label[0], classes)[None, 0] for row, label in pairs])
            assert (kept.stats(vector, fold) == expected).all()
            assert (found[place] == expected.sum(0)).all()


def test_a_class_that_is_beaten_everywhere_is_forgotten_and_a_tie_is_not():
    # six pixels, two models, three classes; what may still win is told by hand
    one = [[0.5, 0.3, 0.2], [0.2, 0.4, 0.4], [0.25, 0.5, 0.25], [0.4, 0.2, 0.4], [0.2, 0.3, 0.5], [0.25, 0.25, 0.5]]
    two = [[0.6, 0.3, 0.1], [0.2, 0.4, 0.4], [0.25, 0.25, 0.5], [0.3, 0.2, 0.5], [0.5, 0.3, 0.2], [0.25, 0.25, 0.5]]
    # 0 wins; 1 wins (2 is never ahead of it, and loses ties); all three, since no other beats 0 in both; 0 or 2 (level
    # once); all three; 2 wins
    ids = np.array(["a"])
    volumes = [Ragged.stack(np.array(each, np.float16).T.reshape(1, 3, 1, 6), ids) for each in (one, two)]
    targets = Ragged.stack(np.zeros((1, 1, 1, 6), np.uint8), ids)
    kept = build({0: volumes}, targets, 3, None)
    assert kept.counted[0][0, 0].tolist() == [1, 1, 1] and kept.pixels == 6 and kept.share == 0.5
    pairs, triples = kept.undecided
    assert pairs.classes.tolist() == [[0], [2]]
    assert triples.classes.tolist() == [[0, 0], [1, 1], [2, 2]]
    even = kept.sums(np.array([[0.5, 0.5]]))[0, 0, 0]
    # the third: (.25, .375, .375): 1; the fourth: (.35, .2, .45): 2; the fifth: (.35, .3, .35): 0, the lower of equals
    assert even.tolist() == [2, 2, 2]


def test_many_vectors_and_blocks_are_what_single_ones_are(monkeypatch):
    rng = np.random.default_rng(5)
    volumes, targets = made(rng, 3, 8, 4, 4, 30, None)
    monkeypatch.setattr(module, "MANY", 1)
    kept = build(volumes, targets, 4, None)
    weights = rng.dirichlet(np.ones(4), 70)
    whole = kept.sums(weights)
    monkeypatch.setattr(module, "PIXELS", 7)
    monkeypatch.setattr(module, "VECTORS", 3)
    assert (kept.sums(weights) == whole).all()
    assert all((kept.sums(vector[None])[0] == found).all() for vector, found in zip(weights, whole, strict=True))


def test_what_rounding_could_decide_is_added_up_as_decoding_does(monkeypatch):
    rng = np.random.default_rng(6)
    volumes, targets = made(rng, 2, 30, 3, 3, 4, None)  # four levels: a great many exact ties
    monkeypatch.setattr(module, "MANY", 1)
    kept = build(volumes, targets, 3, None)
    exact = 0
    plain = type(kept)._exact

    def counted(self, bits, vector):
        nonlocal exact
        exact += bits.shape[2]
        return plain(self, bits, vector)

    monkeypatch.setattr(type(kept), "_exact", counted)
    kept.sums(np.full((1, 3), 1 / 3))
    assert 0 < exact < sum(each.size for each in kept.undecided)


@pytest.mark.parametrize("odd", ["float32", "above one", "not a number", "unscored"])
def test_predictions_that_cannot_be_kept_compactly_are_refused(odd):
    values = np.full((2, 3, 2, 2), 0.25, np.float32 if odd == "float32" else np.float16)
    values[:, 0] = 0
    if odd == "above one":
        values[0, 1, 0, 0] = 1.5
    if odd == "not a number":
        values[0, 1, 0, 0] = np.nan
    if odd == "unscored":
        values[0, 0] = 0.5
    ids = np.array(["a", "b"])
    targets = Ragged.stack(np.ones((2, 1, 2, 2), np.uint8), ids)
    with pytest.raises(NotCompact):
        build({0: [Ragged.stack(values, ids)]}, targets, 3, 0)


def test_logarithms_of_all_probabilities_rise_and_stop_at_the_floor():
    below_one = LOGARITHMS[: int(np.float16(1).view(np.uint16)) + 1]
    floor = int(np.float16(FLOOR).view(np.uint16))
    assert (np.diff(below_one[floor:]) > 0).all() and (below_one[:floor] == below_one[floor]).all()
    assert below_one[-1] == 0 and LOGARITHMS[np.float16(0.5).view(np.uint16)] == np.float32(np.log(0.5))
