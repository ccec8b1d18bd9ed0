"""The built-in samples: each competition's own layout, the same every time, with what was planted in them."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from podium.audit.drops import find_drops, same
from podium.config import Competition
from podium.config_file import load_competition
from podium.data.locate import Origin, locate
from podium.data.part import Dataset, Part
from podium.data.ragged import Ragged
from podium.data.sample import SAMPLES, is_sample, place, sample_of_this_version, what_it_is, write_sample
from podium.data.sample_files import MARKER
from podium.errors import UserError
from project import SOURCE, read

COMPETITIONS = Path(__file__).resolve().parents[1] / "configs" / "competitions"
CONFIG = COMPETITIONS / "mars.yaml"
OTHERS = ("blood", "wbc", "warwick", "mnist")
FOLDERS = ("wbc", "warwick", "mnist")
SMALL = {"mars": (6, 2), "blood": (6, None), "wbc": (3, 2), "warwick": (3, 2), "mnist": (5, 3)}
"""Training and test rows where nothing but the writing is looked at."""


def competition(name: str) -> Competition:
    return load_competition(COMPETITIONS / f"{name}.yaml")


def written(name: str, folder: Path, seed: int = 0) -> Path:
    """A small sample in ``folder``; what carries its mark."""
    where, (rows, test_rows) = place(competition(name), folder), SMALL[name]
    planted = 0 if SAMPLES[name].outliers is not None else None
    write_sample(name, where, seed, rows, planted, test_rows)
    return where


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, without the reader's cache."""
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {str(name): path.read_bytes() for name, path in files.items() if not name.parts[0].startswith("cache-")}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The default samples, each in its own folder."""
    folders = {name: tmp_path_factory.mktemp(name) for name in OTHERS}
    for name, folder in folders.items():
        write_sample(name, place(competition(name), folder))
    return folders


@pytest.fixture(scope="module")
def datasets(samples: dict[str, Path]) -> dict[str, Dataset]:
    """What the real readers find in them."""
    return {name: read(competition(name), folder) for name, folder in samples.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("sample")
    write_sample("mars", where / "mars_for_students.npz")
    return where


@pytest.fixture(scope="module")
def train(folder: Path) -> Part:
    return read(load_competition(CONFIG), folder).train


def test_format_is_the_competitions(folder: Path) -> None:
    with np.load(folder / "mars_for_students.npz", allow_pickle=False) as file:
        assert sorted(file.files) == ["test_set", "training_set"]
        training_set, test_set = file["training_set"], file["test_set"]
    assert (training_set.shape, training_set.dtype) == ((240, 2, 64, 128), np.float64)
    assert (test_set.shape, test_set.dtype) == ((96, 64, 128), np.uint8)
    assert set(np.unique(training_set[:, 1])) == {0, 1, 2, 3, 4}


def test_exactly_the_planted_rows_are_outliers(train: Part) -> None:
    found = find_drops(train, 5, 0)
    assert found.conflicts == ()
    reasons = {name: reason for name, reason in found.reasons.items() if not reason.startswith("copy of ")}
    assert set(reasons.values()) == {"mask shared by 10 different pictures"}
    assert len(reasons) == 10
    rows = sorted(int(name) for name in reasons)
    assert rows[0] < 60 and rows[-1] >= 180  # scattered
    assert len(found.reasons) == 10 + 3  # and the second one of each pair of equal pictures


def test_some_pictures_occur_twice_and_some_simple_masks_often(train: Part) -> None:
    assert train.targets is not None
    groups = same(train.images)
    pairs = [np.flatnonzero(groups == group) for group in np.flatnonzero(np.bincount(groups) > 1)]
    assert len(pairs) == 3
    for one, other in pairs:
        np.testing.assert_array_equal(train.targets.stacked[one], train.targets.stacked[other])
    masks, counts = np.unique(train.targets.stacked.reshape(240, -1), axis=0, return_counts=True)
    tiles = [np.unique(mask).tolist() for mask, count in zip(masks, counts, strict=True) if count > 3]
    assert [0, 1] in tiles and [0, 2] in tiles  # whole tiles of one terrain


def test_shares_are_roughly_the_real_ones(train: Part) -> None:
    assert train.targets is not None
    masks = train.targets.stacked
    shares = np.bincount(masks.ravel(), minlength=5) / masks.size
    np.testing.assert_allclose(shares, [0.20, 0.31, 0.39, 0.08, 0.013], rtol=0.3)
    clean = (masks == 4).any(axis=(1, 2, 3)).sum() - 10
    assert 12 <= clean <= 20  # 8 % of the pictures hold a rock
    assert 50 < train.images.values.mean() < 75
    dark, light = np.quantile(train.images.stacked.mean(axis=(1, 2, 3)), [0.1, 0.9])
    assert light - dark > 30  # the light varies more between pictures than the terrains do within


def test_grey_value_alone_does_not_tell_the_terrain(train: Part) -> None:
    assert train.targets is not None
    counts = np.zeros((256, 5))
    np.add.at(counts, (train.images.values, train.targets.values), 1)
    counts = counts[:, 1:4]
    guessed = counts.max(axis=1).sum() / counts.sum()
    assert guessed < 0.6  # always saying bedrock reaches about 0.47


def test_same_seed_same_arrays_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_sample("mars", tmp_path / f"{name}.npz", seed=seed, rows=12, outliers=2, test_rows=4)
    a, b, c = (np.load(tmp_path / f"{name}.npz") for name in "abc")
    for key in ("training_set", "test_set"):
        np.testing.assert_array_equal(a[key], b[key])
        assert (a[key] != c[key]).any()


def test_marked_as_a_sample_wherever_it_is_copied(tmp_path: Path, folder: Path) -> None:
    copy = tmp_path / "renamed.npz"
    copy.write_bytes((folder / "mars_for_students.npz").read_bytes())
    assert is_sample(copy) and sample_of_this_version(copy)
    with zipfile.ZipFile(copy, "a") as archive:
        archive.comment = b"podium sample version 0 seed 0"
    assert is_sample(copy) and not sample_of_this_version(copy)
    np.savez(copy, training_set=np.zeros(1))
    assert not is_sample(copy)
    assert not is_sample(tmp_path / "missing.npz")
    copy.write_bytes(b"no zip")
    assert not is_sample(copy)


@pytest.mark.parametrize(("rows", "outliers"), [(1, 0), (2, 1), (4, 3)])
def test_tiny_samples(tmp_path: Path, rows: int, outliers: int) -> None:
    write_sample("mars", tmp_path / "mars_for_students.npz", rows=rows, outliers=outliers, test_rows=1)
    assert len(read(load_competition(CONFIG), tmp_path).train) == rows


def test_unknown_competition_and_unwritable_place(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no built-in sample.*--data.*did you mean 'mars'"):
        write_sample("marss", tmp_path / "x.npz")
    with pytest.raises(UserError, match="blood: its sample has no test_rows"):
        write_sample("blood", tmp_path / "x.npz", test_rows=3)
    with pytest.raises(UserError, match="wbc: its sample has no outliers"):
        write_sample("wbc", tmp_path / "wbc", outliers=3)
    with pytest.raises(UserError, match="blood: a sample of 4 rows and 4 outliers cannot be made"):
        write_sample("blood", tmp_path / "x.npz", rows=4, outliers=4)
    with pytest.raises(UserError, match="enough for 1740 rows and not for 1741"):
        write_sample("mnist", tmp_path / "mnist", rows=1700, test_rows=41)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_sample("mars", tmp_path / "file" / "x.npz", rows=2, outliers=1, test_rows=1)
    with pytest.raises(UserError, match="cannot be written"):
        written("wbc", tmp_path / "file" / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# ---------------------------------------------------------------- what is in the others


def test_every_competition_has_a_sample_of_its_own_layout(datasets: dict[str, Dataset]) -> None:
    assert {path.stem for path in COMPETITIONS.glob("*.yaml")} == set(SAMPLES)
    for name, dataset in datasets.items():
        known = SAMPLES[name]
        assert competition(name).data.format == known.format
        assert len(dataset.train) == known.rows
        assert (None if dataset.test is None else len(dataset.test)) == known.test_rows
        assert dataset.train.targets is not None
        assert set(np.unique(dataset.train.targets.values)) == set(range(len(competition(name).classes)))


@pytest.mark.parametrize("name", OTHERS)
def test_they_are_small(name: str, samples: dict[str, Path]) -> None:
    assert sum(map(len, content(samples[name]).values())) < 3e6


@pytest.mark.parametrize("name", SAMPLES)
def test_the_seed_decides_every_byte(name: str, tmp_path: Path) -> None:
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        written(name, tmp_path / folder, seed)
    a, b, c = (content(tmp_path / folder) for folder in "abc")
    assert a == b and a.keys() == c.keys()
    assert not {path for path in a if a[path] == c[path]}
    if name == "blood":  # one file of many pictures
        pictures = [np.load(tmp_path / folder / "training_set.npz")["images"] for folder in "ac"]
        assert len(np.unique(np.concatenate(pictures), axis=0)) == 12


def test_blood_is_one_file_of_pictures_and_labels(samples: dict[str, Path]) -> None:
    with np.load(samples["blood"] / "training_set.npz", allow_pickle=False) as file:
        assert {key: (file[key].shape, file[key].dtype) for key in file.files} == {
            "images": ((224, 96, 96, 3), np.uint8),
            "labels": ((224, 1), np.uint8),
        }


def test_bloods_jokes_and_copies_are_found_and_nothing_else(datasets: dict[str, Dataset]) -> None:
    train = datasets["blood"].train
    assert train.targets is not None
    found = find_drops(train, 8, None)
    kinds = Counter("copy" if reason.startswith("copy of") else reason for reason in found.reasons.values())
    assert kinds == {"picture occurs 24 times": 24, "picture occurs 8 times": 8, "copy": 4}
    labels = dict(zip(train.images.ids.tolist(), train.targets.values.tolist(), strict=True))
    jokes = {name: reason for name, reason in found.reasons.items() if "occurs" in reason}
    first = Counter(labels[name] for name, reason in jokes.items() if "24" in reason)
    assert first == dict.fromkeys(range(8), 3)
    assert {labels[name] for name, reason in jokes.items() if "8 times" in reason} == {5}  # monocytes
    left = [label for name, label in labels.items() if name not in found.reasons]
    assert min(np.bincount(left, minlength=8)) >= 15


def test_bloods_kinds_can_be_told_apart_but_not_by_their_mean_colour(datasets: dict[str, Dataset]) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train = datasets["blood"].train
    assert train.targets is not None
    gone = find_drops(train, 8, None).reasons
    kept = [row for row, name in enumerate(train.images.ids.tolist()) if name not in gone]
    images, labels = train.images.stacked[kept].astype(float), train.targets.values[kept]

    def accuracy(features: np.ndarray) -> float:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=2000))
        return float(cross_val_score(model, features, labels, cv=4).mean())

    middle = images[:, :, 24:72, 24:72]
    assert accuracy(images.mean(axis=(2, 3))) < 0.6
    spread = np.quantile(middle, (0.02, 0.1, 0.25, 0.5, 0.75, 0.9), axis=(2, 3)).transpose(1, 0, 2)
    assert 0.7 < accuracy(spread.reshape(len(kept), -1)) < 0.98


def test_wbc_pictures_differ_in_size_and_masks_in_three_values(samples: dict[str, Path]) -> None:
    folder = samples["wbc"]
    images, masks = sorted((folder / "train/images").iterdir()), sorted((folder / "train/masks").iterdir())
    assert [path.name for path in images] == [path.name for path in masks]
    assert not {path.name for path in images} & {path.name for path in (folder / "test/images").iterdir()}
    sizes = set()
    for image, mask in zip(images, masks, strict=True):
        shown, drawn = Image.open(image), Image.open(mask)
        assert (shown.mode, drawn.mode, shown.size) == ("RGB", "L", drawn.size)
        assert set(np.unique(np.asarray(drawn))) == {0, 128, 255}
        sizes.add(shown.size)
    assert len(sizes) > 20


def test_the_masks_of_wbc_lie_on_what_is_seen(datasets: dict[str, Dataset]) -> None:
    """Cells are darker than what is around them, and nuclei darker still."""
    train = datasets["wbc"].train
    assert train.targets is not None
    for image, mask in zip(train.images, train.targets, strict=True):
        green = image[1].astype(float)
        means = [green[mask[0] == value].mean() for value in (0, 1, 2)]
        assert means[0] > means[1] + 15 > means[2] + 60


def test_the_masks_of_warwick_lie_on_what_is_seen(datasets: dict[str, Dataset]) -> None:
    """Dark nuclei stand in a row along the inner side of every gland's edge."""
    train = datasets["warwick"].train
    assert train.targets is not None
    for image, mask in zip(train.images, train.targets, strict=True):
        inside = mask[0] == 1
        rim = np.zeros_like(inside)
        for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
            rim |= inside & ~np.roll(inside, 2 * step, axis)
        rim[:3], rim[-3:], rim[:, :3], rim[:, -3:] = (False,) * 4
        red = image[0].astype(float)
        assert red[rim].mean() < red[inside & ~rim].mean() - 15 and red[rim].mean() < red[~inside].mean() - 15


