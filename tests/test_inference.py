"""Prediction: views turned there and back, equality with ttach's own wrapper, and volumes that survive a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import ttach
from safetensors.torch import save_file
from torch import nn

from conftest import SIZE, Tiny
from podium import nets
from podium.config import Competition, NetSettings
from podium.data.fit import Fit
from podium.data.part import Part
from podium.data.ragged import Ragged, index_of
from podium.inference import predict
from podium.inference.predict import load, predict_batch, predict_to
from podium.inference.views import turn, turn_back
from podium.training.machine import Machine

ALL = ("identity", "hflip", "vflip", "rot180")
MACHINE = Machine("cpu", "a test", 1, "fp32")
SAME = Fit(SIZE, "same")


class Stop(Exception):
    """What interrupts a prediction in these tests."""


class Left(nn.Module):
    """Logits that depend on where a pixel lies, so that a view that is not turned back is seen: (B, 1, H, W) → (B, 2, H, W)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        column = torch.arange(x.shape[-1]).expand(x.shape)
        row = torch.arange(x.shape[-2]).view(-1, 1).expand(x.shape)
        return torch.cat([x * 3 + column, x * 5 + row * 0.5], dim=1)


def random_nets(tiny: Tiny, count: int) -> list[nets.Model]:
    made = []
    for seed in range(count):
        torch.manual_seed(seed)
        made.append(nets.build(tiny.recipe.net, tiny.competition.task, 1, 4, [0.4], [0.2]).eval())
    return made


# ---------------------------------------------------------------- views


@pytest.mark.parametrize(
    ("view", "turned"),
    [
        ("identity", [[1, 2, 3], [4, 5, 6]]),
        ("hflip", [[3, 2, 1], [6, 5, 4]]),
        ("vflip", [[4, 5, 6], [1, 2, 3]]),
        ("rot180", [[6, 5, 4], [3, 2, 1]]),
    ],
)
def test_each_view_by_hand_and_back(view, turned):
    image = torch.tensor([[[[1, 2, 3], [4, 5, 6]]]]).float()
    assert turn(image, [view])[0, 0].tolist() == turned
    assert torch.equal(turn_back(turn(image, [view]), [view]), image)


def test_all_views_are_one_batch_and_come_back_as_their_mean():
    images = torch.rand(3, 2, 4, 6)
    batch = turn(images, ALL)
    assert batch.shape == (12, 2, 4, 6)
    assert torch.equal(batch[:3], images) and torch.equal(batch[3:6], images.flip(-1))
    assert torch.equal(batch[6:9], images.flip(-2)) and torch.equal(batch[9:], images.flip(-1, -2))
    torch.testing.assert_close(turn_back(batch, ALL), images)
    marked = torch.zeros(4, 1, 2, 2)
    marked[:, 0, 0, 0] = torch.tensor([4.0, 8.0, 12.0, 16.0])  # top left of each view
    assert turn_back(marked, ALL)[0, 0].tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_it_equals_ttachs_wrapper():
    images = torch.randint(0, 256, (5, 1, 6, 10), dtype=torch.uint8)
    flips = ttach.Compose([ttach.HorizontalFlip(), ttach.VerticalFlip()])
    net = Left()
    wrapped = ttach.SegmentationTTAWrapper(nn.Sequential(net, nn.Softmax(1)), flips, merge_mode="mean")
    model = nets.Model(net, 1, [0.0], [1.0]).eval()
    torch.testing.assert_close(predict_batch([model], images, ALL, MACHINE), wrapped(images / 255))


def test_with_all_flips_a_flipped_image_has_the_flipped_prediction(tiny):
    model = random_nets(tiny, 1)
    images = torch.from_numpy(tiny.dataset.test.images.stacked)
    plain = predict_batch(model, images, ALL, MACHINE)
    for axes in ((-1,), (-2,), (-1, -2)):
        torch.testing.assert_close(predict_batch(model, images.flip(axes), ALL, MACHINE), plain.flip(axes))
    one = predict_batch(model, images, ["identity"], MACHINE)
    assert not torch.allclose(predict_batch(model, images.flip(-1), ["identity"], MACHINE), one.flip(-1))


