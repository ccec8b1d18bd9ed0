"""Run-length masks: worked out by hand, back and forth, equal to a loop over the pixels, and every way to be wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from podium.data.rle import decode, encode

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))

# 3 high, 2 wide: the pixels are counted 1 2 3 down the first column, 4 5 6 down the second
BY_HAND = [
    ("", [[0, 0], [0, 0], [0, 0]]),
    ("1 6", [[1, 1], [1, 1], [1, 1]]),
    ("1 1", [[1, 0], [0, 0], [0, 0]]),
    ("6 1", [[0, 0], [0, 0], [0, 1]]),
    ("4 1", [[0, 1], [0, 0], [0, 0]]),
    ("3 2", [[0, 1], [0, 0], [1, 0]]),  # a run goes on at the top of the next column
    ("1 1 3 1 5 1", [[1, 0], [0, 1], [1, 0]]),
]


@pytest.mark.parametrize(("text", "mask"), BY_HAND)
def test_by_hand(text: str, mask: list[list[int]]) -> None:
    wanted = np.array(mask, np.bool_)
    assert encode(wanted) == text
    found = decode(text, 3, 2)
    assert found.dtype == np.bool_ and found.flags.c_contiguous
    assert found.tolist() == wanted.tolist()


@given(MASKS)
@settings(max_examples=200, deadline=None)
def test_round_trip(mask: np.ndarray) -> None:
    text = encode(mask)
    assert decode(text, *mask.shape).tolist() == mask.tolist()
    assert encode(np.asfortranarray(mask)) == text
    numbers = [int(word) for word in text.split()]
    assert sum(numbers[1::2]) == mask.sum()
    # the fewest runs: between two of them there is at least one pixel
    ends = [start + length for start, length in zip(numbers[::2], numbers[1::2], strict=True)]
    assert all(later > end for end, later in zip(ends, numbers[2::2], strict=False))


def plain_encode(mask: np.ndarray) -> str:
    height, width = mask.shape
    runs: list[list[int]] = []
    before = False
    for column in range(width):
        for row in range(height):
            if mask[row, column]:
                if before:
                    runs[-1][1] += 1
                else:
                    runs.append([column * height + row + 1, 1])
            before = bool(mask[row, column])
    return " ".join(f"{start} {length}" for start, length in runs)


def plain_decode(text: str, height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), np.bool_)
    numbers = [int(word) for word in text.split()]
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        for pixel in range(start - 1, start - 1 + length):
            mask[pixel % height, pixel // height] = True
    return mask


@given(MASKS)
@settings(max_examples=100, deadline=None)
def test_encode_equals_a_loop_over_the_pixels(mask: np.ndarray) -> None:
    assert encode(mask) == plain_encode(mask)


@st.composite
def runs(draw: st.DrawFn) -> tuple[str, int, int]:
    """Valid runs with gaps of any length, also none, in a picture that ends with the last run or later."""
    height = draw(st.integers(1, 12))
    position, words = 0, []
    for gap, length in draw(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), max_size=8)):
        words += [position + gap + 1, length]
        position += gap + length
    width = -(-position // height) + draw(st.integers(0, 2))
    return " ".join(map(str, words)), height, max(width, 1)


@given(runs())
@settings(max_examples=200, deadline=None)
def test_decode_equals_a_loop_over_the_runs(case: tuple[str, int, int]) -> None:
    text, height, width = case
    assert decode(text, height, width).tolist() == plain_decode(text, height, width).tolist()


def test_runs_that_touch_are_one_and_white_space_is_free() -> None:
    mask = decode("  2 1\t3  2\n", 3, 2)
    assert mask.tolist() == [[False, True], [True, False], [True, False]]
    assert encode(mask) == "2 3"
    assert not decode(" \n", 3, 2).any()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1 2 4", "has 3 numbers, runs come in pairs of start and length"),
        ("7", "has 1 numbers"),
        ("1 two", "holds 'two', which is not the number of a pixel"),
        ("1 2.0", "holds '2.0'"),
        ("nan", "holds 'nan'"),
        ("1 1_0", "holds '1_0'"),
        ("1 ٣", "holds '٣'"),
        ("1 -+2", "holds '-\\+2'"),
        ("99999999999999999999 1", "holds '99999999999999999999'"),
        ("9999999999999999999 1", "holds '9999999999999999999'"),
        ("0 2", "run 1 starts at 0, pixels are counted from 1"),
        ("1 1 -3 1", "run 2 starts at -3, pixels are counted from 1"),
        ("1 0", "run 1 has length 0, the shortest is 1"),
        ("1 1 3 -1", "run 2 has length -1"),
        ("6 2", "run 1 \\(start 6, length 2\\) ends behind the last of the 3 × 2 = 6 pixels"),
        ("7 1", "run 1 \\(start 7"),
        ("1 1 2 9223372036854775807", "run 2 \\(start 2, length 9223372036854775807\\) ends behind"),
        ("9223372036854775807 9223372036854775807", "run 1 .* ends behind"),
        ("1 3 3 1", "run 2 starts at 3, not behind the run before it, which ends at 3"),
        ("1 1 5 1 2 1", "run 3 starts at 2, not behind the run before it, which ends at 5"),
        ("2 1 2 1", "run 2 starts at 2, not behind"),
    ],
)
def test_what_is_wrong_is_said(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        decode(text, 3, 2)


@given(st.text(alphabet="0123456789 -+_.x\u00a0٣", max_size=30))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_mask_or_a_clear_error(text: str) -> None:
    try:
        mask = decode(text, 4, 5)
    except ValueError as error:
        assert str(error).startswith(("has ", "holds ", "run "))
    else:
        assert mask.shape == (4, 5)
        assert mask.sum() == sum(int(word) for word in text.split()[1::2])


@pytest.mark.parametrize("mask", [np.zeros((2, 2), np.uint8), np.zeros((1, 2, 2), np.bool_)])
def test_only_bool_masks_are_encoded(mask: np.ndarray) -> None:
    with pytest.raises(ValueError, match="a mask is bool \\(H, W\\), not"):
        encode(mask)