def test_warwicks_table_names_every_training_image_and_patients_share_a_staining(
    samples: dict[str, Path], datasets: dict[str, Dataset]
) -> None:
    folder, train = samples["warwick"], datasets["warwick"].train
    with (folder / "patients.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", "patient", "malignant"]
    assert [row["image"] for row in rows] == sorted(path.name for path in (folder / "Train").glob("image_*.png"))
    assert {row["malignant"] for row in rows} == {"0", "1"}
    assert train.groups is not None and train.groups.tolist() == [row["patient"] for row in rows]
    sizes = Counter(train.groups.tolist()).values()
    assert len(sizes) == 10 and min(sizes) >= 2 and max(sizes) > 4
    assert train.images.stacked.shape == (40, 3, 128, 128)

    colour = np.median(train.images.stacked, axis=(2, 3)).astype(float)
    apart = np.linalg.norm(colour[:, None] - colour[None], axis=2)
    of_one = train.groups[:, None] == train.groups[None]
    np.fill_diagonal(apart, np.nan)
    assert np.nanmean(apart[of_one]) < 0.5 * np.nanmean(apart[~of_one])


def test_mnists_rows_are_scikit_learns_digits_and_in_one_file_only(
    samples: dict[str, Path], datasets: dict[str, Dataset]
) -> None:
    header = (samples["mnist"] / "train.csv").read_text().splitlines()[0].split(",")
    pixels = [f"pixel{number}" for number in range(784)]
    assert header == ["label", *pixels]
    assert (samples["mnist"] / "test.csv").read_text().splitlines()[0].split(",") == pixels
    train, test = datasets["mnist"].train, datasets["mnist"].test
    assert train.targets is not None and test is not None
    assert np.bincount(train.targets.values).tolist() == [40] * 10
    every = np.concatenate([train.images.stacked, test.images.stacked])
    assert len(set(same(Ragged.stack(every, [str(row) for row in range(500)])).tolist())) == 500
    assert (every[:, :, :4] == 0).all() and (every[..., -4:] == 0).all()

    from sklearn.datasets import load_digits
    from sklearn.neighbors import KNeighborsClassifier

    digits = load_digits()
    small = every[:, 0, 4:24, 4:24].reshape(500, 5, 4, 5, 4).mean(axis=(2, 4)).reshape(500, -1)  # 5×5 means of both
    grey = np.array([np.asarray(Image.fromarray(d.astype(np.uint8) * 15).resize((20, 20), 2)) for d in digits.images])
    theirs = grey.reshape(-1, 5, 4, 5, 4).mean(axis=(2, 4)).reshape(len(grey), -1)
    nearest = KNeighborsClassifier(1).fit(theirs, digits.target)
    assert (nearest.predict(small[:400]) == train.targets.values).all()
    assert np.bincount(nearest.predict(small[400:])).tolist() == [10] * 10


