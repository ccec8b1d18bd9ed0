"""What our own nets are made of, against numbers by hand and torch's own modules."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from podium.nets import transformer
from podium.nets.blocks import (
    AttentionGate,
    ConvNormAct,
    DoubleConv,
    ResidualBlock,
    SkipGate,
    SqueezeExcitation,
    UpStep,
    enlarge,
)
from podium.nets.transformer import Block, Transformer, positions


def fill(parameter: nn.Parameter | None, values: object) -> None:
    assert parameter is not None
    with torch.no_grad():
        parameter.copy_(torch.as_tensor(values, dtype=torch.float32).view_as(parameter))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# ---------------------------------------------------------------- gates


def test_squeeze_excitation_by_hand():
    block = SqueezeExcitation(2)
    fill(block.squeeze.weight, [[1, 0], [0, 1], [-1, 0], [1, 1]])
    fill(block.squeeze.bias, [0, -2, 0, 1])
    fill(block.excite.weight, [[1, 0, 5, 0], [0, 1, 0, 0.5]])
    fill(block.excite.bias, [0, -1])
    x = torch.tensor([[[[1.0, 3.0]], [[5.0, 1.0]]]])  # means 2 and 3
    # inner: ReLU(2, 3 - 2, -2, 2 + 3 + 1) = (2, 1, 0, 6); outer: 2 and 1 + 3 - 1 = 3
    expected = torch.tensor([[[[1.0, 3.0]], [[5.0, 1.0]]]]) * torch.tensor([sigmoid(2), sigmoid(3)]).view(1, 2, 1, 1)
    torch.testing.assert_close(block(x), expected)


def test_squeeze_excitation_keeps_images_apart():
    torch.manual_seed(0)
    block, x = SqueezeExcitation(8), torch.randn(3, 8, 4, 5)
    torch.testing.assert_close(block(x)[1:2], block(x[1:2]))
    assert [block.squeeze.out_features, SqueezeExcitation(64).squeeze.out_features] == [4, 8]


def test_an_attention_gate_by_hand():
    gate = AttentionGate(1, 1)
    assert gate.theta.weight.shape == (4, 1, 2, 2)
    fill(gate.theta.weight, [[0.25] * 4, [1, 0, 0, 0], [0] * 4, [0] * 4])
    fill(gate.phi.weight, [1, -1, 0, 0])
    fill(gate.phi.bias, [0, 0, 1, -1])
    fill(gate.psi.weight, [1, 2, 3, 4])
    fill(gate.psi.bias, [-2])
    skip = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    deeper = torch.tensor([[[[2.0]]]])
    # θ: mean 3 and corner 1; with φ: (3 + 2, 1 - 2, 1, -1) → ReLU (5, 0, 1, 0) → 5 + 3 - 2
    torch.testing.assert_close(gate(skip, deeper), skip * sigmoid(6))


def test_an_attention_gate_weighs_positions_and_no_channels():
    torch.manual_seed(0)
    gate = AttentionGate(6, 10)
    skip = torch.rand(2, 6, 8, 4) + 0.5
    weights = gate(skip, torch.randn(2, 10, 4, 2)) / skip
    torch.testing.assert_close(weights, weights[:, :1].expand_as(weights))
    assert weights.std() > 0 and weights.min() > 0 and weights.max() < 1


def test_a_skip_gate_by_hand():
    gate = SkipGate(2, 1)
    fill(gate.theta.weight, [[1, 0], [0, 0]])
    fill(gate.theta.bias, [0, -1])
    fill(gate.phi.weight, [2, 3])
    skip = torch.tensor([1.0, 4.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    found = gate(skip, torch.full((1, 1, 1, 1), 0.5))
    assert found[0, 0].flatten().tolist() == pytest.approx([sigmoid(1 + 1)] * 4)
    assert found[0, 1].flatten().tolist() == pytest.approx([4 * sigmoid(-1 + 1.5)] * 4)


# ---------------------------------------------------------------- convolutions


def test_enlarging_is_between_the_pixels():
    assert enlarge(torch.tensor([[[[0.0, 4.0]]]])).tolist() == [[[[0, 1, 3, 4]] * 2]]


def test_convolution_norm_and_activation_in_this_order():
    torch.manual_seed(0)
    block, x = ConvNormAct(2, 3), torch.randn(4, 2, 5, 6)
    conv, norm, _ = block
    plain = nn.functional.conv2d(x, conv.weight, padding=1)
    mean, spread = plain.mean((0, 2, 3), keepdim=True), plain.var((0, 2, 3), unbiased=False, keepdim=True)
    torch.testing.assert_close(block(x), ((plain - mean) / (spread + norm.eps).sqrt()).relu())
    assert conv.bias is None


def test_a_norm_follows_every_convolution_of_a_double_one():
    kinds = [type(m).__name__ for m in DoubleConv(1, 2, 0.1).modules() if not list(m.children())]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU", "Dropout2d", "Conv2d", "BatchNorm2d", "ReLU"]


def test_dilation_reaches_further_at_the_same_size():
    block = ResidualBlock(1, 1, dilation=4).eval()
    x = torch.zeros(1, 1, 33, 33, requires_grad=True)
    y = block(x + 1)
    assert y.shape == (1, 1, 33, 33)
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)
    block(x + 1)[0, 0, 16, 16].backward()
    assert x.grad is not None
    seen = x.grad[0, 0, 16].nonzero().flatten().tolist()
    assert seen == [8, 12, 16, 20, 24]  # two convolutions of three taps, four apart


def test_a_step_up_adds_or_joins():
    step = UpStep(3, 2, nn.Identity())
    deeper, skip = torch.randn(1, 3, 2, 3), torch.randn(1, 2, 4, 6)
    torch.testing.assert_close(step(deeper, skip), enlarge(step.reduce(deeper)) + skip)
    joined = UpStep(3, 2, nn.Identity(), concat=True)
    found = joined(deeper, skip)
    assert torch.equal(found[:, :2], skip) and torch.equal(found[:, 2:], enlarge(joined.reduce(deeper)))
    gated = UpStep(3, 2, nn.Identity(), SkipGate(2, 3))
    assert gated.gate is not None
    torch.testing.assert_close(gated(deeper, skip), enlarge(gated.reduce(deeper)) + gated.gate(skip, deeper))


# ---------------------------------------------------------------- transformer


def equal_layer(block: Block, channels: int, heads: int) -> nn.TransformerEncoderLayer:
    """torch's own block with the same weights."""
    layer = nn.TransformerEncoderLayer(
        channels, heads, 4 * channels, 0.0, nn.functional.gelu, batch_first=True, norm_first=True
    )
    attention = layer.self_attn
    first, _, second = block.perceptron
    for theirs, ours in (
        (attention.in_proj_weight, block.query_key_value.weight),
        (attention.in_proj_bias, block.query_key_value.bias),
        (attention.out_proj.weight, block.join.weight),
        (attention.out_proj.bias, block.join.bias),
        (layer.linear1.weight, first.weight),
        (layer.linear1.bias, first.bias),
        (layer.linear2.weight, second.weight),
        (layer.linear2.bias, second.bias),
        (layer.norm1.weight, block.norm1.weight),
        (layer.norm1.bias, block.norm1.bias),
        (layer.norm2.weight, block.norm2.weight),
        (layer.norm2.bias, block.norm2.bias),
    ):
        fill(theirs, ours.detach())
    return layer


