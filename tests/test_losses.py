"""The loss: weights by hand, equality with torch's own, and batches without a label."""

from __future__ import annotations

import math

import pytest
import torch

from podium.config import LossSettings
from podium.losses import class_weights, cross_entropy


def test_class_weights_by_hand():
    counts = torch.tensor([100, 25, 400, 4])
    weights = class_weights(counts, LossSettings(weight_power=0.5, weight_cap=8))
    assert weights.dtype == torch.float32
    assert weights.tolist() == [2.0, 4.0, 1.0, 8.0]  # the last would be 10
    assert class_weights(counts, LossSettings(weight_power=1, weight_cap=50)).tolist() == [4.0, 16.0, 1.0, 50.0]
    assert class_weights(counts, LossSettings(weight_power=0)).tolist() == [1.0] * 4


def test_a_class_that_never_occurs_weighs_one():
    assert class_weights(torch.tensor([9, 0, 36]), LossSettings(weight_power=0.5)).tolist() == [2.0, 1.0, 1.0]
    assert class_weights(torch.tensor([0, 0]), LossSettings()).tolist() == [1.0, 1.0]


def test_a_value_by_hand():
    # pixel 1: softmax (1/4, 3/4), truth 1; pixel 2: softmax (1/2, 1/2), truth 0; pixel 3 carries no label
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0], [9.0, -9.0]]).T.reshape(1, 2, 1, 3)
    targets = torch.tensor([[[1, 0, 255]]], dtype=torch.uint8)
    loss = cross_entropy(logits, targets, torch.tensor([1.0, 4.0]))
    assert loss.item() == pytest.approx((4 * math.log(4 / 3) + 1 * math.log(2)) / 5, abs=1e-6)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_it_equals_torchs_in_value_and_gradient(memory_format):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 5, 6, generator=generator).contiguous(memory_format=memory_format)
    targets = torch.randint(0, 5, (3, 5, 6), generator=generator)
    targets[targets == 4] = 255
    targets[1] = 255  # a whole image without a label
    weights = torch.tensor([1.0, 2.0, 0.5, 8.0])
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    loss = cross_entropy(ours, targets.to(torch.uint8), weights)
    expected = torch.nn.CrossEntropyLoss(weights, ignore_index=255)(theirs, targets)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    assert ours.grad is not None and theirs.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert (ours.grad[1] == 0).all()


def test_a_batch_without_a_label_has_no_loss_and_no_gradient():
    logits = torch.randn(2, 4, 3, 3, requires_grad=True)
    loss = cross_entropy(logits, torch.full((2, 3, 3), 255, dtype=torch.uint8), torch.ones(4))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None and (logits.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_reduced_precision_is_computed_in_float32(dtype):
    logits = (torch.arange(48.0).reshape(1, 4, 3, 4) * 100 - 2000).to(dtype).requires_grad_()
    targets = torch.zeros((1, 3, 4), dtype=torch.uint8)
    loss = cross_entropy(logits, targets, torch.ones(4))
    assert loss.dtype == torch.float32
    # class 3 is 36 * 100 above class 0, at every pixel: far more than float16's softmax resolves
    expected = torch.nn.functional.cross_entropy(logits.detach().float(), targets.long())
    torch.testing.assert_close(loss.detach(), expected)
    loss.backward()
    assert logits.grad is not None and logits.grad.isfinite().all()