# ---------------------------------------------------------------- how they are known, and how they come to disk


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_is_marked_wherever_it_is_copied(name: str, tmp_path: Path) -> None:
    where = written(name, tmp_path / "here")
    assert is_sample(where) and sample_of_this_version(where)
    copy = tmp_path / "copies" / name
    shutil.copytree(where, copy)
    config = competition(name)
    origin = locate(config, tmp_path, data=copy)
    assert (origin.kind, origin.name, origin.sample) == ("given", f"{name}-sample", True)
    assert f"given with --data; {what_it_is(name)}: its scores say nothing" in origin.sentence()

    record = json.loads((copy / MARKER).read_text())
    (copy / MARKER).write_text(json.dumps(record | {"mark": "podium sample version 0 seed 0"}))
    assert is_sample(copy) and not sample_of_this_version(copy)
    for damage in ("no json", "[]", '{"mark": "podium sample"}'):
        (copy / MARKER).write_text(damage)
        assert not is_sample(copy)
    (copy / MARKER).unlink()
    assert not is_sample(copy) and locate(config, tmp_path, data=copy).name == name


def test_the_digits_say_whose_they_are() -> None:
    sentence = Origin("sample", Path("x"), "mnist-sample").sentence()
    assert "the built-in sample; scikit-learn's digits, not MNIST's: its scores say nothing" in sentence