def test_nets_are_averaged_as_probabilities():
    class Constant(nn.Module):
        def __init__(self, logit: float) -> None:
            super().__init__()
            self.logit = logit

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([torch.zeros_like(x), torch.full_like(x, self.logit)], dim=1)

    models = [nets.Model(Constant(float(np.log(odds))), 1, [0.0], [1.0]) for odds in (1, 3, 99)]
    out = predict_batch(models, torch.zeros(2, 1, 3, 3, dtype=torch.uint8), ALL, MACHINE)
    torch.testing.assert_close(out[:, 1], torch.full((2, 3, 3), (0.5 + 0.75 + 0.99) / 3))  # the mean logit gives 0.87
    torch.testing.assert_close(out.sum(1), torch.ones(2, 3, 3))


# ---------------------------------------------------------------- volumes


def test_a_volume_holds_probabilities_by_id_with_an_empty_unscored_channel(tiny, tmp_path):
    rows = np.array([9, 2, 20, 4])
    models = random_nets(tiny, 2)
    predict_to(
        tmp_path / "p.npy", models, tiny.competition, tiny.dataset.train, rows, SAME, ["identity", "hflip"], MACHINE
    )
    volume = Ragged.open(tmp_path / "p.npy")
    assert volume.ids.tolist() == ["9", "2", "20", "4"]
    assert volume.values.dtype == np.float16 and volume.stacked.shape == (4, 5, 16, 32)
    assert (volume.stacked[:, 0] == 0).all()
    np.testing.assert_allclose(volume.stacked.sum(1, dtype=np.float32), 1, atol=2e-3)
    images = tiny.dataset.train.images.stacked[rows] / np.float32(255)
    with torch.no_grad():
        x = torch.from_numpy(images)
        views = [(m(x).softmax(1) + m(x.flip(-1)).softmax(1).flip(-1)) / 2 for m in models]
    np.testing.assert_allclose(volume.stacked[:, 1:], ((views[0] + views[1]) / 2).numpy(), atol=1e-3)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["p.index.npz", "p.npy"]


def test_how_many_go_through_at_once_does_not_matter(tiny, tmp_path, monkeypatch):
    volumes = []
    for size in (2, 6, 32):
        monkeypatch.setitem(predict.AT_ONCE, "cpu", size)
        path = tmp_path / f"{size}.npy"
        predict_to(
            path,
            random_nets(tiny, 1),
            tiny.competition,
            tiny.dataset.test,
            np.arange(7),
            SAME,
            ["vflip", "hflip"],
            MACHINE,
        )
        volumes.append(Ragged.open(path).stacked.astype(np.float32))
    np.testing.assert_allclose(volumes[1], volumes[0], atol=1e-3)
    np.testing.assert_allclose(volumes[2], volumes[0], atol=1e-3)


class Counted:
    """A net that counts how many images it is given."""

    def __init__(self, model: nets.Model) -> None:
        self.model, self.images = model, 0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.images += len(x)
        return self.model(x)


def test_a_killed_prediction_goes_on_from_its_last_flush(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "FLUSH_SECONDS", -1.0)
    monkeypatch.setitem(predict.AT_ONCE, "cpu", 2)
    models = random_nets(tiny, 1)

    def work(path: Path, net: Any, emit: Any = lambda event: None) -> None:
        predict_to(path, [net], tiny.competition, tiny.dataset.test, np.arange(7), SAME, ["identity"], MACHINE, emit)

    def stop(event: dict[str, Any]) -> None:
        assert event["event"] == "predict" and event["of"] == 7
        if event["rows"] == 4:
            raise Stop

    work(tmp_path / "whole.npy", models[0])
    (tmp_path / "killed").mkdir()
    path = tmp_path / "killed" / "p.npy"
    with pytest.raises(Stop):
        work(path, models[0], stop)
    assert not path.exists() and not index_of(path).exists()
    rest = Counted(models[0])
    work(path, rest)
    assert rest.images == 3
    assert path.read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert sorted(file.name for file in path.parent.iterdir()) == ["p.index.npz", "p.npy"]


