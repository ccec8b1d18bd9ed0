"""Kaggle's command line as podium drives it, with a stand-in program on PATH."""

from __future__ import annotations

import io
import stat
import sys
import zipfile
from pathlib import Path

import pytest

from podium.errors import UserError
from podium.kaggle import command, credentials, download


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials and no kaggle command but the test's own."""
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "elsewhere" / "python"))


def program(tmp_path: Path, body: str) -> None:
    """A stand-in for the kaggle command; ``body`` is a shell script that knows $slug and $folder."""
    path = tmp_path / "bin" / "kaggle"
    called = '[ "$1 $2 $3 $5" = "competitions download -c -p" ] || exit 9'
    path.write_text(f"#!/bin/sh\n{called}\nslug=$4 folder=$6\n{body}\n")
    path.chmod(0o755)


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def token(folder: Path, name: str, text: str = "secret-token-123") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_credentials_in_the_command_lines_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home" / ".kaggle"
    assert credentials.credentials() is None
    monkeypatch.setenv("KAGGLE_USERNAME", "me")
    assert credentials.credentials() is None  # a name without a key is nothing
    monkeypatch.delenv("KAGGLE_USERNAME")
    xdg = token(tmp_path / "home" / ".config" / "kaggle", "kaggle.json", "{}")
    assert credentials.credentials() == str(xdg)
    json = token(home, "kaggle.json", "{}")
    assert credentials.credentials() == str(json)
    monkeypatch.setenv("KAGGLE_USERNAME", "me")
    monkeypatch.setenv("KAGGLE_KEY", "key")
    assert credentials.credentials() == "KAGGLE_USERNAME and KAGGLE_KEY"
    access = token(home, "access_token")
    assert credentials.credentials() == str(access)
    monkeypatch.setenv("KAGGLE_API_TOKEN", "abc")
    assert credentials.credentials() == "KAGGLE_API_TOKEN"


def test_config_dir_moves_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token(tmp_path / "home" / ".kaggle", "kaggle.json", "{}")
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "moved"))
    assert credentials.credentials() is None
    moved = token(tmp_path / "moved", "kaggle.json", "{}")
    assert credentials.credentials() == str(moved)
    access = token(tmp_path / "moved", "access_token")
    assert credentials.credentials() == str(access)
    assert credentials.environment()["KAGGLE_API_TOKEN"] == str(access)  # a path: the secret stays in its file
    access.write_text("")
    assert credentials.credentials() == str(moved)


def test_program_beside_python_comes_before_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command.executable() is None
    program(tmp_path, "")
    assert command.executable() == tmp_path / "bin" / "kaggle"
    (tmp_path / "env").mkdir()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "env" / "python"))
    (tmp_path / "env" / "kaggle").write_text("")
    assert command.executable() == tmp_path / "bin" / "kaggle"  # not executable
    (tmp_path / "env" / "kaggle").chmod(0o755)
    assert command.executable() == tmp_path / "env" / "kaggle"


def test_download_unpacks_into_place(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "served.zip", {"toy.npz": b"data", "more/readme.txt": b"hello"})
    program(tmp_path, f'echo "Downloading $slug.zip to $folder"; cp {archive} "$folder/$slug.zip"')
    download.download("the-slug", tmp_path / "data" / "toy", expect="toy.npz")
    held = {str(path.relative_to(tmp_path / "data")) for path in (tmp_path / "data").rglob("*") if path.is_file()}
    assert held == {"toy/toy.npz", "toy/more/readme.txt"}
    assert (tmp_path / "data" / "toy" / "toy.npz").read_bytes() == b"data"
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["toy"]


def test_what_is_there_already_stays(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "toy"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    archive = zipped(tmp_path / "served.zip", {"toy.npz": b"data", "notes.txt": b"theirs"})
    program(tmp_path, f'cp {archive} "$folder/$slug.zip"')
    download.download("the-slug", folder, expect="toy.npz")
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "toy.npz").read_bytes() == b"data"


