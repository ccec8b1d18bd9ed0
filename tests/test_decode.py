"""From probabilities to labels: by hand, joined by id, and equal to a plain evaluation in numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podium import combine
from podium.data.ragged import Ragged
from podium.decode import finish
from podium.errors import UserError


def pixels(*columns: list[float]) -> np.ndarray:
    """An image of one row from the classes' probabilities at each pixel: (C, 1, pixels)."""
    return np.array(columns, np.float32).T[:, None]


def ragged(*images: np.ndarray, ids: list[str]) -> Ragged:
    values = np.concatenate([image.reshape(-1) for image in images])
    return Ragged(values, np.array([image.shape for image in images]), np.array(ids))


def test_two_models_and_two_images_by_hand():
    first = ragged(pixels([0, 0.6, 0.4], [0, 0.3, 0.7]), pixels([0, 1, 0], [0, 0.5, 0.5]), ids=["a", "b"])
    second = ragged(pixels([0, 0.1, 0.9], [0, 0.6, 0.4]), pixels([0, 0.2, 0.8], [0, 0.4, 0.6]), ids=["a", "b"])
    even = finish([first, second], [0.5, 0.5], 0)
    # class 1: (0.35, 0.45) and (0.6, 0.45)
    assert even.values.dtype == np.uint8 and even.stacked.shape == (2, 1, 1, 2)
    assert even.stacked[:, 0, 0].tolist() == [[2, 2], [1, 2]]
    # 0.9 * 0.6 + 0.1 * 0.1 = 0.55; 0.9 * 0.3 + 0.1 * 0.6 = 0.33; 0.92; 0.49
    assert finish([first, second], [0.9, 0.1], 0).stacked[:, 0, 0].tolist() == [[1, 2], [1, 2]]


def test_the_unscored_class_is_never_predicted():
    volume = ragged(pixels([0.9, 0.04, 0.06], [1, 0, 0], [0.5, 0.3, 0.2]), ids=["a"])
    assert finish([volume], [1], 0).stacked[0, 0, 0].tolist() == [2, 1, 1]
    assert finish([volume], [1], 2).stacked[0, 0, 0].tolist() == [0, 0, 0]
    assert finish([volume], [1], None).stacked[0, 0, 0].tolist() == [0, 0, 0]


def test_the_unscored_class_is_taken_out_of_each_model_before_blending():
    # renormalised, the first says 0.2 and 0.8 and outweighs the second's 0.7 and 0.3; as they are, it has next to no voice
    sure = ragged(pixels([0.9, 0.02, 0.08]), ids=["a"])
    other = ragged(pixels([0, 0.7, 0.3]), ids=["a"])
    assert finish([sure, other], [0.5, 0.5], 0).values.tolist() == [2]


def test_a_pixel_does_not_depend_on_the_images_beside_it():
    # probabilities that do not sum to one, as float16 leaves them, here overdone: 0.7 against 0.65, renormalised 0.89
    # against 1.11; only "b" has something to renormalise
    one, two = pixels([0, 0.6, 0.3]), pixels([0, 0.1, 0.35])
    alone = finish([ragged(one, ids=["a"]), ragged(two, ids=["a"])], [0.5, 0.5], 0)
    beside = pixels([0.5, 0.25, 0.25])
    both = finish([ragged(one, beside, ids=["a", "b"]), ragged(two, beside, ids=["a", "b"])], [0.5, 0.5], 0)
    assert alone.values[0] == both.values[0] == 1


def test_ties_go_to_the_lower_class():
    volume = ragged(pixels([0, 0.5, 0.5], [0.4, 0.2, 0.4], [0, 0, 0]), ids=["a"])
    assert finish([volume], [1], None).values.tolist() == [1, 0, 0]
    assert finish([volume], [1], 0).values.tolist() == [1, 2, 1]


def test_volumes_are_joined_by_id():
    a, b = pixels([0, 1, 0]), pixels([0, 0, 1])
    first, second = ragged(a, b, ids=["a", "b"]), ragged(b, a, ids=["b", "a"])
    labels = finish([first, second], [0.5, 0.5], 0)
    assert labels.ids.tolist() == ["a", "b"] and labels.values.tolist() == [1, 2]
    labels = finish([second, first], [0.5, 0.5], 0)
    assert labels.ids.tolist() == ["b", "a"] and labels.values.tolist() == [2, 1]


