"""Steps and factors that are tried side by side score as images that are decoded with them one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from podium import metrics, side_by_side
from podium.blend import tries
from podium.blend.biases import GRID, Biases
from podium.blend.table import Table
from podium.blend.tries import Tries
from podium.config import Competition
from podium.config_file import validate
from podium.data.ragged import Ragged
from podium.decode import Decision
from podium.decode_steps import Name, Step, changes
from test_blend_compact import ragged

CLASSES = ("void", "a", "b", "c")
AMOUNTS: dict[Name, tuple[float, ...]] = {
    "fill_holes": (2, 9, 0),
    "closing": (1, 2),
    "opening": (1, 2),
    "min_area": (2, 5, 12),
    "largest": (1,),
}
STEPS = [Step(name, of, (amount,)) for name, amounts in AMOUNTS.items() for of in (1, 3) for amount in amounts]


def table_of(seed, metric="mean_iou", same_size=True, levels=6, unscored=True, **more):
    """Two folds of seven images, two models, smooth probabilities with ties, pixels without a label."""
    rng = np.random.default_rng(seed)
    data = {"format": "npz", "file": "x.npz", "train": {"image": {"key": "i"}, "target": {"key": "t"}}}
    raw = {"name": "made", "task": "segmentation", "data": data, "classes": list(CLASSES), "models": ["m"]}
    raw |= {"unscored": "void"} if unscored else {}
    competition = validate(Competition, raw | {"metric": {"name": metric} | more}, "made.yaml")
    ids = np.array([f"i{k}" for k in range(14)])
    sizes = [(13, 17)] * 14 if same_size else [(11 + k % 3, 14 + k % 2) for k in range(14)]
    truths = [rng.integers(0, 4, (1, *size)).astype(np.uint8) for size in sizes]
    for truth in truths:
        truth[rng.random(truth.shape) < 0.1] = 255
    volumes = {}
    for fold in range(2):
        mine = np.arange(fold * 7, fold * 7 + 7)
        volumes[fold] = [ragged([smooth(rng, sizes[k], levels, unscored) for k in mine], ids[mine]) for _ in range(2)]
    rows = {0: np.arange(7), 1: np.arange(7, 14)}
    return Table(competition, metrics.of(competition), ragged(truths, ids), volumes, rows, np.arange(14))


def smooth(rng, size, levels, unscored):
    raw = ndimage.uniform_filter(rng.random((4, *size)), (0, 3, 3))
    raw = np.floor((raw - raw.min()) / np.ptp(raw) * levels) + 0.25
    if unscored:
        raw[0] = 0
    return (raw / raw.sum(0)).astype(np.float16)


# ---------------------------------------------------------------- shapes


def by_scipy(label, score, step):
    """The same step by scipy.ndimage, of the whole image; None where it leaves open what is done."""
    mask, value = label == step.of, step.value[0]
    disc = np.hypot(*np.mgrid[-int(value) : int(value) + 1, -int(value) : int(value) + 1]) ** 2 <= value**2 + 0.5
    eight = np.ones((3, 3))
    if step.name == "fill_holes":
        holes = ndimage.binary_fill_holes(mask) & ~mask
        number, count = ndimage.label(holes)
        for k in range(1, count + 1):
            if value and (number == k).sum() > value:
                holes[number == k] = False
        new = mask | holes
    elif step.name == "closing":
        wide = np.pad(mask, int(value))
        new = ndimage.binary_closing(wide, disc)[int(value) : -int(value), int(value) : -int(value)] | mask
    elif step.name == "opening":
        new = ndimage.binary_dilation(ndimage.binary_erosion(mask, disc, border_value=1), disc)
    else:
        number, count = ndimage.label(mask, eight)
        areas = np.array([(number == k).sum() for k in range(1, count + 1)])
        if step.name == "min_area":
            kept = [k for k in range(1, count + 1) if areas[k - 1] >= value]
        else:
            largest = [k for k in range(1, count + 1) if areas[k - 1] == areas.max()]
            if len(largest) > 1:
                return None  # which of them is kept is not said
            kept = largest
        new = np.isin(number, kept)
    told = label.copy()
    told[new & ~mask] = step.of
    other = score.copy()
    other[step.of] = -np.inf
    told[mask & ~new] = other.argmax(0)[mask & ~new]
    return told


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    of=st.integers(0, 2),
    share=st.floats(0, 1),
)
def test_steps_of_shapes_are_those_of_scipy(seed, height, width, of, share):
    rng = np.random.default_rng(seed)
    label = np.where(rng.random((height, width)) < share, of, rng.integers(0, 3, (height, width))).astype(np.uint8)
    score = rng.random((3, height, width)).astype(np.float32)
    before = label.copy()
    for name in {step.name for step in STEPS}:
        family = [replace(step, of=of) for step in STEPS if step.name == name and step.of == 1]
        for step, (at, told) in zip(family, changes(label, score, family), strict=True):
            found = label.copy()
            found.reshape(-1)[at] = told
            wanted = by_scipy(label, score, step)
            assert wanted is None or (found == wanted).all(), step
            assert (label == before).all()


# ---------------------------------------------------------------- statistics


@pytest.mark.parametrize("room", [1 << 30, 0], ids=["kept", "blended each time"])
@pytest.mark.parametrize(
    "metric",
    [
        {"metric": "mean_iou"},
        {"metric": "iou", "over": "image"},
        {"metric": "boundary_f1", "tolerance": 1},
        {"metric": "mean_iou", "same_size": False},
        {"metric": "panoptic_quality", "of": "classes"},
    ],
    ids=str,
)
def test_steps_tried_together_score_as_each_alone(metric, room, monkeypatch):
    monkeypatch.setattr(tries, "ROOM", room)
    table = table_of(1, **metric)
    decision = Decision((0.7, 0.3), "geometric" if metric.get("over") else "arithmetic")
    bias = (Step("bias", None, (0.0, 0.3, -0.2, 0.0)),)
    options = [(step,) for step in STEPS] + [bias, (STEPS[3], STEPS[-1])]
    for taken in ((), (Step("min_area", 2, (3,)),), bias):
        some = [steps for steps in options if not (taken == bias == steps)]
        found = Tries(table, decision).stats(taken, some, (0, 1))
        changed = 0
        for steps, stats in zip(some, found, strict=True):
            whole = replace(decision, steps=(*taken, *steps))
            alone = np.concatenate([table.stats(whole, k) for k in (0, 1)])
            assert stats.shape == alone.shape and np.array_equal(stats, alone), (taken, steps)
            changed += not np.array_equal(stats, found[0])
        assert changed > 5  # or there was nothing to compare


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    levels=st.integers(2, 20),
    per_image=st.booleans(),
    of=st.integers(1, 3),
    unscored=st.booleans(),
)
def test_a_sweep_counts_as_each_factor_does(seed, levels, per_image, of, unscored):
    more = {"metric": "iou", "over": "image"} if per_image else {}
    table = table_of(seed, levels=levels, unscored=unscored, **more)
    biases = Biases(table, Decision((0.5, 0.5)))
    bias = (0.0, *np.random.default_rng(seed).choice(GRID, 3).tolist())
    for fold in (0, 1):
        swept = biases._sweep(bias, of, fold)
        for place, amount in enumerate(GRID):
            single = (*bias[:of], amount, *bias[of + 1 :])
            assert np.allclose(swept[place], biases.stats(single, fold).sum(0), rtol=0, atol=1e-9), amount


# ---------------------------------------------------------------- on all cores


@pytest.mark.parametrize("hands", [1, 3])
def test_pieces_are_worked_on_in_order_and_taken_as_needed(hands, monkeypatch):
    monkeypatch.setattr(side_by_side, "cores", lambda: hands)
    taken = []

    def pieces():
        for k in range(50):
            taken.append(k)
            yield k

    ahead = []
    for k, found in enumerate(side_by_side.each(lambda k: k * k, pieces())):
        assert found == k * k
        ahead.append(len(taken) - k - 1)
    assert len(ahead) == 50 and max(ahead) <= side_by_side.AHEAD * hands
    assert list(side_by_side.each(lambda k: k, [])) == [] and list(side_by_side.each(str, [1])) == ["1"]

    def fails(k):
        if k == 7:
            raise ValueError("seven")
        return k

    with pytest.raises(ValueError, match="seven"):
        list(side_by_side.each(fails, range(20)))


def test_a_volume_in_an_order_of_its_own_is_joined_by_id():
    table = table_of(3)
    turned = [volume if m == 0 else shuffled(volume) for m, volume in enumerate(table.volumes[0])]
    other = replace(table, volumes={0: turned, 1: table.volumes[1]}, known={})
    decision, options = Decision((0.4, 0.6)), [(STEPS[0],), (STEPS[-1],)]
    for one, two in zip(
        Tries(table, decision).stats((), options, (0, 1)),
        Tries(other, decision).stats((), options, (0, 1)),
        strict=True,
    ):
        assert np.array_equal(one, two)


def shuffled(volume):
    order = np.random.default_rng(0).permutation(len(volume))
    return Ragged(np.concatenate([volume[k].reshape(-1) for k in order]), volume.shapes[order], volume.ids[order])
