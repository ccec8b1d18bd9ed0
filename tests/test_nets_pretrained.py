"""What a net's weights begin with: files that fit and files that do not, a hub within and out of reach, and the records."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import adapt_input_conv

from podium import nets
from podium.config import Rules
from podium.config_net import NetSettings, with_checksum
from podium.data.fit import Fit
from podium.errors import UserError
from podium.jobs import run_key
from podium.nets import pretrained
from podium.nets.fit_weights import adapt_channels
from podium.report import starts
from podium.store import Folder, Key, sha256_of
from podium.training.fold import train_fold

MASKS, LABELS = "segmentation", "classification"
UNET = {"name": "unet", "encoder": "mobilenetv3_small_050"}


def saved(net: torch.nn.Module, path: Path, prefix: str = "") -> Path:
    """The net's weights in a file, after some noise, so that nothing in it is what a new net begins with."""
    torch.manual_seed(99)
    state = {f"{prefix}{name}": value + torch.rand(value.shape) for name, value in net.state_dict().items()}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"epoch": 3, "state_dict": state}, path)
    return path


def labels(path: Path | str, encoder: str = "test_resnet", channels: int = 3, outputs: int = 4) -> nets.Model:
    return nets.build(NetSettings(name="timm", encoder=encoder, pretrained=str(path)), LABELS, channels, outputs)


def masks(path: Path | str, channels: int = 3, outputs: int = 4, **settings: Any) -> nets.Model:
    return nets.build(NetSettings(**(UNET | settings), pretrained=str(path)), MASKS, channels, outputs)


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
@pytest.mark.parametrize("prefix", ["", "module.", "net.net."])
def test_a_file_of_timms_weights(tmp_path, ending, prefix):
    path = saved(timm.create_model("test_resnet", num_classes=10), tmp_path / f"w.{ending}", prefix)
    held = pretrained.read(path)
    model = labels(path)
    head = {"fc.weight", "fc.bias"}
    for name, value in model.net.net.state_dict().items():
        wanted = held[prefix + name]
        assert name in head or torch.equal(value, wanted.to(value.dtype)), name
    start = model.start
    assert (start.used, start.weights, start.pretrained) == ("file", f"w.{ending}", f"sha256:{sha256_of(path)}")
    assert start.adapted == () and set(start.fresh) == head and set(start.left_out) == {prefix + n for n in head}
    assert start.sentence() == (
        f"weights of w.{ending}: drawn at random, since the file has none that fit, are fc.weight, fc.bias; the net has no "
        f"use for the file's {prefix}fc.weight, {prefix}fc.bias"
    )


def test_a_head_that_fits_is_taken(tmp_path):
    path = saved(timm.create_model("test_resnet", num_classes=4), tmp_path / "w.safetensors")
    model = labels(path)
    assert torch.equal(model.net.net.fc.weight, pretrained.read(path)["fc.weight"])
    assert model.start.sentence() == "" and not model.start.fresh


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_the_first_convolution_takes_any_number_of_channels(tmp_path, channels):
    path = saved(timm.create_model("test_resnet", num_classes=4), tmp_path / "w.safetensors")
    model = labels(path, channels=channels)
    theirs = pretrained.read(path)["conv1.0.weight"]
    torch.testing.assert_close(model.net.net.conv1[0].weight.detach(), adapt_input_conv(channels, theirs))
    assert model.start.adapted == ("conv1.0.weight",)
    assert "channels were adapted in conv1.0.weight" in model.start.sentence()


def test_channels_by_hand():
    weight = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1)
    assert adapt_channels(weight, 2) is weight
    assert adapt_channels(weight, 1).flatten().tolist() == [3]
    assert adapt_channels(weight, 5).flatten().tolist() == pytest.approx([0.4, 0.8, 0.4, 0.8, 0.4])


def test_a_file_of_a_timm_model_for_an_encoder(tmp_path):
    path = saved(timm.create_model("test_convnext", num_classes=10), tmp_path / "w.safetensors")
    model = masks(path, name="fpn", encoder="test_convnext")
    # timm's encoder calls its stages stages_0 where the whole model has stages.0
    found = model.net.encoder.model.get_submodule("stages_1").blocks[0].conv_dw.weight
    assert torch.equal(found, pretrained.read(path)["stages.1.blocks.0.conv_dw.weight"])
    assert set(model.start.left_out) == {
        f"head.{part}.{name}" for part in ("norm", "fc") for name in ("weight", "bias")
    }
    assert not model.start.fresh


def test_an_encoder_that_ends_before_the_model_does(tmp_path):
    path = saved(timm.create_model("rexnet_100"), tmp_path / "w.safetensors")
    start = masks(path, name="fpn", encoder="rexnet_100").start
    assert "features.16.conv.weight" in start.left_out and not start.fresh
    with pytest.raises(UserError, match="it holds 'features.17.conv.weight', which that net does not have"):
        masks(change(path, features__17__conv__weight=torch.ones(1)), name="fpn", encoder="rexnet_100")