def test_other_data_put_over_a_sample_are_no_sample(tmp_path: Path) -> None:
    where = written("mnist", tmp_path / "data" / "mnist-sample")
    for name in ("train.csv", "test.csv"):
        assert is_sample(where)  # as long as one file is as it was written
        (where / name).write_text("label,pixel0\n0,1\n")
    assert not is_sample(where)
    before = content(where)
    with pytest.raises(UserError, match="is not overwritten"):
        locate(competition("mnist"), tmp_path, sample=True)
    with pytest.raises(UserError, match="is not overwritten"):
        written("mnist", where)
    assert content(where) == before
    compressed = written("mnist", tmp_path / "compressed")
    for name in ("train.csv", "test.csv"):
        (compressed / name).rename(compressed / f"{name}.gz")
    assert is_sample(compressed)  # the same data under other names


@pytest.mark.parametrize("name", FOLDERS)
def test_an_old_sample_is_replaced_unless_something_was_put_into_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = lambda name, path: written(name, path) and None  # noqa: E731
    monkeypatch.setattr("podium.data.locate.write_sample", small)
    config, folder = competition(name), tmp_path / "data" / f"{name}-sample"
    assert locate(config, tmp_path, sample=True) == Origin("sample", folder, f"{name}-sample")
    first = folder.stat().st_ino
    locate(config, tmp_path, sample=True)
    written(name, folder)  # the very same is left alone
    assert folder.stat().st_ino == first
    monkeypatch.setattr("podium.data.sample.VERSION", 98)
    locate(config, tmp_path, sample=True)
    assert folder.stat().st_ino != first and sample_of_this_version(folder)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    (folder / "notes.txt").write_text("mine")
    locate(config, tmp_path, sample=True)  # of this version, whatever was added
    monkeypatch.setattr("podium.data.sample.VERSION", 99)
    with pytest.raises(UserError, match="is not overwritten; move it away"):
        locate(config, tmp_path, sample=True)
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_sample_that_lacks_what_the_configuration_names(tmp_path: Path) -> None:
    written("mnist", tmp_path / "data" / "mnist-sample")
    config = load_competition(COMPETITIONS / "mnist.yaml", ("data.train.file=digits.csv",))
    with pytest.raises(UserError, match="the sample has no digits.csv; correct"):
        locate(config, tmp_path, sample=True)


