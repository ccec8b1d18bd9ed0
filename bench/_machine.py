"""What every benchmark here needs: the machine in words, time and memory of a call, and one form for all results."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import multiprocessing
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from podium.benches import Figure
from podium.cores import cores, gpus, processor
from podium.errors import UserError
from podium.store import write_json
from podium.submission.ledger import git_state

ROOT = Path(__file__).resolve().parents[1]
"""The project."""
T = TypeVar("T")


@dataclass(frozen=True)
class Measured:
    """seconds: wall clock of the call. peak_mb: highest resident memory during it above the level before (10^6 B)."""

    seconds: float
    peak_mb: float
    value: Any


def describe() -> dict[str, Any]:
    """Processor, GPUs, cores, versions, commit, date and command, to be written beside the numbers; torch is not imported."""
    commit, changed = git_state(ROOT)
    found = {
        "cpu": processor() or platform.processor() or platform.machine(),
        "cores": cores(),
        "gpu": gpu_names(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version for name in ("numpy", "torch", "pandas") if (version := _version(name))},
        "cuda": _torch_cuda(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "commit": f"{commit} with changes" if changed == "yes" else commit,
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": " ".join([Path(sys.executable).name, *sys.argv]),
    }
    return {key: value for key, value in found.items() if value not in (None, "", [])}


def gpu_names() -> list[str]:
    """The NVIDIA GPUs of the machine, none where CUDA is to see none."""
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    if not gpus():
        return []
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
        return [line.strip() for line in done.stdout.splitlines() if line.strip()]
    except (OSError, subprocess.SubprocessError):
        return ["an NVIDIA GPU whose name nvidia-smi does not tell"]


def title() -> str:
    """The machine in a few words, for the head of a table: ``NVIDIA H200`` or ``2 cores of AMD EPYC``, and torch."""
    names = gpu_names()
    where = names[0] if names else f"{cores()} cores of {processor() or platform.machine()}"
    return f"{where}, torch {_version('torch')}"


def measure(call: Callable[..., Any], *arguments: Any, prepare: Callable[..., Any] | None = None) -> Measured:
    """Run ``call(prepared, *arguments)`` in a spawned process and measure that call alone.

    prepare: called with the same arguments before the clock starts and the memory level is taken; its result is the
    first argument of ``call``. Without it ``call`` gets the arguments only. Both must be functions of a module's top.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure_here, call, arguments, prepare).result()


def resident_mb() -> float:
    """Main memory that this process holds now, 10⁶ bytes."""
    return _status("VmRSS") / 1e6


def ratio(name: str, value: float | None, wanted: tuple[str, float] | None = None) -> dict[str, Any]:
    """One entry of the list that ``podium bench`` sums up.

    value: None where it could not be measured here. wanted: ``(">=", 0.95)``, ``("<=", 2.0)``; None where nothing is asked.
    """
    return {"name": name, "value": None if value is None else float(value), "wanted": list(wanted) if wanted else None}


def write_results(path: Path, results: Any, ratios: Sequence[Mapping[str, Any]] = ()) -> None:
    """Write JSON: the machine's description, whether this was the quick form, the ``ratio`` entries, and the results."""
    whole = {"machine": describe(), "quick": "--quick" in sys.argv, "ratios": list(ratios), "results": results}
    write_json(path, whole)


def print_ratios(ratios: Sequence[Mapping[str, Any]]) -> None:
    """The entries that something is wanted of, and whether they are so."""
    for item in ratios:
        if item["wanted"] is not None:
            sign, bound = item["wanted"]
            figure = Figure(item["name"], item["value"], (sign, bound))
            value = "not measured" if figure.value is None else f"{figure.value:.3g}"
            verdict = {True: ": yes", False: ": NO", None: ""}[figure.met]
            print(f"{figure.name}: {value}, wanted {sign} {bound:g}{verdict}")


def start(main: Callable[[], None]) -> None:
    """Run a benchmark's ``main``; what the user can mend is one sentence and exit code 2, as with podium itself."""
    try:
        main()
    except UserError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(2)


def alternate(variants: Mapping[str, Callable[[], T]], rounds: int, warm_up: bool = True) -> dict[str, list[T]]:
    """Call every variant once per round and keep what it returns; every other round goes the other way about.

    So a machine that grows slower or busier while it is measured does so to all variants alike. warm_up: a round before
    them whose figures are forgotten.
    """
    found: dict[str, list[T]] = {name: [] for name in variants}
    for number in range(0 if warm_up else 1, rounds + 1):
        for name in list(variants) if number % 2 else list(variants)[::-1]:
            value = variants[name]()
            if number:
                found[name].append(value)
    return found


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median over rounds of one variant's figure divided by another's of the same round."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def _measure_here(call: Callable[..., Any], arguments: tuple[Any, ...], prepare: Callable[..., Any] | None) -> Measured:
    given = (prepare(*arguments), *arguments) if prepare else arguments
    Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark back to what is resident now
    before = _status("VmRSS")
    if _status("VmHWM") - before > 4e6:
        raise RuntimeError("this system does not reset the memory high-water mark; peak memory cannot be measured")
    start = time.perf_counter()
    value = call(*given)
    seconds = time.perf_counter() - start
    return Measured(seconds, max(0.0, (_status("VmHWM") - before) / 1e6), value)


def _status(key: str) -> float:
    """A memory figure of this process in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return float(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {key}")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _torch_cuda() -> str | None:
    """The CUDA version that torch was built for, read from its file of versions."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return None
    try:
        text = Path(found.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    line = re.search(r"^cuda\b.*= *['\"]([^'\"]+)['\"]", text, re.MULTILINE)
    return line.group(1) if line else None