@pytest.mark.parametrize("inner", ["", "cells/"])
def test_a_folder_may_be_expected_too(tmp_path: Path, inner: str) -> None:
    members = {f"{inner}train/images/1.png": b"data", f"{inner}train/masks/1.png": b"mask"}
    if not inner:  # what lies at the top is meant, whatever lies deeper
        members["copy/train/images/1.png"] = b"copy"
    archive = zipped(tmp_path / "served.zip", members)
    program(tmp_path, f'cp {archive} "$folder/$slug.zip"')
    download.download("the-slug", tmp_path / "toy", expect="train/images")
    assert (tmp_path / "toy" / "train" / "images" / "1.png").read_bytes() == b"data"
    assert sorted(path.name for path in (tmp_path / "toy").iterdir()) == (["train"] if inner else ["copy", "train"])
    with pytest.raises(UserError, match=r"brought .*train/images/1\.png.*, not test/images; correct data or kaggle in"):
        download.download("the-slug", tmp_path / "new", expect="test/images")


def test_expected_file_in_a_subfolder_or_not_at_all(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "served.zip", {"inner/toy.npz": b"data"})
    program(tmp_path, f'cp {archive} "$folder/$slug.zip"')
    download.download("the-slug", tmp_path / "toy", expect="toy.npz")
    assert (tmp_path / "toy" / "toy.npz").read_bytes() == b"data"
    with pytest.raises(UserError, match=r"brought inner/toy\.npz, not other\.npz"):
        download.download("the-slug", tmp_path / "new", expect="other.npz")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            'echo "403 Client Error: Forbidden for url" >&2; exit 1',
            "https://www.kaggle.com/competitions/the-slug/rules",
        ),
        ('echo "404 Client Error: Not Found" >&2; exit 1', "404 Client Error"),
        ('echo "503 Server Error: Busy"; echo x > "$folder/a.csv"; exit 0', "503 Server Error"),
        ('echo "Could not find competition"; exit 0', "Could not find competition"),
        ("exit 0", "nothing was downloaded"),
        ("echo something odd; exit 3", "exit code 3: something odd"),
    ],
)
def test_failures_by_output_and_by_exit_code(tmp_path: Path, body: str, said: str) -> None:
    program(tmp_path, body)
    with pytest.raises(UserError) as caught:
        download.download("the-slug", tmp_path / "data" / "toy")
    text = str(caught.value)
    assert said in text and "--data" in text and "--sample" in text and "\n" not in text
    assert list((tmp_path / "data").iterdir()) == []


def test_without_the_program(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no 'kaggle' command.*--data"):
        download.download("the-slug", tmp_path / "toy")


def test_secrets_never_reach_the_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_KEY", "key-from-env")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "token-from-env")
    token(tmp_path / "home" / ".kaggle", "access_token")
    token(tmp_path / "home" / ".kaggle", "kaggle.json", '{"username": "me", "key": "key-from-file"}')
    program(tmp_path, 'echo "could not use key-from-env token-from-env secret-token-123 key-from-file"; exit 1')
    with pytest.raises(UserError) as caught:
        download.download("the-slug", tmp_path / "toy")
    assert "could not use *** *** *** ***" in str(caught.value)


@pytest.mark.parametrize("name", ["/etc/evil", "../evil", "a/../../evil", "..\\evil", "C:/evil"])
def test_archives_cannot_write_outside(tmp_path: Path, name: str) -> None:
    archive = zipped(tmp_path / "x.zip", {"good.txt": b"1", name: b"2"})
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="leads out of the folder"):
        download.unpack(archive, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_links_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="is a link"):
        download.unpack(tmp_path / "x.zip", tmp_path / "out")


def test_damaged_archive(tmp_path: Path) -> None:
    whole = zipped(tmp_path / "x.zip", {"a.txt": b"1" * 1000}).read_bytes()
    assert zipfile.is_zipfile(io.BytesIO(whole))
    (tmp_path / "x.zip").write_bytes(whole[:-40])
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"x\.zip: is damaged or no zip"):
        download.unpack(tmp_path / "x.zip", tmp_path / "out")
