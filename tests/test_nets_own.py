"""Our own nets by name: sizes, channels, deep supervision, gradients, reduced precision, parameters counted by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from podium import nets
from podium.config_net import CLASSIFIERS, OWN_NETS, NetSettings
from podium.errors import UserError
from podium.nets import Model
from podium.nets.cnn5 import CNN5

SMALL: dict[str, dict[str, Any]] = {
    "plain_unet": {"widths": (2, 4, 6)},
    "attention_unet": {"widths": (2, 4, 6), "deep": 1},
    "gated_unet": {"widths": (2, 4, 6), "deep": 1},
    "transformer_unet": {"widths": (2, 4, 8), "depth": 2, "heads": 2},
    "small_object_unet": {"widths": (2, 4), "dilations": (1, 3)},
    "residual_unet": {"widths": (2, 4, 6)},
    "small_cnn": {"widths": (2, 4, 6)},
    "cnn5": {"widths": (2, 2, 3, 3, 4), "hidden": 5},
}
UNETS = [name for name in SMALL if name not in CLASSIFIERS]
DEEP = [name for name in UNETS if "deep" in OWN_NETS[name] and len(SMALL[name]["widths"]) > 2]


def small(name: str, channels: int = 1, outputs: int = 3, **more: Any) -> Model:
    settings = NetSettings(name=name, **(SMALL[name] | {"dropout": 0.0} | more))
    return nets.build(settings, "classification" if name in CLASSIFIERS else "segmentation", channels, outputs)


def outputs_of(model: Model, x: torch.Tensor) -> list[torch.Tensor]:
    out = model(x)
    return out if isinstance(out, list) else [out]


def test_all_own_nets_are_tested_here():
    assert set(SMALL) == set(OWN_NETS)


@pytest.mark.parametrize("size", [(16, 32), (9, 13), (1, 1), (3, 20)])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", SMALL)
def test_any_size_and_any_number_of_channels(name, channels, size):
    model = small(name, channels).eval()
    out = model(torch.rand(2, channels, *size))
    assert out.shape == (2, 3, *((1, 1) if name in CLASSIFIERS else size)) and out.isfinite().all()


@pytest.mark.parametrize("name", SMALL)
def test_it_passes_its_own_trial(name):
    settings = NetSettings(name=name, **SMALL[name])
    model = small(name)
    nets.try_out(model, settings, 1, 9, 13)


@pytest.mark.parametrize("name", DEEP)
def test_deep_supervision_in_training_only(name):
    model = small(name, widths=(2, 4, 4, 8), deep=2)
    x = torch.rand(2, 1, 13, 26)
    assert [tuple(out.shape) for out in model(x)] == [(2, 3, 13, 26), (2, 3, 7, 13), (2, 3, 4, 7)]
    assert model.eval()(x).shape == (2, 3, 13, 26)
    assert small(name, deep=0)(x).shape == (2, 3, 13, 26)


def test_outputs_of_deep_supervision_are_cut_where_the_image_ends():
    class Pyramid(nn.Module):
        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [x, x[..., ::2, ::2], x[..., ::4, ::4]]

    x = torch.arange(35.0).view(1, 1, 5, 7)
    full, half, quarter = Model(Pyramid(), 8, [0.0], [1.0])(x)
    assert torch.equal(full, x) and torch.equal(half, x[..., ::2, ::2]) and torch.equal(quarter, x[..., ::4, ::4])


def test_a_net_whose_outputs_have_other_sizes_is_found_out():
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(1, 2, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.layer(x)
            return x[..., ::2, ::2] if self.training else x

    with pytest.raises(UserError, match=r"cannot take images of 8×6 \(it gives 4×3, not 8×6\)"):
        nets.try_out(Model(Halves(), 1, [0.0], [1.0]), NetSettings(name="residual_unet"), 1, 8, 6)


@pytest.mark.parametrize("name", SMALL)
def test_a_gradient_reaches_every_parameter(name):
    torch.manual_seed(1)
    widths = (4, 4, 4, 4, 8) if name == "cnn5" else (4, 8) if name == "small_object_unet" else (4, 8, 8)
    model = small(name, 3, widths=widths)
    torch.stack(
        [(out * torch.randn_like(out)).sum() for out in outputs_of(model, torch.rand(4, 3, 16, 24))]
    ).sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", SMALL)
def test_finite_in_reduced_precision(name):
    torch.manual_seed(0)
    settings = NetSettings(name=name)
    task = "classification" if name in CLASSIFIERS else "segmentation"
    model = nets.build(settings, task, 1, 4, [0.4], [0.2]).place(torch.device("cpu")).train()
    assert model.layout == torch.channels_last
    with torch.autocast("cpu", torch.bfloat16):
        outs = outputs_of(model, torch.rand(2, 1, 16, 32))
    torch.stack([out.float().square().mean() for out in outs]).sum().backward()
    assert all(out.isfinite().all() for out in outs)
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_weights_make_the_round_trip(name):
    model = small(name, dropout=0.3)
    x = torch.rand(3, 1, 12, 20)
    model(x)  # batch norm has seen something
    other = small(name, dropout=0.3)
    other.load_state_dict(model.state_dict())
    for out, again in zip(outputs_of(model.eval(), x), outputs_of(other.eval(), x), strict=True):
        assert torch.equal(out, again)


@pytest.mark.parametrize("name", SMALL)
def test_dropout_acts_in_training_only_and_is_as_asked_for(name):
    torch.manual_seed(0)
    x = torch.rand(4, 1, 16, 16)
    for dropout, differs in ((0.0, False), (0.4, True)):
        model = small(name, dropout=dropout)
        first, second = outputs_of(model, x), outputs_of(model, x)
        assert torch.equal(first[0], second[0]) != differs
        model.eval()
        assert torch.equal(model(x), model(x))


@pytest.mark.parametrize("name", [name for name in UNETS if name != "residual_unet"])
def test_no_dropout_at_full_resolution(name):
    model = small(name, dropout=0.5)
    net: Any = model.net
    for part in (net.down[0], net.up[-1]):
        assert not [m for m in part.modules() if isinstance(m, nn.Dropout | nn.Dropout2d)]
    assert [m for m in net.modules() if isinstance(m, nn.Dropout | nn.Dropout2d)]


@pytest.mark.parametrize("name", SMALL)
def test_no_layer_that_corrupts_memory(name):
    for model in (small(name), nets.build(NetSettings(name=name), _task(name), 1, 4)):
        assert not any(nets._corrupts_memory(module) for module in model.modules())


def _task(name: str) -> str:
    return "classification" if name in CLASSIFIERS else "segmentation"


# ---------------------------------------------------------------- one by one


def test_the_plain_unet_has_the_parameters_that_a_hand_counts():
    def double(a: int, b: int) -> int:
        return 9 * a * b + 2 * b + 9 * b * b + 2 * b

    down = double(1, 2) + double(2, 4) + double(4, 6)
    up = (6 * 4 + 4) + double(8, 4) + (4 * 2 + 2) + double(4, 2)  # reduced, joined with the skip
    assert sum(p.numel() for p in small("plain_unet").parameters()) == down + up + (2 * 3 + 3)


def test_the_attention_unet_has_the_parameters_that_a_hand_counts():
    def block(a: int, b: int) -> int:
        squeeze = (b * 4 + 4) + (4 * b + b)
        return 9 * a * b + 2 * b + 9 * b * b + 2 * b + (a * b if a != b else 0) + squeeze

    def gate(skip: int, deeper: int) -> int:
        return 4 * skip * 4 + (deeper * 4 + 4) + (4 + 1)

    down = block(1, 2) + block(2, 4) + block(4, 6) + block(6, 6)
    up = (6 * 4 + 4) + block(4, 4) + gate(4, 6) + (4 * 2 + 2) + block(2, 2) + gate(2, 4)
    heads = (2 * 3 + 3) + (4 * 3 + 3)
    assert sum(p.numel() for p in small("attention_unet").parameters()) == down + up + heads


def test_the_small_object_unet_keeps_its_resolution():
    net: Any = small("small_object_unet").net
    sizes: list[tuple[int, ...]] = []
    for block in net.bottom:
        block.register_forward_hook(lambda module, inputs, out: sizes.append(tuple(out.shape[1:])))
    assert net(torch.rand(1, 1, 8, 12)).shape == (1, 3, 8, 12) and sizes == [(4, 4, 6)] * 2
    spacing = [m.dilation[0] for m in net.bottom.modules() if isinstance(m, nn.Conv2d)]
    assert spacing == [1, 1, 3, 3]


def test_the_transformer_unet_sees_the_whole_image():
    torch.manual_seed(0)
    with_one, without = small("transformer_unet").eval(), small("residual_unet", widths=(2, 4, 8)).eval()
    for model, sees in ((with_one, True), (without, False)):
        x = torch.rand(1, 1, 64, 128, dtype=torch.float64).requires_grad_()
        model.double()(x)[0, :, 0, 0].sum().backward()
        assert x.grad is not None and bool(x.grad[0, 0, -4:, -4:].abs().sum() > 0) == sees


def test_cnn5_is_five_convolutions_and_two_dense_layers():
    net = CNN5(1, 10, (2, 3, 4, 5, 6), hidden=7)
    kinds = [type(m).__name__ for m in net.modules() if not list(m.children())]
    layer = ["Conv2d", "BatchNorm2d", "ReLU"]
    pooled = [*layer, *layer, "MaxPool2d", "Dropout"]
    dense = ["Flatten", "Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear"]
    assert kinds == [*pooled, *pooled, *layer, "AdaptiveAvgPool2d", "Dropout", *dense]
    assert [m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d)] == [2, 3, 4, 5, 6]
    convolutions = 9 * (1 * 2 + 2 * 3 + 3 * 4 + 4 * 5 + 5 * 6) + 2 * (2 + 3 + 4 + 5 + 6)
    assert sum(p.numel() for p in net.parameters()) == convolutions + (9 * 6 * 7 + 2 * 7) + (7 * 10 + 10)


def test_cnn5_is_drawn_as_he_has_it():
    torch.manual_seed(0)
    net = CNN5(1, 10, (32, 32, 64, 64, 128))
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module.weight.numel() > 5000:
            inputs = module.weight[0].numel()
            assert float(module.weight.detach().std()) == pytest.approx((2 / inputs) ** 0.5, rel=0.05)
            assert module.bias is None or not module.bias.any()
