"""Ragged: many arrays of different sizes in one flat, memory-mapped array, each with an id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np

from podium.errors import UserError


@dataclass(frozen=True, eq=False)
class Ragged:
    """Images, masks or probabilities, one (C, H, W) array per id, laid one after the other.

    values: flat array of any dtype, possibly memory-mapped.
    shapes: int64 (N, 3), the C, H, W of each item.
    ids: unicode array (N,), unique; predictions are joined by them and never by position.
    """

    values: np.ndarray
    shapes: np.ndarray
    ids: np.ndarray

    def __post_init__(self) -> None:
        if self.values.ndim != 1 or self.shapes.shape != (len(self.ids), 3):
            raise ValueError(
                f"values {self.values.shape}, shapes {self.shapes.shape} and {len(self.ids)} ids do not fit"
            )
        if len(np.unique(self.ids)) != len(self.ids):
            raise ValueError("ids are not unique")
        if int(self.offsets[-1]) != len(self.values):
            raise ValueError(f"shapes ask for {int(self.offsets[-1])} values, there are {len(self.values)}")

    @classmethod
    def stack(cls, array: np.ndarray, ids: Sequence[str] | np.ndarray) -> Ragged:
        """From one (N, C, H, W) array, without a copy where it is contiguous."""
        shapes = np.broadcast_to(np.array(array.shape[1:], np.int64), (len(array), 3))
        return cls(np.ascontiguousarray(array).reshape(-1), shapes, np.asarray(ids, dtype=np.str_))

    @cached_property
    def offsets(self) -> np.ndarray:
        """int64 (N + 1,): item i occupies values[offsets[i]:offsets[i + 1]]."""
        return np.concatenate([[0], np.cumsum(self.shapes.prod(axis=1, dtype=np.int64))])

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each id."""
        return {name: i for i, name in enumerate(self.ids.tolist())}

    @property
    def uniform(self) -> bool:
        """Whether all items have one size."""
        return len(self.shapes) > 0 and bool((self.shapes == self.shapes[0]).all())

    @property
    def stacked(self) -> np.ndarray:
        """A free (N, C, H, W) view; only where all items have one size."""
        if not self.uniform:
            raise ValueError("items differ in size and cannot be seen as one array")
        return self.values.reshape(len(self), *self.shapes[0].tolist())

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> np.ndarray:
        start, stop = self.offsets[i], self.offsets[i + 1]
        return self.values[start:stop].reshape(tuple(self.shapes[i]))

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    def save(self, path: Path) -> None:
        """Write ``path`` (.npy) and its index beside it; ids and shapes travel with the values."""
        np.save(path, self.values)
        save_index(path, self.shapes, self.ids)

    @classmethod
    def open(cls, path: Path, mmap: bool = True) -> Ragged:
        """Open what ``save`` wrote, memory-mapped unless ``mmap`` is off."""
        index_path = index_of(path)
        try:
            values = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
            with np.load(index_path, allow_pickle=False) as index:
                return cls(values.reshape(-1), index["shapes"], index["ids"])
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise UserError(
                f"{path}: cannot be read back ({error}); delete its folder and run the command again"
            ) from error


class RaggedWriter:
    """Writes what ``Ragged.open`` reads, item by item, so that memory does not grow with their number."""

    HEADER = 128
    """Bytes reserved for the header, whose length is known only at the end; npy headers are padded with blanks."""

    def __init__(self, path: Path, dtype: np.dtype) -> None:
        self.path, self.dtype = path, np.dtype(dtype)
        self._file: BinaryIO = path.open("wb")
        self._file.write(b"\0" * self.HEADER)
        self._shapes: list[tuple[int, ...]] = []

    def append(self, items: Sequence[np.ndarray] | np.ndarray) -> None:
        """Add (C, H, W) items of the writer's dtype; one (n, C, H, W) array is written at once."""
        for item in (items,) if isinstance(items, np.ndarray) else items:
            if item.dtype != self.dtype:
                raise ValueError(f"{self.path}: takes {self.dtype}, not {item.dtype}")
            self._file.write(np.ascontiguousarray(item).data)
        self._shapes += [tuple(item.shape) for item in items]

    def close(self, ids: Sequence[str]) -> None:
        """Write the header and the index; ``ids`` are those of the items, in order."""
        shapes = np.array(self._shapes, np.int64).reshape(-1, 3)
        total = int(shapes.prod(axis=1).sum())
        text = repr({"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (total,)})
        content = text.encode("latin1").ljust(self.HEADER - 11) + b"\n"
        self._file.seek(0)
        self._file.write(np.lib.format.magic(1, 0) + len(content).to_bytes(2, "little") + content)
        self._file.close()
        save_index(self.path, shapes, np.asarray(ids, np.str_))


def index_of(path: Path) -> Path:
    """Where the ids and shapes of the values in ``path`` lie."""
    return path.with_suffix(".index.npz")


def save_index(path: Path, shapes: np.ndarray, ids: np.ndarray) -> None:
    """Write the ids and shapes that belong to ``path``."""
    np.savez(index_of(path), shapes=np.ascontiguousarray(shapes), ids=ids)
