"""What there is to compute with; apart from ``training.machine``, so that the planner need not import torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
"""Where a container's limits are (control groups, version 2)."""


def cores() -> int:
    """Cores that this process may run on, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's name, empty where the system does not tell."""
    return cpu_field("model name")


def cpu_field(field: str) -> str:
    """A line of the first processor in /proc/cpuinfo, empty where there is none."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith(field):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return ""


def free_memory() -> int:
    """Bytes of main memory that are available, to the system or to the container that this runs in."""
    limit, used = _number(CGROUP / "memory.max"), _number(CGROUP / "memory.current")
    free = _memory("MemAvailable")
    return free if limit is None or used is None else max(0, min(free, limit - used))


def total_memory() -> int:
    """Bytes of main memory, of the system or of the container."""
    limit = _number(CGROUP / "memory.max")
    return _memory("MemTotal") if limit is None else min(limit, _memory("MemTotal"))


def _memory(field: str) -> int:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines[field].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 8 << 30  # not Linux: what a small laptop has


def _number(path: Path) -> int | None:
    """The number in a file; None where there is no file, or no limit ("max")."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


@cache
def gpus() -> tuple[str, ...]:
    """Names for CUDA_VISIBLE_DEVICES of NVIDIA's GPUs that this process may use; whether torch can, only torch knows."""
    there = _drivers_gpus()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not there:
        return tuple(map(str, range(there)))
    return tuple(name.strip() for name in visible.split(",") if name.strip() not in ("", "-1"))


def _drivers_gpus() -> int:
    folder = Path("/proc/driver/nvidia/gpus")
    if folder.is_dir():
        return len(list(folder.iterdir()))
    tool = shutil.which("nvidia-smi")  # Windows' Linux has no such folder
    if tool is None:
        return 0
    try:
        said = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in said.splitlines())
