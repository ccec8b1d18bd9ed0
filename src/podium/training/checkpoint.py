"""Checkpoints: everything that the next epoch depends on, written atomically, and not more often than they are worth."""

from __future__ import annotations

import pickle
import time
from pathlib import Path
from typing import Any

import torch

from podium.store import write_atomically

WORTH = 0.02
"""Share of the training time that checkpoints may cost."""
LONGEST = 60.0
"""Seconds after which a checkpoint is written whatever it costs."""


class Checkpoints:
    """Writes ``path`` at the end of an epoch, unless that would cost more than it could save."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._cost = 0.0
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether enough was computed since the last checkpoint to be worth another."""
        since = time.monotonic() - self._last
        return since >= LONGEST or since * WORTH >= self._cost

    def write(self, content: dict[str, Any]) -> None:
        """Replace the last checkpoint. Not flushed to the platter: a killed process loses nothing by that."""
        start = time.monotonic()
        write_atomically(self.path, lambda path: torch.save(content, path), sync=False)
        self._last = time.monotonic()
        self._cost = self._last - start

    def read(self) -> dict[str, Any] | None:
        """The last checkpoint, None where there is none or a power cut has damaged it."""
        try:
            content: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError):
            self.path.rename(self.path.with_suffix(".damaged"))
            return None
        return content
