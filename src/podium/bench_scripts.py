"""The scripts of bench/ as their text describes them, what they need, and what this machine has; nothing is run.

A script is a file of bench/ whose name does not begin with ``_``. It takes ``--out FILE`` and ``--quick``, perhaps
``--data DIR``, prints a table, and writes JSON with a list ``ratios`` (``write_results`` in bench/_machine.py). What it
needs it says in a constant, words and perhaps a number behind each:

    NEEDS = ()                          nothing in particular
    NEEDS = ("cuda",)                   an NVIDIA GPU
    NEEDS = ("gpus", 2, "cores", 8)     that many of them
    NEEDS = ("memory_gb", 8)            that much free main memory, 10⁹ bytes
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podium.cores import cores, free_memory, gpus
from podium.errors import did_you_mean

COUNTED = ("gpus", "cores", "memory_gb")
"""Needs that have a number behind them; ``cuda`` is short for one GPU."""


@dataclass(frozen=True)
class Here:
    """What a script may need and this machine has; memory_gb: free main memory, 10⁹ bytes."""

    gpus: int
    cores: int
    memory_gb: float


@dataclass(frozen=True)
class Script:
    """A benchmark as its text describes it. takes: the options it has. problem: why it cannot be run, mostly nothing."""

    path: Path
    about: str = ""
    needs: tuple[tuple[str, float], ...] = ()
    takes: frozenset[str] = frozenset()
    problem: str = ""

    @property
    def name(self) -> str:
        """What it is asked for by."""
        return self.path.stem


def read_scripts(folder: Path) -> list[Script]:
    """All benchmarks of a folder, by name."""
    return [read_script(path) for path in sorted(folder.glob("*.py")) if not path.name.startswith("_")]


def read_script(path: Path) -> Script:
    """What a benchmark's text says about it; the text is parsed and not run."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as error:
        return Script(path, problem=f"bench/{path.name} cannot be read: {error}")
    about = (ast.get_docstring(tree) or "").partition("\n")[0]
    takes = frozenset(
        item.value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument"
        for item in call.args
        if isinstance(item, ast.Constant) and isinstance(item.value, str)
    )
    for statement in tree.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "NEEDS" for target in targets):
            assert isinstance(statement, ast.Assign)
            try:
                return Script(path, about, _needs(ast.literal_eval(statement.value)), takes)
            except ValueError as error:
                return Script(path, about, (), takes, f"bench/{path.name}: NEEDS: {error}")
    return Script(path, about, (), takes, f"bench/{path.name} has no NEEDS; write NEEDS = () where it needs nothing")


def _needs(raw: Any) -> tuple[tuple[str, float], ...]:
    """``("cuda", "memory_gb", 8)`` → pairs of what and how much."""
    found: list[tuple[str, float]] = []
    words = list(raw) if isinstance(raw, tuple) else [raw]
    while words:
        word = words.pop(0)
        if word == "cuda":
            found.append(("gpus", 1.0))
        elif word in COUNTED and words and isinstance(words[0], int | float):
            found.append((word, float(words.pop(0))))
        elif word in COUNTED:
            raise ValueError(f"'{word}' lacks its number; write for example ('{word}', 2)")
        else:
            raise ValueError(f"'{word}' is no need; {did_you_mean(str(word), ('cuda', *COUNTED))}")
    return tuple(found)


def lacking(needs: Sequence[tuple[str, float]], machine: Here) -> str:
    """What of ``needs`` the machine does not have, as half a sentence; empty where it has all."""
    words = {"gpus": "NVIDIA GPUs", "cores": "processor cores", "memory_gb": "GB of free memory"}
    short = []
    for what, amount in needs:
        there = float(getattr(machine, what))
        if there < amount:
            unit = "NVIDIA GPU" if (what, amount) == ("gpus", 1.0) else words[what]
            short.append(f"needs {amount:g} {unit}, here {'is' if there == 1 else 'are'} {there:.3g}")
    return "; ".join(short)


def here() -> Here:
    """What this machine has, found out without torch."""
    return Here(len(gpus()), cores(), free_memory() / 1e9)
