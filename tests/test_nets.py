"""Networks by name: sizes, parameters counted by hand, the wrapper's padding, and names that nobody has."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from podium import nets
from podium.config_file import load_recipe
from podium.config_net import CLASSIFIERS, NetSettings
from podium.errors import UserError
from podium.nets.classifier import Classifier, SmallCNN
from podium.nets.few_positions import FewPositions, use_products
from podium.nets.residual_unet import ResidualUNet

RECIPES = Path(__file__).parents[1] / "configs" / "models"
MASKS, LABELS = "segmentation", "classification"
OWN = NetSettings(name="residual_unet", widths=(2, 4))


def smp(name: str, encoder: str) -> NetSettings:
    return NetSettings(name=name, encoder=encoder)


class Recorder(nn.Module):
    """Gives back its input, and keeps it."""

    seen: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = x
        return x


# ---------------------------------------------------------------- the wrapper


def test_the_wrapper_normalises_pads_by_reflection_and_cuts_back():
    net = Recorder()
    model = nets.Model(net, 4, mean=[0.5, 1.0], std=[0.25, 2.0])
    x = torch.arange(30.0).reshape(1, 2, 3, 5)
    out = model(x)
    expected = torch.stack([(x[0, 0] - 0.5) / 0.25, (x[0, 1] - 1) / 2])[None]
    assert torch.equal(out, expected)
    assert net.seen.shape == (1, 2, 4, 8)
    assert net.seen[0, 0, 3, :5].tolist() == expected[0, 0, 1].tolist()  # row 3 mirrors row 1 about row 2
    assert net.seen[0, 1, 0, 5:].tolist() == expected[0, 1, 0, [3, 2, 1]].tolist()


def test_an_image_smaller_than_its_padding_repeats_its_edge():
    net = Recorder()
    out = nets.Model(net, 8, [0.0], [1.0])(torch.tensor([[[[1.0, 2.0]]]]))
    assert out.tolist() == [[[[1.0, 2.0]]]]
    assert net.seen.shape == (1, 1, 8, 8) and net.seen[0, 0, 5].tolist() == [1.0] + [2.0] * 7


def test_a_fitting_image_is_not_padded():
    net = Recorder()
    nets.Model(net, 4, [0.0], [1.0])(torch.zeros(1, 1, 8, 4))
    assert net.seen.shape == (1, 1, 8, 4)


def test_mean_and_deviation_travel_with_the_weights():
    state = nets.build(OWN, MASKS, 2, 3, [0.1, 0.2], [0.3, 0.4]).state_dict()
    other = nets.build(OWN, MASKS, 2, 3)
    assert other.mean.flatten().tolist() == [0.0, 0.0] and other.std.flatten().tolist() == [1.0, 1.0]
    other.load_state_dict(state)
    assert other.mean.flatten().tolist() == pytest.approx([0.1, 0.2])
    assert other.std.flatten().tolist() == pytest.approx([0.3, 0.4])


@pytest.mark.parametrize(("channels", "layout"), [(8, torch.contiguous_format), (16, torch.channels_last)])
def test_on_a_cpu_channels_last_is_left_where_it_corrupts_memory(channels, layout):
    net = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1), Recorder(), nn.Conv2d(channels, 4, 1, stride=2))
    model = nets.Model(net, 2, [0.0], [1.0]).place(torch.device("cpu"))
    model(torch.rand(2, 1, 8, 8)).sum().backward()
    recorder = net[1]
    assert isinstance(recorder, Recorder) and recorder.seen.is_contiguous(memory_format=layout)


# ---------------------------------------------------------------- our own


def test_the_residual_unet_has_the_parameters_that_a_hand_counts():
    def block(a: int, b: int, shortcut: bool) -> int:
        return 9 * a * b + 2 * b + 9 * b * b + 2 * b + (a * b if shortcut else 0)

    first, down, deep = block(1, 2, True), block(2, 4, True), block(4, 4, False)
    up = (4 * 2 + 2) + block(2, 2, False)  # reduced from 4 to 2, then added to the skip
    head = 2 * 3 + 3
    assert first + down + deep + up + head == 707
    assert sum(p.numel() for p in nets.build(OWN, MASKS, 1, 3).parameters()) == 707


@pytest.mark.parametrize("size", [(8, 16), (9, 13), (1, 1), (3, 40)])
def test_the_residual_unet_takes_any_size(size):
    settings = NetSettings(name="residual_unet", widths=(2, 3, 4), dropout=0.5)
    model = nets.build(settings, MASKS, 3, 5).eval()
    assert model.stride == 4
    out = model(torch.rand(2, 3, *size))
    assert out.shape == (2, 5, *size) and out.isfinite().all()


def test_a_gradient_reaches_every_parameter():
    torch.manual_seed(0)
    model = nets.build(NetSettings(name="residual_unet", widths=(4, 6, 8), dropout=0.2), MASKS, 1, 4)
    model(torch.rand(4, 1, 16, 16)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_every_level_sees_its_own_resolution():
    net = ResidualUNet(1, 2, (2, 3, 4))
    sizes = {}
    for name in ("first", "down.0", "down.1", "deep", "up.0", "up.1"):
        net.get_submodule(name).register_forward_hook(
            lambda module, inputs, out, name=name: sizes.update({name: tuple(out.shape[1:])})
        )
    net(torch.rand(1, 1, 8, 16))
    assert sizes == {
        "first": (2, 8, 16),
        "down.0": (3, 4, 8),
        "down.1": (4, 2, 4),
        "deep": (4, 2, 4),
        "up.0": (3, 4, 8),
        "up.1": (2, 8, 16),
    }


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    model = nets.build(NetSettings(name="residual_unet", widths=(4, 8), dropout=0.5), MASKS, 1, 2)
    x = torch.rand(2, 1, 8, 8)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))
    # and never at full resolution, whose few channels carry the small objects
    full = [m for m in model.net.get_submodule("first").modules() if isinstance(m, nn.Dropout2d)]
    full += [m for m in model.net.get_submodule("up.0").modules() if isinstance(m, nn.Dropout2d)]
    assert not full


# ---------------------------------------------------------------- labels


def small(*widths: int, dropout: float = 0.0) -> NetSettings:
    return NetSettings(name="small_cnn", widths=widths, dropout=dropout)


def test_the_small_cnn_has_the_parameters_that_a_hand_counts():
    def block(a: int, b: int) -> int:
        return 9 * a * b + 2 * b + 9 * b * b + 2 * b + (a * b if a != b else 0)

    first, halved, deep, head = block(1, 2), block(2, 4), block(4, 4), 4 * 3 + 3
    assert first + halved + deep + head == 64 + 240 + 304 + 15
    assert sum(p.numel() for p in nets.build(small(2, 4), LABELS, 1, 3).parameters()) == 623


@pytest.mark.parametrize("size", [(8, 16), (28, 28), (9, 13), (1, 1), (3, 40)])
def test_the_small_cnn_takes_any_size_and_gives_one_answer(size):
    model = nets.build(small(2, 3, 4, 5, dropout=0.5), LABELS, 3, 6).eval()
    out = model(torch.rand(2, 3, *size))
    assert out.shape == (2, 6, 1, 1) and out.isfinite().all()


def test_the_small_cnn_halves_the_resolution_between_its_widths():
    net = SmallCNN(1, 2, (2, 3, 4))
    sizes: list[tuple[int, ...]] = []
    for block in net.blocks:
        block.register_forward_hook(lambda module, inputs, out: sizes.append(tuple(out.shape[1:])))
    assert net(torch.rand(1, 1, 8, 16)).shape == (1, 2)
    assert sizes == [(2, 8, 16), (3, 4, 8), (4, 2, 4), (4, 2, 4)]


def test_the_small_cnn_learns_with_every_parameter_and_drops_out_in_training_only():
    torch.manual_seed(0)
    model = nets.build(small(4, 6, dropout=0.5), LABELS, 1, 4)
    x = torch.rand(4, 1, 16, 16)
    model(x).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_a_classifiers_answers_are_masks_of_one_pixel():
    inner = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    x = torch.rand(3, 5, 4, 7)
    out = Classifier(inner)(x)
    assert out.shape == (3, 5, 1, 1)
    torch.testing.assert_close(out[..., 0, 0], x.mean((2, 3)))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("encoder", ["test_resnet", "test_efficientnet"])
def test_a_net_of_timm_by_its_name(encoder, channels):
    model = nets.build(NetSettings(name="timm", encoder=encoder), LABELS, channels, 7).eval()
    with torch.no_grad():
        for size in ((64, 64), (50, 33)):
            assert model(torch.rand(2, channels, *size)).shape == (2, 7, 1, 1)


def test_dropout_of_a_net_of_timm():
    settings = NetSettings(name="timm", encoder="test_resnet", dropout=0.5)
    model = nets.build(settings, LABELS, 1, 7)
    assert model.net.net.drop_rate == 0.5


def test_a_net_that_timm_does_not_have():
    with pytest.raises(UserError, match=r"timm has no 'resnet81'; did you mean '.*resnet.*'\? see timm.list_models"):
        nets.build(NetSettings(name="timm", encoder="resnet81"), LABELS, 1, 4)


@pytest.mark.parametrize(
    ("encoder", "stride"),
    [
        ("test_resnet", 1),  # takes any size
        ("test_vit", 16),  # any whole number of patches
        ("vit_tiny_patch16_224", 16),  # enlarges its code of the positions
        ("levit_128s", 32),  # is told the size
    ],
)
def test_a_net_of_timm_for_images_of_a_size(encoder, stride):
    settings, size = NetSettings(name="timm", encoder=encoder), (28, 40)
    model = nets.build(settings, LABELS, 1, 4, size=size)
    nets.try_out(model, settings, 1, *size)
    assert model.stride == stride and model.eval()(torch.rand(2, 1, *size)).shape == (2, 4, 1, 1)
    again = nets.build(settings, LABELS, 1, 4, size=size)
    again.load_state_dict(model.state_dict())


def test_the_size_does_not_change_what_is_drawn():
    torch.manual_seed(0)
    plain = nets.build(NetSettings(name="timm", encoder="test_resnet"), LABELS, 1, 4).state_dict()
    torch.manual_seed(0)
    sized = nets.build(NetSettings(name="timm", encoder="test_resnet"), LABELS, 1, 4, size=(28, 28)).state_dict()
    assert all(torch.equal(value, sized[name]) for name, value in plain.items())


def test_a_net_of_timm_that_cannot_take_the_images_says_so_before_training():
    settings = NetSettings(name="timm", encoder="convit_tiny")
    model = nets.build(settings, LABELS, 1, 4)
    with pytest.raises(
        UserError, match=r"'timm' on encoder 'convit_tiny' cannot take images of 28×30 \(.*\); choose ano"
    ):
        nets.try_out(model, settings, 1, 28, 30)


@pytest.mark.parametrize(
    ("settings", "task", "gives"),
    [
        (OWN, LABELS, "masks"),
        (smp("unet", "resnet18"), LABELS, "masks"),
        (small(2, 4), MASKS, "labels"),
        (NetSettings(name="timm", encoder="test_resnet"), MASKS, "labels"),
    ],
)
def test_a_net_of_the_wrong_task(settings, task, gives):
    said = f"net.name: '{settings.name}' predicts {gives}, the competition's task is {task}; choose another net"
    with pytest.raises(UserError, match=said):
        nets.build(settings, task, 1, 4)


# ---------------------------------------------------------------- segmentation_models_pytorch and timm


@pytest.mark.parametrize(
    ("name", "encoder"),
    [
        ("unet", "resnet18"),
        ("unet", "mobilenetv3_small_050"),  # timm's, without smp's prefix
        ("fpn", "tu-mobilenetv3_small_050"),
        ("segformer", "mit_b0"),
        ("fpn", "convnext_atto"),
    ],
)
def test_an_architecture_with_an_encoder_takes_any_size(name, encoder):
    for channels in (1, 4):
        model = nets.build(smp(name, encoder), MASKS, channels, 4).eval()
        assert model.stride == 32
        with torch.no_grad():
            assert model(torch.rand(1, channels, 64, 32)).shape == (1, 4, 64, 32)
            assert model(torch.rand(2, channels, 50, 33)).shape == (2, 4, 50, 33)


def test_an_encoder_that_is_made_for_one_size():
    settings = smp("unet", "test_vit")
    with pytest.raises(UserError, match="cannot be built on encoder 'test_vit'"):
        nets.build(settings, MASKS, 1, 4, size=(50, 33))
    settings = smp("unet", "swin_tiny_patch4_window7_224")
    model = nets.build(settings, MASKS, 1, 4, size=(50, 33))
    nets.try_out(model, settings, 1, 50, 33)
    with pytest.raises(UserError, match="cannot take images of 50×33"):
        nets.try_out(nets.build(settings, MASKS, 1, 4), settings, 1, 50, 33)


def test_a_net_that_does_not_exist():
    with pytest.raises(
        UserError, match=r"there is no net 'unett'; did you mean 'unet'\? allowed: residual_unet, plain_unet, "
    ):
        nets.build(smp("unett", "resnet18"), MASKS, 1, 4)


@pytest.mark.parametrize("encoder", ["resnet81", "tu-resnet81"])
def test_an_encoder_that_does_not_exist(encoder):
    with pytest.raises(UserError, match=f"neither smp nor timm has '{encoder}'; did you mean '.*resnet.*'.? see timm"):
        nets.build(smp("unet", encoder), MASKS, 1, 4)


def test_an_encoder_that_the_architecture_cannot_use():
    with pytest.raises(UserError, match=r"'unet' cannot be built on encoder 'vit_tiny_patch16_224' \(.*\); choose"):
        nets.build(smp("unet", "vit_tiny_patch16_224"), MASKS, 1, 4)


def test_a_net_that_cannot_take_the_images_says_so_before_training():
    settings = smp("pan", "resnet18")
    model = nets.build(settings, MASKS, 1, 4)
    with pytest.raises(UserError, match=r"'pan' on encoder 'resnet18' cannot take images of 64×128 \(.*\); choose"):
        nets.try_out(model, settings, 1, 64, 128)
    own = nets.build(OWN, MASKS, 1, 4).train()
    random = torch.get_rng_state()
    before = {name: value.clone() for name, value in own.state_dict().items()}
    nets.try_out(own, OWN, 1, 5, 7)
    assert torch.equal(random, torch.get_rng_state())
    assert own.training and all(torch.equal(value, before[name]) for name, value in own.state_dict().items())


# ---------------------------------------------------------------- convolutions as matrix products


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (nn.Conv2d(512, 512, 3, padding=1), (2, 4)),
        (nn.Conv2d(256, 512, 3, stride=2, padding=1, bias=False), (5, 7)),
        (nn.Conv2d(384, 384, (3, 2), stride=(1, 2), padding=(0, 1)), (4, 5)),
        (nn.Conv2d(512, 256, 2), (3, 3)),
    ],
)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_a_product_of_matrices_is_the_convolution(layer, size, layout):
    torch.manual_seed(0)
    net = nn.Sequential(copy.deepcopy(layer))
    net.to(memory_format=layout)  # type: ignore[call-overload]  # torch's stubs lack it
    other = copy.deepcopy(net)
    use_products(other)
    assert type(other[0]) is FewPositions and other.state_dict().keys() == net.state_dict().keys()
    found = []
    for one in (net, other):
        x = torch.linspace(-1, 1, 3 * layer.in_channels * size[0] * size[1]).sin().view(3, -1, *size)
        x = x.contiguous(memory_format=layout).requires_grad_()
        y = one(x)
        (y * torch.linspace(0, 1, y.numel()).view_as(y)).sum().backward()
        found.append((y, x.grad, *(p.grad for p in one.parameters())))
    for wanted, given in zip(*found, strict=True):
        torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-4 * float(wanted.detach().abs().max()))


def test_products_are_for_few_positions_and_plain_layers(monkeypatch):
    layers = nn.Sequential(
        nn.Conv2d(64, 64, 3, padding=1),  # too few weights
        nn.Conv2d(512, 512, 1),  # oneDNN does these as products itself
        nn.Conv2d(512, 512, 3, groups=2),
        nn.Conv2d(512, 512, 3, dilation=2),
        nn.Conv2d(512, 512, 3, padding="same"),
        nn.Conv2d(512, 512, 3, padding_mode="reflect"),
        nn.ConvTranspose2d(512, 512, 3),
    )
    use_products(layers)
    assert not any(isinstance(layer, FewPositions) for layer in layers)
    large = nn.Sequential(nn.Conv2d(512, 512, 3, padding=1))
    use_products(large)
    asked: list[torch.Size] = []

    def forward(self, x):
        asked.append(x.shape)
        return x

    monkeypatch.setattr(nn.Conv2d, "forward", forward)
    for count in (2, 3):
        large(torch.zeros(count, 512, 16, 16))
    assert [shape[0] for shape in asked] == [3]  # 512 positions and 768


def test_nets_on_a_cpu_use_products_and_elsewhere_they_do_not():
    settings = NetSettings(name="unet", encoder="resnet18")
    net = nets.build(settings, "segmentation", 1, 4)
    assert not any(isinstance(module, FewPositions) for module in net.modules())
    before = list(net.state_dict())
    net.place(torch.device("cpu"))
    assert sum(isinstance(module, FewPositions) for module in net.modules()) == 5 and list(net.state_dict()) == before


# ---------------------------------------------------------------- the recipes


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_net_of_every_recipe_takes_its_images(path):
    recipe = load_recipe(path)
    labels = recipe.net.name in CLASSIFIERS
    channels, size = (3, (96, 96)) if labels else (1, (64, 128))
    settings = recipe.net.model_copy(update={"pretrained": "never"})
    with torch.device("meta" if labels else "cpu"):  # the shape of a large net without its weights
        model = nets.build(settings, LABELS if labels else MASKS, channels, 4, size=size)
        nets.try_out(model, settings, channels, *size)
        outputs = model(torch.zeros(2, channels, *size))
    count = len(outputs) if isinstance(outputs, list) else 1
    assert count == recipe.net.outputs


def test_recipes_with_the_hubs_weights_name_some_that_exist():
    import timm

    for path in RECIPES.glob("*.yaml"):
        net = load_recipe(path).net
        assert net.pretrained == "never" or timm.models.is_model_pretrained(str(net.encoder)), path