@pytest.mark.parametrize("left_over", ["nothing", "shorter", "damaged"])
def test_progress_without_its_volume_is_never_believed(tiny, tmp_path, monkeypatch, left_over):
    monkeypatch.setitem(predict.AT_ONCE, "cpu", 2)
    path, partial = tmp_path / "p.npy", tmp_path / "p.partial.npy"
    (tmp_path / "p.partial.json").write_text(json.dumps({"rows": 4}))
    if left_over == "shorter":
        np.save(partial, np.zeros(10, np.float16))
    elif left_over == "damaged":
        partial.write_bytes(b"\x93NUMPY")

    def fail(x: torch.Tensor) -> torch.Tensor:
        raise Stop

    def work(net: Any) -> None:
        predict_to(path, [net], tiny.competition, tiny.dataset.test, np.arange(7), SAME, ["identity"], MACHINE)

    with pytest.raises(Stop):  # killed again before its first flush, with a volume of zeros beside the old progress
        work(fail)
    counted = Counted(random_nets(tiny, 1)[0])
    work(counted)
    assert counted.images == 7
    np.testing.assert_allclose(Ragged.open(path).stacked.sum(1, dtype=np.float32), 1, atol=2e-3)


def test_a_net_comes_back_from_its_file(tiny, tmp_path):
    model = random_nets(tiny, 1)[0]
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    loaded = load(tiny.recipe, tiny.competition, 1, tmp_path / "w.safetensors", MACHINE)
    assert not loaded.training
    images = torch.from_numpy(tiny.dataset.test.images.stacked)
    torch.testing.assert_close(
        predict_batch([loaded], images, ALL, MACHINE), predict_batch([model], images, ALL, MACHINE)
    )


# ---------------------------------------------------------------- images of several sizes

SIZES = [(16, 32), (9, 40), (5, 7), (30, 11), (16, 32), (21, 21), (8, 33)]


def of_sizes(sizes: list[tuple[int, int]], dtype: str = "uint8") -> Part:
    """Random pictures of the given sizes, values over all of the dtype's range."""
    generator = np.random.default_rng(0)
    top = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    images = [(generator.random((1, *size)) * top).astype(dtype) for size in sizes]
    values = np.concatenate([image.reshape(-1) for image in images])
    ids = np.array([f"p{i}" for i in range(len(sizes))])
    return Part("test", Ragged(values, np.array([image.shape for image in images]), ids), None, "0")


def fits(sizes: list[tuple[int, int]]) -> list[Fit]:
    largest = max(h for h, _ in sizes), max(w for _, w in sizes)
    return [Fit((16, 24), "resize"), Fit(largest, "pad"), Fit((12, 16), "tiles", 0.5), Fit((20, 20), "tiles", 0.0)]


@pytest.mark.parametrize("fit", fits(SIZES), ids=lambda fit: f"{fit.how}-{fit.size[0]}")
def test_every_image_has_probabilities_of_its_own_size(tiny, tmp_path, monkeypatch, fit):
    monkeypatch.setitem(predict.AT_ONCE, "cpu", 4)  # pieces of one image go through the net in several batches
    models, views = random_nets(tiny, 2), ("identity", "vflip")
    part, rows = of_sizes(SIZES), np.array([6, 0, 3, 1, 2, 5])
    predict_to(tmp_path / "p.npy", models, tiny.competition, part, rows, fit, views, MACHINE)
    volume = Ragged.open(tmp_path / "p.npy")
    assert volume.ids.tolist() == [f"p{row}" for row in rows] and volume.values.dtype == np.float16
    assert volume.shapes.tolist() == [[5, *SIZES[row]] for row in rows]
    for row, found in zip(rows, volume, strict=True):
        assert (found[0] == 0).all()  # the unscored class
        np.testing.assert_allclose(found.sum(0, dtype=np.float32), 1, atol=3e-3)
        # the same one image at a time, and by hand
        predict_to(tmp_path / "one.npy", models, tiny.competition, part, np.array([row]), fit, views, MACHINE)
        alone = Ragged.open(tmp_path / "one.npy")
        assert alone.ids.tolist() == [f"p{row}"]
        np.testing.assert_allclose(alone[0].astype(np.float32), found.astype(np.float32), atol=2e-3)
        pieces, _ = fit.images(part, np.array([row]))
        answers = predict_batch(models, torch.from_numpy(pieces), views, MACHINE).numpy()
        np.testing.assert_allclose(found[1:], fit.unfit(answers, *SIZES[row]), atol=2e-3)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one.index.npz", "one.npy", "p.index.npz", "p.npy"]


