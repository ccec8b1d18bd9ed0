"""Where data comes from: the order of the places, and samples that are never taken for real data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from podium.config import Competition
from podium.data import locate as module
from podium.data.locate import Origin, locate
from podium.data.sample import write_sample
from podium.errors import UserError

FILE = "toy.npz"


def competition(name: str = "mars", kaggle: str | None = "the-slug") -> Competition:
    return Competition.model_validate(
        {
            "name": name,
            "task": "segmentation",
            "kaggle": kaggle,
            "data": {
                "format": "npz",
                "file": FILE,
                "train": {"key": "training_set", "image": 0, "target": 1},
                "test": {"key": "test_set"},
            },
            "classes": ["background", "soil"],
            "metric": {"name": "mean_iou"},
            "submission": {"format": "wide_csv"},
            "models": ["net"],
        }
    )


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project; no variables, no credentials, no Kaggle folder, and a quick small sample."""
    for name in ("PODIUM_DATA", "KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home" / ".config"))
    monkeypatch.setenv("PODIUM_KAGGLE_ROOT", str(tmp_path))
    monkeypatch.setattr(module, "write_sample", lambda name, path: write_sample(name, path, 0, 4, 1, 2))
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


def put(folder: Path) -> Path:
    """A file of the competition's name that is not the sample."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / FILE, a=np.zeros(1))
    return folder


def complaint(*arguments: object, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        locate(*arguments, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_order_of_the_places(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Filled from the last to the first, each place takes over from the one before."""
    config = competition()
    assert locate(config, root) == Origin("sample", root / "data" / "mars-sample", "mars-sample")

    monkeypatch.setenv("KAGGLE_API_TOKEN", "secret")
    notes: list[str] = []

    def download(slug: str, folder: Path) -> None:
        assert slug == "the-slug"
        put(folder)

    fetched = locate(config, root, download=download, notify=notes.append)
    assert fetched == Origin("download", root / "data" / "mars", "mars")
    assert "the-slug" in notes[0] and "secret" not in notes[0]
    (root / "data" / "mars" / FILE).unlink()

    newer = put(tmp_path / "input" / "competitions" / "the-slug")
    assert locate(config, root) == Origin("kaggle_input", newer, "mars")
    older = put(tmp_path / "input" / "the-slug")
    assert locate(config, root) == Origin("kaggle_input", older, "mars")
    assert locate(config, root, kaggle_input=tmp_path / "input" / "competitions").folder == newer
    project = put(root / "data" / "mars")
    assert locate(config, root) == Origin("project", project, "mars")
    environment = put(tmp_path / "collection" / "mars")
    monkeypatch.setenv("PODIUM_DATA", str(tmp_path / "collection"))
    assert locate(config, root) == Origin("environment", environment, "mars")
    given = put(tmp_path / "given")
    assert locate(config, root, data=given) == Origin("given", given, "mars")
    assert locate(config, root, sample=True) == Origin("sample", root / "data" / "mars-sample", "mars-sample")


@pytest.mark.parametrize("made", [False, True])
def test_environment_without_the_file_goes_on_with_a_note(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: bool
) -> None:
    if made:
        (tmp_path / "collection" / "mars").mkdir(parents=True)
    monkeypatch.setenv("PODIUM_DATA", str(tmp_path / "collection"))
    put(root / "data" / "mars")
    notes: list[str] = []
    assert locate(competition(), root, notify=notes.append).kind == "project"
    assert len(notes) == 1 and str(tmp_path / "collection" / "mars" / FILE) in notes[0]


def test_given_folder_subfolder_or_file(root: Path, tmp_path: Path) -> None:
    inner = put(tmp_path / "all" / "mars")
    for given in (tmp_path / "all", inner, inner / FILE):
        assert locate(competition(), root, data=given) == Origin("given", inner, "mars")


