"""Submissions that are code: what model.py answers, what packing refuses, and that the trial finds every mistake."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from by_hand import by_hand
from podium import nets
from podium.combine import FLOOR
from podium.config import Competition, Recipe
from podium.config_net import NetSettings
from podium.data.fit import Fit
from podium.data.part import Part
from podium.data.ragged import Ragged
from podium.decode import Decision, finish
from podium.decode_steps import Step
from podium.errors import UserError
from podium.inference.views import POSITIONS, views
from podium.jobs import fold_key
from podium.standing import Member as Predictions
from podium.standing import Model as Standing
from podium.store import Folder, Key, sha256_of
from podium.submission.model_zip import archive, trial
from podium.submission.model_zip.content import Content, Member, Net, gather
from podium.submission.model_zip.export import _put, make, refer
from podium.submission.model_zip.model import VIEWS, turned
from three_classes import competition

SIDE, BATCH = 12, 8
GIVEN = competition("classification", submission={"format": "model_zip", "batch": BATCH})
BIAS = Step("bias", value=(0.4, 0.0, -0.6))


def recipe(name: str, widths: tuple[int, ...], *seen: str) -> Recipe:
    return Recipe.model_validate(
        {"name": name, "net": {"name": "small_cnn", "widths": widths}, "predict": {"views": seen}}
    )


RECIPES = (recipe("plain", (4, 6), "identity"), recipe("turning", (4, 8), *POSITIONS))


def pictures(seed: int, count: int) -> np.ndarray:
    """uint8 (count, 12, 12, 3): noise over a colour that changes across each picture, otherwise in each."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 200, (2, count, 1, 1, 3))
    across = np.linspace(0, 1, SIDE)[None, None, :, None]
    return (corners[0] + (corners[1] - corners[0]) * across + rng.uniform(0, 55, (count, SIDE, SIDE, 3))).astype(
        np.uint8
    )


def write_weights(path: Path, settings: NetSettings, seed: int) -> None:
    """A net that tells pictures apart without having been trained: random weights, logits of mean 0 and deviation 1.5."""
    torch.manual_seed(seed)
    net = nets.build(settings, "classification", 3, 3, [0.4, 0.5, 0.6], [0.2, 0.3, 0.25], (SIDE, SIDE)).eval()
    state = net.state_dict()
    head = "net.net.head.1"
    with torch.no_grad():
        for name, value in state.items():
            if "running_var" in name:
                value.copy_(torch.rand_like(value) + 0.5)
        logits = net(torch.from_numpy(pictures(99, 64)).permute(0, 3, 1, 2) / 255)[:, :, 0, 0]
        scale = 1.5 / logits.std(0)
        state[f"{head}.weight"].mul_(scale[:, None])
        state[f"{head}.bias"].sub_(logits.mean(0)).mul_(scale)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Content, Path]:
    """Two models of two folds as ONNX, images, and podium's own answers, in one folder."""
    folder = tmp_path_factory.mktemp("made")
    members = []
    for number, (each, weight) in enumerate(zip(RECIPES, (0.3, 0.7), strict=True)):
        own = []
        for fold in range(2):
            weights = folder / f"{each.name}{fold}.safetensors"
            write_weights(weights, each.net, 10 * number + fold)
            own.append(Net(f"{each.name}-fold{fold}.onnx", weights, sha256_of(weights)))
        members.append(Member(each.name, each, weight, tuple(own)))
    content = Content(GIVEN, Decision((0.3, 0.7)), tuple(members), (3, SIDE, SIDE), 255.0)
    np.save(folder / "images.npy", pictures(0, BATCH + trial.MORE))
    make(content, folder / "images.npy", folder, lambda text: None)
    return content, folder


