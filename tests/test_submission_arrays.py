"""Formats npy and npz: known contents, no Python objects, the check's sentence for every kind of damage, memory."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from podium.config import Competition
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.submission import npy, npz
from podium.submission.pack import WRITERS
from podium.submission.validate import CHECKS, check_file
from submitting import checked, competition, one_each, packed, ragged

CLASSES = ["ground", "cell", "nucleus"]
IDS = ["a", "b,c", "7"]
MASKS = Ragged.stack(np.random.default_rng(1).integers(0, 3, (3, 1, 4, 5), np.uint8), IDS)
PROBABILITIES = np.random.default_rng(2).dirichlet(np.ones(3), (3, 4, 5)).transpose(0, 3, 1, 2).astype(np.float32)
LIKELY = Ragged.stack(PROBABILITIES, IDS)
YES = Ragged.stack(np.array([[[0.75, 0.5], [0.25, 0.5]], [[1, 0], [0, 1]]], np.float32)[..., None], ["x", "y"])
SIZES = ragged({"a": np.eye(3, dtype=np.uint8), "sub/b": np.full((2, 4), 2, np.uint8)})


def one(**options: Any) -> Competition:
    return competition("segmentation", CLASSES, {"format": "npy"} | options)


def many(**options: Any) -> Competition:
    return competition("segmentation", CLASSES, {"format": "npz"} | options)


def saved(array: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def archive(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def raw(entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return buffer.getvalue()


def test_one_array_is_what_numpy_would_save(tmp_path: Path) -> None:
    labels = MASKS.stacked[:, 0]
    assert packed(tmp_path, one(), MASKS).path.read_bytes() == saved(labels)
    assert packed(tmp_path, one(dtype="int64"), MASKS).path.read_bytes() == saved(labels.astype(np.int64))
    half = packed(tmp_path, one(of="probabilities", dtype="float16"), LIKELY)
    assert half.path.read_bytes() == saved(PROBABILITIES.astype(np.float16))
    assert half.report.counts == tuple(np.bincount(PROBABILITIES.argmax(1).ravel(), minlength=3))


def test_one_array_of_every_task(tmp_path: Path) -> None:
    cases: list[tuple[str, list[str], str, Ragged, np.ndarray]] = [
        ("classification", CLASSES, "labels", one_each([2, 0]), np.array([2, 0], np.uint8)),
        ("regression", [], "labels", one_each([0.1, -2], np.float32), np.array([0.1, -2], np.float32)),
        ("regression", CLASSES, "labels", one_each([1, 2]), np.array([1, 2], np.uint8)),
        ("multilabel", ["p", "q"], "probabilities", YES, np.array([[0.25, 0.5], [0, 1]], np.float32)),
        (
            "multilabel",
            ["p", "q"],
            "labels",
            Ragged.stack(np.array([[1, 0], [0, 0]], np.uint8)[:, None, :, None], ["x", "y"]),
            np.array([[1, 0], [0, 0]], np.uint8),
        ),
        (
            "classification",
            CLASSES,
            "probabilities",
            Ragged.stack(PROBABILITIES[:, :, :1, :1], IDS),
            PROBABILITIES[:, :, 0, 0],
        ),
    ]
    for task, classes, of, given, array in cases:
        done = packed(tmp_path, competition(task, classes, {"format": "npy", "of": of}), given)
        assert done.path.read_bytes() == saved(np.ascontiguousarray(array)) and done.report.errors == ()
        done = packed(tmp_path, competition(task, classes, {"format": "npz", "of": of, "key": "{id}"}), given)
        with np.load(done.path, allow_pickle=False) as file:
            assert list(file) == given.ids.tolist()
            assert all((file[name] == item).all() for name, item in zip(file, array, strict=True))


def test_named_arrays(tmp_path: Path) -> None:
    path = packed(tmp_path, many(key="y", ids_key="ids"), MASKS).path
    with np.load(path, allow_pickle=False) as file:
        assert sorted(file) == ["ids", "y"] and file["ids"].tolist() == IDS
        assert file["y"].tobytes() == MASKS.values.tobytes() and file["y"].shape == (3, 4, 5)
    done = packed(tmp_path, many(key="mask_{id}"), SIZES)
    assert done.report.rows == 2 and done.report.counts == (6, 3, 8)
    with np.load(done.path, allow_pickle=False) as file:
        assert list(file) == ["mask_a", "mask_sub/b"]
        assert (file["mask_sub/b"] == 2).all() and (file["mask_a"] == np.eye(3)).all()
    assert path.stat().st_size < 1000 + packed(tmp_path, many(compress=False), MASKS).path.stat().st_size


@pytest.mark.parametrize("given", [one(), many(), many(compress=False), many(of="probabilities")])
def test_memory_above_the_predictions_is_bounded(tmp_path: Path, given: Competition) -> None:
    assert given.submission is not None
    likely = given.submission.needs == "probabilities"
    stack = np.full((1500, 3, 64, 64), 1 / 3, np.float32) if likely else np.ones((6000, 1, 64, 64), np.uint8)
    made = Ragged.stack(stack, np.arange(len(stack)).astype(str))
    shapes = np.array(made.shapes)
    tracemalloc.start()
    WRITERS[given.submission.format](tmp_path / "x", made, given)
    writing = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    report = check_file(tmp_path / "x", given, made.ids, shapes)
    checking = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.ok and report.rows == len(stack)
    assert max(writing, checking) < 8e6 < made.values.nbytes / 2


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    numbers = {name: competition("regression", [], {"format": name}) for name in ("npy", "npz")}
    for name, module in (("npy", npy), ("npz", npz)):
        with pytest.raises(UserError, match="id '1': its prediction is nan, which no submission may hold"):
            module.write(tmp_path / "x", one_each([0, np.nan], np.float32), numbers[name])
        with pytest.raises(ValueError, match=r"not all of height and width \(1, 1\)"):
            module.write(tmp_path / "x", MASKS, competition("classification", CLASSES, {"format": name}))
        with pytest.raises(ValueError, match="labels hold 2, expected 0 to 1"):
            module.write(tmp_path / "x", MASKS, competition("segmentation", CLASSES[:2], {"format": name}))
        with pytest.raises(ValueError, match="probabilities are uint8, expected float32"):
            module.write(
                tmp_path / "x", MASKS, competition("segmentation", CLASSES, {"format": name, "of": "probabilities"})
            )
    for odd in ("../a", "/a", "a\\b", "a//b"):
        with pytest.raises(
            UserError, match="is no safe name in an archive; rename that image or correct submission.key"
        ):
            npz.write(tmp_path / "x", ragged({odd: np.ones((1, 1), np.uint8)}), many(key="{id}"))
    for odd in ("a.npy", "ids"):
        with pytest.raises(UserError, match="could be taken for another"):
            npz.write(tmp_path / "x", ragged({odd: np.ones((1, 1), np.uint8)}), many(key="{id}", ids_key="ids"))


# ---------------------------------------------------------------- the check

L = MASKS.stacked[:, 0]
P = PROBABILITIES


def at(array: np.ndarray, index: tuple[int, ...], value: float) -> np.ndarray:
    changed = array.copy()
    changed[index] = value
    return changed


class Pickled:
    """What must never be made."""

    made = 0

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return _make, ()


def _make() -> None:
    Pickled.made += 1


HEAD = b"\x93NUMPY\x01\x00"
LABEL_DAMAGE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is no array of numpy, it begins with b''"),
    "a csv": (b"id,label\n1,2\n", "is no array of numpy, it begins with b'id,label'"),
    "an object": (
        saved(np.array([Pickled()], object), allow_pickle=True),
        "holds Python objects (a pickle), which are",
    ),
    "records": (saved(np.zeros(3, [("a", "u1")])), "is no plain array of one type of values"),
    "texts": (saved(L.astype(str)), "has values of type <U3, expected uint8 (|u1)"),
    "floats": (saved(L.astype(np.float32)), "has values of type <f4, expected uint8 (|u1)"),
    "yes and no": (saved(L > 0), "has values of type |b1, expected uint8"),
    "Fortran order": (saved(np.asfortranarray(L)), "is in Fortran order (column by column), expected C order"),
    "transposed": (
        saved(np.ascontiguousarray(L.transpose(0, 2, 1))),
        "has the shape (3, 5, 4), expected (3, 4, 5) (N, H, W): height and width are exchanged",
    ),
    "an axis too many": (saved(L[:, None]), "has the shape (3, 1, 4, 5), expected (3, 4, 5) (N, H, W)"),
    "an image less": (saved(L[:2]), "has the shape (2, 4, 5), expected (3, 4, 5)"),
    "flat": (saved(L.ravel()), "has the shape (60,), expected (3, 4, 5)"),
    "cut off": (saved(L)[:-7], "is cut off: 7 bytes of its values are missing"),
    "too long": (saved(L) + b"x", "has bytes behind its values"),
    "a head cut off": (saved(L)[:60], "has a head that is cut off or too long"),
    "an endless head": (HEAD[:6] + b"\x02\x00" + b"\xff\xff\xff\x7f" + b" " * 99, "has a head that is cut off or too"),
    "no head": (HEAD + b"\x05\x00" + b"{{{{\n", "has a head that cannot be read"),
    "another version": (
        saved(L).replace(HEAD, b"\x93NUMPY\x09\x00"),
        "is an array of numpy's format 9.0, expected 1.0",
    ),
    "a huge shape": (
        HEAD
        + b"\x76\x00"
        + b"{'descr': '|u1', 'fortran_order': False, 'shape': (3, 4, 999999999999), }".ljust(117)
        + b"\n",
        "has the shape (3, 4, 999999999999), expected (3, 4, 5)",
    ),
    "a negative shape": (
        HEAD + b"\x76\x00" + b"{'descr': '|u1', 'fortran_order': False, 'shape': (3, -4, -5), }".ljust(117) + b"\n",
        "is no plain array of one type of values",
    ),
    "too high": (saved(at(L, (1, 2, 3), 3)), "index [1, 2, 3] (id 'b,c') holds 3, expected 0 to 2"),
    "too high twice": (
        saved(at(at(L, (1, 2, 3), 3), (1, 3, 4), 9)),
        "index [1, 2, 3] (id 'b,c') holds 3, expected 0 to 2, and 1 more such value of this image",
    ),
    "negative": (saved(at(L.astype(np.int32), (2, 0, 0), -1)), "index [2, 0, 0] (id '7') holds -1, expected 0 to 2"),
    "another label": (
        saved(at(L, (2, 3, 1), (L[2, 3, 1] + 1) % 3)),
        f"index [2, 3, 1] (id '7') is {(L[2, 3, 1] + 1) % 3}, meant was {L[2, 3, 1]} (one value in one image): not what",
    ),
    "another order": (saved(L[::-1].copy()), "not what was meant"),
    "exchanged and called otherwise": (saved(L.transpose(0, 2, 1).reshape(L.shape)), "not what was meant"),
    "another type": (saved(L.astype(np.int64)), "has values of type <i8, expected uint8 (|u1)"),
    "the other end first": (saved(L.astype(">i4")), "has values of type >i4, expected uint8 (|u1)"),
}
ONLY_OWN = {"another label", "another order", "exchanged and called otherwise", "another type", "the other end first"}


@pytest.mark.parametrize("kind", LABEL_DAMAGE)
def test_damage_to_an_array_of_labels_is_named(tmp_path: Path, kind: str) -> None:
    content, sentence = LABEL_DAMAGE[kind]
    # of a negative label the type is the first thing that is wrong, where the file was made here
    dtype = "int32" if kind == "negative" else None
    for given, file in ((one(dtype=dtype), content), (many(dtype=dtype), raw({"predictions.npy": content}))):
        report = checked(tmp_path / "x", file, given, MASKS)
        assert any(sentence in error for error in report.errors), report.errors
        foreign = checked(tmp_path / "x", file, given, MASKS, own=False, meant=False)
        assert foreign.ok == (kind in ONLY_OWN)
    assert Pickled.made == 0


PROBABILITY_DAMAGE: dict[str, tuple[np.ndarray, str]] = {
    "nan": (at(P, (1, 2, 3, 4), np.nan), "index [1, 2, 3, 4] (id 'b,c') holds nan, expected a probability from 0 to 1"),
    "above one": (at(P, (0, 0, 0, 0), 1.5), "index [0, 0, 0, 0] (id 'a') holds 1.5, expected a probability"),
    "negative": (at(P, (0, 0, 0, 0), -0.1), "index [0, 0, 0, 0] (id 'a') holds -0.1"),
    "infinite": (at(P, (0, 0, 0, 0), np.inf), "index [0, 0, 0, 0] (id 'a') holds inf"),
    "classes last": (
        np.ascontiguousarray(P.transpose(0, 2, 3, 1)),
        "has the shape (3, 4, 5, 3), expected (3, 3, 4, 5) (N, C, H, W): the classes stand last",
    ),
    "exchanged": (np.ascontiguousarray(P.transpose(0, 1, 3, 2)), "height and width are exchanged"),
    "integers": (P.astype(np.uint8), "has values of type |u1, expected float32 (<f4)"),
    "not of sum one": (
        at(P, (2, 0, 1, 2), 0).astype(np.float32),
        "index [2, 1, 2] (id '7') sums over the classes to",
    ),
    "logits scaled": (P / 2, "(60 pixels in 3 images): probabilities that should sum to 1"),
    "another value": (P[:, [1, 0, 2]], "not what was meant"),
    "of less precision": (P.astype(np.float16).astype(np.float32), "not what was meant"),
    "doubles": (P.astype(np.float64), "has values of type <f8, expected float32 (<f4)"),
}
LIKELY_FROM_ELSEWHERE = {"not of sum one", "logits scaled", "another value", "of less precision", "doubles"}


@pytest.mark.parametrize("kind", PROBABILITY_DAMAGE)
def test_damage_to_an_array_of_probabilities_is_named(tmp_path: Path, kind: str) -> None:
    array, sentence = PROBABILITY_DAMAGE[kind]
    for given, file in (
        (one(of="probabilities"), saved(array)),
        (many(of="probabilities"), archive(predictions=array)),
    ):
        report = checked(tmp_path / "x", file, given, LIKELY)
        assert any(sentence in error for error in report.errors), report.errors
        foreign = checked(tmp_path / "x", file, given, LIKELY, own=False, meant=False)
        assert foreign.ok == (kind in LIKELY_FROM_ELSEWHERE), foreign.errors
        if "sum" in kind or "scaled" in kind:
            assert any("where the metric needs probabilities that sum to 1" in text for text in foreign.warnings)


def test_files_from_elsewhere_may_have_other_types_where_none_is_named(tmp_path: Path) -> None:
    content = saved(L.astype(np.int64))
    report = checked(tmp_path / "x", content, one(), MASKS, own=False)
    assert report.errors == () and report.warnings == ("values of type <i8, podium writes |u1",)
    named = checked(tmp_path / "x", content, one(dtype="uint8"), MASKS, own=False)
    assert named.errors == ("the file has values of type <i8, expected uint8 (|u1)",)
    assert checked(tmp_path / "x", content, one(dtype="int64"), MASKS).errors == ()


def test_the_unscored_class_is_not_predicted(tmp_path: Path) -> None:
    given = competition("segmentation", CLASSES, {"format": "npy"}, unscored="ground")
    labels = Ragged.stack(np.maximum(MASKS.stacked, 1), IDS)
    assert packed(tmp_path, given, labels).report.errors == ()
    report = checked(tmp_path / "x", saved(at(labels.stacked[:, 0], (1, 0, 2), 0)), given, labels, meant=False)
    assert report.errors == (
        "index [1, 0, 2] (id 'b,c') (one pixel in one image): label 0 (ground) is never scored and must not be predicted",
    )
    foreign = checked(tmp_path / "x", saved(np.zeros_like(L)), given, labels, own=False, meant=False)
    assert foreign.ok and "multiplies the score by 2/3" in foreign.warnings[0]
    assert foreign.warnings[1] == "every pixel is predicted 'ground'"


WITH_IDS = many(key="y", ids_key="ids")
ARCHIVE_DAMAGE: dict[str, tuple[Competition, bytes, str]] = {
    "no zip": (WITH_IDS, saved(L), "the file is no zip archive, or is cut off"),
    "cut off": (WITH_IDS, archive(y=L, ids=np.array(IDS))[:-30], "the file is no zip archive, or is cut off"),
    "no ids": (WITH_IDS, archive(y=L), "1 of 2 arrays are missing, the first is 'ids.npy'"),
    "no predictions": (WITH_IDS, archive(ids=np.array(IDS)), "1 of 2 arrays are missing, the first is 'y.npy'"),
    "another key": (WITH_IDS, archive(Y=L, ids=np.array(IDS)), "1 of 2 arrays are missing, the first is 'y.npy'"),
    "other ids": (
        WITH_IDS,
        archive(y=L, ids=np.array(["a", "7", "b,c"])),
        "entry 'ids.npy', index [1] is '7', expected 'b,c'",
    ),
    "ids less": (
        WITH_IDS,
        archive(y=L, ids=np.array(IDS[:2])),
        "entry 'ids.npy' has the shape (2,), expected (3,) (N)",
    ),
    "ids as floats": (WITH_IDS, archive(y=L, ids=np.arange(3.0)), "entry 'ids.npy' has values of type <f8, expected"),
    "ids as objects": (
        WITH_IDS,
        archive(y=L, ids=np.array(IDS, object)),
        "entry 'ids.npy' holds Python objects (a pickle), which are never read",
    ),
    "endless ids": (
        WITH_IDS,
        archive(y=L, ids=np.array(["x" * 9000] * 3)),
        "has values of type <U9000, expected texts",
    ),
    "an image missing": (
        many(key="{id}"),
        archive(**{"a": L[0], "b,c": L[1]}),
        "1 of 3 arrays are missing, the first is '7.npy'",
    ),
    "an image of another size": (
        many(key="{id}"),
        archive(**{"a": L[0], "b,c": L[1, :, :4], "7": L[2]}),
        "entry 'b,c.npy' has the shape (4, 4), expected (4, 5) (H, W)",
    ),
    "an image of a label too high": (
        many(key="{id}"),
        archive(**{"a": L[0], "b,c": at(L[1], (2, 3), 3), "7": L[2]}),
        "array of id 'b,c', index [2, 3] holds 3, expected 0 to 2",
    ),
    "another method": (
        many(),
        raw({"predictions.npy": saved(L)}, zipfile.ZIP_BZIP2),
        "entry 'predictions.npy' is packed by method 12, expected stored or deflated",
    ),
    "a bomb": (
        many(),
        raw({"predictions.npy": saved(L) + bytes(1 << 24)}),
        "entry 'predictions.npy' has bytes behind its values",
    ),
}


@pytest.mark.parametrize("kind", ARCHIVE_DAMAGE)
def test_damage_to_an_archive_is_named(tmp_path: Path, kind: str) -> None:
    given, content, sentence = ARCHIVE_DAMAGE[kind]
    for own in (True, False):
        report = checked(tmp_path / "x", content, given, MASKS, own=own, meant=own)
        assert any(sentence in error for error in report.errors), report.errors


def test_arrays_of_other_makers_are_read(tmp_path: Path) -> None:
    numbered = Ragged.stack(MASKS.stacked, ["1", "2", "30"])
    for ids in (np.array([1, 2, 30]), np.array([b"1", b"2", b"30"]), np.array(["1", "2", "30"])):
        content = archive(y=L, ids=ids)
        assert checked(tmp_path / "x", content, WITH_IDS, numbered, own=False).errors == ()
        assert checked(tmp_path / "x", content, WITH_IDS, numbered).ok == (ids.dtype.kind == "U")
    more = archive(ids=np.array(IDS), extra=L, y=L)
    report = checked(tmp_path / "x", more, WITH_IDS, MASKS, own=False)
    assert report.ok and "entry 'extra.npy' is no array that is expected" in report.warnings[0]
    assert not checked(tmp_path / "x", more, WITH_IDS, MASKS).ok
    shuffled = archive(**{"7": L[2], "a": L[0], "b,c": L[1]})
    assert checked(tmp_path / "x", shuffled, many(key="{id}"), MASKS, own=False).errors == ()
    own = checked(tmp_path / "x", shuffled, many(key="{id}"), MASKS)
    assert any("expected the test set's order" in error for error in own.errors)


def test_any_byte_that_is_changed_is_found_or_changes_nothing(tmp_path: Path) -> None:
    """Damage is a sentence and never an exception."""
    for given in (one(), many(ids_key="ids")):
        content = packed(tmp_path, given, MASKS).path.read_bytes()
        good = checked(tmp_path / "x", content, given, MASKS)
        for place in range(len(content)):
            damaged = content[:place] + bytes([content[place] ^ 0x15]) + content[place + 1 :]
            report = checked(tmp_path / "x", damaged, given, MASKS)
            assert report.errors or report == good, place
            assert checked(tmp_path / "x", content[:place], given, MASKS).errors


def test_meant_must_cover_the_test_set_and_fit(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(saved(L))
    few = Ragged.stack(MASKS.stacked[[2, 0]], ["7", "a"])
    report = CHECKS["npy"](tmp_path / "x", one(), MASKS.ids, MASKS.shapes, few)
    assert report.errors == ("1 ids of the test set have no labels, first 'b,c'",)
    small = Ragged.stack(MASKS.stacked[:, :, :3], IDS)
    report = CHECKS["npy"](tmp_path / "x", one(), MASKS.ids, MASKS.shapes, small)
    assert "id 'a': shape (4, 5), meant was (3, 5)" in report.errors


def test_one_prediction_for_all_is_a_warning(tmp_path: Path) -> None:
    given = competition("classification", CLASSES, {"format": "npy"})
    assert packed(tmp_path, given, one_each([1, 1])).report.warnings == ("every image has the same prediction",)
    assert packed(tmp_path, given, one_each([1])).report.warnings == ()
    same = Ragged.stack(np.ones((2, 1, 2, 2), np.uint8), ["a", "b"])
    assert packed(tmp_path, one(), same).report.warnings == ("every pixel is predicted 'cell'",)
