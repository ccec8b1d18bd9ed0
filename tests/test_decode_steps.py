"""Steps of the decoding, on masks small enough to be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from podium.data.ragged import Ragged
from podium.decode import Decision, finish
from podium.decode_steps import Step, factors, reshaped


def mask(text: str) -> np.ndarray:
    rows = text.split()
    return np.array([[int(c) for c in row] for row in rows], np.uint8)


def after(text: str, step: Step, classes: int = 2) -> str:
    labels = mask(text)
    # the label itself is most probable, then class 0 unless it is the label, then 1, ...
    scores = np.tile(-np.arange(classes, dtype=np.float32)[:, None, None] / 10, (1, *labels.shape))
    np.put_along_axis(scores, labels[None].astype(np.int64), 1.0, 0)
    changed = reshaped(labels[None], scores[None], [step])
    assert (labels == mask(text)).all()  # what is given stays
    return "\n".join("".join(map(str, row)) for row in changed[0])


def same(text: str) -> str:
    return "\n".join(text.split())


def test_holes_are_filled_up_to_an_area_and_not_at_the_edge():
    ring = "111110 101010 111110 111011 111111"
    assert after(ring, Step("fill_holes", 1, (0,))) == same("111110 111110 111110 111111 111111")
    wide = "1111111 1000101 1111111"
    assert after(wide, Step("fill_holes", 1, (1,))) == same("1111111 1000111 1111111")
    assert after(wide, Step("fill_holes", 1, (3,))) == same("1111111 1111111 1111111")
    edge = "1101 1101 1111"
    assert after(edge, Step("fill_holes", 1, (0,))) == same(edge)
    # a hole that is another class is filled too; diagonal neighbours do not connect a hole to the outside
    assert after("1110 1210 1111", Step("fill_holes", 1, (0,)), 3) == same("1110 1110 1111")
    assert after("0110 1010 1100", Step("fill_holes", 1, (0,))) == same("0110 1110 1100")


def test_small_areas_become_the_next_most_probable_class():
    text = "1100 0000 0001 0011"
    assert after(text, Step("min_area", 1, (3,))) == same("0000 0000 0001 0011")
    assert after(text, Step("min_area", 1, (4,))) == same("0000 0000 0000 0000")
    assert after(text, Step("min_area", 1, (2,))) == same(text)
    # diagonal neighbours belong together
    assert after("100 010 001", Step("min_area", 1, (3,))) == same("100 010 001")
    # class 0 itself becomes class 1
    assert after("111 101 111", Step("min_area", 0, (2,)), 3) == same("111 111 111")


def test_only_the_largest_area_is_kept():
    assert after("1101 0001 0001 1001", Step("largest", 1, (1,))) == same("0001 0001 0001 0001")
    assert after("110 000", Step("largest", 1, (1,))) == same("110 000")
    assert after("000 000", Step("largest", 1, (1,))) == same("000 000")


def test_opening_takes_thin_parts_away_and_closing_bridges_gaps():
    text = "00000000 01110000 01111110 01110000 00000000"
    assert after(text, Step("opening", 1, (1,))) == same("00000000 00110000 01111000 00110000 00000000")
    gap = "0000000 0110110 0110110 0110110 0000000"
    assert after(gap, Step("closing", 1, (1,))) == same("0000000 0110110 0111110 0110110 0000000")


def test_a_threshold_is_a_share_of_the_second_class():
    p = np.array([[0.55, 0.45], [0.71, 0.29], [0.69, 0.31]], np.float16).T.reshape(1, 2, 1, 3)
    volume = Ragged.stack(p, ["a"])
    assert finish([volume], [1.0], None).values.tolist() == [0, 0, 0]
    assert finish([volume], [1.0], None, steps=[Step("threshold", 1, (0.3,))]).values.tolist() == [1, 0, 1]
    # of the logarithms of a geometric mean it is the same
    told = finish([volume], [1.0], None, mean="geometric", steps=[Step("threshold", 1, (0.3,))])
    assert told.values.tolist() == [1, 0, 1]


def test_a_bias_multiplies_the_classes_and_never_calls_up_the_unscored_one():
    p = np.array([[0.0, 0.5, 0.3, 0.2]], np.float16).T.reshape(1, 4, 1, 1)
    volume = Ragged.stack(p, ["a"])
    steps = [Step("bias", None, (5.0, 0.0, 0.6, 0.0))]
    assert finish([volume], [1.0], 0, steps=steps).values.tolist() == [2]  # 0.3 · e^0.6 = 0.547
    assert finish([volume], [1.0], 0, steps=[Step("bias", None, (5.0, 0.0, 0.5, 0.0))]).values.tolist() == [1]
    found = factors(steps, 4)
    assert (
        found is not None
        and np.allclose(found, np.exp([5, 0, 0.6, 0]))
        and factors([Step("largest", 1, (1,))], 4) is None
    )


def test_steps_are_done_in_order():
    text = "111 101 111 000 010"
    labels = mask(text)[None]
    scores = np.zeros((1, 2, *labels.shape[1:]), np.float32)
    np.put_along_axis(scores, labels[:, None].astype(np.int64), 1.0, 1)
    both = reshaped(labels, scores, [Step("fill_holes", 1, (0,)), Step("min_area", 1, (9,))])
    assert both[0].tolist() == mask("111 111 111 000 000").tolist()
    other = reshaped(labels, scores, [Step("min_area", 1, (9,)), Step("fill_holes", 1, (0,))])
    assert other[0].tolist() == mask("000 000 000 000 000").tolist()


@pytest.mark.parametrize(
    "step",
    [
        Step("bias", None, (0.0, 0.25)),
        Step("threshold", 1, (0.4,)),
        Step("min_area", 1, (16,)),
        Step("points", None, (1,)),
    ],
)
def test_steps_survive_a_trip_through_json(step):
    classes = ("rest", "cell")
    raw = step.to_json(classes)
    assert Step.from_json(raw, classes) == step and ("class" in raw) == (step.of is not None)


def test_what_a_decision_says_of_points():
    assert Decision((1.0,)).points is None
    assert Decision((1.0,), steps=(Step("points", None, (0.2, 0.7)),)).points == (0.2, 0.7)
