"""How many processor cores there are to use; apart from ``training.machine``, so that the planner need not import torch."""

from __future__ import annotations

import os


def cores() -> int:
    """Cores that this process may run on, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
