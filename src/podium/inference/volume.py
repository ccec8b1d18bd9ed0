"""A volume under construction: appended to as answers come, and continued from its last flush after a kill."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path

import numpy as np

from podium.data.ragged import save_index
from podium.errors import UserError
from podium.store import write_json

FLUSH_SECONDS = 15.0
HALF = np.dtype(np.float16)
"""What probabilities are kept in."""


class Volume:
    """Writes (C, H, W) of ``dtype`` per id, one after the other, to what becomes ``path`` (.npy, with its index) at the end.

    It is written, not mapped: a full disk is then an error that can be told, where a mapping would end the process, and
    what was written is the system's to keep or drop, not this process's memory.
    rows: how many are written. flushed: how many a kill now would leave, more than 0 at first where one is continued.
    """

    def __init__(self, path: Path, shapes: np.ndarray, ids: np.ndarray, dtype: np.dtype = HALF) -> None:
        self.path, self.shapes, self.ids, self.dtype = path, shapes, ids, dtype
        self._ends = np.concatenate([[0], shapes.prod(axis=1).cumsum()]).astype(np.int64)
        self._header = _header(int(self._ends[-1]), dtype)
        self._partial, self._progress = path.with_suffix(".partial.npy"), path.with_suffix(".partial.json")
        self.rows = self.flushed = self._resume()
        if not self.rows:  # or what an earlier attempt said would later be believed of this one
            self._progress.unlink(missing_ok=True)
        try:
            # unbuffered: what comes is large, and a buffer would be one more copy
            self._file = self._partial.open("r+b" if self.rows else "wb", buffering=0)
            if self.rows:
                self._file.truncate(self._bytes(self.rows))
                self._file.seek(0, os.SEEK_END)
            else:
                self._write(self._header)
        except OSError as error:
            raise self._unwritable(error) from error
        self._flushed_at = time.monotonic()

    def append(self, items: np.ndarray, rows: int) -> None:
        """Add the next ``rows`` rows: (rows, C, H, W), or one (C, H, W)."""
        wanted = int(self._ends[self.rows + rows] - self._ends[self.rows])
        if items.dtype != self.dtype or items.size != wanted:
            raise ValueError(f"{self.path}: takes {wanted} {self.dtype} values next, not {items.size} {items.dtype}")
        try:
            self._write(np.ascontiguousarray(items).data)
        except OSError as error:
            raise self._unwritable(error) from error
        self.rows += rows

    def flush_if_due(self) -> None:
        """Flush to the disk and note how far, where that was not done for ``FLUSH_SECONDS``."""
        if time.monotonic() - self._flushed_at > FLUSH_SECONDS and self.rows < len(self.ids):
            self._sync()
            write_json(self._progress, {"rows": self.rows}, sync=False)
            self.flushed, self._flushed_at = self.rows, time.monotonic()

    def finish(self) -> None:
        """Flush, write the index, and give the file its name."""
        if self.rows != len(self.ids):
            raise ValueError(f"{self.path}: {self.rows} of {len(self.ids)} rows were written")
        self._sync()
        self._file.close()
        save_index(self.path, self.shapes, self.ids)
        self._progress.unlink(missing_ok=True)
        os.replace(self._partial, self.path)

    def close(self) -> None:
        """Let go of the file; what was flushed stays for the next attempt."""
        self._file.close()

    def _write(self, content: bytes | memoryview) -> None:
        left = memoryview(content).cast("B")
        while left:  # a raw file may take a part
            left = left[self._file.write(left) :]

    def _sync(self) -> None:
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> UserError:
        said = error.strerror or error
        return UserError(f"{self.path}: cannot be written ({said}); free space or choose another place with --out")

    def _bytes(self, rows: int) -> int:
        return len(self._header) + int(self._ends[rows]) * self.dtype.itemsize

    def _resume(self) -> int:
        """Rows that a killed attempt had already flushed."""
        try:
            rows = int(json.loads(self._progress.read_text())["rows"])
            with self._partial.open("rb") as file:
                fits = file.read(len(self._header)) == self._header
            fits = fits and 0 <= rows <= len(self.ids) and self._partial.stat().st_size >= self._bytes(rows)
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        return rows if fits else 0


def _header(values: int, dtype: np.dtype) -> bytes:
    """What a .npy file of so many values begins with."""
    text = io.BytesIO()
    described = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": (values,),
    }
    np.lib.format.write_array_header_1_0(text, described)
    return text.getvalue()
