"""Kaggle's own command line, driven as a program: which credentials there are, and a competition's files."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import stat
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from podium.errors import UserError

TOKEN_FILES = ("access_token", "access_token.txt")

FAILURE = re.compile(
    r"\b[45]\d\d\b.{0,20}\b(error|forbidden|unauthori[sz]ed|not found)|forbidden|unauthori[sz]ed|"
    r"\bcould not\b|\bpermission\b.*\bdenied|\binvalid credentials",
    re.IGNORECASE,
)
"""What the command line prints when it failed; its exit code alone does not say (it can be 0)."""


def credentials() -> str | None:
    """Where Kaggle credentials are (a variable's name or a file), None where there are none; they are not read.

    The order is the command line's: a token, then user name and key, then a login of its own.
    """
    token = _token_file()
    if os.environ.get("KAGGLE_API_TOKEN"):
        return "KAGGLE_API_TOKEN"
    if token is not None:
        return str(token)
    if os.environ.get("KAGGLE_USERNAME") and os.environ.get("KAGGLE_KEY"):
        return "KAGGLE_USERNAME and KAGGLE_KEY"
    files = [folder / "kaggle.json" for folder in _config_folders()] + [_home() / "credentials.json"]
    return next((str(path) for path in files if _filled(path)), None)


def user_name() -> str | None:
    """The user's name on Kaggle, from $KAGGLE_USERNAME or kaggle.json, of which nothing else is kept; None where neither tells."""
    if given := os.environ.get("KAGGLE_USERNAME"):
        return given
    for folder in _config_folders():
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if name := json.loads((folder / "kaggle.json").read_text(encoding="utf-8")).get("username"):
                return str(name)
    return None


def executable() -> Path | None:
    """Kaggle's command line: the one beside this Python, else on PATH, else None."""
    beside = Path(sys.executable).parent / "kaggle"
    if beside.is_file() and os.access(beside, os.X_OK):
        return beside
    found = shutil.which("kaggle")
    return Path(found) if found else None


def environment() -> dict[str, str]:
    """Environment for the command line: a token file in a moved configuration folder is named to it."""
    env = dict(os.environ)
    token = _token_file()
    if token is not None and not env.get("KAGGLE_API_TOKEN"):
        env["KAGGLE_API_TOKEN"] = str(token)  # a path is allowed there; the secret itself stays in its file
    return env


def download(slug: str, folder: Path, expect: str | None = None) -> None:
    """Download a competition's files and unpack them into ``folder``.

    They arrive in a temporary folder beside it and are renamed, so ``folder`` never holds half of them; what it
    holds already stays as it is. ``expect`` is a file or folder that must be among them, at the top or in one sub-folder
    (whose contents are then taken). A failure is a UserError with the command line's words, without secrets.
    """
    beside = folder.with_name(f".{folder.name}-download-{os.getpid()}-{secrets.token_hex(4)}")
    arrived, unpacked = beside / "arrived", beside / "unpacked"
    try:
        arrived.mkdir(parents=True)
        unpacked.mkdir()
        _fetch(slug, arrived)
        for path in sorted(arrived.iterdir()):
            if path.suffix.lower() == ".zip":
                unpack(path, unpacked)
                path.unlink()
            else:
                os.rename(path, unpacked / path.name)
        _move(unpacked if expect is None else _holder(unpacked, expect, slug), folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror or error}); make room or use --data") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


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


def redact(text: str) -> str:
    """``text`` without any Kaggle secret that this process can see."""
    hidden = {os.environ.get("KAGGLE_KEY", ""), os.environ.get("KAGGLE_API_TOKEN", "")}
    with contextlib.suppress(OSError):
        token = _token_file()
        hidden.add(token.read_text(encoding="utf-8", errors="replace").strip() if token else "")
    for folder in _config_folders():
        with contextlib.suppress(OSError, ValueError, AttributeError):
            hidden.add(str(json.loads((folder / "kaggle.json").read_text(encoding="utf-8")).get("key", "")))
    for secret in sorted(hidden - {""}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _fetch(slug: str, folder: Path) -> None:
    program = executable()
    if program is None:
        raise UserError(
            "Kaggle credentials are there, but no 'kaggle' command; install it with 'pip install kaggle six', "
            "or name the data's folder with --data, or use --sample"
        )
    command = [str(program), "competitions", "download", "-c", slug, "-p", str(folder)]
    asked = subprocess.run(
        command, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
    )
    said = redact(f"{asked.stdout}\n{asked.stderr}").replace(str(folder), "").replace(slug, "competition")
    failed = FAILURE.search(said) is not None
    if asked.returncode == 0 and not failed and any(folder.iterdir()):
        return
    lines = [line.strip() for line in re.split(r"[\r\n]+", said) if line.strip()]
    telling = [line for line in lines if FAILURE.search(line)] or lines[-1:] or ["nothing was downloaded"]
    rules = ""
    if re.search(r"\b403\b|forbidden", said, re.IGNORECASE):
        rules = f"accept the rules at https://www.kaggle.com/competitions/{slug}/rules and try again, or "
    raise UserError(
        f"Kaggle download of '{slug}' failed (exit code {asked.returncode}: {telling[0][:300]}); "
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


def _home() -> Path:
    return Path("~/.kaggle").expanduser()


def _config_folders() -> list[Path]:
    moved = os.environ.get("KAGGLE_CONFIG_DIR")
    if moved:
        return [Path(moved)]
    return [_home(), Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "kaggle"]


def _token_file() -> Path | None:
    folders = [*_config_folders(), _home()]
    return next((folder / name for folder in folders for name in TOKEN_FILES if _filled(folder / name)), None)


def _filled(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.is_file() and path.stat().st_size > 0
    return False