@pytest.mark.parametrize("prefix", ["", "encoder.", "net.encoder."])
def test_a_file_of_an_encoder_of_smp(tmp_path, prefix):
    whole = nets.build(NetSettings(name="unet", encoder="resnet18"), MASKS, 3, 7)
    path = saved(whole.net.encoder, tmp_path / "w.pth", prefix)
    found = masks(path, channels=1, encoder="resnet18")
    held = pretrained.read(path)
    assert torch.equal(found.net.encoder.layer4[1].conv2.weight, held[f"{prefix}layer4.1.conv2.weight"])
    assert found.start.adapted == ("encoder.conv1.weight",) and not found.start.left_out


@pytest.mark.parametrize("prefix", ["", "net."])
def test_a_file_of_a_whole_net_gives_the_decoder_too(tmp_path, prefix):
    path = saved(nets.build(NetSettings(**UNET), MASKS, 3, 7).net, tmp_path / "w.safetensors", prefix)
    found, held = masks(path, outputs=4), pretrained.read(path)
    state = found.net.state_dict()
    same = {name for name, value in state.items() if torch.equal(value, held[prefix + name].to(value.dtype))}
    head = {"segmentation_head.0.weight", "segmentation_head.0.bias"}
    assert set(state) - same == head == set(found.start.fresh)


def test_our_own_weights_are_such_a_file(tmp_path):
    model = nets.build(NetSettings(**UNET), MASKS, 3, 4, [0.5] * 3, [0.1] * 3)
    path = tmp_path / "ema.safetensors"
    save_file(model.state_dict(), path)
    found = masks(path)
    assert set(found.start.left_out) == {"mean", "std"} and not found.start.fresh
    assert all(torch.equal(value, model.net.state_dict()[name]) for name, value in found.net.state_dict().items())


def change(path: Path, **changes: torch.Tensor | None) -> Path:
    held = pretrained.read(path) | {name.replace("__", "."): value for name, value in changes.items()}
    save_file({name: value for name, value in held.items() if value is not None}, path)
    return path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layer1__0__bn1__weight": None}, r"it lacks 1 of \d+ tensors, the first is 'layer1.0.bn1.weight'"),
        ({"layer1__5__bn1__weight": torch.ones(4)}, "it holds 'layer1.5.bn1.weight', which that net does not have"),
        (
            {"layer1__0__bn1__weight": torch.ones(5)},
            r"'layer1.0.bn1.weight' is 5 in it and \d+ in the net; give a file of weights of that net",
        ),
    ],
)
def test_a_file_of_another_net(tmp_path, changes, said):
    path = change(saved(timm.create_model("test_resnet"), tmp_path / "w.safetensors"), **changes)
    with pytest.raises(UserError, match=rf"net.pretrained: .*w.safetensors does not fit timm's 'test_resnet': {said}"):
        labels(path)


def test_a_deeper_net_is_another_one(tmp_path):
    path = saved(timm.create_model("resnet34"), tmp_path / "w.safetensors")
    with pytest.raises(
        UserError, match=r"'unet' on 'resnet18': it holds 'layer\d.\d\..*', which that net does not have"
    ):
        masks(path, encoder="resnet18")


def test_counters_of_batch_norm_may_be_missing(tmp_path):
    path = saved(timm.create_model("test_resnet"), tmp_path / "w.safetensors")
    counters = {name.replace(".", "__"): None for name in pretrained.read(path) if name.endswith("num_batches_tracked")}
    assert counters and labels(change(path, **counters)).start.used == "file"


class Code:
    def __reduce__(self) -> Any:
        return (print, ("this must not run",))


def test_files_that_hold_no_weights(tmp_path, capsys):
    torch.save({"net": Code()}, tmp_path / "code.pth")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "text.safetensors").write_text("hello")
    for name, said in (
        ("code.pth", "cannot be read as weights"),
        ("list.pt", "holds no weights by name"),
        ("text.safetensors", "cannot be read as weights"),
    ):
        with pytest.raises(UserError, match=said):
            labels(tmp_path / name)
    assert "this must not run" not in capsys.readouterr().out
    with pytest.raises(UserError, match=r"net.pretrained: there is no file .*none.pth; bring it, or correct its path"):
        labels(tmp_path / "none.pth")


# ---------------------------------------------------------------- identity


