"""Schedule, weight decay and the average of the weights, all by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from podium import nets
from podium.config_net import NetSettings
from podium.config_train import TrainSettings
from podium.training.optim import Average, clip, epochs_since_best, optimiser, rate
from podium.training.stages import backbone, depths

CPU = torch.device("cpu")


def test_the_rate_rises_in_a_line_and_falls_in_half_a_cosine():
    settings = TrainSettings(lr=0.8, warmup=0.2)
    rates = [rate(step, 20, 5, settings) for step in range(20)]
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[4] == pytest.approx(0.8)  # the cosine starts at the top
    assert rates[8] == pytest.approx(0.4 * (1 + math.sqrt(0.5)))  # a quarter of the way: cos 45°
    assert rates[12] == pytest.approx(0.4)  # half way
    assert 0 < rates[19] < 0.01 * 0.8
    assert rates[4:] == sorted(rates[4:], reverse=True)


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.05), (2, 0.05), (3, 1.0), (5, 0.0), (100, 0.0)])
def test_no_schedule_is_too_short(steps, warmup):
    rates = [rate(step, steps, 1, TrainSettings(lr=1.0, warmup=warmup)) for step in range(steps)]
    assert all(0 < value <= 1 for value in rates) and max(rates) == 1


def test_biases_and_norms_are_not_decayed():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1, bias=False))
    made = optimiser(model, TrainSettings(lr=0.1, weight_decay=0.5), CPU)
    decay = {id(p): group["weight_decay"] for group in made.param_groups for p in group["params"]}
    assert {name: decay[id(p)] for name, p in model.named_parameters()} == {
        "0.weight": 0.5,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
        "2.weight": 0.5,
    }


def test_a_step_of_adamw_by_hand():
    model = nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(2.0)
        model.bias.fill_(2.0)
    made = optimiser(model, TrainSettings(lr=0.1, weight_decay=0.5), CPU)
    model.weight.grad, model.bias.grad = torch.full((1, 1), 3.0), torch.full((1,), -3.0)
    made.step()
    # Adam's first step is lr * sign; the weight is first shrunk by lr * decay
    assert model.weight.item() == pytest.approx(2 * (1 - 0.05) - 0.1, abs=1e-5)
    assert model.bias.item() == pytest.approx(2 + 0.1, abs=1e-5)


def follow(share: float, steps: int, values: list[float]) -> list[float]:
    """The average after each step of a weight that takes these values; it starts at 0."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = Average(model, share, steps)
    found = []
    for step, value in enumerate(values):
        with torch.no_grad():
            model.weight.fill_(value)
        average.update(step)
        found.append(average.state["weight"].item())
    return found


def test_the_average_by_hand():
    # the ramp (1 + n) / (10 + n): 1/10, 2/11, 3/12
    first = 0.9 * 11
    second = first * 2 / 11 + 22 * 9 / 11
    third = second * 3 / 12 + 4 * 9 / 12
    assert follow(0.5, 1000, [11, 22, 4]) == pytest.approx([first, second, third])


def test_after_the_ramp_the_time_constant_is_a_share_of_the_steps():
    # 0.25 of 20 steps are 5: decay 0.8, which the ramp passes at step 35
    found = follow(0.25, 20, [0.0] * 40 + [1.0] * 3)
    assert found[40:] == pytest.approx([1 - 0.8, 1 - 0.8**2, 1 - 0.8**3])
    found = follow(0.25, 20, [0.0] * 5 + [1.0])
    assert found[5] == pytest.approx(1 - 6 / 15)


@pytest.mark.parametrize(("share", "steps"), [(0.0, 1000), (0.05, 10)])
def test_without_a_share_or_with_less_than_a_step_it_is_the_last_weights(share, steps):
    assert follow(share, steps, [3, 7, 5]) == [3, 7, 5]


def test_norm_statistics_are_averaged_and_counters_copied():
    model = nn.BatchNorm2d(1)
    average = Average(model, 0.5, 1000)
    model(torch.full((1, 1, 2, 2), 10.0))  # running mean 0.1 * 10
    average.update(0)
    assert average.state["running_mean"].item() == pytest.approx(0.9 * 1.0)
    assert average.state["num_batches_tracked"].item() == 1
    model(torch.full((1, 1, 2, 2), 10.0))
    average.update(1)
    assert average.state["num_batches_tracked"].item() == 2
    assert average.state["num_batches_tracked"].dtype == torch.int64


def test_the_average_is_a_copy_of_its_own():
    model = nn.Linear(2, 2)
    average = Average(model, 0.5, 10)
    before = average.state["weight"].clone()
    with torch.no_grad():
        model.weight.add_(1)
    assert torch.equal(average.state["weight"], before)
    average.update(0)
    assert not torch.equal(average.state["weight"], model.weight.detach())


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0, float("nan"), float("inf")])
def test_gradients_are_clipped_as_torch_does(scale: float) -> None:
    found = []
    for how in (clip, torch.nn.utils.clip_grad_norm_):
        generator = torch.Generator().manual_seed(0)
        parameters = [nn.Parameter(torch.zeros(size)) for size in ((3, 4), (5,), (2, 2, 2))]
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator) * scale
        parameters.append(nn.Parameter(torch.zeros(2)))  # has no gradient
        how(parameters, 1.0)
        found.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]))
    np.testing.assert_array_equal(found[0].numpy(), found[1].numpy())
    clip([nn.Parameter(torch.zeros(2))], 1.0)


