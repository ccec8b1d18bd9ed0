"""The settings of submission formats: each has its own options only, and says which competitions it does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from podium.config import Competition
from podium.config_submission import misfit
from podium.config_submission_formats import RleCsv
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.submission import label_csv, ledger, npy, npz, png_zip, probability_csv, rle_csv, wide_csv
from podium.submission.pack import ENDINGS, WRITERS, ending_of
from podium.submission.validate import CHECKS, check_file
from submitting import BASE, FORMATS, competition, one_each, packed, ragged

MASKS = ["background", "cell"]
THREE = ["background", "cytoplasm", "nucleus"]


def settings(**given: Any) -> Any:
    return FORMATS.validate_json(json.dumps(given), strict=True)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"format": "wide_csv", "label": "x"}, "Extra inputs"),
        ({"format": "label_csv", "rle": "x"}, "Extra inputs"),
        ({"format": "rle_csv", "values": {}}, "Extra inputs"),
        ({"format": "rle_csv", "class_": "cell"}, "Extra inputs"),
        ({"format": "png_zip", "id": "id"}, "Extra inputs"),
        ({"format": "csv"}, "does not match any of the expected tags"),
        ({"format": "label_csv", "id": ""}, "at least 1 character"),
        ({"format": "label_csv", "names": "yes"}, "valid boolean"),
        ({"format": "label_csv", "id": "label"}, "label: 'label' is the name of the column of ids too"),
        ({"format": "label_csv", "style": "columns", "label": "x"}, "label: does nothing with style: columns"),
        ({"format": "label_csv", "style": "columns", "names": True}, "names: does nothing with style: columns"),
        ({"format": "rle_csv", "rle": "id"}, "rle: 'id' is the name of the column of ids too"),
        ({"format": "rle_csv", "class": "cell", "per": "class"}, "class: stands beside per: class"),
        ({"format": "rle_csv", "name": "image.png"}, r"name: 'image.png' has \{id\} 0 times"),
        ({"format": "rle_csv", "name": "{id}_{id}"}, r"has \{id\} 2 times"),
        ({"format": "rle_csv", "name": "{id}_{class}"}, r"name: \{class\} is no placeholder here; use \{id\}"),
        ({"format": "rle_csv", "name": "{id}", "per": "class"}, r"has \{class\} 0 times"),
        ({"format": "rle_csv", "name": "{id}\n"}, "holds a line break"),
        ({"format": "rle_csv", "empty": "skip"}, "empty: is for per: object"),
        ({"format": "rle_csv", "per": "object", "name": "{class}"}, r"has \{id\} 0 times"),
        ({"format": "rle_csv", "per": "object", "class": "a", "name": "{id}{class}"}, "class: names the only one"),
        ({"format": "wide_csv", "compress": "bzip2"}, "'gzip' or 'zip'"),
        ({"format": "png_zip", "compress": "zip"}, "Extra inputs"),
        ({"format": "probability_csv", "columns": "p"}, r"columns: 'p' needs \{class\} or \{index\} in it"),
        ({"format": "probability_csv", "columns": "{id}"}, r"columns: '\{id\}' needs"),
        ({"format": "probability_csv", "columns": "{class}{class}"}, "needs"),
        ({"format": "probability_csv", "label": "x"}, "Extra inputs"),
        ({"format": "npy", "key": "x"}, "Extra inputs"),
        ({"format": "npy", "of": "classes"}, "'labels' or 'probabilities'"),
        ({"format": "npy", "dtype": "object"}, "'uint8'"),
        ({"format": "npz", "key": "{class}"}, r"key: \{class\} is no placeholder here; use \{id\} or no braces"),
        ({"format": "npz", "key": "{id}/{id}"}, r"key: \{id\} is no placeholder|has \{id\} 2 times"),
        ({"format": "npz", "key": "../x"}, "key: '../x' leads out of the archive"),
        ({"format": "npz", "key": "x.npy"}, "is no array's name"),
        ({"format": "npz", "key": "x", "ids_key": "x"}, "ids_key: 'x' is the name of the predictions too"),
        ({"format": "npz", "ids_key": "a\nb"}, "is no array's name"),
        ({"format": "png_zip", "name": "{stem}.png"}, r"name: \{stem\} is no placeholder here"),
        ({"format": "png_zip", "name": "../{id}.png"}, "leads out of the archive"),
        ({"format": "png_zip", "name": "/{id}.png"}, "leads out of the archive"),
        ({"format": "png_zip", "name": "a\\{id}.png"}, "leads out of the archive"),
        ({"format": "png_zip", "name": "{id}/"}, "is a folder"),
        ({"format": "png_zip", "values": {"a": 256}}, "less than or equal to 255"),
        ({"format": "model_zip", "id": "id"}, "Extra inputs"),
        ({"format": "model_zip", "size_limit": 0}, "greater than 0"),
        ({"format": "model_zip", "batch": 0}, "greater than 0"),
    ],
)
def test_options_that_mean_nothing_are_refused(given: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        settings(**given)


@pytest.mark.parametrize(
    ("given", "task", "classes", "unscored", "sentence"),
    [
        ({"format": "wide_csv"}, "classification", MASKS, None, "submission.format: wide_csv is of masks"),
        ({"format": "rle_csv"}, "regression", [], None, "submission.format: rle_csv is of masks as runs"),
        ({"format": "png_zip"}, "multilabel", MASKS, None, "submission.format: png_zip is of masks as pictures"),
        ({"format": "label_csv"}, "segmentation", MASKS, None, "label_csv is of labels"),
        ({"format": "model_zip"}, "segmentation", MASKS, None, "model_zip answers with one class per image; with task"),
        ({"format": "model_zip"}, "multilabel", MASKS, None, "with task: multilabel use label_csv"),
        ({"format": "label_csv", "style": "joined"}, "classification", MASKS, None, "submission.style: is for"),
        ({"format": "label_csv", "style": "columns"}, "regression", [], None, "submission.style: is for"),
        ({"format": "label_csv", "names": True}, "regression", [], None, "have no names"),
        ({"format": "label_csv", "names": True}, "multilabel", MASKS, None, "submission.names: does nothing with"),
        ({"format": "label_csv", "label": "x"}, "multilabel", MASKS, None, "submission.label: does nothing with"),
        ({"format": "label_csv", "id": "cell"}, "multilabel", MASKS, None, "'cell' is a class and has a column"),
        (
            {"format": "label_csv", "style": "joined", "names": True},
            "multilabel",
            ["a b", "c"],
            None,
            "class 'a b' holds a blank",
        ),
        ({"format": "label_csv", "names": True}, "classification", ["a\nb", "c"], None, "'a\\nb' holds a line break"),
        ({"format": "rle_csv"}, "segmentation", THREE, None, "submission.class: missing; with 3 classes"),
        ({"format": "rle_csv", "class": "nucleous"}, "segmentation", THREE, None, "did you mean 'nucleus'?"),
        ({"format": "rle_csv", "class": "cell"}, "segmentation", MASKS, "cell", "is the unscored class"),
        ({"format": "rle_csv", "per": "object"}, "segmentation", THREE, None, "put {class} into name for rows of each"),
        ({"format": "rle_csv", "per": "object"}, "classification", THREE, None, "rle_csv is of masks as runs"),
        ({"format": "probability_csv"}, "segmentation", MASKS, None, "use npy or npz with of: probabilities"),
        ({"format": "probability_csv"}, "regression", MASKS, None, "task: regression gives numbers; use label_csv"),
        ({"format": "probability_csv", "id": "cell"}, "multilabel", MASKS, None, "two columns would be called 'cell'"),
        (
            {"format": "probability_csv", "columns": {"cel": "x"}},
            "classification",
            MASKS,
            None,
            "submission.columns: 'cel' is not a class; did you mean 'cell'?",
        ),
        (
            {"format": "probability_csv", "columns": {"nucleus": "x"}},
            "classification",
            THREE,
            None,
            "submission.columns: class 'background' has no column; add it",
        ),
        ({"format": "probability_csv", "columns": {"cell": "x"}}, "multilabel", MASKS, None, "'background' has no"),
        ({"format": "probability_csv", "columns": {}}, "classification", MASKS, None, "'background' has no column"),
        (
            {"format": "probability_csv", "columns": {"background": "x", "cell": "x"}},
            "classification",
            MASKS,
            None,
            "two columns would be called 'x'",
        ),
        ({"format": "probability_csv"}, "classification", ["a\nb", "c"], None, "'a\\nb' holds a line break"),
        ({"format": "npy", "of": "probabilities"}, "regression", [], None, "submission.of: task: regression gives"),
        ({"format": "npz", "of": "probabilities"}, "regression", MASKS, None, "submission.of: task: regression gives"),
        ({"format": "npy", "dtype": "float32"}, "segmentation", MASKS, None, "float32 does not suit labels; use uint8"),
        ({"format": "npz", "dtype": "uint8"}, "regression", [], None, "uint8 does not suit numbers; use float16"),
        (
            {"format": "npz", "of": "probabilities", "dtype": "int64"},
            "segmentation",
            MASKS,
            None,
            "int64 does not suit probabilities; use float16, float32 or float64",
        ),
        ({"format": "png_zip"}, "segmentation", THREE, None, "submission.values: missing; with 3 classes"),
        ({"format": "png_zip", "values": {"cell": 1}}, "segmentation", MASKS, None, "class 'background' has no value"),
        ({"format": "png_zip", "values": {"cel": 1}}, "segmentation", MASKS, None, "did you mean 'cell'?"),
        (
            {"format": "png_zip", "values": {"background": 9, "cell": 9}},
            "segmentation",
            MASKS,
            None,
            "all classes have one value",
        ),
    ],
)
def test_what_does_not_fit_a_competition_is_said(
    given: dict[str, object], task: str, classes: list[str], unscored: str | None, sentence: str
) -> None:
    said = misfit(settings(**given), task, classes, unscored, ordinal=False)
    assert said is not None and sentence in said


def test_what_fits() -> None:
    assert misfit(settings(format="label_csv", names=True), "regression", ["mild", "severe"], None, True) is None
    for style in (None, "columns", "joined"):
        assert misfit(settings(format="label_csv", style=style), "multilabel", MASKS, None, False) is None
    assert misfit(settings(format="rle_csv", per="class"), "segmentation", THREE, None, False) is None
    for task in ("segmentation", "classification", "multilabel"):
        for of in ("labels", "probabilities"):
            assert misfit(settings(format="npz", of=of), task, MASKS, None, False) is None
    assert misfit(settings(format="npy", dtype="float64"), "regression", [], None, False) is None
    assert misfit(settings(format="npy", dtype="int64"), "regression", MASKS, None, True) is None
    one = settings(format="probability_csv", columns={"cell": "target"})
    assert misfit(one, "classification", MASKS, None, False) is None and one.wanted(MASKS) == {"cell": "target"}
    objects = settings(format="rle_csv", per="object", name="{class}-{id}")
    assert misfit(objects, "segmentation", THREE, None, False) is None
    shared = {"background": 0, "cytoplasm": 255, "nucleus": 255}
    assert misfit(settings(format="png_zip", values=shared), "segmentation", THREE, None, False) is None


def test_settings_survive_being_written_and_read_again() -> None:
    for task, given in (
        ("segmentation", {"format": "wide_csv", "id": "ID"}),
        ("classification", {"format": "label_csv", "id": "ImageId", "label": "Label", "first_id": 1}),
        ("multilabel", {"format": "label_csv", "style": "columns"}),
        ("segmentation", {"format": "rle_csv", "class": "cell", "name": "image_{id}.png"}),
        ("segmentation", {"format": "rle_csv", "per": "class"}),
        ("segmentation", {"format": "rle_csv", "per": "object", "empty": "skip", "compress": "gzip"}),
        ("segmentation", {"format": "png_zip", "values": {"background": 0, "cell": 255}}),
        ("classification", {"format": "probability_csv", "columns": {"cell": "p"}, "compress": "zip"}),
        ("multilabel", {"format": "probability_csv", "columns": "is_{class}"}),
        ("segmentation", {"format": "npy", "of": "probabilities", "dtype": "float16"}),
        ("classification", {"format": "npz", "key": "{id}", "ids_key": "ids", "compress": False}),
        ("classification", {"format": "model_zip", "size_limit": 0.5, "batch": 4}),
    ):
        metric = {"name": "mean_iou" if task == "segmentation" else "accuracy"}
        raw = BASE.model_dump(mode="json") | {"task": task, "metric": metric}
        whole = Competition.model_validate(raw | {"submission": given})
        again = Competition.model_validate(whole.model_dump(mode="json")).submission
        assert whole.submission == settings(**given)
        for dumped in (whole.model_dump(mode="json")["submission"], json.loads(whole.model_dump_json())["submission"]):
            assert settings(**dumped) == whole.submission == again
    assert settings(format="rle_csv", **{"class": "cell"}).model_dump()["class"] == "cell"


def test_defaults_follow_from_the_classes() -> None:
    runs = settings(format="rle_csv")
    assert isinstance(runs, RleCsv) and runs.template == "{id}"
    assert runs.wanted(["background", "cell"], None) == ("cell",)
    assert runs.wanted(["cell", "nothing"], "nothing") == ("cell",)
    per = settings(format="rle_csv", per="class")
    assert per.template == "{id}_{class}" and per.wanted(THREE, None) == ("cytoplasm", "nucleus")
    assert settings(format="rle_csv", **{"class": "nucleus"}).wanted(THREE, None) == ("nucleus",)
    assert settings(format="png_zip").greys(MASKS, None) == (0, 255)
    assert settings(format="png_zip").greys(["cell", "nothing"], "nothing") == (255, 0)


def test_defaults_of_probabilities_and_arrays() -> None:
    assert settings(format="probability_csv").wanted(THREE) == {name: name for name in THREE}
    assert settings(format="probability_csv", columns="p{index}").wanted(MASKS) == {"background": "p0", "cell": "p1"}
    mapped = settings(format="probability_csv", columns={"cell": "b", "background": "a"})
    assert list(mapped.wanted(MASKS).items()) == [("background", "a"), ("cell", "b")]
    assert settings(format="npy").stored(numbers=False) == "uint8"
    assert settings(format="npy").stored(numbers=True) == "float32"
    assert settings(format="npz", of="probabilities").stored(numbers=False) == "float32"
    assert settings(format="npz", dtype="int64").stored(numbers=False) == "int64"
    needs = {"probability_csv": "probabilities"}
    for name in CHECKS:
        assert settings(format=name).needs == needs.get(name, "labels")
    assert settings(format="npz", of="probabilities").needs == "probabilities"


def test_every_format_has_a_writer_a_check_and_an_ending() -> None:
    formats = {"wide_csv", "label_csv", "probability_csv", "rle_csv", "png_zip", "npy", "npz"}
    assert set(WRITERS) == set(ENDINGS) == formats
    assert set(CHECKS) == {*WRITERS, "model_zip"}  # which is no file of predictions and has a packer of its own
    endings = {"gzip": ".csv.gz", "zip": ".zip", None: ".csv"}
    for name in ("wide_csv", "label_csv", "probability_csv", "rle_csv"):
        for compress, ending in endings.items():
            assert ending_of(settings(format=name, compress=compress)) == ending
    assert ending_of(settings(format="npz")) == ".npz" and ending_of(settings(format="npz", compress=False)) == ".npz"


MASK = ragged({"a": np.eye(3, dtype=np.uint8), "b": np.zeros((2, 4), np.uint8)})


@pytest.mark.parametrize(
    ("given", "labels", "ending"),
    [
        (competition("classification", ["x", "y"], {"format": "label_csv"}), one_each([0, 1]), ".csv"),
        (competition("segmentation", MASKS, {"format": "rle_csv"}), MASK, ".csv"),
        (competition("segmentation", MASKS, {"format": "png_zip"}), MASK, ".zip"),
        (competition("segmentation", MASKS, {"format": "rle_csv", "per": "object"}), MASK, ".csv"),
        (competition("segmentation", MASKS, {"format": "npz", "key": "{id}"}), MASK, ".npz"),
        (competition("classification", ["x", "y"], {"format": "npy"}), one_each([0, 1]), ".npy"),
        (
            competition("classification", ["x", "y"], {"format": "label_csv", "compress": "zip"}),
            one_each([0, 1]),
            ".zip",
        ),
        (
            competition("classification", ["x", "y"], {"format": "label_csv", "compress": "gzip"}),
            one_each([0, 1]),
            ".gz",
        ),
    ],
)
def test_packing_checking_and_rejecting(
    tmp_path: Path, given: Competition, labels: Ragged, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = packed(tmp_path, given, labels)
    assert done.path.suffix == ending and done.report.ok and done.report.rows == len(labels)
    assert check_file(done.path, given, labels.ids, labels.shapes) == done.report
    assert ledger.read(tmp_path / "ledger.csv")[0]["file"] == done.path.name
    assert given.submission is not None
    right = WRITERS[given.submission.format]

    def wrong(path: Path, labels: Ragged, competition: Competition) -> None:
        right(path, Ragged(1 - labels.values, labels.shapes, labels.ids), competition)

    monkeypatch.setitem(WRITERS, given.submission.format, wrong)
    with pytest.raises(UserError, match=f"{ending}.rejected: refused when read back: .* not what was meant"):
        packed(tmp_path, given, labels)
    assert len(list(tmp_path.glob(f"*{ending}.rejected"))) == 1
    assert len(ledger.read(tmp_path / "ledger.csv")) == 1


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_no_format_takes_a_file_that_is_not_there_or_the_settings_of_another(tmp_path: Path, name: str) -> None:
    task = "classification" if name in ("label_csv", "probability_csv", "model_zip") else "segmentation"
    given = competition(task, MASKS, {"format": name})
    shapes = np.ones((1, 3), np.int64)
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match="cannot be read .* name an existing"):
            check_file(path, given, np.array(["a"]), shapes)
    labels = one_each([0])
    for module in (wide_csv, label_csv, probability_csv, rle_csv, png_zip, npy, npz):
        other = module.__name__.rpartition(".")[2]
        if other != name:
            with pytest.raises(ValueError, match="its submission is not a"):
                module.write(tmp_path / "x", labels, given)
            with pytest.raises(ValueError, match="its submission is not a"):
                CHECKS[other](tmp_path / "x", given, labels.ids, labels.shapes)
        else:
            dtype, channels = (np.float32, 3) if name == "probability_csv" else (np.uint8, 2)
            with pytest.raises(UserError, match="the test set is empty"):
                module.write(tmp_path / "x", Ragged.stack(np.zeros((0, 1, 1, 1), dtype), []), given)
            wrong = "probabilities are int16" if name == "probability_csv" else "labels are int16, expected uint8"
            with pytest.raises(ValueError, match=wrong):
                module.write(tmp_path / "x", Ragged.stack(np.zeros((1, 1, 1, 1), np.int16), ["a"]), given)
            with pytest.raises(ValueError, match=f"have {channels} channels"):
                module.write(tmp_path / "x", Ragged.stack(np.zeros((1, channels, 1, 1), dtype), ["a"]), given)
    assert list(tmp_path.iterdir()) == []


def test_a_column_per_pixel_needs_test_images_of_one_size(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="wide_csv needs test images of one size, these have several"):
        check_file(tmp_path / "x", competition("segmentation", MASKS, {"format": "wide_csv"}), MASK.ids, MASK.shapes)
    for name, way_out in (("npy", "use submission.format: npz"), ("npz", "set submission.key: '{id}'")):
        given = competition("segmentation", MASKS, {"format": name})
        with pytest.raises(UserError, match=f"images of one size, these have several; {way_out}"):
            check_file(tmp_path / "x", given, MASK.ids, MASK.shapes)
        with pytest.raises(UserError, match=f"images of one size, these 2 have 2 sizes; {way_out}"):
            WRITERS[name](tmp_path / "x", MASK, given)
    assert list(tmp_path.iterdir()) == []