def test_a_files_content_identifies_it_and_its_place_does_not(tmp_path, tiny):
    first = saved(timm.create_model("test_resnet"), tmp_path / "a.safetensors")
    (tmp_path / "sub").mkdir()
    shutil.copy(first, tmp_path / "sub" / "b.safetensors")
    other = change(Path(shutil.copy(first, tmp_path / "c.safetensors")), fc__bias=torch.ones(1000))

    def key(file: str, root: Path = tmp_path) -> str:
        net = with_checksum(NetSettings(**UNET, pretrained=file), root)
        assert net.file is not None and net.file.is_absolute()
        recipe = tiny.recipe.model_copy(update={"net": net})
        return run_key(tiny.competition, recipe, 0, None, "data", "folds").hash

    assert key("a.safetensors") == key(str(first)) == key("b.safetensors", tmp_path / "sub") != key(str(other))
    with pytest.raises(ValueError, match="its checksum is not known"):
        NetSettings(**UNET, pretrained="a.safetensors").identity()


def test_a_checksum_that_is_given_is_compared(tmp_path):
    path = saved(timm.create_model("test_resnet"), tmp_path / "a.safetensors")
    right, wrong = sha256_of(path), "0" * 64
    given = NetSettings(**UNET, pretrained="a.safetensors", checksum=right)
    assert with_checksum(given, tmp_path).checksum == right
    with pytest.raises(UserError, match=f"has the checksum {right}, net.checksum says {wrong}"):
        with_checksum(NetSettings(**UNET, pretrained="a.safetensors", checksum=wrong), tmp_path)
    path.unlink()
    assert (
        with_checksum(given, tmp_path).identity()["pretrained"] == f"sha256:{right}"
    )  # finished results are still theirs
    with pytest.raises(
        UserError, match=r"there is no file .*a.safetensors; correct its path, or write one of never, if_"
    ):
        with_checksum(NetSettings(**UNET, pretrained="a.safetensors"), tmp_path)


def test_a_file_that_changes_after_the_plan_was_made(tmp_path):
    path = saved(timm.create_model("test_resnet"), tmp_path / "a.safetensors")
    settings = with_checksum(NetSettings(name="timm", encoder="test_resnet", pretrained=path.name), tmp_path)
    change(path, fc__bias=torch.ones(1000))
    with pytest.raises(UserError, match="was changed since the run was planned"):
        nets.build(settings, LABELS, 3, 4)


def test_settings_without_a_file_are_as_they_were(tmp_path):
    for word in ("never", "if_available", "required"):
        settings = NetSettings(**UNET, pretrained=word)
        assert with_checksum(settings, tmp_path) is settings and settings.identity()["pretrained"] == word