def test_given_but_wrong_is_said_and_not_replaced(root: Path, tmp_path: Path) -> None:
    put(root / "data" / "mars")  # would be found without --data
    assert "no such folder" in complaint(competition(), root, data=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    text = complaint(competition(), root, data=tmp_path / "empty")
    assert "holds nothing where toy.npz (or mars/toy.npz) is expected" in text
    for name in "gfedcba":
        (tmp_path / "empty" / f"{name}.txt").touch()
    text = complaint(competition(), root, data=tmp_path / "empty")
    assert "holds a.txt, b.txt, c.txt, d.txt, e.txt and 2 more where" in text
    assert "--set data.file=a.txt" in complaint(competition(), root, data=tmp_path / "empty" / "a.txt")
    assert "exclude each other" in complaint(competition(), root, data=tmp_path, sample=True)


def test_failed_download_is_not_replaced_by_the_sample(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", "secret")

    def fails(slug: str, folder: Path) -> None:
        raise UserError("Kaggle says no")

    assert complaint(competition(), root, download=fails, notify=print) == "Kaggle says no"
    assert "brought nothing instead of toy.npz" in complaint(competition(), root, download=lambda *_: None)
    assert not (root / "data" / "mars-sample").exists()


def test_no_slug_no_download(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", "secret")

    def forbidden(slug: str, folder: Path) -> None:
        raise AssertionError("downloaded without a slug")

    assert locate(competition(kaggle=None), root, download=forbidden).kind == "sample"


def test_a_sample_is_a_sample_wherever_it_lies(root: Path, tmp_path: Path) -> None:
    write_sample("mars", tmp_path / "copied" / FILE, rows=4, outliers=1, test_rows=2)
    origin = locate(competition(), root, data=tmp_path / "copied")
    assert (origin.kind, origin.name, origin.sample) == ("given", "mars-sample", True)
    assert "generated data" in origin.sentence()
    real = Origin("given", tmp_path, "mars")
    assert not real.sample and real.sentence() == f"data of mars: {tmp_path} (given with --data)"


def test_sample_is_written_once_per_version(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = root / "data" / "mars-sample" / FILE
    locate(competition(), root, sample=True)
    first = path.stat().st_mtime_ns, path.stat().st_ino
    locate(competition(), root, sample=True)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == first
    monkeypatch.setattr("podium.data.sample.VERSION", 99)
    locate(competition(), root, sample=True)
    assert path.stat().st_ino != first[1]
    assert [entry.name for entry in path.parent.iterdir()] == [FILE]


def test_foreign_file_in_the_samples_place_stays(root: Path) -> None:
    path = put(root / "data" / "mars-sample") / FILE
    before = path.read_bytes()
    assert "is not overwritten" in complaint(competition(), root, sample=True)
    assert path.read_bytes() == before


def test_nothing_found_and_no_sample(root: Path) -> None:
    text = complaint(competition(name="glands"), root)
    assert str(root / "data" / "glands") in text and "no built-in sample" in text and "--data" in text
    assert "no built-in sample" in complaint(competition(name="glands"), root, sample=True)


# ---------------------------------------------------------------- data that is not one npz file


def other(**data: object) -> Competition:
    """A competition of another format; it has no sample."""
    masks = data["format"] == "folder"
    return Competition.model_validate(
        {
            "name": "cells",
            "task": "segmentation" if masks else "classification",
            "kaggle": "cell-slug",
            "data": data,
            "classes": ["no", "yes"],
            "metric": {"name": "mean_iou" if masks else "accuracy"},
            "models": ["net"],
        }
    )


PICTURES = {"format": "folder", "train": {"image": "train/images/{id}.png", "target": "train/masks/{id}.png"}}
TABLE = {"format": "table", "train": {"file": "train.csv", "target": "label", "pixels": "pixel"}, "shape": [2, 2]}


def test_a_folder_of_pictures_is_found_by_its_folder(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = other(**PICTURES)
    text = complaint(config, root)
    assert "cells: no train/images in" in text and "put the data into" in text
    project = root / "data" / "cells"
    (project / "train").mkdir(parents=True)
    assert "no train/images" in complaint(config, root)
    (project / "train" / "images").mkdir()
    assert locate(config, root) == Origin("project", project, "cells")
    given = tmp_path / "given"
    (given / "cells" / "train" / "images").mkdir(parents=True)
    for folder in (given, given / "cells"):
        assert locate(config, root, data=folder) == Origin("given", given / "cells", "cells")
    (tmp_path / "empty").mkdir()
    text = complaint(config, root, data=tmp_path / "empty")
    assert "holds nothing where train/images (or cells/train/images) is expected; put it there" in text
    (given / "a.png").touch()
    text = complaint(config, root, data=given / "a.png")
    assert "is a file named otherwise than train/images; name the folder that holds it" in text
    assert "there is no built-in sample; name the folder" in complaint(config, root, sample=True)


@pytest.mark.parametrize("name", ["train.csv", "train.csv.gz"])
def test_a_table_may_be_compressed(root: Path, tmp_path: Path, name: str) -> None:
    config = other(**TABLE)
    project = root / "data" / "cells"
    project.mkdir(parents=True)
    assert "no train.csv in" in complaint(config, root)
    (project / name).touch()
    assert locate(config, root) == Origin("project", project, "cells")
    assert locate(config, root, data=root / "data") == Origin("given", project, "cells")


def test_a_download_must_bring_what_is_expected(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", "secret")

    def brings(*paths: str) -> Callable[[str, Path], None]:
        def download(slug: str, folder: Path) -> None:
            for path in paths:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).touch()

        return download

    config = other(**PICTURES)
    text = complaint(config, root, download=brings("train/wrong/1.png"), notify=lambda text: None)
    assert "the download of 'cell-slug' brought train instead of train/images; correct the data section" in text
    found = locate(config, root, download=brings("train/images/1.png"), notify=lambda text: None)
    assert found == Origin("download", root / "data" / "cells", "cells")