def test_what_does_not_fit_is_refused():
    a, b = pixels([0, 1, 0]), pixels([0, 0, 1])
    first = ragged(a, b, ids=["a", "b"])
    for other in (ragged(a, ids=["a"]), ragged(a, b, b, ids=["a", "b", "c"]), ragged(a, b, ids=["a", "c"])):
        with pytest.raises(UserError, match="id '[bc]': predicted by one model and not by another"):
            finish([first, other], [0.5, 0.5], 0)
    wide = ragged(pixels([0, 1, 0], [0, 1, 0]), a, ids=["b", "a"])
    with pytest.raises(UserError, match=r"id 'b': two models .* sizes .*\(3, 1, 1\) and \(3, 1, 2\)"):
        finish([first, wide], [0.5, 0.5], 0)


@pytest.mark.parametrize("weights", [[0.5, 0.4], [1.0], [0.5, 0.25, 0.25], [2.0, -1.0], [float("nan"), 0.5]])
def test_weights_that_are_no_mean_are_refused(weights):
    volume = ragged(pixels([0, 1, 0]), ids=["a"])
    with pytest.raises(UserError, match="2 weights of 0 or more that sum to 1 are needed"):
        finish([volume, volume], weights, 0)


def test_images_may_differ_in_size():
    images = [np.random.default_rng(1).random((3, *size)) for size in ((2, 3), (5, 1), (2, 3))]
    volume = ragged(*images, ids=["a", "b", "c"])
    order = [2, 0, 1]
    other = ragged(*[images[i] for i in order], ids=[["a", "b", "c"][i] for i in order])
    labels = finish([volume, other], [0.5, 0.5], 1)
    assert labels.shapes.tolist() == [[1, 2, 3], [1, 5, 1], [1, 2, 3]]
    for image, found in zip(images, labels, strict=True):
        assert (found[0] == np.where(image[0] >= image[2], 0, 2)).all()


def plain(stacks: list[np.ndarray], weights: list[float], unscored: int | None) -> np.ndarray:
    """What finish does, in float64 and without blocks: blended probabilities (N, C, H, W)."""
    blend = np.zeros(stacks[0].shape)
    for stack, weight in zip(stacks, weights, strict=True):
        p = stack.astype(np.float64)
        if unscored is not None:
            p[:, unscored] = 0
            p /= p.sum(1, keepdims=True)
        blend += weight * p
    if unscored is not None:
        blend[:, unscored] = -1
    return blend


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 9),
    models=st.integers(1, 4),
    classes=st.integers(2, 6),
    unscored=st.none() | st.integers(0, 1),
    half=st.booleans(),
)
def test_it_equals_a_plain_evaluation(seed, count, models, classes, unscored, half):
    rng = np.random.default_rng(seed)
    ids = np.array([f"i{k}" for k in range(count)])
    volumes, stacks = [], []
    for _ in range(models):
        stack = rng.dirichlet(np.full(classes, 0.5), (count, 3, 4)).transpose(0, 3, 1, 2) + 1e-3
        stack = stack.astype(np.float16 if half else np.float32)
        order = rng.permutation(count)
        volumes.append(Ragged.stack(stack[order], ids[order]))
        stacks.append(stack)
    weights = rng.dirichlet(np.ones(models)).tolist()
    kept, combine.BLOCK, combine.VALUES = (combine.BLOCK, combine.VALUES), 4, 1
    try:
        labels = finish(volumes, weights, unscored)
    finally:
        combine.BLOCK, combine.VALUES = kept
    assert labels.ids.tolist() == volumes[0].ids.tolist()
    rows = [int(name[1:]) for name in labels.ids.tolist()]
    blend = plain(stacks, weights, unscored)[rows]
    chosen = np.take_along_axis(blend, labels.stacked.astype(np.int64), axis=1)[:, 0]
    assert (chosen >= blend.max(1) - 1e-5).all()
    clear = np.sort(blend, axis=1)[:, -1] - np.sort(blend, axis=1)[:, -2] > 1e-5
    assert (labels.stacked[:, 0] == blend.argmax(1))[clear].all()
    assert unscored is None or (labels.values != unscored).all()