# ---------------------------------------------------------------- the hub


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No hub, and an empty cache of its files."""
    cache = tmp_path / "cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    return cache


def asked(word: str, name: str = "timm", encoder: str = "test_resnet") -> tuple[NetSettings, str]:
    return NetSettings(name=name, encoder=encoder, pretrained=word), LABELS if name == "timm" else MASKS


ENCODERS = [("timm", "test_resnet"), ("unet", "resnet18"), ("unet", "mobilenetv3_small_050")]


@pytest.mark.parametrize(("name", "encoder"), ENCODERS)
def test_weights_that_are_required_and_out_of_reach(name, encoder, offline):
    with pytest.raises(UserError, match=rf"net.pretrained: the weights of '{encoder}' could not be loaded") as caught:
        nets.build(*asked("required", name, encoder), 1, 4)
    said = str(caught.value)
    assert all(way in said for way in ("run once where the hub can be reached", "$HF_HOME", "net.pretrained=path/to/"))


@pytest.mark.parametrize(("name", "encoder"), ENCODERS)
def test_weights_that_would_be_welcome_and_are_out_of_reach(name, encoder, offline):
    states = []
    for word in ("if_available", "never"):
        torch.manual_seed(0)
        model = nets.build(*asked(word, name, encoder), 1, 4)
        states.append((model.state_dict(), torch.rand(1)))
        assert (model.start.used, model.start.pretrained) == ("scratch", word)
        assert (f"the weights of '{encoder}' could not be loaded" in model.start.sentence()) == (word == "if_available")
    (first, then), (second, later) = states
    assert torch.equal(then, later) and all(torch.equal(value, second[key]) for key, value in first.items())


@pytest.mark.parametrize("word", ["if_available", "required"])
def test_weights_in_the_hubs_cache_need_no_hub(word, offline):
    name = timm.get_pretrained_cfg("test_resnet").hf_hub_id
    repository = offline / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    path = saved(timm.create_model("test_resnet"), snapshot / "model.safetensors")
    model = nets.build(*asked(word), 1, 4)
    assert model.start == pretrained.Start(word, "hub", name) and model.start.sentence() == ""
    held = pretrained.read(path)
    assert torch.equal(model.net.net.layer2[0].conv1.weight, held["layer2.0.conv1.weight"])
    torch.testing.assert_close(model.net.net.conv1[0].weight.detach(), held["conv1.0.weight"].sum(1, keepdim=True))


def test_a_hub_that_does_not_answer_is_not_waited_for(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(pretrained, "_hub_answers", lambda address: False)
    seen = []

    def make(pretrained: bool) -> torch.nn.Module:
        seen.append((pretrained, constants.HF_HUB_OFFLINE))
        if pretrained:
            raise OSError("nothing\n here")
        return torch.nn.Identity()

    _, start = pretrained.begin(make, NetSettings(**UNET, pretrained="if_available"), "hub/net")
    assert seen == [(True, True), (False, False)]
    assert start.why.endswith("could not be loaded (OSError: nothing here)")
    monkeypatch.setattr(pretrained, "_hub_answers", lambda address: True)
    pretrained.begin(lambda given: torch.nn.Identity(), NetSettings(**UNET, pretrained="required"), "hub/net")
    assert not constants.HF_HUB_OFFLINE


def test_whether_the_hub_answers(monkeypatch):
    class Session:
        def head(self, address: str, timeout: float) -> int:
            if address == "down":
                raise ConnectionError
            return 503

    monkeypatch.setattr("huggingface_hub.utils.get_session", Session)
    assert pretrained._hub_answers("up") and not pretrained._hub_answers("down")


def test_a_net_that_cannot_be_built_says_so_whatever_its_weights(offline):
    for word in ("if_available", "required"):
        settings = NetSettings(name="unet", encoder="vit_tiny_patch16_224", pretrained=word)
        with pytest.raises(UserError, match="'unet' cannot be built on encoder 'vit_tiny_patch16_224'"):
            nets.build(settings, MASKS, 1, 4)


# ---------------------------------------------------------------- records


class Stop(Exception):
    pass


def train(tiny, folder: Path, net: dict[str, Any], stop: int | None = None) -> tuple[dict[str, Any], list[str]]:
    """done.json's ``net`` and the notes of a training, which may be stopped after an epoch."""
    raw = tiny.recipe.model_dump(mode="json") | {"net": net}
    recipe = type(tiny.recipe).model_validate(raw)
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"epochs": 3, "batch": 8})})
    competition = tiny.competition.model_copy(update={"rules": Rules(pretrained="allowed")})
    notes: list[str] = []

    def emit(event: dict[str, Any]) -> None:
        if event["event"] == "note":
            notes.append(event["text"])
        if event["event"] == "epoch" and event["epoch"] == stop:
            raise Stop

    result = Folder(folder, Key("fold", 1, {}))
    train_fold(
        competition,
        recipe,
        1,
        0,
        tiny.dataset.train,
        Fit((16, 32), "same"),
        tiny.folds,
        result,
        tiny.machine,
        emit=emit,
    )
    assert result.done is not None
    return result.done["net"], notes


def test_a_training_records_what_it_began_with(tiny, tmp_path, offline):
    record, notes = train(tiny, tmp_path / "never", UNET)
    assert record == asdict(pretrained.Start()) | {"adapted": [], "left_out": [], "fresh": []} and not notes
    record, notes = train(tiny, tmp_path / "scratch", UNET | {"pretrained": "if_available"})
    assert record["used"] == "scratch" and record["pretrained"] == "if_available"
    assert notes == [f"the net begins from scratch: {record['why']}"]


def test_a_continued_training_needs_no_weights_again(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("podium.training.fold.Checkpoints.due", lambda self: True)
    path = saved(timm.create_model(UNET["encoder"], in_chans=1), tmp_path / "w.safetensors")
    net = UNET | {"pretrained": str(path)}
    with pytest.raises(Stop):
        train(tiny, tmp_path, net, stop=2)
    path.unlink()
    record, notes = train(tiny, tmp_path, net)
    assert (record["used"], record["weights"]) == ("file", "w.safetensors") and not notes


WHY = "the weights of 'resnet18' could not be loaded (OSError: no)"


def test_what_the_board_says_of_it():
    hub, scratch = {"weights": "hub/net", "why": ""}, {"weights": "", "why": WHY}
    assert starts.note("a", {0: {"weights": "", "why": ""}, 1: {"weights": "", "why": ""}}) is None
    assert starts.note("a", {0: hub, 1: hub}) is None
    way = "; with --set net.pretrained=required all begin with the weights or none"
    assert starts.note("a", {0: scratch, 2: scratch}) == f"a: was trained from scratch, since {WHY}{way}"
    some = starts.note("a", {0: hub, 1: scratch, 3: scratch})
    assert some == f"a: folds 1, 3 were trained from scratch, since {WHY}, the others began with hub/net{way}"
    assert "different weights, hub/net, hub/other" in str(starts.note("a", {0: hub, 1: hub | {"weights": "hub/other"}}))
