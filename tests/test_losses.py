"""The loss of a recipe: class weights, sums of terms, deep supervision, pieces of a batch, and batches that are extreme."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from podium.config_file import load_recipe
from podium.config_loss import LossSettings
from podium.errors import UserError
from podium.losses import Loss, build, class_weights, label_weight
from podium.losses.pixelwise import cross_entropy
from podium.losses.regions import dice
from podium.losses.seen import Seen

CPU = torch.device("cpu")
NET = "net: {name: residual_unet, widths: [4, 8]}\n"
WEIGHTS = torch.tensor([1.0, 2.0, 0.5, 8.0])
ADDS_UP: list[Any] = [
    "cross_entropy",
    {"name": "cross_entropy", "label_smoothing": 0.1},
    "focal",
    {"name": "focal", "gamma": 0.5},
    {"name": "bce", "label_smoothing": 0.1},
    {"name": "dice", "smooth": 1},
    "jaccard",
    {"name": "tversky", "gamma": 0.75},
    "lovasz",
    {"name": "boundary", "reach": 3},
]
OVER_BATCH: list[Any] = [{"name": name, "over": "batch"} for name in ("dice", "jaccard", "tversky", "lovasz")]
ALL_TERMS = ADDS_UP + OVER_BATCH


def loss_of(*terms: Any, deep: tuple[float, ...] = (1.0,)) -> Loss:
    return Loss(LossSettings.model_validate({"terms": terms, "deep": deep}), WEIGHTS)


def batch_of(images: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits of 4 classes, targets, other targets and their share; images hold different numbers of labels, one none."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, 4, 6, 7, generator=generator)
    targets, other = torch.randint(0, 4, (2, images, 6, 7), generator=generator).to(torch.uint8)
    for number in range(images):
        targets[number, : number + 2] = 255
        other[number, :, number] = 255
    return logits, targets, other, torch.rand(images, generator=generator)


# ---------------------------------------------------------------- class weights


def test_class_weights_by_hand() -> None:
    counts = torch.tensor([100, 25, 400, 4])
    weights = class_weights(counts, LossSettings(weight_power=0.5, weight_cap=8))
    assert weights.dtype == torch.float32
    assert weights.tolist() == [2.0, 4.0, 1.0, 8.0]  # the last would be 10
    assert class_weights(counts, LossSettings(weight_power=1, weight_cap=50)).tolist() == [4.0, 16.0, 1.0, 50.0]
    assert class_weights(counts, LossSettings(weight_power=0)).tolist() == [1.0] * 4


def test_effective_numbers_by_hand() -> None:
    # beta 0.5: 1 pixel counts 1, 2 count 1.5, 3 count 1.75
    counts = torch.tensor([1, 2, 3])
    found = class_weights(counts, LossSettings(weight_beta=0.5, weight_power=1))
    torch.testing.assert_close(found, torch.tensor([1.75, 1.75 / 1.5, 1.0]))
    # far below 1 / (1 - beta) the effective number is the number, far above it no longer grows
    few, many = torch.tensor([10, 40]), torch.tensor([10**9, 4 * 10**9])
    near = LossSettings(weight_beta=1 - 1e-6, weight_power=1)
    torch.testing.assert_close(class_weights(few, near), torch.tensor([4.0, 1.0]), rtol=1e-4, atol=0)
    torch.testing.assert_close(class_weights(many, near), torch.ones(2))
    assert class_weights(torch.tensor([1, 10**6]), near.model_copy(update={"weight_cap": 5.0})).tolist() == [5.0, 1.0]


@pytest.mark.parametrize("beta", [None, 0.9])
def test_a_class_that_never_occurs_weighs_one(beta: float | None) -> None:
    settings = LossSettings(weight_power=0.5, weight_beta=beta)
    assert class_weights(torch.tensor([36, 0, 36]), settings).tolist() == [1.0, 1.0, 1.0]
    assert class_weights(torch.tensor([0, 0]), settings).tolist() == [1.0, 1.0]


# ---------------------------------------------------------------- sums


def test_terms_add_up_by_their_weights() -> None:
    logits, targets, _, _ = batch_of()
    seen = Seen(logits, targets)
    entropy = cross_entropy(seen, WEIGHTS, label_weight(targets, WEIGHTS))
    loss = loss_of({"name": "cross_entropy", "weight": 2}, {"name": "dice", "weight": 0.25})
    torch.testing.assert_close(loss(logits, targets), 2 * entropy + 0.25 * dice(seen))


@pytest.mark.parametrize("mixed", [False, True])
def test_outputs_are_compared_with_the_labels_that_they_show(mixed: bool) -> None:
    logits, targets, other, share = batch_of()
    outputs = [logits, logits[..., :3, :4] + 1, logits[..., :2, :2] - 1]  # of 6 × 7: sizes are rounded up
    single, expected = loss_of("cross_entropy", "dice"), torch.zeros(())
    for output, step, weight in zip(outputs, (1, 2, 4), (0.5, 0.25, 0.25), strict=True):
        shown = targets[:, ::step, ::step]
        second = (other[:, ::step, ::step], share) if mixed else (None, None)
        expected = expected + weight * single(output, shown, *second)
    loss = loss_of("cross_entropy", "dice", deep=(1.0, 0.5, 0.5))
    torch.testing.assert_close(loss(outputs, targets, *((other, share) if mixed else (None, None))), expected)
    assert loss.total(targets).shape == (3,)


def test_an_output_of_weight_0_costs_nothing() -> None:
    logits, targets, _, _ = batch_of()
    nonsense = torch.full((5, 4, 3, 4), torch.nan)
    torch.testing.assert_close(
        loss_of("focal", deep=(2.0, 0.0))([logits, nonsense], targets), loss_of("focal")(logits, targets)
    )


def test_weights_that_do_not_fit_the_nets_outputs() -> None:
    logits, targets, _, _ = batch_of()
    with pytest.raises(UserError, match="loss.deep: 1 weights for a net that gives 2 outputs"):
        loss_of("dice")([logits, logits[..., :3, :4]], targets)
    with pytest.raises(UserError, match="loss.deep: 2 weights for a net that gives 1 outputs"):
        loss_of("dice", deep=(1.0, 1.0))(logits, targets)


def test_weights_that_are_left_open_are_halved_from_output_to_output() -> None:
    def of(outputs: int) -> list[float]:
        return build(LossSettings(), torch.ones(4), "segmentation", CPU, outputs).deep

    assert of(1) == [1.0] and of(3) == pytest.approx([4 / 7, 2 / 7, 1 / 7])


# ---------------------------------------------------------------- pieces


@settings(deadline=None, max_examples=60)
@given(
    cuts=st.sets(st.integers(1, 4)),
    term=st.sampled_from(ADDS_UP),
    seed=st.integers(0, 9),
    mixed=st.booleans(),
    deep=st.booleans(),
)
def test_the_losses_and_gradients_of_pieces_add_up(
    cuts: set[int], term: Any, seed: int, mixed: bool, deep: bool
) -> None:
    logits, targets, other, share = batch_of(seed=seed)
    loss = loss_of(term, deep=(1.0, 0.5) if deep else (1.0,))
    total = loss.total(targets, other, share) if mixed else loss.total(targets)
    found = []
    for edges in ([0, 5], [0, *sorted(cuts), 5]):
        x = logits.clone().requires_grad_()
        whole = torch.zeros(())
        for start, end in pairwise(edges):
            rows = slice(start, end)
            outputs = [x[rows], x[rows, :, ::2, ::2]] if deep else x[rows]
            second, its_share = (other[rows], share[rows]) if mixed else (None, None)
            whole = whole + loss(outputs, targets[rows], second, its_share, total, (end - start) / 5)
        whole.backward()
        assert x.grad is not None
        found.append((whole.detach(), x.grad))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("term", OVER_BATCH)
def test_pieces_of_a_term_over_the_batch_are_batches(term: Any) -> None:
    logits, targets, _, _ = batch_of()
    loss = loss_of(term)
    parts = [loss(logits[rows], targets[rows]) for rows in (slice(0, 2), slice(2, 5))]
    pieces = [
        loss(logits[rows], targets[rows], fraction=fraction)
        for rows, fraction in ((slice(0, 2), 0.4), (slice(2, 5), 0.6))
    ]
    torch.testing.assert_close(pieces[0] + pieces[1], 0.4 * parts[0] + 0.6 * parts[1])


# ---------------------------------------------------------------- batches that are extreme


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["usual", "no label", "one class", "certain and right", "certain and wrong"])
@pytest.mark.parametrize("term", ALL_TERMS)
def test_losses_and_gradients_are_finite(
    term: Any, kind: str, dtype: torch.dtype, memory_format: torch.memory_format
) -> None:
    logits, targets, other, share = batch_of()
    if kind == "no label":
        targets, other = torch.full_like(targets, 255), torch.full_like(targets, 255)
    elif kind == "one class":
        targets = torch.full_like(targets, 2)
    elif kind.startswith("certain"):
        truth = torch.nn.functional.one_hot(targets.long().clamp(max=3), 4).permute(0, 3, 1, 2)
        logits = truth * (1e4 if kind.endswith("right") else -1e4)
    for second in ((None, None), (other, share)):
        x = logits.to(dtype).contiguous(memory_format=memory_format).requires_grad_()
        loss = loss_of(term)(x, targets, *second)
        loss.backward()
        assert loss.dtype == torch.float32 and loss.isfinite()
        assert x.grad is not None and x.grad.dtype == dtype and x.grad.isfinite().all()
        if kind == "no label":
            assert loss == 0 and (x.grad == 0).all()
        # the arithmetic is float32's whatever the logits are stored in
        exact = loss_of(term)(x.detach().float(), targets, *second)
        torch.testing.assert_close(loss.detach(), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mixed", [False, True])
def test_no_term_waits_for_a_device(mixed: bool) -> None:
    """Tensors without values: whatever looked at one, to branch or to choose a size, would fail."""
    logits, targets, other, share = (x.to("meta") for x in batch_of())
    for term in ALL_TERMS:
        settings = LossSettings.model_validate({"terms": [term], "deep": [1, 1]})
        loss = Loss(settings, WEIGHTS.to("meta"))
        x = logits.clone().requires_grad_()
        value = loss([x, x[..., ::2, ::2]], targets, *((other, share) if mixed else (None, None)))
        value.backward()
        assert value.shape == () and x.grad is not None


@pytest.mark.parametrize("term", ["cross_entropy", "focal", "bce"])
def test_labels_are_masks_of_one_pixel(term: str) -> None:
    logits, labels = torch.randn(6, 4, 1, 1, requires_grad=True), torch.tensor([0, 1, 2, 3, 255, 1], dtype=torch.uint8)
    loss = build(LossSettings.model_validate({"terms": [term]}), torch.tensor([9, 9, 9, 9]), "classification", CPU)
    value = loss(logits, labels.view(6, 1, 1))
    value.backward()
    assert logits.grad is not None and (logits.grad[4] == 0).all() and (logits.grad[5] != 0).all()


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize("term", ["dice", "jaccard", "tversky", "lovasz", "boundary"])
def test_regions_are_no_loss_for_labels(term: str) -> None:
    settings = LossSettings.model_validate({"terms": ["cross_entropy", term]})
    said = f"loss.terms: '{term}' compares regions and labels have none; use any of cross_entropy, focal, bce"
    with pytest.raises(UserError, match=said):
        build(settings, torch.ones(4), "classification", CPU)
    assert build(settings, torch.tensor([4, 1]), "segmentation", CPU).weights.tolist() == [1.0, 2.0]


def test_labels_have_one_resolution() -> None:
    with pytest.raises(UserError, match="loss.deep: is for masks"):
        build(LossSettings(deep=(1.0, 0.5)), torch.ones(4), "classification", CPU)


def loss_in(folder: Path, text: str) -> LossSettings:
    path = folder / "recipe.yaml"
    path.write_text(NET + f"loss: {text}\n")
    return load_recipe(path).loss


def test_terms_are_named_with_or_without_options(tmp_path: Path) -> None:
    assert [term.name for term in LossSettings().terms] == ["cross_entropy"]
    read = loss_in(tmp_path, "{terms: [cross_entropy, {name: focal, gamma: 3, weight: 2}], deep: [2]}")
    assert [(term.name, term.weight) for term in read.terms] == [("cross_entropy", 1.0), ("focal", 2.0)]
    assert read.deep == (2.0,)
    assert LossSettings.model_validate(read.model_dump(mode="json")) == read


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{terms: [dise]}", "key 'loss.terms.0.name': 'dise' is not allowed; did you mean 'dice'?"),
        ("{terms: [focal, {name: dice, gamma: 2}]}", "unknown key 'loss.terms.1.gamma'; "),
        ("{terms: [{weight: 2}]}", "key 'loss.terms.name': a term has none; write it as in "),
        ("{terms: [{name: focal, weight: 0}]}", "key 'loss.terms.0.weight': input should be greater than 0"),
        ("{terms: []}", "key 'loss.terms': tuple should have at least 1 item"),
        ("{terms: [dice, {name: dice, over: batch}]}", "key 'loss.terms': dice is named 2 times; name every term once"),
        ("{deep: [1, 0.5]}", "key 'loss.deep': 2 weights for a net that gives 1 outputs in training; give it as many"),
        ("{deep: [0, 1]}", "key 'loss.deep.0': the first output is what predicts; its weight must be above 0"),
        ("{weight_beta: 0.9, weight_power: 0}", "key 'loss.weight_beta': does nothing with weight_power 0"),
    ],
)
def test_mistakes_are_named_with_their_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        loss_in(tmp_path, text)
