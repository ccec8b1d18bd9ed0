"""Competitions in other layouts through the real command: folders with pictures of many sizes, tables of labels."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from podium.data.ragged import Ragged
from project import podium, podium_json

CELLS = """
name: cells
task: segmentation
data:
  format: folder
  train: {image: "train/images/{id}.png", target: "train/masks/{id}.png"}
  test: {image: "test/{id}.png"}
  values: {background: 0, cell: [128, 255]}
  fit: {size: [16, 16], how: HOW}
  groups: {file: patients.csv, id: picture, pattern: "{id}.png", column: patient}
classes: [background, cell]
metric: {name: mean_iou}
preprocess: [{name: illumination, sigma: 0.5}, standardise]
folds: {count: 3, strata: foreground, repeats: 2}
models: [small]
"""

DIGITS = """
name: digits
task: classification
data:
  format: table
  train: {file: train.csv, target: label, pixels: p}
  test: {file: test.csv, pixels: p}
  shape: [8, 8]
  values: {left: [L, links], right: R}
classes: [left, right]
metric: {name: accuracy}
folds: {count: 3}
models: [tiny_cnn]
"""

SMALL = """
net: {name: residual_unet, widths: [4, 8]}
augment: {batch: [flip_h]}
train: {epochs: 6, batch: 8, lr: 2e-2}
predict: {views: [identity, hflip]}
"""

TINY_CNN = """
net: {name: small_cnn, widths: [4, 8]}
augment: {batch: []}
train: {epochs: 10, batch: 8, lr: 2e-2}
"""

SIZES = [(12, 12), (16, 20), (24, 14), (16, 16)]


def project(root: Path, competition: str, recipe: str) -> Path:
    for folder, text in (("competitions", competition), ("models", recipe)):
        name = "tiny_cnn" if "small_cnn" in text else text.split()[1] if folder == "competitions" else "small"
        path = root / "configs" / folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def cells(root: Path, how: str = "resize", rows: int = 24) -> Path:
    """Bright discs on dark ground, in pictures of four sizes, three pictures a patient."""
    rng = np.random.default_rng(0)
    folder = root / "data" / "cells"
    for name in ("train/images", "train/masks", "test"):
        (folder / name).mkdir(parents=True)
    lines = ["picture,patient"]
    for row in range(rows + 5):
        height, width = SIZES[row % len(SIZES)]
        y, x = np.mgrid[0:height, 0:width]
        disc = np.hypot(y - rng.uniform(4, height - 4), x - rng.uniform(4, width - 4)) < rng.uniform(2.5, 4.5)
        picture = np.clip(np.where(disc, 170, 70) + rng.normal(0, 10, disc.shape), 0, 255).astype(np.uint8)
        if row < rows:
            Image.fromarray(picture).save(folder / "train/images" / f"c{row}.png")
            Image.fromarray(np.where(disc, 255 if row % 2 else 128, 0).astype(np.uint8)).save(
                folder / "train/masks" / f"c{row}.png"
            )
            lines.append(f"c{row}.png,p{row // 3}")
        else:
            Image.fromarray(picture).save(folder / "test" / f"t{row}.png")
    (folder / "patients.csv").write_text("\n".join(lines) + "\n")
    return project(root, CELLS.replace("HOW", how), SMALL)


def digits(root: Path, rows: int = 36) -> Path:
    """8×8 pictures that are bright on their left or their right half, labels in words; row 3 is a copy of row 2."""
    rng = np.random.default_rng(1)
    folder = root / "data" / "digits"
    folder.mkdir(parents=True)
    for part, count in (("train", rows), ("test", 9)):
        with (folder / f"{part}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow((["label"] if part == "train" else []) + [f"p{i}" for i in range(64)])
            previous: list[str] = []
            for row in range(count):
                right = row % 2
                picture = rng.integers(0, 60, (8, 8))
                picture[:, 4 * right : 4 * right + 4] += 150
                label = ["L", "R", "links"][right if row % 4 else 2]
                line = [*([label] if part == "train" else []), *map(str, picture.reshape(-1).tolist())]
                line = previous if part == "train" and row == 3 else line
                writer.writerow(line)
                previous = line
    return project(root, DIGITS, TINY_CNN)


@pytest.mark.parametrize("how", ["resize", "tiles"])
def test_pictures_of_many_sizes_are_predicted_in_their_own(tmp_path: Path, how: str) -> None:
    root = cells(tmp_path, how)
    board = podium_json(root, "run", "cells", "--set", "train.epochs=8")
    assert [row["name"] for row in board["rows"]] == ["small", "uniform blend"]
    assert board["rows"][0]["score"] > 0.6  # nothing but background would be about 0.4
    assert board["rows"][0]["std"] is not None and board["of_folds"] == 6
    assert any("names no submission format" in note for note in board["notes"])
    run = next((root / "runs" / "cells").glob("small-*"))
    test = Ragged.open(next(run.glob("test-*/test.npy")))
    assert {name: tuple(shape) for name, shape in zip(test.ids.tolist(), test.shapes.tolist(), strict=True)} == {
        f"t{row}": (2, *SIZES[row % 4]) for row in range(24, 29)
    }
    sums = [image.astype(float).sum(0) for image in test]
    assert all(np.allclose(total, 1, atol=5e-3) for total in sums)
    folds = [sorted(Ragged.open(path).ids.tolist()) for path in sorted(run.glob("fold*/oof-*/oof.npy"))]
    assert len(folds) == 6
    for repeat in (folds[:3], folds[3:]):  # every id once per repeat, a patient's three pictures in one fold
        assert sorted(name for fold in repeat for name in fold) == sorted(f"c{row}" for row in range(24))
        for fold in repeat:
            assert len({int(name[1:]) // 3 for name in fold}) * 3 == len(fold)
    assert folds[:3] != folds[3:]


def test_labels_from_a_table(tmp_path: Path) -> None:
    root = digits(tmp_path)
    board = podium_json(root, "run", "digits")
    assert board["metric"] == "accuracy"
    row = board["rows"][0]
    assert row["score"] > 0.9 and row["images"] == 35  # one copy is dropped
    assert set(row["parts"]) == {"left", "right"}
    fold = podium_json(root, "fold", "digits")
    assert fold["dropped"] == {"copy of another image": 1}
    test = Ragged.open(next((root / "runs" / "digits").glob("tiny_cnn-*/test-*/test.npy")))
    assert test.ids.tolist() == [str(i) for i in range(9)] and (test.shapes == [2, 1, 1]).all()
    assert test.stacked[:, :, 0, 0].argmax(1).tolist() == [i % 2 for i in range(9)]

    ranked = podium_json(root, "audit", "digits", "--labels")
    assert ranked["model"] == "tiny_cnn" and ranked["judged"] == 35
    assert (root / "runs" / "digits" / "audit" / "labels.csv").is_file()


def test_planted_label_errors_are_ranked_first(tmp_path: Path) -> None:
    root = digits(tmp_path, rows=60)
    path = root / "data" / "digits" / "train.csv"
    lines = path.read_text().splitlines()
    for row in (10, 25):
        label, rest = lines[row + 1].split(",", 1)
        lines[row + 1] = ("R" if label != "R" else "L") + "," + rest
    path.write_text("\n".join(lines) + "\n")
    podium_json(root, "train", "digits")
    ranked = podium_json(root, "audit", "digits", "--labels")
    assert {item["id"] for item in ranked["found"]["suspects"][:2]} == {"10", "25"}
    assert all(item["probable"] for item in ranked["found"]["suspects"][:2])


def test_audit_needs_predictions_for_labels(tmp_path: Path) -> None:
    done = podium(digits(tmp_path), "audit", "digits", "--labels")
    assert done.returncode == 2 and "run first: podium train digits" in done.stderr


def test_audit_page_and_report(tmp_path: Path) -> None:
    root = cells(tmp_path)
    images = root / "data" / "cells" / "train" / "images"
    original = np.array(Image.open(images / "c4.png"))
    Image.fromarray(original[:, ::-1]).save(images / "c0.png")  # another patient's picture, flipped
    Image.fromarray(np.array(Image.open(images / "c7.png"))).save(root / "data" / "cells" / "test" / "t24.png")
    done = podium(root, "audit", "cells")
    assert done.returncode == 0, done.stderr
    assert "Near copies in different groups of the competition's own column: 1 (c0=c4)" in done.stdout
    assert "Training images that occur in test: 1 (c7=t24)" in done.stdout
    report = json.loads((root / "runs" / "cells" / "audit" / "report.json").read_text())
    assert [(link["first"], link["second"], link["orientation"]) for link in report["near"]] == [("c0", "c4", "flip h")]
    assert report["dropped"] == {} and report["train"]["count"] == 24 and report["test"]["count"] == 5
    assert [(c["name"], c["images"]) for c in report["train"]["targets"]["classes"]] == [
        ("background", 24),
        ("cell", 24),
    ]
    folder = root / "runs" / "cells" / "audit"
    assert (folder / "groups.csv").read_text().splitlines()[0] == "id,group"
    assert {"preprocessing.png", "near_copies.png", "leaks.png"} <= {path.name for path in folder.glob("*.png")}
    assert podium_json(root, "audit", "cells")["near"] == report["near"]  # read back, not searched again
    table = podium_json(root, "fold", "cells")["folds"]
    assert sum(row["images"] for row in table[:3]) == 24
    rows = [line.split(",") for line in next((root / "folds").glob("cells-*.csv")).read_text().splitlines()]
    fold_of = {row[0]: (row[3], row[4]) for row in rows if len(row) == 6}
    assert len({fold_of[name] for name in ("c0", "c1", "c2", "c3", "c4", "c5")}) == 1  # joined by the copy


def test_bad_files_stop_or_are_left_out_and_listed(tmp_path: Path) -> None:
    root = cells(tmp_path)
    (root / "data" / "cells" / "train" / "masks" / "c5.png").unlink()
    (root / "data" / "cells" / "train" / "images" / "c6.png").write_bytes(b"\x89PNG not really")
    mask = np.array(Image.open(root / "data" / "cells" / "train" / "masks" / "c7.png"))
    mask[3, 2] = 77
    Image.fromarray(mask).save(root / "data" / "cells" / "train" / "masks" / "c7.png")
    done = podium(root, "fold", "cells")
    assert (
        done.returncode == 2 and "c5.png" in done.stderr and done.stderr.count("\n") == 2
    )  # its data, and one sentence
    assert "Traceback" not in done.stderr
    done = podium(root, "fold", "cells", "--skip-bad")
    assert done.returncode == 0, done.stderr
    left_out = [line for line in done.stderr.splitlines() if line.startswith("left out: ")]
    assert len(left_out) == 3
    assert any("c7.png" in line and "77" in line and "(3, 2)" in line for line in left_out)
    again = podium(root, "fold", "cells", "--skip-bad")  # from the cache, and still said
    assert [line for line in again.stderr.splitlines() if line.startswith("left out: ")] == left_out
    assert "21 images in 3 folds 2 times" in again.stderr


def test_dropping_by_a_file_and_folds_by_hand(tmp_path: Path) -> None:
    root = digits(tmp_path)
    (root / "mine.csv").write_text("id,reason\n7,looks odd\n")
    fold = podium_json(root, "fold", "digits", "--set", "data.drop=mine.csv")
    assert fold["dropped"] == {"looks odd": 1}
    fold = podium_json(root, "fold", "digits", "--set", "data.drop=none")
    assert fold["dropped"] == {}
    (root / "folds.csv").write_text("id,fold\n" + "".join(f"{row},{row % 2}\n" for row in range(36)))
    done = podium(root, "fold", "digits", "--set", "folds.file=folds.csv", "--json")
    assert [row["images"] for row in json.loads(done.stdout)["folds"]] == [18, 18]
    assert "the file is taken" in done.stderr  # it has 2 folds, the configuration asks for 3
    assert "folds.file uses 1 images that data.drop would leave out, the first is '3'" in done.stderr
    assert "copies, or images of one group, on two sides" in done.stderr
    (root / "folds.csv").write_text("id,group,fold\n" + "".join(f"{row},{row // 2},{row % 2}\n" for row in range(36)))
    done = podium(root, "fold", "digits", "--set", "folds.file=folds.csv")
    assert done.returncode == 2 and "group 0 lies in folds 0 and 1 (fold)" in done.stderr


def test_a_wrong_region_of_a_mask_is_ranked_first_and_a_thorough_audit_works(tmp_path: Path) -> None:
    root = cells(tmp_path)
    path = root / "data" / "cells" / "train" / "masks" / "c3.png"
    mask = np.array(Image.open(path))
    Image.fromarray(np.zeros_like(mask)).save(path)  # the cell of c3 was forgotten
    podium_json(root, "train", "cells", "--set", "train.epochs=12", "--set", "folds.repeats=1")
    ranked = podium_json(root, "audit", "cells", "--labels")
    first = ranked["found"]["regions"][0]
    assert (first["id"], first["given"], first["suggested"]) == ("c3", "background", "cell")
    down, across = np.nonzero(mask)
    inside = (first["y0"] + first["y1"]) / 2, (first["x0"] + first["x1"]) / 2
    assert abs(inside[0] - down.mean()) < 3 and abs(inside[1] - across.mean()) < 3
    assert (root / "runs" / "cells" / "audit" / "labels.png").is_file()
    report = podium_json(root, "audit", "cells", "--thorough")
    assert set(report["thorough"]) == {"reconstruction", "templates", "repeated_content"}
    assert len(report["thorough"]["reconstruction"]) > 0 and "reconstruction.png" in report["pictures"]


def test_what_cannot_work_is_said_before_anything_is_trained(tmp_path: Path) -> None:
    root = digits(tmp_path)
    path = root / "configs" / "models" / "net.yaml"
    path.write_text(SMALL)
    done = podium(root, "train", "digits", "--models", "net")
    assert done.returncode == 2 and "its net 'residual_unet' predicts masks" in done.stderr
    config = root / "configs" / "competitions" / "digits.yaml"
    config.write_text(DIGITS + "submission: {format: wide_csv}\n")
    done = podium(root, "fold", "digits")
    assert done.returncode == 2 and "wide_csv is of masks" in done.stderr
    many = cells(tmp_path / "many", "pad")
    done = podium(many, "train", "cells")
    assert done.returncode == 2 and "larger than size 16 x 16" in done.stderr
    config = many / "configs" / "competitions" / "cells.yaml"
    config.write_text(CELLS.replace("HOW", "resize") + "submission: {format: wide_csv}\n")
    done = podium(many, "train", "cells")
    assert done.returncode == 2 and "needs test images of one size" in done.stderr