KILLED = """
import os, signal, sys
from pathlib import Path
from podium.data import sample_files
from podium.data.sample import write_sample
which, count = sys.argv[1], int(sys.argv[2])
real = Path.write_bytes
def write_bytes(self, held):
    global count
    count -= 1
    if not count:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, held)
Path.write_bytes = write_bytes
write_sample(which, Path(sys.argv[3]), rows=3, test_rows=2)
"""


@pytest.mark.parametrize("moment", [1, 4, 9])
def test_a_kill_leaves_no_half_sample_and_the_next_one_tidies_up(moment: int, tmp_path: Path) -> None:
    where = tmp_path / "data" / "wbc-sample"
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-c", KILLED, "wbc", str(moment), str(where)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not where.exists()
    assert [path.name.startswith(".wbc-sample-") for path in where.parent.iterdir()] == [True]
    written("wbc", where)
    assert [path.name for path in where.parent.iterdir()] == ["wbc-sample"]
    assert len(content(where)) == 3 + 3 + 2 + 1


def test_a_failure_in_the_middle_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = written("warwick", tmp_path / "warwick-sample")
    before = content(where)

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("podium.data.sample_files.write_json", full)
    with pytest.raises(UserError, match="cannot be written .No space left on device.; make room"):
        written("warwick", where, seed=1)
    assert content(where) == before and [path.name for path in tmp_path.iterdir()] == ["warwick-sample"]


def test_many_processes_at_once_write_one_sample(tmp_path: Path) -> None:
    where = tmp_path / "wbc-sample"
    code = "import sys; from pathlib import Path; from podium.data.sample import write_sample; "
    code += "write_sample('wbc', Path(sys.argv[1]), rows=3, test_rows=2)"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(where)], env=os.environ | {"PYTHONPATH": str(SOURCE)})
        for _ in range(4)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["wbc-sample"] and sample_of_this_version(where)
