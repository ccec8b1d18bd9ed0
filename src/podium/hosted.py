"""Hosted notebooks: whether this is one, where it keeps results and attached folders, and what its session has left."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from podium.errors import UserError

ROOT = "PODIUM_KAGGLE_ROOT"
"""Variable that names another folder than ``/kaggle``: for tests, and to rehearse a notebook elsewhere."""
START = "PODIUM_SESSION_START"
"""Variable that says when the session began, in seconds since 1970, where the first process does not tell."""
HOURS, TPU_HOURS = 12.0, 9.0
"""Kaggle's limits of a session: on a CPU or GPU, and on a TPU."""
RESERVE = 900.0
"""Seconds of a session that a budget leaves alone: for what the notebook does after the run, and for Kaggle to save it."""
LEAST = 300.0
"""Seconds that must be left for a run to be worth starting."""
PATTERNS = ("*", "*/*", "notebooks/*/*", "datasets/*/*")
"""Where folders are attached below Kaggle's input: by name, or by kind, owner and name; results may lie one folder down."""


def kaggle_root() -> Path:
    """Kaggle's folder, which holds ``input`` and ``working``."""
    return Path(os.environ.get(ROOT) or "/kaggle")


def kaggle_input() -> Path:
    """Where Kaggle's notebooks find a competition's files and whatever else is attached, read-only."""
    return kaggle_root() / "input"


def on_kaggle() -> bool:
    """Whether this is a notebook of Kaggle's, or a folder that is laid out like one."""
    return bool(os.environ.get("KAGGLE_KERNEL_RUN_TYPE")) or _writable(kaggle_root() / "working")


def on_colab() -> bool:
    """Whether this is a notebook of Colab's."""
    return not on_kaggle() and bool(os.environ.get("COLAB_RELEASE_TAG") or os.environ.get("COLAB_GPU"))


def results_folder() -> Path | None:
    """Where Kaggle keeps what a notebook leaves behind; None elsewhere, and where it cannot be written."""
    working = kaggle_root() / "working"
    return working if on_kaggle() and _writable(working) else None


def read_only(folder: Path) -> bool:
    """Whether nothing can, or on Kaggle may, be written to a folder: what is attached never changes."""
    return folder.resolve().is_relative_to(kaggle_input().resolve()) or not os.access(folder, os.W_OK)


def attached(below: str) -> list[Path]:
    """The attached folders that hold the folder ``below``, sorted."""
    found = {path.resolve() for path in _attached() if (path / below).is_dir()}
    return sorted(found)


def session_left() -> float:
    """Seconds that a run may take in this session: Kaggle's limit, less what has passed and ``RESERVE``.

    The session begins with the container's first process, or when $PODIUM_SESSION_START says. Where there is no limit that
    is known, and where too little is left, a UserError says to give a time.
    """
    if not on_kaggle():
        where = (
            "Colab ends its sessions when it likes"
            if on_colab()
            else "this is no notebook of Kaggle's, nothing ends it"
        )
        raise UserError(f"--budget session: {where}; give a time instead, for example --budget 90m")
    hours = TPU_HOURS if any(name.startswith("TPU_") for name in os.environ) else HOURS
    passed = max(0.0, time.time() - session_start())
    left = hours * 3600 - passed - RESERVE
    if left < LEAST:
        raise UserError(
            f"--budget session: of {hours:.0f} h {passed / 3600:.1f} h have passed, too little is left; start a new session "
            f"and continue there, or give a time, or correct {START} where it says wrong"
        )
    return left


def session_start(proc: Path = Path("/proc")) -> float:
    """When the session began, in seconds since 1970: ``$PODIUM_SESSION_START``, else the start of process 1, else now."""
    if given := os.environ.get(START):
        try:
            return float(given)
        except ValueError:
            raise UserError(f"{START}={given}: not a time in seconds since 1970; correct it or leave it out") from None
    try:
        # the name, in brackets, may hold blanks; of what follows it the 20th field is the start, in ticks after the system's
        fields = (proc / "1" / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        up = float((proc / "uptime").read_text(encoding="ascii").split()[0])
        return time.time() - (up - int(fields[19]) / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError):
        return time.time()


def _attached() -> Iterator[Path]:
    for pattern in PATTERNS:
        yield from (path for path in kaggle_input().glob(pattern) if path.is_dir())


def _writable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK)
