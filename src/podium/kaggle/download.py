"""A competition's files from Kaggle: downloaded beside their place, unpacked with checked paths, then renamed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from podium.errors import UserError
from podium.kaggle.command import ANSWER, accept_rules, run
from podium.kaggle.credentials import credentials

PARTIAL = ".kaggle-partial"
"""The mark that the command line puts beside a file of which it has a part."""


SIZES_PAGE = 200
"""Files whose sizes are asked for."""


def download(
    slug: str, folder: Path, expect: str | None = None, say: Callable[[str], None] = lambda text: None
) -> None:
    """Download a competition's files and unpack them into ``folder``.

    They arrive in a hidden folder beside it and are renamed, so ``folder`` never holds half of them; what it holds
    already stays as it is. A download that was cut off stays there and is gone on with next time. Sizes are held against
    Kaggle's list. ``expect`` is a file or folder that must be among them, at the top or in one sub-folder (whose contents
    are then taken). A failure is a UserError with the command line's words, without secrets.
    """
    beside = folder.with_name(f".{folder.name}-download")
    arrived, unpacked = beside / "arrived", beside / "unpacked"
    try:
        arrived.mkdir(parents=True, exist_ok=True)
        with _alone(beside):
            shutil.rmtree(unpacked, ignore_errors=True)
            unpacked.mkdir()
            try:
                _fetch(slug, arrived)
                for path in sorted(arrived.iterdir()):
                    if path.suffix.lower() == ".zip":
                        unpack(path, unpacked)
                        path.unlink()
                    else:
                        os.rename(path, unpacked / path.name)
                _check_sizes(slug, unpacked, say)
                _move(unpacked if expect is None else _holder(unpacked, expect, slug), folder)
            finally:
                shutil.rmtree(unpacked, ignore_errors=True)
                if not any(path.suffix == PARTIAL for path in arrived.iterdir()):
                    shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror or error}); make room or use --data") from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """While another command downloads to the same place this one is refused."""
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: another command is downloading there; wait for it") from None
        yield
    finally:
        os.close(handle)


def _check_sizes(slug: str, folder: Path, say: Callable[[str], None]) -> None:
    """Hold the files' sizes against Kaggle's list; where that cannot be had it is said."""
    said = run(["competitions", "files", slug, "--format", "json", "--page-size", str(SIZES_PAGE)], ANSWER)
    try:
        listed = json.loads(said.out[said.out.index("[") :]) if said.problem is None else None
    except ValueError:
        listed = None
    if listed is None:
        say(f"{slug}: the sizes of the files were not checked, Kaggle's list of them cannot be had")
        return
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    for file in listed:
        name, size = str(file.get("name")), file.get("size")
        found = [held for path, held in sizes.items() if path == name or path.endswith(f"/{name}")]
        if found and size not in found:
            raise UserError(
                f"{slug}: '{name}' has {found[0]} bytes and Kaggle lists {size}; download again, or get the files another way "
                f"and use --data"
            )
        if not found:
            say(f"{slug}: Kaggle lists '{name}', which did not come by that name")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip into ``folder``; a member that is a link or leads outside is a UserError before any is written."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            for member in members:
                name = PurePosixPath(member.filename)
                outside = name.is_absolute() or ".." in name.parts or "\\" in member.filename or ":" in member.filename
                kind = stat.S_IFMT(member.external_attr >> 16)
                if outside or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise UserError(
                        f"{archive.name}: member '{member.filename}' is a link or leads out of the folder; "
                        f"the archive is not unpacked, get the files another way and use --data"
                    )
            for member in members:
                target = folder / member.filename
                if member.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(member) as source, target.open("xb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise UserError(f"{archive.name}: is damaged or no zip ({error}); download it again or use --data") from error


def _fetch(slug: str, folder: Path) -> None:
    said = run(["competitions", "download", "-c", slug, "-p", str(folder)])
    if said.problem is None and any(folder.iterdir()):
        return
    what = (said.problem or "nothing was downloaded").replace(str(folder), "").replace(slug, "competition")
    rules = f"{accept_rules(slug)} and try again, or " if said.forbidden else ""
    raise UserError(
        f"Kaggle download of '{slug}' failed (exit code {said.code}: {what}); "
        f"{rules}check the credentials in {credentials() or 'your settings'}, or name the data's folder with --data, "
        f"or use --sample for the built-in sample"
    )


def _holder(folder: Path, expect: str, slug: str) -> Path:
    """The folder that holds ``expect``, a file or a folder: ``folder`` or the only one below it that does."""
    if (folder / expect).exists() or (folder / f"{expect}.gz").exists():
        return folder
    found = sorted([*folder.rglob(expect), *folder.rglob(f"{expect}.gz")])
    if len(found) == 1:
        return found[0].parents[len(PurePosixPath(expect).parts) - 1]
    held = ", ".join(sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())[:8])
    raise UserError(
        f"Kaggle download of '{slug}' brought {held or 'no files'}, not {expect}; "
        f"correct data or kaggle in the competition's configuration, or name the data's folder with --data"
    )


def _move(source: Path, folder: Path) -> None:
    """Rename ``source`` to ``folder``, or its entries into it where it exists; nothing there is replaced."""
    if not folder.exists():
        os.rename(source, folder)
        return
    for path in sorted(source.iterdir()):
        if not (folder / path.name).exists():
            os.rename(path, folder / path.name)
