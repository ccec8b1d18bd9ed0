"""Prediction: views turned there and back, equality with ttach's own wrapper, and volumes that survive a kill."""

from __future__ import annotations

import errno
import json
import threading
import time
import weakref
from dataclasses import replace
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
from podium.config import Competition
from podium.config_net import NetSettings
from podium.data.fit import Fit
from podium.data.part import Part
from podium.data.ragged import Ragged, index_of
from podium.errors import UserError
from podium.inference import predict, volume
from podium.inference.at_once import AtOnce
from podium.inference.predict import batch_size, load, predict_batch, predict_to
from podium.inference.stream import WAITING, ahead, behind
from podium.inference.views import turn, turn_back
from podium.inference.volume import Volume
from podium.training.machine import Machine
from podium.training.memory import out_of_memory

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


def go_at_once(monkeypatch: pytest.MonkeyPatch, images: int, size: tuple[int, int] = SIZE) -> None:
    """So many images and views of that size go through a net at once."""
    monkeypatch.setitem(predict.PIXELS, "cpu", images * size[0] * size[1])


# ---------------------------------------------------------------- views


@pytest.mark.parametrize(
    ("view", "turned"),
    [
        ("identity", [[1, 2, 3], [4, 5, 6]]),
        ("hflip", [[3, 2, 1], [6, 5, 4]]),
        ("vflip", [[4, 5, 6], [1, 2, 3]]),
        ("rot180", [[6, 5, 4], [3, 2, 1]]),
        ("rot90", [[3, 6], [2, 5], [1, 4]]),
        ("rot270", [[4, 1], [5, 2], [6, 3]]),
        ("transpose", [[1, 4], [2, 5], [3, 6]]),
        ("antitranspose", [[6, 3], [5, 2], [4, 1]]),
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


def test_a_square_is_seen_from_all_eight_sides():
    views = ["identity", "hflip", "vflip", "rot180", "rot90", "rot270", "transpose", "antitranspose"]
    images = torch.rand(2, 1, 5, 5)
    batch = turn(images, views)
    assert len({tuple(view[0].flatten().tolist()) for view in batch.chunk(8)}) == 8
    torch.testing.assert_close(turn_back(batch, views), images)


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
        go_at_once(monkeypatch, size)
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


class Killed:
    """A net that is interrupted after ``images``, once the ``rows`` that they are of are flushed to ``path``."""

    def __init__(
        self, model: nets.Model, path: Path, images: int, rows: int, error: type[BaseException] = Stop
    ) -> None:
        self.model, self.last, self.rows, self.error, self.images = model, images, rows, error, 0
        self.progress = path.with_suffix(".partial.json")

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self.images == self.last:
            await_rows(self.progress, self.rows)
            raise self.error
        self.images += len(x)
        return self.model(x)


def await_rows(progress: Path, rows: int) -> None:
    """Wait until so many rows are flushed."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if progress.exists() and json.loads(progress.read_text())["rows"] >= rows:
            return
        time.sleep(0.001)
    raise AssertionError(f"{progress} never came to {rows} rows")


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
@pytest.mark.parametrize("after", [b"", b"written after the last flush"])
def test_a_killed_prediction_goes_on_from_its_last_flush(tiny, tmp_path, monkeypatch, error, after):
    monkeypatch.setattr(volume, "FLUSH_SECONDS", -1.0)
    go_at_once(monkeypatch, 2)
    model = random_nets(tiny, 1)[0]

    def work(path: Path, net: Any) -> None:
        predict_to(path, [net], tiny.competition, tiny.dataset.test, np.arange(7), SAME, ["identity"], MACHINE)

    work(tmp_path / "whole.npy", model)
    (tmp_path / "killed").mkdir()
    path = tmp_path / "killed" / "p.npy"
    with pytest.raises(error):
        work(path, Killed(model, path, 4, 4, error))
    assert not path.exists() and not index_of(path).exists()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("read", "write"))]
    with (path.parent / "p.partial.npy").open("ab") as file:
        file.write(after)
    rest = Counted(model)
    work(path, rest)
    assert rest.images == 3
    assert path.read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert sorted(file.name for file in path.parent.iterdir()) == ["p.index.npz", "p.npy"]


def test_progress_is_told_by_the_callers_thread_and_its_errors_come_back(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(volume, "FLUSH_SECONDS", -1.0)
    go_at_once(monkeypatch, 2)
    path, model, events = tmp_path / "p.npy", random_nets(tiny, 1)[0], []

    class Waiting(Counted):
        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            if self.images:
                await_rows(path.with_suffix(".partial.json"), self.images)
            return super().__call__(x)

    def emit(event: dict[str, Any]) -> None:
        assert threading.current_thread() is threading.main_thread()
        events.append(event)

    def work(emit: Any) -> None:
        part, views = tiny.dataset.test, ["identity"]
        predict_to(path, [Waiting(model)], tiny.competition, part, np.arange(7), SAME, views, MACHINE, emit)

    work(emit)
    rows = [event["rows"] for event in events]
    assert rows and rows == sorted(set(rows)) and set(rows) <= {2, 4, 6}
    assert all(event["event"] == "predict" and event["of"] == 7 and event["left"] > 0 for event in events)

    def stop(event: dict[str, Any]) -> None:
        raise Stop

    with pytest.raises(Stop):
        work(stop)


def test_a_full_disk_is_told_and_what_was_flushed_is_kept(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(volume, "FLUSH_SECONDS", -1.0)
    go_at_once(monkeypatch, 2)
    path, model = tmp_path / "p.npy", random_nets(tiny, 1)[0]

    def work(net: Any) -> None:
        predict_to(path, [net], tiny.competition, tiny.dataset.test, np.arange(7), SAME, ["identity"], MACHINE)

    work(model)
    wanted = path.read_bytes()
    path.unlink()
    real, written = Volume._write, []

    def write(self: Volume, content: Any) -> None:
        written.append(content)
        if len(written) == 4:  # the header and two batches had room
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, content)

    with monkeypatch.context() as patched:
        patched.setattr(Volume, "_write", write)
        with pytest.raises(UserError, match=r"p\.npy: cannot be written \(No space left on device\); free space"):
            work(model)
    assert len(written) == 4  # nothing came after what failed, or it would lie in its place
    rest = Counted(model)
    work(rest)
    assert rest.images == 3 and path.read_bytes() == wanted


def test_what_is_written_is_the_mean_rounded_to_float16(tiny, tmp_path):
    models, part = random_nets(tiny, 2), tiny.dataset.test
    predict_to(tmp_path / "p.npy", models, tiny.competition, part, np.arange(7), SAME, ALL, MACHINE)
    wanted = np.zeros((7, 5, *SIZE), np.float16)
    wanted[:, 1:] = predict_batch(models, torch.from_numpy(part.images.stacked), ALL, MACHINE).numpy()
    np.save(tmp_path / "wanted.npy", wanted.reshape(-1))
    assert (tmp_path / "p.npy").read_bytes() == (tmp_path / "wanted.npy").read_bytes()


def test_a_volume_takes_only_what_belongs_there_next(tmp_path):
    with pytest.raises(ValueError, match="takes 12 float16 values next, not 6 float16"):
        Volume(tmp_path / "a.npy", np.array([[1, 3, 4], [1, 2, 3]]), np.array(["a", "b"])).append(np.ones(6, "f2"), 1)
    with pytest.raises(ValueError, match="not 12 float32"):
        Volume(tmp_path / "b.npy", np.array([[1, 3, 4]]), np.array(["a"])).append(np.ones(12, "f4"), 1)
    with pytest.raises(ValueError, match="0 of 1 rows were written"):
        Volume(tmp_path / "c.npy", np.array([[1, 3, 4]]), np.array(["a"])).finish()


@pytest.mark.parametrize("left_over", ["nothing", "other", "shorter", "damaged"])
def test_progress_without_its_volume_is_never_believed(tiny, tmp_path, monkeypatch, left_over):
    go_at_once(monkeypatch, 2)
    path, partial = tmp_path / "p.npy", tmp_path / "p.partial.npy"
    (tmp_path / "p.partial.json").write_text(json.dumps({"rows": 4}))
    if left_over == "other":
        np.save(partial, np.zeros(9 * 5 * SIZE[0] * SIZE[1], np.float16))
    elif left_over == "shorter":
        np.save(partial, np.zeros(7 * 5 * SIZE[0] * SIZE[1], np.float16))
        with partial.open("r+b") as file:
            file.truncate(partial.stat().st_size // 2)
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
    go_at_once(monkeypatch, 4, fit.size)  # pieces of one image go through the net in several batches
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


@pytest.mark.parametrize("fit", fits(SIZES), ids=lambda fit: f"{fit.how}-{fit.size[0]}")
def test_a_killed_prediction_of_several_sizes_goes_on_where_it_stopped(tiny, tmp_path, monkeypatch, fit):
    monkeypatch.setattr(volume, "FLUSH_SECONDS", -1.0)
    go_at_once(monkeypatch, 2, fit.size)
    part, model = of_sizes(SIZES), random_nets(tiny, 1)[0]

    def work(path: Path, net: Any) -> None:
        predict_to(path, [net], tiny.competition, part, np.arange(7), fit, ["identity"], MACHINE)

    rows = 1 if fit.how == "tiles" else 2  # one image's tiles are a batch already
    whole, pieces = Counted(model), fit.count(part, np.arange(rows))
    work(tmp_path / "whole.npy", whole)
    with pytest.raises(Stop):
        work(tmp_path / "killed.npy", Killed(model, tmp_path / "killed.npy", pieces, rows))
    rest = Counted(model)
    work(tmp_path / "killed.npy", rest)
    assert whole.images == fit.count(part, np.arange(7)) and rest.images == whole.images - pieces
    for name in ("npy", "index.npz"):
        assert (tmp_path / f"killed.{name}").read_bytes() == (tmp_path / f"whole.{name}").read_bytes()


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


# ---------------------------------------------------------------- reading ahead, writing behind


def test_items_come_in_order_and_few_are_read_ahead():
    asked: list[int] = []

    def read(i: int) -> int:
        asked.append(i)
        return i * i

    with ahead(read, range(50)) as items:
        for i, item in enumerate(items):
            assert item == i * i
            assert len(asked) <= i + 1 + WAITING
    assert len(asked) == 50


def test_a_reading_error_comes_where_its_item_would_have():
    failure, seen = Stop("at 5"), []

    def read(i: int) -> int:
        if i == 5:
            raise failure
        return i

    with pytest.raises(Stop) as raised, ahead(read, range(50)) as items:
        for item in items:
            seen.append(item)
    assert raised.value is failure and seen == [0, 1, 2, 3, 4]


def test_items_are_written_in_order_and_few_wait():
    put_so_far = 0
    written: list[Any] = []
    waiting: list[Any] = []

    def write(i: int) -> None:
        time.sleep(0.002)
        waiting.append(put_so_far - len(written))
        written.append(i)

    with behind(write) as put:
        for i in range(30):
            put(i)
            put_so_far = i + 1
    assert written == list(range(30))
    assert max(waiting) <= WAITING + 2  # those, the one being written, and one put just now


def test_nothing_is_written_after_a_writing_error():
    failure, written = Stop("at 2"), []

    def write(i: int) -> None:
        if i == 2:
            raise failure
        written.append(i)

    with pytest.raises(Stop) as raised, behind(write) as put:
        for i in range(4):  # too few for put itself to wait: the error comes at the end
            put(i)
    assert raised.value is failure and written == [0, 1]


def test_an_image_that_does_not_fit_is_told_as_it_is_however_late_it_is_read(tiny, tmp_path, monkeypatch):
    go_at_once(monkeypatch, 1, (16, 32))
    part, fit = of_sizes([(16, 32), (9, 9), (17, 32)]), Fit((16, 32), "pad")
    with pytest.raises(UserError, match="id 'p2': is 17 x 32"):
        net = random_nets(tiny, 1)
        predict_to(tmp_path / "p.npy", net, tiny.competition, part, np.arange(3), fit, ["identity"], MACHINE)


# ---------------------------------------------------------------- memory


class Narrow:
    """A net that runs out of memory above ``limit`` images at once, and sees that nothing held on to what was too much."""

    def __init__(self, model: nets.Model, limit: int, error: Exception) -> None:
        self.model, self.limit, self.error = model, limit, error
        self.sizes: list[Any] = []
        self.too_much: weakref.ref[torch.Tensor] | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        assert self.too_much is None or self.too_much() is None
        self.sizes.append(len(x))
        if len(x) > self.limit:
            self.too_much = weakref.ref(x)
            raise type(self.error)(*self.error.args)
        return self.model(x)


CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
)


@pytest.mark.parametrize("error", [CUDA, CPU], ids=["cuda", "cpu"])
@pytest.mark.parametrize(
    ("limit", "sizes", "said"),
    [
        (6, [16, 8, 4, 4, 4, 4, 4, 4, 4], "memory ran out while predicting 4 images at once: 2 go through"),
        (4, [16, 8, 4, 4, 4, 4, 4, 4, 4], "memory ran out while predicting 4 images at once: 2 go through"),
        (1, [16, 8, 4] + [1] * 28, "memory ran out while predicting 4 images at once: 2 go through"),
    ],
)
def test_fewer_images_go_at_once_where_memory_does_not_suffice(tiny, tmp_path, monkeypatch, error, limit, sizes, said):
    go_at_once(monkeypatch, 16)
    model = random_nets(tiny, 1)[0]
    events: list[Any] = []

    def work(path: Path, net: Any) -> np.ndarray:
        part = tiny.dataset.test
        predict_to(path, [net], tiny.competition, part, np.arange(7), SAME, ALL, MACHINE, events.append)
        return Ragged.open(path).stacked.astype(np.float32)

    wanted, narrow = work(tmp_path / "whole.npy", model), Narrow(model, limit, error)
    np.testing.assert_allclose(work(tmp_path / "p.npy", narrow), wanted, atol=1e-3)
    assert narrow.sizes == sizes
    assert [event["event"] for event in events] == ["note"] and events[0]["text"].startswith(said)


def test_one_view_of_one_image_that_is_too_much_is_told_with_the_way_out(tiny, tmp_path, monkeypatch):
    narrow = Narrow(random_nets(tiny, 1)[0], 0, CUDA)
    with pytest.raises(UserError, match=r"one image of 16 x 32 under one view .* memory of a test; .* data.fit.size"):
        predict_to(tmp_path / "p.npy", [narrow], tiny.competition, tiny.dataset.test, np.arange(7), SAME, ALL, MACHINE)
    assert narrow.sizes == [28, 12, 4, 1]


def test_other_errors_of_a_net_are_not_taken_for_memory(tiny, tmp_path):
    narrow = Narrow(random_nets(tiny, 1)[0], 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        predict_to(tmp_path / "p.npy", [narrow], tiny.competition, tiny.dataset.test, np.arange(7), SAME, ALL, MACHINE)
    assert narrow.sizes == [28]


def test_what_counts_as_out_of_memory():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**48, dtype=torch.uint8)  # more than a process can address
    assert out_of_memory(raised.value)
    assert out_of_memory(CUDA) and out_of_memory(CPU) and out_of_memory(MemoryError())
    assert out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"))
    assert not out_of_memory(RuntimeError("shapes do not fit")) and not out_of_memory(ValueError("out of memory"))


def test_how_many_at_once_follows_from_their_pixels(monkeypatch):
    go_at_once(monkeypatch, 32, (64, 128))
    monkeypatch.setitem(predict.PIXELS, "cuda", 1024 * 64 * 128)
    assert batch_size(["identity"], MACHINE) == 32 and batch_size(ALL, MACHINE) == 8
    assert batch_size(ALL, MACHINE, 256 * 256) == 1 and batch_size(["identity"], MACHINE, 256 * 256) == 4
    assert batch_size(["identity"], MACHINE, 28 * 28) == 334 and batch_size(ALL, MACHINE, 5000 * 5000) == 1
    assert batch_size(ALL, replace(MACHINE, device="cuda"), 64 * 128) == 256


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_compiled_net_always_sees_the_same_number(dtype):
    images = torch.from_numpy(of_sizes([(4, 6)] * 7, dtype).images.stacked)
    for how, seen in (("on", [3, 3, 3]), ("off", [3, 3, 1])):
        sizes: list[Any] = []

        def predict_some(some: torch.Tensor, apart: bool, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(len(some))
            return some.to(torch.float32) * 2

        at_once = AtOnce(predict_some, 3, 1, replace(MACHINE, compile=how), lambda text: None)
        assert torch.equal(torch.cat(list(at_once(images))), images.to(torch.float32) * 2)
        assert sizes == seen


def test_nets_are_called_as_they_were_compiled(tiny, tmp_path, monkeypatch):
    model, machine, made = random_nets(tiny, 1)[0], replace(MACHINE, compile="on"), []

    def fake(net: Any, on: Machine, note: Any) -> Counted:
        assert net is model and on is machine
        note("compiled")
        made.append(Counted(net))
        return made[0]

    monkeypatch.setattr(predict, "compiled", fake)
    events: list[dict[str, Any]] = []
    predict_to(
        tmp_path / "p.npy",
        [model],
        tiny.competition,
        tiny.dataset.test,
        np.arange(7),
        SAME,
        ["identity"],
        machine,
        events.append,
    )
    assert len(made) == 1 and made[0].images == 7 and events == [{"event": "note", "text": "compiled"}]