@pytest.mark.parametrize("short", [512, 0])
def test_a_block_is_torchs_pre_norm_layer(short, monkeypatch):
    monkeypatch.setattr(transformer, "SHORT", short)
    torch.manual_seed(0)
    block = Block(12, 3)
    for parameter in block.parameters():  # norms and biases too
        nn.init.normal_(parameter, std=0.5)
    layer = equal_layer(block, 12, 3)
    x = torch.randn(2, 7, 12)
    given, wanted = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, expected = block(given), layer(wanted)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    found.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(given.grad, wanted.grad, rtol=1e-3, atol=1e-4)


def test_positions_by_hand():
    codes = positions(2, 3, 8)  # two frequencies: 1 and 1/100
    assert codes.shape == (6, 8)
    row, column = 1, 2
    expected = [f(where * rate) for where in (row, column) for f in (math.sin, math.cos) for rate in (1, 0.01)]
    assert codes[row * 3 + column].tolist() == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="6 channels cannot be shared"):
        positions(2, 2, 6)


def test_every_position_has_a_code_of_its_own_and_keeps_it_in_a_larger_image():
    small, large = positions(5, 9, 16).view(5, 9, 16), positions(16, 32, 16).view(16, 32, 16)
    assert torch.equal(small, large[:5, :9])
    flat = large.view(-1, 16)
    assert (torch.cdist(flat, flat) + torch.eye(512)).min() > 0.05


def test_a_transformer_sees_where_things_are_and_all_of_the_image():
    torch.manual_seed(0)
    net = Transformer(8, 2, 2).eval()
    x = torch.zeros(1, 8, 3, 4)
    found = net(x)
    assert found.shape == x.shape and found.flatten(2).std(2).min() > 1e-3  # an even image, an answer that is not
    x[0, 0, 2, 3] = 1
    assert (net(x) - found).abs().amax(1).min() > 1e-6  # one corner changes every position
    assert net(x.contiguous(memory_format=torch.channels_last)).is_contiguous(memory_format=torch.channels_last)
