"""Every term: values worked out by hand, equality with torch's, smp's and scipy's own, and gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from scipy.ndimage import distance_transform_edt

from podium.losses.boundary import boundary, signed_distances
from podium.losses.pixelwise import bce, cross_entropy, focal
from podium.losses.regions import _largest_first, dice, jaccard, lovasz, tversky
from podium.losses.seen import Seen
from podium.losses.weights import label_weight

ONES = torch.ones(2)
# probabilities of class 1; the last pixel carries no label
ROW, LABELS = [0.8, 0.6, 0.3, 0.9], [1, 1, 0, 255]


def row(ones: list[float], labels: list[int], others: list[int] | None = None, share: float = 0.0) -> Seen:
    """One image of one row and two classes, by the probability of class 1."""
    p = torch.tensor(ones, dtype=torch.float64)
    logits = torch.stack([1 - p, p]).log()[None, :, None]
    first, second = (None if x is None else torch.tensor([[x]], dtype=torch.uint8) for x in (labels, others))
    assert first is not None
    return Seen(logits, first, second, None if others is None else torch.tensor([share]))


def scene(classes: int = 4, images: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (images, classes, 5, 6), and targets in which every class occurs and some pixels have no label."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, classes, 5, 6, generator=generator)
    targets = torch.randint(0, classes + 1, (images, 5, 6), generator=generator).to(torch.uint8)
    targets[targets == classes] = 255
    return logits, targets


def value(loss: torch.Tensor) -> float:
    assert loss.shape == ()
    return float(loss)


def total_of(seen: Seen, weights: torch.Tensor) -> torch.Tensor:
    return label_weight(seen.targets, weights, seen.other, seen.share)


# ---------------------------------------------------------------- by pixels


def test_cross_entropy_by_hand() -> None:
    seen, weights = row(ROW, LABELS), torch.tensor([4.0, 1.0])
    expected = -(math.log(0.8) + math.log(0.6) + 4 * math.log(0.7)) / 6
    assert value(cross_entropy(seen, weights, total_of(seen, weights))) == pytest.approx(expected, abs=1e-6)
    # s = 0.2: of every pixel 0.1 of both classes' costs
    evenly = -sum(4 * math.log(1 - p) + math.log(p) for p in ROW[:3]) / 6
    smoothed = value(cross_entropy(seen, weights, total_of(seen, weights), 0.2))
    assert smoothed == pytest.approx(0.8 * expected + 0.1 * evenly, abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_cross_entropy_is_torchs_in_value_and_gradient(memory_format: torch.memory_format, smoothing: float) -> None:
    logits, targets = scene()
    logits = logits.contiguous(memory_format=memory_format)
    targets[1] = 255  # a whole image without a label
    weights = torch.tensor([1.0, 2.0, 0.5, 8.0])
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    loss = cross_entropy(Seen(ours, targets), weights, label_weight(targets, weights), smoothing)
    expected = torch.nn.CrossEntropyLoss(weights, ignore_index=255, label_smoothing=smoothing)(theirs, targets.long())
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    assert ours.grad is not None and theirs.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert (ours.grad[1] == 0).all()


def test_focal_by_hand() -> None:
    seen, weights = row(ROW, LABELS), torch.tensor([4.0, 1.0])
    expected = -(0.2**2 * math.log(0.8) + 0.4**2 * math.log(0.6) + 4 * 0.3**2 * math.log(0.7)) / 6
    assert value(focal(seen, weights, total_of(seen, weights), 2.0)) == pytest.approx(expected, abs=1e-6)
    plain = cross_entropy(seen, weights, total_of(seen, weights))
    assert value(focal(seen, weights, total_of(seen, weights), 0.0)) == pytest.approx(value(plain), abs=1e-6)


def test_focal_is_smps_of_two_classes() -> None:
    # smp's takes one class against the rest by sigmoids: of two classes, with logits 0 and z, that is the softmax
    logits, targets = scene(2)
    logits[:, 0] = 0
    for gamma in (0.5, 2.0, 3.0):
        ours = focal(Seen(logits, targets), ONES, label_weight(targets, ONES), gamma)
        theirs = smp.losses.FocalLoss("binary", gamma=gamma, ignore_index=255)(logits[:, 1], targets.long())
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_bce_by_hand() -> None:
    # logits log 3 and 0: sigmoids 3/4 and 1/2; two pixels of weights 1 and 4, their labels 0 and 1
    logits = torch.tensor([math.log(3), 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 2)
    targets, weights = torch.tensor([[[0, 1]]], dtype=torch.uint8), torch.tensor([1.0, 4.0])
    first, second = -(math.log(3 / 4) + math.log(1 / 2)) / 2, -(math.log(1 / 4) + math.log(1 / 2)) / 2
    loss = bce(Seen(logits, targets), weights, label_weight(targets, weights))
    assert value(loss) == pytest.approx((first + 4 * second) / 5, abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_bce_is_smps_over_all_classes(smoothing: float) -> None:
    logits, targets = scene()
    targets[targets == 255] = 0  # smp averages over ignored elements too
    hot = torch.nn.functional.one_hot(targets.long(), 4).permute(0, 3, 1, 2).float()
    ours = bce(Seen(logits, targets), torch.ones(4), label_weight(targets, torch.ones(4)), smoothing)
    # smp's factor is what a 0 becomes: half of the share that is replaced by one half
    theirs = smp.losses.SoftBCEWithLogitsLoss(smooth_factor=smoothing / 2, ignore_index=None)(logits, hot)
    torch.testing.assert_close(ours, theirs)


PIXELWISE: list[Callable[[Seen, torch.Tensor, torch.Tensor], torch.Tensor]] = [
    cross_entropy,
    lambda seen, weights, total: cross_entropy(seen, weights, total, 0.1),
    focal,
    bce,
    lambda seen, weights, total: bce(seen, weights, total, 0.1),
]


@pytest.mark.parametrize("term", PIXELWISE)
def test_a_share_of_other_labels_is_that_share_of_their_loss(term: Callable[..., torch.Tensor]) -> None:
    logits, targets = scene()
    other, share = scene(seed=1)[1], torch.tensor([0.3, 0.0, 0.8])
    weights, one = torch.tensor([1.0, 2.0, 0.5, 8.0]), torch.tensor(1.0)
    sums = 0.0
    for image in range(3):
        for labels, part in ((targets, 1 - share[image]), (other, share[image])):
            sums += float(part) * value(term(Seen(logits[[image]], labels[[image]]), weights, one))
    mixed = Seen(logits, targets, other, share)
    # the labels' weight mixes as well
    firsts, seconds = (torch.stack([label_weight(x[[i]], weights) for i in range(3)]) for x in (targets, other))
    total = total_of(mixed, weights)
    torch.testing.assert_close(total, ((1 - share) * firsts + share * seconds).sum())
    assert value(term(mixed, weights, total)) == pytest.approx(sums / float(total), rel=1e-5)


# ---------------------------------------------------------------- by regions


def test_overlaps_by_hand() -> None:
    # class 1: I = 1.4, P = 1.7, T = 2; class 0: I = 0.7, P = 1.3, T = 1
    seen = row(ROW, LABELS)
    assert value(dice(seen)) == pytest.approx(1 - (2.8 / 3.7 + 1.4 / 2.3) / 2, abs=1e-6)
    assert value(dice(seen, smooth=0.5)) == pytest.approx(1 - (3.8 / 4.7 + 2.4 / 3.3) / 2, abs=1e-6)
    assert value(jaccard(seen)) == pytest.approx(1 - (1.4 / 2.3 + 0.7 / 1.6) / 2, abs=1e-6)
    one, zero = 1 - 1.4 / (1.4 + 0.3 * 0.3 + 0.7 * 0.6), 1 - 0.7 / (0.7 + 0.3 * 0.6 + 0.7 * 0.3)
    assert value(tversky(seen, 0.3, 0.7)) == pytest.approx((one + zero) / 2, abs=1e-6)
    assert value(tversky(seen, 0.3, 0.7, gamma=0.75)) == pytest.approx((one**0.75 + zero**0.75) / 2, abs=1e-6)


def test_lovasz_by_hand() -> None:
    # class 1: errors 0.4 (in it), 0.3 (not), 0.2 (in it); 1 - IoU goes 1/2, 2/3, 1
    one = 0.4 * 1 / 2 + 0.3 * 1 / 6 + 0.2 * 1 / 3
    # class 0: errors 0.4 (not), 0.3 (in it), 0.2 (not); 1 - IoU goes 1/2, 1, 1
    zero = 0.4 * 1 / 2 + 0.3 * 1 / 2
    assert value(lovasz(row(ROW, LABELS))) == pytest.approx((one + zero) / 2, abs=1e-6)


def test_the_fast_order_is_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 20, (2, 3, 500), generator=generator) / 20  # many are equal, some are 0
    values[1, 1, :3] = torch.tensor([1e-40, 0.0, 1 + 1e-6])
    assert (_largest_first(values) == values.argsort(dim=2, descending=True, stable=True)).all()
    # of a view whose values do not lie in order
    turned = values.transpose(0, 1)
    assert (_largest_first(turned) == turned.argsort(dim=2, descending=True, stable=True)).all()


REGIONAL: list[Callable[..., torch.Tensor]] = [
    dice,
    jaccard,
    lambda seen, over="image": tversky(seen, 0.3, 0.7, 1.5, over, 0.5),
    lovasz,
]


@pytest.mark.parametrize("term", REGIONAL)
def test_a_class_that_is_not_there_and_an_image_without_a_label(term: Callable[..., torch.Tensor]) -> None:
    logits, targets = scene(2, 2)
    targets[1] = 255
    alone = value(term(Seen(logits[:1], targets[:1])))
    assert value(term(Seen(logits, targets))) == pytest.approx(alone / 2)
    assert value(term(Seen(logits, targets), over="batch")) == pytest.approx(alone)
    # a third class that occurs nowhere and is never predicted changes nothing
    third = torch.cat([logits, torch.full((2, 1, 5, 6), -1e4)], dim=1)
    assert value(term(Seen(third, targets))) == pytest.approx(alone / 2)


@pytest.mark.parametrize("term", REGIONAL)
def test_right_is_0_and_wrong_is_1(term: Callable[..., torch.Tensor]) -> None:
    targets = torch.tensor([[[0, 0, 1, 1, 255]]], dtype=torch.uint8)
    right = torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0]).expand(1, 1, 5) * 100
    logits = torch.stack([50 - right, right - 50], dim=1)
    assert value(term(Seen(logits, targets))) == pytest.approx(0, abs=1e-5)
    if term in (dice, jaccard, lovasz):
        assert value(term(Seen(-logits, targets))) == pytest.approx(1)


def test_lovasz_of_certain_predictions_is_1_minus_iou() -> None:
    logits, targets = scene(3, 4)
    guess = logits.argmax(1)
    certain = torch.nn.functional.one_hot(guess, 3).permute(0, 3, 1, 2) * 100.0
    valid, ious = targets != 255, []
    for k in range(3):
        a, b = (guess == k) & valid, targets == k
        ious.append(float((a & b).sum() / (a | b).sum()))
    assert value(lovasz(Seen(certain, targets), "batch")) == pytest.approx(1 - np.mean(ious), abs=1e-5)


def test_overlaps_are_smps_over_a_batch() -> None:
    logits, targets = scene()
    seen, long = Seen(logits, targets), targets.long()
    for ours, theirs in (
        (dice(seen, "batch"), smp.losses.DiceLoss("multiclass", ignore_index=255)),
        (dice(seen, "batch", 2.0), smp.losses.DiceLoss("multiclass", ignore_index=255, smooth=2.0)),
        (
            tversky(seen, 0.3, 0.7, 1.0, "batch"),
            smp.losses.TverskyLoss("multiclass", None, False, True, 0.0, 255, 1e-7, 0.3, 0.7),
        ),
    ):
        torch.testing.assert_close(ours, theirs(logits, long))
    labelled = targets.clamp(max=3)  # smp's Jaccard knows no ignored label
    ours = jaccard(Seen(logits, labelled), "batch")
    torch.testing.assert_close(ours, smp.losses.JaccardLoss("multiclass")(logits, labelled.long()))
    # smp divides by all classes where we divide by those that are there
    without = torch.where(targets == 3, 0, targets)
    theirs = smp.losses.DiceLoss("multiclass", ignore_index=255)(logits, without.long())
    torch.testing.assert_close(dice(Seen(logits, without), "batch") * 3 / 4, theirs)


@pytest.mark.parametrize("over", ["image", "batch"])
def test_lovasz_is_smps_in_value_and_gradient(over: str) -> None:
    logits, targets = scene()
    targets[0][targets[0] == 2] = 255  # a class that one image lacks
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    loss = lovasz(Seen(ours, targets), over)
    expected = smp.losses.LovaszLoss("multiclass", per_image=over == "image", ignore_index=255)(theirs, targets.long())
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_share_of_other_labels_is_a_soft_region() -> None:
    # one pixel, three quarters of class 0: p = (0.25, 0.75) has I = 0.25 of each class
    seen = row([0.75], [0], [1], 0.25)
    assert value(dice(seen)) == pytest.approx(1 - (0.5 / 1.0 + 0.5 / 1.0) / 2)
    assert value(jaccard(seen)) == pytest.approx(1 - (0.25 / 0.75 + 0.25 / 0.75) / 2)
    assert value(lovasz(seen)) == pytest.approx(0.5 * (1 - 0 / 0.75) / 2 + 0.5 / 2)
    # a pixel whose other label is missing counts for what is left of it: y = (0.75, 0), p × 0.75 = (0.1875, 0.5625)
    assert value(dice(row([0.75], [0], [255], 0.25))) == pytest.approx(1 - 2 * 0.1875 / (0.1875 + 0.75))
    assert value(lovasz(row([0.75], [0], [255], 0.25))) == pytest.approx(0.5625)


@pytest.mark.parametrize("over", ["image", "batch"])
@pytest.mark.parametrize("term", REGIONAL)
def test_a_share_of_none_or_all_is_one_of_the_two(term: Callable[..., torch.Tensor], over: str) -> None:
    logits, targets = scene()
    other = scene(seed=1)[1]
    mixed = term(Seen(logits, targets, other, torch.tensor([0.0, 1.0, 0.0])), over=over)
    picked = torch.stack([targets[0], other[1], targets[2]])
    torch.testing.assert_close(mixed, term(Seen(logits, picked), over=over))


@pytest.mark.parametrize("term", [dice, jaccard, lovasz])
def test_the_best_prediction_of_a_mixture_is_the_mixture(term: Callable[..., torch.Tensor]) -> None:
    seen = row([0.3, 0.7, 0.3], [0, 1, 0], [1, 0, 1], 0.3)
    assert value(term(seen)) == pytest.approx(0, abs=1e-6)
    assert value(term(row([0.3, 0.9, 0.3], [0, 1, 0], [1, 0, 1], 0.3))) > 0.05


# ---------------------------------------------------------------- the boundary


def test_distances_by_hand() -> None:
    labels = torch.tensor([[[0, 0, 1, 1, 255]]], dtype=torch.uint8)
    found = signed_distances(labels, 3, reach=2)[0, :, 0]
    assert found[0].tolist() == [-0.75, -0.25, 0.25, 0.75, 1.0]
    assert found[1].tolist() == [0.75, 0.25, -0.25, -0.75, 0.25]  # the last has no label and is not of class 1
    assert found[2].tolist() == [1.0] * 5
    alone = signed_distances(torch.zeros((1, 2, 3), dtype=torch.uint8), 2, reach=4)
    assert (alone[0, 0] == -1).all() and (alone[0, 1] == 1).all()


@pytest.mark.parametrize("size", [(23, 17), (1, 30), (30, 1), (5, 40)])
@pytest.mark.parametrize("reach", [1, 2, 3, 7, 15, 100])
def test_distances_are_scipys(size: tuple[int, int], reach: int) -> None:
    rng = np.random.default_rng(reach)
    labels = rng.choice(np.array([0, 0, 0, 0, 0, 0, 1, 255], np.uint8), (3, *size))
    labels[0] = 0
    labels[0, size[0] // 2, size[1] // 3] = 2
    found = signed_distances(torch.from_numpy(labels), 3, reach).numpy()
    for image, maps in zip(labels, found, strict=True):
        for k, have in enumerate(maps):
            inside, outside = image == k, (image != k) & (image != 255)
            to_class, to_rest = (
                distance_transform_edt(~region) if region.any() else np.full(size, 1e9) for region in (inside, outside)
            )
            distance = np.where(inside, to_rest, to_class) - 0.5
            expected = np.where(inside, -1, 1) * np.minimum(distance, reach) / reach
            np.testing.assert_allclose(have, expected, atol=1e-6)


def test_boundary_by_hand() -> None:
    # distances of class 1 over reach 2: 0.75, 0.25, -0.25, -0.75; of class 0 their opposites
    p = [0.1, 0.4, 0.8, 0.9, 0.5]
    parts = [d * (a - (1 - a)) for a, d in zip(p, [0.75, 0.25, -0.25, -0.75], strict=False)]
    assert value(boundary(row(p, [0, 0, 1, 1, 255]), 2)) == pytest.approx(sum(parts) / 4, abs=1e-6)
    assert value(boundary(row([1e-9, 1e-9, 1 - 1e-9], [0, 0, 0]))) < value(boundary(row([0.5] * 3, [0] * 3)))


def test_boundary_with_a_share_of_other_labels() -> None:
    p, first, second, share = [0.1, 0.4, 0.8, 0.9], [0, 0, 1, 1], [0, 1, 1, 255], 0.25
    # the second has one pixel less: in all 3 × 1 + 0.75 pixels
    sums = (1 - share) * 4 * value(boundary(row(p, first), 3)) + share * 3 * value(boundary(row(p, second), 3))
    assert value(boundary(row(p, first, second, share), 3)) == pytest.approx(sums / 3.75, abs=1e-6)


# ---------------------------------------------------------------- gradients


WEIGHTS = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
EVERY: list[Callable[[Seen], torch.Tensor]] = [
    *(
        lambda seen, term=term: term(seen, WEIGHTS, total_of(seen, WEIGHTS))  # type: ignore[misc]
        for term in PIXELWISE
    ),
    lambda seen: focal(seen, WEIGHTS, total_of(seen, WEIGHTS), 0.5),
    *REGIONAL,
    lambda seen: tversky(seen, 0.3, 0.7, 0.75),
    *(lambda seen, term=term: term(seen, over="batch") for term in REGIONAL),  # type: ignore[misc]
    boundary,
]


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("term", EVERY)
def test_gradients(term: Callable[[Seen], torch.Tensor], mixed: bool) -> None:
    logits, targets = scene(3, 2)
    logits, targets = logits[..., :3, :3].double(), targets[..., :3, :3]
    second = (scene(3, 2, seed=1)[1][..., :3, :3], torch.tensor([0.3, 0.6])) if mixed else (None, None)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return term(Seen(x, targets, *second))

    assert loss(logits).dtype == torch.float64
    assert torch.autograd.gradcheck(loss, (logits.requires_grad_(),))


def test_what_does_not_fit_is_refused() -> None:
    logits, targets = scene()
    with pytest.raises(ValueError, match=r"logits \(3, 4, 5, 6\) do not fit targets \(3, 5, 5\)"):
        Seen(logits, targets[..., :5])
    with pytest.raises(ValueError, match="together"):
        Seen(logits, targets, targets)
