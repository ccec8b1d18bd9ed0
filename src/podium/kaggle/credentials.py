"""Kaggle credentials: where they are, how the command line gets them, and that nobody else sees them."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from podium.errors import UserError

TOKEN_FILES = ("access_token", "access_token.txt")
REMEDY = (
    "make a token at https://www.kaggle.com/settings (API, 'Create New Token') and put it into ~/.kaggle/access_token or "
    "$KAGGLE_API_TOKEN, or an older kaggle.json into ~/.kaggle"
)


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


def needed() -> str:
    """``credentials``, or a UserError that says how to get some."""
    found = credentials()
    if found is None:
        raise UserError(f"no Kaggle credentials; {REMEDY}")
    return found


def environment() -> dict[str, str]:
    """Environment for the command line: a token file in a moved configuration folder is named to it."""
    env = dict(os.environ)
    token = _token_file()
    if token is not None and not env.get("KAGGLE_API_TOKEN"):
        env["KAGGLE_API_TOKEN"] = str(token)  # a path is allowed there; the secret itself stays in its file
    return env


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
