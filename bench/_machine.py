"""What every benchmark here needs: the machine in words, and time and memory of a call in a process of its own."""

from __future__ import annotations

import importlib.metadata
import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Measured:
    """seconds: wall clock of the call. peak_mb: highest resident memory during it above the level before (10^6 B)."""

    seconds: float
    peak_mb: float
    value: Any


def describe() -> dict[str, Any]:
    """Processor, cores, versions, date and command, to be written beside the numbers."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version for name in ("numpy", "torch", "pandas") if (version := _version(name))},
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": " ".join([Path(sys.executable).name, *sys.argv]),
    }


def measure(call: Callable[..., Any], *arguments: Any, prepare: Callable[..., Any] | None = None) -> Measured:
    """Run ``call(prepared, *arguments)`` in a spawned process and measure that call alone.

    prepare: called with the same arguments before the clock starts and the memory level is taken; its result is the
    first argument of ``call``. Without it ``call`` gets the arguments only. Both must be functions of a module's top.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure_here, call, arguments, prepare).result()


def write_results(path: Path, results: Any) -> None:
    """Write the machine's description and the results as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": describe(), "results": results}, indent=1) + "\n", encoding="utf-8")


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


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