def unpacked(content: Content, folder: Path, to: Path) -> Any:
    """The class Model of a packed file, imported from where it was unpacked."""
    archive.write(to / "model.zip", content, folder)
    with zipfile.ZipFile(to / "model.zip") as file:
        file.extractall(to / "unpacked")
    spec = importlib.util.spec_from_file_location("its_model", to / "unpacked" / "model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Model()


def naive(content: Content, images: np.ndarray) -> list[np.ndarray]:
    """Each model's probabilities (n, 3)."""
    return [by_hand(member.recipe, [net.weights for net in member.nets], images, 3) for member in content.members]


# ---------------------------------------------------------------- what model.py answers


@pytest.mark.parametrize("view", POSITIONS)
def test_an_image_is_turned_as_podium_turns_it(view: str) -> None:
    x = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    ((there, _),) = views((view,))
    np.testing.assert_array_equal(turned(x, view), there(torch.from_numpy(x)).numpy())
    assert VIEWS.keys() == set(POSITIONS)


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
@pytest.mark.parametrize("steps", [(), (BIAS,)])
def test_labels_and_probabilities_are_those_of_a_naive_blend(
    made: tuple[Content, Path], tmp_path: Path, mean: Any, steps: tuple[Step, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    content, folder = made
    content = replace(content, decision=Decision((0.3, 0.7), mean, steps))
    monkeypatch.chdir(tmp_path)  # its files are found beside it, wherever it is called from
    model = unpacked(content, folder, tmp_path)
    images = np.load(folder / "images.npy")
    one, two = naive(content, images)
    if mean == "arithmetic":
        blend = 0.3 * one + 0.7 * two
    else:
        blend = np.maximum(one, FLOOR) ** 0.3 * np.maximum(two, FLOOR) ** 0.7
        blend /= blend.sum(1, keepdims=True)
    np.testing.assert_allclose(model.probabilities(images), blend, atol=2e-6)
    weighed = blend * np.exp(BIAS.value) if steps else blend
    labels = model.predict(images)
    assert labels.dtype == np.int64 and labels.shape == (len(images),)
    np.testing.assert_array_equal(labels, weighed.argmax(1))
    volumes = [Ragged.stack(each.astype(np.float32)[:, :, None, None], [*map(str, range(11))]) for each in (one, two)]
    np.testing.assert_array_equal(labels, finish(volumes, (0.3, 0.7), None, None, mean, steps).values)
    assert len(set(labels.tolist())) > 1


def test_the_bias_of_these_tests_changes_labels(made: tuple[Content, Path]) -> None:
    content, folder = made
    images = np.load(folder / "images.npy").transpose(0, 3, 1, 2)
    without, with_bias = (
        refer(replace(content, decision=replace(content.decision, steps=steps)), images)["labels"]
        for steps in ((), (BIAS,))
    )
    assert (without != with_bias).any()


def test_any_number_type_and_any_number_of_images(made: tuple[Content, Path], tmp_path: Path) -> None:
    content, folder = made
    model = unpacked(content, folder, tmp_path)
    images = np.load(folder / "images.npy")
    wanted = model.predict(images)
    for dtype in ("int16", "uint16", "int32", "int64", "uint64", "float32", "float64", ">f4", ">i8"):
        np.testing.assert_array_equal(model.predict(images.astype(dtype)), wanted)
    halves = images.astype(np.float16)
    np.testing.assert_array_equal(model.predict(halves), wanted)  # whole numbers to 2048 are whole there
    for other in (np.asfortranarray(images), images[::-1][::-1], images.tolist()):
        np.testing.assert_array_equal(model.predict(other), wanted)
    for count in (0, 1, BATCH - 1, BATCH, BATCH + 1):
        found = model.predict(images[:count])
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, wanted[:count])
    assert model.predict([]).shape == (0,)
    assert model.probabilities(images[:0]).shape == (0, 3)
    fractions = images[:3] + 0.25
    assert np.abs(model.probabilities(fractions) - model.probabilities(images[:3])).max() > 0
    for wrong in (images[0], images[:, :-1], images[..., :1], images.transpose(0, 3, 1, 2)):
        with pytest.raises(ValueError, match=r"X has the shape .* expected \(n, 12, 12, 3\)"):
            model.predict(wrong)
    with pytest.raises(ValueError, match="X holds values of type complex128"):
        model.predict(images.astype(np.complex128))


def test_no_more_images_go_through_a_net_at_once_than_a_batch(made: tuple[Content, Path], tmp_path: Path) -> None:
    content, folder = made
    model = unpacked(content, folder, tmp_path)
    seen: list[int] = []

    class Spy:
        def __init__(self, net: Any) -> None:
            self.net = net

        def run(self, names: None, given: dict[str, np.ndarray]) -> Any:
            seen.append(len(given["images"]))
            return self.net.run(names, given)

    for member in model.members:
        member.nets = [Spy(net) for net in member.nets]
    images = np.load(folder / "images.npy")
    model.predict(np.concatenate([images] * 3))
    assert max(seen) == BATCH and sum(seen) == 33 * (2 * 1 + 2 * 8)


def test_grey_images_come_with_or_without_channels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    each = recipe("grey", (4, 6), "identity", "hflip")
    net = nets.build(each.net, "classification", 1, 3, size=(SIDE, SIDE))
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    own = Member("grey", each, 1.0, (Net("grey.onnx", tmp_path / "w.safetensors", ""),))
    content = Content(GIVEN, Decision((1.0,)), (own,), (1, SIDE, SIDE), 65535.0)
    images = np.random.default_rng(1).integers(0, 65536, (11, SIDE, SIDE, 1), np.uint16)
    np.save(tmp_path / "images.npy", images)
    make(content, tmp_path / "images.npy", tmp_path, lambda text: None)
    model = unpacked(content, tmp_path, tmp_path)
    np.testing.assert_array_equal(model.predict(images), model.predict(images[..., 0]))
    assert trial.run(tmp_path / "model.zip", tmp_path / "images.npy", tmp_path / "reference.npz").errors == ()


# ---------------------------------------------------------------- the trial


def test_a_good_file_passes_its_trial(made: tuple[Content, Path], tmp_path: Path) -> None:
    content, folder = made
    archive.write(tmp_path / "model.zip", content, folder)
    found = trial.run(tmp_path / "model.zip", folder / "images.npy", folder / "reference.npz")
    assert found.errors == () and found.images == BATCH + trial.MORE
    assert found.difference < 1e-5 and found.milliseconds > 0 and 10e6 < found.memory < 2e9


def test_equal_content_gives_equal_bytes(made: tuple[Content, Path], tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        archive.write(tmp_path / name, *made)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as file:
        assert file.namelist() == [
            "model.py",
            "settings.json",
            *(f"{name}-fold{fold}.onnx" for name in ("plain", "turning") for fold in range(2)),
        ]
        assert file.read("model.py") == archive.CODE.read_bytes()


Change = Callable[[dict[str, bytes]], None]


def in_code(old: str, new: str) -> Change:
    def change(files: dict[str, bytes]) -> None:
        assert files["model.py"].count(old.encode()) == 1
        files["model.py"] = files["model.py"].replace(old.encode(), new.encode())

    return change


def in_settings(change: Callable[[Any], None]) -> Change:
    def edit(files: dict[str, bytes]) -> None:
        settings = json.loads(files["settings.json"])
        change(settings)
        files["settings.json"] = json.dumps(settings).encode()

    return edit


def swapped(files: dict[str, bytes]) -> None:
    files["plain-fold0.onnx"] = files["plain-fold1.onnx"]


def reweighed(settings: Any) -> None:
    settings["models"][0]["weight"], settings["models"][1]["weight"] = 0.31, 0.69


def channels_last(settings: Any) -> None:
    settings["image"]["scale"] = 256.0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (in_code("np.rot90(x, quarters,", "np.rot90(x, quarters + 1,"), "has a probability that differs by"),
        (swapped, "has a probability that differs by"),
        (in_settings(reweighed), "has a probability that differs by"),
        (in_settings(channels_last), "has a probability that differs by"),
        (in_code("argmax(1)\n", "argmin(1)\n"), "podium itself says"),
        (in_code("np.empty(len(images), np.int64)", "np.empty(len(images), np.float32)"), "expected integers"),
        (in_code("return labels\n", "return labels[:, None]\n"), r"expected integers \(11,\)"),
        (in_code("return labels\n", "return labels if len(labels) else labels[None]\n"), r"on 0 images as uint8"),
        (in_code("import numpy as np\n", "import numpy as np\nimport torch\n"), "No module named 'torch'"),
        (in_code("import numpy as np\n", "import numpy as np\nimport podium\n"), "No module named 'podium'"),
        (in_code("images = np.asarray(X)\n", "images = np.asarray(X)\n        images[:] = 0\n"), "changes the images"),
        (in_code('images.dtype.kind not in "buif"', 'images.dtype.kind not in "bui"'), "values of type float32"),
        (lambda files: files.pop("turning-fold1.onnx") and None, "model.py failed by itself"),
    ],
)
def test_the_trial_finds_what_is_wrong(
    made: tuple[Content, Path], tmp_path: Path, change: Change, sentence: str
) -> None:
    content, folder = made
    archive.write(tmp_path / "good.zip", content, folder)
    with zipfile.ZipFile(tmp_path / "good.zip") as file:
        files = {name: file.read(name) for name in file.namelist()}
    change(files)
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as file:
        for name, text in files.items():
            file.writestr(name, text)
    found = trial.run(tmp_path / "bad.zip", folder / "images.npy", folder / "reference.npz")
    assert found.errors
    assert re.search(sentence, found.errors[0])


def test_labels_may_differ_where_two_classes_are_equal(made: tuple[Content, Path], tmp_path: Path) -> None:
    content, folder = made
    archive.write(tmp_path / "model.zip", content, folder)
    with np.load(folder / "reference.npz") as file:
        kept = dict(file)
    for lead, wrong in ((5e-5, False), (2e-4, True)):
        odd = {name: value.copy() for name, value in kept.items()}
        odd["labels"][2] = (odd["labels"][2] + 1) % 3
        odd["decided"][2] = [0.4, 0.4 + lead, 0.2 - lead]
        np.savez(tmp_path / "reference.npz", **odd)
        found = trial.run(tmp_path / "model.zip", folder / "images.npy", tmp_path / "reference.npz")
        assert bool(found.errors) == wrong
        assert not wrong or "image 2 is labelled" in found.errors[0]


def test_images_of_the_trial_are_more_than_a_batch_and_no_multiple_of_it() -> None:
    rows = np.array([3, 5, 8, 9])
    assert trial.pick(rows, 2).tolist() == [3, 5, 8, 9, 3]
    assert trial.pick(np.arange(100, 200), 2).tolist() == [100, 125, 150, 174, 199]
    assert trial.cases("uint8", 11)[:3] == [("uint8", 11), ("uint8", 1), ("uint8", 0)]


# ---------------------------------------------------------------- what is refused


def part(count: int = 4) -> Part:
    images = np.zeros((count, 3, SIDE, SIDE), np.uint8)
    return Part("train", Ragged.stack(images, [str(i) for i in range(count)]), None, "0" * 16)


def trained(folder: Path, each: Recipe = RECIPES[0]) -> Standing:
    """A model of one finished fold, as a run leaves it."""
    run = Key("run", 1, {"name": each.name})
    path = folder / each.name / "fold0"
    write_weights(path / "ema.safetensors", each.net, 3)
    Folder(path, fold_key(run, 0)).finish(("ema.safetensors",))
    return Standing(Predictions(each.name, run.hash, {}, None), each, {0: path})


SAME = Fit((SIDE, SIDE), "same")
ALONE = Decision((1.0,))


def test_what_is_gathered_of_a_blend(tmp_path: Path) -> None:
    models = [trained(tmp_path, each) for each in RECIPES]
    content = gather(GIVEN, models, Decision((0.0, 1.0), "geometric"), part(), SAME)
    (member,) = content.members  # a weight of 0 adds nothing
    run = models[1].member.run[:8]
    assert (member.name, member.weight, content.decision.weights) == (f"turning@{run}", 1.0, (1.0,))
    assert [net.file for net in member.nets] == [f"turning-{run}-fold0.onnx"]
    settings = content.settings()
    assert settings["models"][0]["views"] == list(POSITIONS) and settings["image"]["shape"] == [12, 12, 3]
    imported = Standing(Predictions("theirs", "1" * 16, {}, None))
    assert gather(GIVEN, [imported, models[1]], Decision((0.0, 1.0)), part(), SAME).members == content.members
    threshold = Decision((1.0,), steps=(Step("threshold", 1, (0.25,)),))
    assert gather(GIVEN, models[:1], threshold, part(), SAME).settings()["factors"] == [1.0, 3.0, 1.0]


def test_what_only_podium_can_do_is_refused_by_name(tmp_path: Path) -> None:
    model = trained(tmp_path)

    def refused(given: Competition = GIVEN, decision: Decision = ALONE, fit: Fit = SAME) -> str:
        with pytest.raises(UserError) as caught:
            gather(given, [model], decision, part(), fit)
        return str(caught.value)

    for step in ("clahe", "stain_macenko", "central_cell", "illumination"):
        changed = competition(
            "classification", submission={"format": "model_zip"}, preprocess=[{"name": step}, {"name": "standardise"}]
        )
        assert f"cannot do preprocess.{step} at the grader's" in refused(changed)
    assert "cannot do data.fit.how resize" in refused(fit=Fit((8, 8), "resize"))
    assert "cannot do the decoding's step largest" in refused(decision=Decision((1.0,), steps=(Step("largest", 1),)))
    with pytest.raises(UserError, match="theirs: was imported as predictions, and a model_zip needs its nets; leave"):
        gather(GIVEN, [Standing(Predictions("theirs", "1" * 16, {}, None))], Decision((1.0,)), part(), SAME)
    with pytest.raises(UserError, match="plain: its trained folds are not there"):
        gather(GIVEN, [replace(model, weights={})], Decision((1.0,)), part(), SAME)
    other = replace(model, member=replace(model.member, run="2" * 16))
    with pytest.raises(UserError, match="fold0: holds weights of key .*, expected .*; train it again"):
        gather(GIVEN, [other], Decision((1.0,)), part(), SAME)
    weights = tmp_path / "plain" / "fold0" / "ema.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(UserError, match="is missing or was changed after it was written"):
        gather(GIVEN, [model], Decision((1.0,)), part(), SAME)


def test_a_file_above_the_limit_is_refused_with_the_sizes_of_its_parts(
    made: tuple[Content, Path], tmp_path: Path
) -> None:
    content, folder = made
    archive.write(tmp_path / "model.zip", content, folder)
    size = (tmp_path / "model.zip").stat().st_size

    def limited(limit: float) -> Content:
        settings = {"format": "model_zip", "batch": BATCH, "size_limit": limit}
        return replace(content, competition=competition("classification", submission=settings))

    archive.write(tmp_path / "exact.zip", limited(size / 1e6), folder)
    said = (
        r"ten: the file would have 0\.\d\d MB and submission.size_limit is 0\.\d+ MB: 2 nets of turning 0\.\d\d MB, "
        r"2 nets of plain 0\.\d\d MB, code and settings 0\.\d\d MB; leave models or folds out"
    )
    with pytest.raises(UserError, match=said):
        archive.write(tmp_path / "small.zip", limited((size - 1) / 1e6), folder)


def test_a_net_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained(tmp_path)
    content = gather(GIVEN, [model], Decision((1.0,)), part(), SAME)

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no such\noperator")

    monkeypatch.setattr(torch.onnx, "export", fails)
    np.save(tmp_path / "images.npy", np.zeros((11, SIDE, SIDE, 3), np.uint8))
    with pytest.raises(UserError, match=r"plain@.*: its net cannot be written as ONNX \(no such operator\); leave it"):
        make(content, tmp_path / "images.npy", tmp_path, lambda text: None)


def test_weights_go_into_a_net_only_where_it_has_each_of_them(made: tuple[Content, Path]) -> None:
    import onnx
    from onnx import numpy_helper

    _, folder = made
    traced = onnx.load(folder / "plain-fold0.onnx")
    before = traced.SerializeToString()
    state = {tensor.name: numpy_helper.to_array(tensor) for tensor in traced.graph.initializer}
    name = "net.net.net.head.1.bias"
    for odd in (state | {"net.more": state[name]}, state | {name: state[name][:2]}):
        assert not _put(odd, traced) and traced.SerializeToString() == before
    assert _put(state | {name: state[name] + 1, "x.num_batches_tracked": np.array(3)}, traced)
    changed = {tensor.name: numpy_helper.to_array(tensor) for tensor in traced.graph.initializer}
    np.testing.assert_array_equal(changed[name], state[name] + 1)


def test_the_grader_lets_nothing_else_be_imported(tmp_path: Path) -> None:
    """The runner is a script of its own, and says what it did."""
    (tmp_path / "answers").mkdir()
    (tmp_path / "model.py").write_text(
        "import numpy as np\n"
        "class Model:\n"
        "    def predict(self, X):\n"
        "        return np.full(len(X), 2)\n"
        "    def probabilities(self, X):\n"
        "        return np.eye(3)[self.predict(X)]\n"
    )
    order = {"paths": trial._places(), "cases": [{"dtype": "float64", "images": 2}]}
    (tmp_path / "order.json").write_text(json.dumps(order))
    np.save(tmp_path / "images.npy", np.zeros((3, 4, 4, 3), np.uint8))
    command = [sys.executable, "-I", str(trial.RUNNER), str(tmp_path), str(tmp_path / "answers")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "answers" / "labels0.npy").tolist() == [2, 2]
    assert json.loads((tmp_path / "answers" / "facts.json").read_text())["memory"] > 1e6
    for name in ("cv2", "safetensors", "yaml"):
        (tmp_path / "model.py").write_text(f"import {name}\n")
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 1 and f"No module named '{name}' where only numpy and onnxruntime are" in done.stderr
    shutil.rmtree(tmp_path / "answers")
