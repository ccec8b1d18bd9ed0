"""``podium bench``: runs the scripts of bench/ that fit this machine and sums up what they measured; imports none of them."""

from __future__ import annotations

import operator
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import podium
from podium.bench_scripts import Script, here, lacking, read_scripts
from podium.errors import UserError, did_you_mean
from podium.store import read_json
from podium.workspace import find_workspace

COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
SIGNS = {">=": "≥", "<=": "≤"}
Say = Callable[[str], None]


@dataclass(frozen=True)
class Figure:
    """One number that a script measured, None where it could not; wanted: sign and bound, None where nothing is asked."""

    name: str
    value: float | None
    wanted: tuple[str, float] | None = None

    @property
    def met(self) -> bool | None:
        """Whether it is as wanted; None where there is nothing to compare."""
        if self.value is None or self.wanted is None:
            return None
        sign, bound = self.wanted
        return bool(COMPARE[sign](self.value, bound))


@dataclass(frozen=True)
class Result:
    """How a benchmark ended. reason: of one that was left out or failed. file: the JSON that it wrote, where it did."""

    name: str
    status: Literal["done", "failed", "left out"]
    seconds: float = 0.0
    figures: tuple[Figure, ...] = ()
    reason: str = ""
    file: str | None = None


def run(
    names: Sequence[str] = (),
    out: Path | None = None,
    quick: bool = False,
    data: Path | None = None,
    say: Say = print,
) -> list[Result]:
    """Run the benchmarks that are asked for, all where none is, each in a process of its own; one that fails stops no other.

    out: folder of the JSON files, bench/out of the project (bench/out/quick with ``quick``) where none is given. data:
    folder of the competitions' data, for the scripts that read some. say: called with every line that they print, and
    with a table of all figures at the end. An unknown name, a missing folder: UserError.
    """
    folder = bench_folder()
    chosen = _choose(read_scripts(folder), names)
    if data is not None and not data.exists():
        raise UserError(f"--data {data}: no such folder; name the one that holds the competitions' data")
    out = (out or (folder / "out" / "quick" if quick else folder / "out")).resolve()
    machine = here()
    results = []
    for script in chosen:
        say(f"== {script.name}: {script.about}" if script.about else f"== {script.name}")
        lacks = lacking(script.needs, machine)
        if script.problem:
            results.append(Result(script.name, "failed", reason=script.problem))
        elif lacks:
            results.append(Result(script.name, "left out", reason=lacks))
        else:
            results.append(_run(script, out / f"{script.name}.json", quick, data, say))
        if results[-1].reason:
            say(f"{results[-1].status}: {results[-1].reason}")
        say("")
    for line in summary(results):
        say(line)
    return results


def bench_folder() -> Path:
    """The project's folder of benchmarks; an installed package has none, which is a UserError."""
    folder = find_workspace().root / "bench"
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; the benchmarks are part of a checkout of podium, run them from one")
    return folder


def summary(results: Sequence[Result]) -> list[str]:
    """The lines of a table: every figure of every benchmark, and what it is wanted to be."""
    rows = [["benchmark", "seconds", "figure", "value", "wanted", "met"]]
    for result in results:
        first = [result.name, f"{result.seconds:.0f}" if result.seconds else ""]
        if result.status != "done" or not result.figures:
            rows.append([*first, result.reason and f"{result.status}: {result.reason}", "", "", ""])
            first = ["", ""]
        for figure in result.figures:
            rows.append([*first, *_cells(figure)])
            first = ["", ""]
    # a long reason needs no column of its own width
    widths = [max(len(row[i]) for row in rows if i != 2 or row[3] or row is rows[0]) for i in range(6)]
    lines = []
    for row in rows:
        cells = [
            text.rjust(width) if i in (1, 3) else text.ljust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def _cells(figure: Figure) -> list[str]:
    value = "not measured"
    if figure.value is not None:
        value = f"{figure.value:.3g}" if abs(figure.value) < 1000 else f"{figure.value:,.0f}"
    wanted = f"{SIGNS.get(figure.wanted[0], figure.wanted[0])} {figure.wanted[1]:g}" if figure.wanted else ""
    return [figure.name, value, wanted, {True: "yes", False: "NO", None: ""}[figure.met]]


def _choose(scripts: list[Script], names: Sequence[str]) -> list[Script]:
    by_name = {script.name: script for script in scripts}
    for name in names:
        if name not in by_name:
            raise UserError(f"bench {name}: there is no such benchmark; {did_you_mean(name, by_name)}")
    return [by_name[name] for name in dict.fromkeys(names)] if names else scripts


def _run(script: Script, file: Path, quick: bool, data: Path | None, say: Say) -> Result:
    """One benchmark in a process of its own, its lines passed on as they come."""
    root = script.path.parents[1]
    command = [sys.executable, _seen_from(root, script.path), "--out", _seen_from(root, file)]
    command += ["--quick"] if quick else []
    command += ["--data", str(data.resolve())] if data is not None and "--data" in script.takes else []
    before, start, last = _stamp(file), time.perf_counter(), ""
    process = subprocess.Popen(
        command,
        cwd=root,
        env=_environment(root),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            say(line.rstrip())
            last = line.strip() or last
        code = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()
    seconds = time.perf_counter() - start
    written = _stamp(file) not in (None, before)  # what an earlier run left there is not this one's result
    try:
        figures = read_figures(file) if written else ()
    except (UserError, ValueError) as error:
        return Result(script.name, "failed", seconds, (), str(error), str(file))
    reason = "" if written else f"it wrote no {file.name}"
    if code:
        reason = f"it ended with exit code {code}: {last}" if code > 0 else f"it was ended by signal {-code}"
    return Result(script.name, "failed" if reason else "done", seconds, figures, reason, str(file) if written else None)


def read_figures(file: Path) -> tuple[Figure, ...]:
    """The ``ratios`` of a benchmark's JSON; ValueError where they are not what ``write_results`` makes."""
    raw = read_json(file)
    try:
        figures = []
        for item in raw["ratios"]:
            wanted = (str(item["wanted"][0]), float(item["wanted"][1])) if item["wanted"] else None
            if wanted and wanted[0] not in COMPARE:
                raise ValueError(wanted[0])
            figures.append(Figure(str(item["name"]), None if item["value"] is None else float(item["value"]), wanted))
        return tuple(figures)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ValueError(f"{file.name}: its ratios are not as write_results makes them ({error!r})") from None


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _seen_from(root: Path, path: Path) -> str:
    """A path as it is written in a command that runs in ``root``."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _environment(root: Path) -> dict[str, str]:
    """This environment, in which the scripts find the very podium that starts them."""
    paths = [str(Path(podium.__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PODIUM_ROOT": str(root),
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
    }