def test_an_image_that_fills_the_frame_is_predicted_as_without_padding(tiny, tmp_path):
    part = of_sizes([(16, 32), (3, 4)])
    models = random_nets(tiny, 1)
    predict_to(tmp_path / "p.npy", models, tiny.competition, part, np.arange(2), Fit(SIZE, "pad"), ALL, MACHINE)
    one = Part("test", Ragged.stack(part.images[0][None], ["p0"]), None, "0")
    predict_to(tmp_path / "same.npy", models, tiny.competition, one, np.array([0]), SAME, ALL, MACHINE)
    np.testing.assert_allclose(Ragged.open(tmp_path / "p.npy")[0], Ragged.open(tmp_path / "same.npy")[0], atol=1e-3)


def test_a_killed_prediction_of_several_sizes_goes_on_where_it_stopped(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "FLUSH_SECONDS", -1.0)
    monkeypatch.setitem(predict.AT_ONCE, "cpu", 2)
    part, model, fit = of_sizes(SIZES), random_nets(tiny, 1)[0], Fit((16, 24), "resize")

    def work(path: Path, net: Any, emit: Any = lambda event: None) -> None:
        predict_to(path, [net], tiny.competition, part, np.arange(7), fit, ["identity"], MACHINE, emit)

    def stop(event: dict[str, Any]) -> None:
        if event["rows"] == 4:
            raise Stop

    work(tmp_path / "whole.npy", model)
    with pytest.raises(Stop):
        work(tmp_path / "killed.npy", model, stop)
    rest = Counted(model)
    work(tmp_path / "killed.npy", rest)
    assert rest.images == 3
    whole, killed = Ragged.open(tmp_path / "whole.npy"), Ragged.open(tmp_path / "killed.npy")
    np.testing.assert_allclose(killed.values.astype(np.float32), whole.values.astype(np.float32), atol=1e-3)
    assert killed.shapes.tolist() == whole.shapes.tolist() and killed.ids.tolist() == whole.ids.tolist()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_nets_see_images_divided_by_the_range_of_their_dtype(tiny, tmp_path, dtype):
    seen: list[torch.Tensor] = []

    class Watch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return torch.zeros(len(x), 4, *x.shape[2:])

    part = of_sizes([(4, 6)] * 2, dtype)
    predict_to(
        tmp_path / "p.npy",
        [nets.Model(Watch(), 1, [0.0], [1.0])],
        tiny.competition,
        part,
        np.arange(2),
        Fit((4, 6), "same"),
        ["identity", "hflip"],
        MACHINE,
    )
    scaled = part.images.stacked / np.float64({"uint8": 255, "uint16": 65535, "float32": 1}[dtype])
    np.testing.assert_allclose(seen[0][:2].numpy(), scaled, rtol=1e-6)
    np.testing.assert_allclose(seen[0][2:].numpy(), scaled[..., ::-1], rtol=1e-6)


# ---------------------------------------------------------------- labels


@pytest.mark.parametrize("how", ["resize", "pad", "tiles"])
def test_labels_have_one_answer_per_class_and_image(tmp_path, how):
    competition = Competition.model_validate(
        {
            "name": "labels",
            "task": "classification",
            "data": {"format": "npz", "file": "x.npz", "train": {"key": "x", "target": {"key": "y"}}},
            "classes": ["a", "b", "c"],
            "metric": {"name": "accuracy"},
            "models": ["small"],
        }
    )
    torch.manual_seed(0)
    model = nets.build(NetSettings(name="small_cnn", widths=(4, 8)), "classification", 1, 3).eval()
    fit = Fit((32, 40) if how == "pad" else (12, 16), how)
    part, rows = of_sizes(SIZES), np.array([3, 0, 6])
    predict_to(tmp_path / "p.npy", [model], competition, part, rows, fit, ["identity", "hflip"], MACHINE)
    volume = Ragged.open(tmp_path / "p.npy")
    assert volume.stacked.shape == (3, 3, 1, 1) and volume.ids.tolist() == ["p3", "p0", "p6"]
    for row, found in zip(rows, volume, strict=True):
        pieces, counts = fit.images(part, np.array([row]))
        assert (counts[0] > 1) == (how == "tiles")
        with torch.no_grad():
            x = torch.from_numpy(pieces) / 255
            each = (model(x).softmax(1) + model(x.flip(-1)).softmax(1)) / 2
        np.testing.assert_allclose(found.astype(np.float32), each.mean(0).numpy(), atol=1e-3)
    assert len({tuple(answer.flatten()) for answer in volume}) == 3
