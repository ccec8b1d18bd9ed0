"""The check of a model_zip from anywhere: its archive and its code are looked at, none of it is run."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from podium.config import Competition
from podium.submission.checks.model_zip import check_model_zip
from podium.submission.checks.report import Report
from podium.submission.model_zip.archive import CODE
from submitting import competition

CLASSES = ["round", "square"]
GOOD = b"""
import os
import numpy as np
from pathlib import Path
import onnxruntime as ort

class Model:
    def __init__(self):
        raise SystemExit("this was run")
    def predict(self, X):
        return np.zeros(len(X), int)
"""


def given(**settings: object) -> Competition:
    return competition("classification", CLASSES, {"format": "model_zip", **settings})


def checked(tmp_path: Path, files: dict[str, bytes], own: bool = False, **settings: object) -> Report:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(zipfile.ZipInfo(name), content)
    return check_model_zip(path, given(**settings), own=own)


def code(text: str, tmp_path: Path, own: bool = False) -> Report:
    return checked(tmp_path, {"model.py": text.encode()}, own)


def test_a_good_file_passes_and_is_not_run(tmp_path: Path) -> None:
    assert checked(tmp_path, {"model.py": GOOD, "nets/a.onnx": b"x"}) == Report((), (), 2, ())
    assert checked(tmp_path, {"model.py": CODE.read_bytes()}, own=True) == Report((), (), 1, ())


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("../model.bin", "leads out of the folder"),
        ("a/../../b", "leads out of the folder"),
        ("/etc/passwd", "leads out of the folder"),
        ("C:/x", "leads out of the folder"),
        ("a\nb", "cannot be that of a file everywhere"),
    ],
)
def test_no_entry_leads_out_of_the_folder(tmp_path: Path, name: str, sentence: str) -> None:
    (error,) = checked(tmp_path, {"model.py": GOOD, name: b"x"}).errors
    assert sentence in error and repr(name) in error


def test_backslashes_links_doubles_and_passwords_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("model.py", GOOD)
        odd = zipfile.ZipInfo("weights")
        odd.filename = "..\\weights"
        file.writestr(odd, b"x")
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, b"/etc/passwd")
        locked = zipfile.ZipInfo("locked")
        file.writestr(locked, b"x")
        file.getinfo("locked").flag_bits |= 1
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("model.py", GOOD)
    errors = check_model_zip(path, given()).errors
    told = [
        "'model.py': is there 2 times",
        "weights': its name leads out",
        "'link': is a link",
        "'locked': is encrypted",
    ]
    assert [any(part in error for error in errors) for part in told] == [True] * 4


def test_model_py_is_at_the_root(tmp_path: Path) -> None:
    (error,) = checked(tmp_path, {"submission/model.py": GOOD}).errors
    assert error == (
        "there is no model.py at the root of the archive; it is at 'submission/model.py', zip the files and not their folder"
    )
    assert checked(tmp_path, {"main.py": GOOD}).errors == ("there is no model.py at the root of the archive",)


def test_what_is_no_archive_or_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(b"id,label\n")
    assert "is no zip archive, or is cut off" in check_model_zip(path, given()).errors[0]
    assert checked(tmp_path, {"model.py": GOOD, "w": bytes(range(256)) * 40}).ok
    content = bytearray(path.read_bytes())
    path.write_bytes(content[:-30])
    assert "is no zip archive, or is cut off" in check_model_zip(path, given()).errors[0]
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("model.py", GOOD)
        file.writestr("w", b"abcdef" * 9)
    content = bytearray(path.read_bytes())
    at = content.index(b"abcdef" * 9)
    content[at] ^= 1
    path.write_bytes(content)
    assert "entry 'w': its checksum is not right" in check_model_zip(path, given()).errors[0]


def test_the_size_limit(tmp_path: Path) -> None:
    files = {"model.py": GOOD, "large.bin": bytes(range(256)), "small.bin": b"x"}
    assert checked(tmp_path, files).ok
    size = (tmp_path / "x.zip").stat().st_size
    assert checked(tmp_path, files, size_limit=size / 1e6).ok
    (error,) = checked(tmp_path, files, size_limit=(size - 1) / 1e6).errors
    assert "the file has 0.00 MB, allowed are 0.000" in error and "'large.bin' 0.00 MB" in error


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("class Model\n    pass", "is no Python that can be read"),
        ("x = 1\0", "is no Python that can be read"),
        ("def predict(X): ...", "has no class Model at its top level"),
        ("if True:\n  class Model:\n    def predict(self, X): ...", "has no class Model at its top level"),
        ("class Model:\n  def forward(self, X): ...", "class Model has no method predict"),
        ("class Model:\n  def predict(self): ...", "cannot be called with X alone"),
        ("class Model:\n  def predict(self, X, y): ...", "cannot be called with X alone"),
        ("class Model:\n  def predict(self, X, *, y): ...", "cannot be called with X alone"),
        ("class Model:\n  async def predict(self, X): ...", "cannot be called with X alone"),
        ("class Model:\n  @staticmethod\n  def predict(): ...", "cannot be called with X alone"),
        ("class Model:\n  def __init__(self, path): ...\n  def predict(self, X): ...", "__init__ needs arguments"),
    ],
)
def test_what_the_grader_could_not_call(tmp_path: Path, text: str, sentence: str) -> None:
    (error,) = code(text, tmp_path).errors
    assert sentence in error


@pytest.mark.parametrize(
    "text",
    [
        "class Model:\n  def __init__(self, path='.'): ...\n  def predict(self, X, batch=8): ...",
        "class Model:\n  def predict(self, *args): ...",
        "class Base:\n  def predict(self, X): ...\nclass Model(Base): ...",
        "class Model(object):\n  @staticmethod\n  def predict(X): ...",
        "class Model:\n  def predict(self, X): return '\\d'",  # Python warns of that, and runs it
    ],
)
def test_what_it_can_call(tmp_path: Path, text: str) -> None:
    assert code(text, tmp_path) == Report((), (), 1, ())


def test_what_lies_elsewhere_is_a_warning(tmp_path: Path) -> None:
    found = checked(tmp_path, {"model.py": b"from net import Model", "net.py": b""})
    assert found == Report((), ("model.py imports class Model from elsewhere; it was not looked at",), 2, ())
    found = code("import torch.nn\nclass Model(torch.nn.Module): ...", tmp_path)
    assert found.ok and [text[:30] for text in found.warnings] == [
        "model.py: Model.predict comes ",
        "model.py imports 'torch', whic",
    ]
    own = code("class Model:\n  def predict(self, X):\n    import torch", tmp_path, own=True)
    assert own.errors == ("model.py imports 'torch', which the grader may not have; numpy and onnxruntime are enough",)