# ---------------------------------------------------------------- schedules


def test_steps_down_by_epochs_after_the_warm_up():
    settings = TrainSettings.model_validate(
        {"lr": 1.0, "warmup": 0.1, "schedule": {"name": "step", "every": 2, "factor": 0.2}}
    )
    rates = [rate(step, 20, 4, settings) for step in range(20)]
    assert rates[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert rates[7:9] == pytest.approx([1.0, 0.2]) and rates[15:17] == pytest.approx([0.2, 0.04])
    constant = TrainSettings.model_validate({"lr": 1.0, "warmup": 0.0, "schedule": {"name": "constant"}})
    assert {rate(step, 20, 4, constant) for step in range(20)} == {1.0}


def test_a_plateau_halves_the_rate_and_counts_anew():
    settings = TrainSettings.model_validate(
        {"lr": 1.0, "warmup": 0.0, "schedule": {"name": "plateau", "factor": 0.5, "patience": 2, "lowest": 0.2}}
    )
    scores = [0.1, 0.3, 0.2, 0.3, 0.1, 0.1, 0.4, 0.0, 0.0, 0.0, 0.0]
    found = [rate(0, 20, 1, settings, scores[:n]) for n in range(len(scores) + 1)]
    # 0.3 stood for two epochs after the fourth, for two more after the sixth; 0.4 after the ninth, the floor is 0.2
    assert found == [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2, 0.2, 0.2]
    assert rate(0, 20, 1, TrainSettings(lr=1e-8, warmup=0.0, schedule=settings.schedule), scores) == 1e-8


def test_epochs_since_the_best_count_from_the_first_of_equals():
    assert [epochs_since_best(scores) for scores in ([], [1.0], [1.0, 1.0], [1.0, 2.0, 0.0, 2.0])] == [0, 0, 1, 2]


@pytest.mark.parametrize(("name", "reference"), [("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)])
def test_other_optimisers_are_torchs(name, reference):
    found = []
    for ours in (True, False):
        torch.manual_seed(0)
        model = nn.Linear(3, 2, bias=False)
        settings = TrainSettings(lr=0.1, weight_decay=0.01, optimiser=name, momentum=0.8 if name == "sgd" else None)
        more = {"momentum": 0.8, "nesterov": True} if name == "sgd" else {}
        made = (
            optimiser(model, settings, CPU)
            if ours
            else reference(model.parameters(), lr=0.1, weight_decay=0.01, **more)
        )
        for _ in range(3):
            made.zero_grad()
            (model(torch.ones(1, 3)) ** 2).sum().backward()
            made.step()
        found.append(model.weight.detach().clone())
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"momentum": 0.9}, "momentum: does nothing with adamw"),
        ({"ema": 0}, "keep: ema needs ema above 0"),
        ({"batch": 4, "accumulate": 5}, "accumulate: a batch of 4 has no 5 pieces"),
        ({"schedule": {"name": "step"}}, "every"),
        ({"schedule": {"name": "cosine", "every": 3}}, "every"),
    ],
)
def test_settings_that_do_nothing_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        TrainSettings(**values)


# ---------------------------------------------------------------- backbones


def stages_of(settings, task="segmentation"):
    model = nets.build(NetSettings(**settings), task, 3, 4)
    return model, depths(model)


def test_stages_of_a_resnet_encoder():
    model, found = stages_of({"name": "unet", "encoder": "resnet18"})
    assert {name.split(".")[2] if "encoder" in name else "": depth for name, depth in found.items()} == {
        "conv1": 5,
        "bn1": 5,
        "layer1": 4,
        "layer2": 3,
        "layer3": 2,
        "layer4": 1,
    }
    inside = {name for name, _ in model.named_parameters() if name.startswith("net.encoder.")}
    assert set(found) == inside and backbone(model) is model.net.encoder


@pytest.mark.parametrize("encoder", ["resnet18", "convnext_atto", "efficientnet_b0", "vit_tiny_patch16_224"])
def test_stages_of_timms_classifiers_leave_the_head_out(encoder):
    settings = {"name": "timm", "encoder": encoder}
    model, found = stages_of(settings, "classification")
    names = [name for name, _ in model.named_parameters()]
    head = {id(p) for p in model.net.net.get_classifier().parameters()}
    assert set(found) == {name for name, p in model.named_parameters() if id(p) not in head}
    assert len(found) < len(names) and min(found.values()) == 1 and max(found.values()) >= 4
    # in the order of the layers, but for embeddings that belong to the stem, the numbers only fall
    numbers = [found[name] for name in names if name in found and "embed" not in name and "token" not in name]
    assert numbers == sorted(numbers, reverse=True)


def test_our_own_nets_have_no_backbone():
    model, found = stages_of({"name": "residual_unet", "widths": [4, 8]})
    assert found == {} and backbone(model) is None


def test_rates_fall_towards_the_image():
    model, found = stages_of({"name": "unet", "encoder": "resnet18"})
    made = optimiser(model, TrainSettings(layer_decay=0.5), CPU, found)
    scale = {id(p): group["scale"] for group in made.param_groups for p in group["params"]}
    by_name = {name: scale[id(p)] for name, p in model.named_parameters()}
    assert by_name["net.encoder.conv1.weight"] == 0.5**5 and by_name["net.encoder.layer4.0.conv1.weight"] == 0.5
    assert by_name["net.segmentation_head.0.weight"] == 1
