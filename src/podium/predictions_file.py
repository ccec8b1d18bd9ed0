"""A file of predictions made elsewhere, read into the project's shapes and types."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from podium.config import Competition
from podium.errors import UserError

LEEWAY = 0.02
"""How far probabilities may be from summing to one: float16 of many classes is not far."""
SHAPES = {"segmentation": "(N, C, H, W)", "classification": "(N, C)", "multilabel": "(N, K)", "regression": "(N,)"}


@dataclass(frozen=True, eq=False)
class Given:
    """What a file holds. ids: (N,) texts; with repeats an image comes once for each. items: its predictions (C, H, W), float16
    probabilities of all classes, or float32 numbers. folds: int (N,), None where the file has none."""

    ids: np.ndarray
    items: Sequence[np.ndarray]
    folds: np.ndarray | None


def read(path: Path, competition: Competition) -> Given:
    """Read an npz of ``ids`` (N,), ``folds`` (N,) where there are any, and ``probabilities`` shaped as ``SHAPES`` says, or for
    masks of different sizes flat ``values`` with their ``shapes`` (N, 3).

    C counts all classes or all that are scored, in the competition's order; of an unscored class nothing is taken over.
    What is not so is a UserError.
    """
    arrays = _arrays(path)
    ids = np.array([str(name) for name in _column(path, arrays, "ids").tolist()])
    items = [_checked(path, item, competition) for item in _items(path, arrays, competition, len(ids))]
    folds = None
    if "folds" in arrays:
        folds = _column(path, arrays, "folds")
        if folds.dtype.kind not in "iu" or len(folds) != len(ids):
            raise UserError(
                f"{path}: 'folds' holds {len(folds)} {folds.dtype}, expected one integer for each of {len(ids)} ids"
            )
    return Given(ids, items, folds)


def _arrays(path: Path) -> Mapping[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise UserError(f"{path}: is a single array; save an npz with ids, folds and probabilities")
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; correct its path") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise UserError(
            f"{path}: cannot be read as an npz without pickled objects ({error}); save it with np.savez"
        ) from error


def _column(path: Path, arrays: Mapping[str, np.ndarray], key: str) -> np.ndarray:
    if key not in arrays:
        raise UserError(f"{path}: has no array '{key}', only {', '.join(sorted(arrays)) or 'nothing'}; add it")
    return arrays[key].reshape(-1)


def _items(path: Path, arrays: Mapping[str, np.ndarray], competition: Competition, count: int) -> Iterable[np.ndarray]:
    """Predictions (C, H, W) as the file has them."""
    if "shapes" in arrays:
        flat, shapes = _column(path, arrays, "values"), np.asarray(arrays["shapes"], np.int64)
        sizes = shapes.prod(axis=-1)
        if shapes.shape != (count, 3) or int(sizes.sum()) != flat.size:
            raise UserError(f"{path}: 'shapes' {shapes.shape} does not fit {count} ids and {flat.size} values; mend it")
        pieces = np.split(flat, np.cumsum(sizes)[:-1])
        return [piece.reshape(shape) for piece, shape in zip(pieces, shapes.tolist(), strict=True)]
    if "probabilities" not in arrays:
        raise UserError(f"{path}: has no array 'probabilities', only {', '.join(sorted(arrays))}; add it")
    array, task = arrays["probabilities"], competition.task
    if task == "regression" and array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != SHAPES[task].count(",") + (task != "regression") or len(array) != count:
        raise UserError(f"{path}: probabilities {array.shape} for {count} ids; a {task} needs {SHAPES[task]}")
    if task == "segmentation":
        return array
    if task == "regression":
        return array.reshape(-1, 1, 1, 1)
    return np.stack([1 - array, array], axis=1)[..., None] if task == "multilabel" else array[:, :, None, None]


def _checked(path: Path, item: np.ndarray, competition: Competition) -> np.ndarray:
    """One image's predictions of the project's type: of all classes, summing to one."""
    if not np.isfinite(item).all():
        raise UserError(f"{path}: holds values that are not finite; predict every image")
    values = item.astype(np.float32)
    if competition.numbers:
        return values
    if values.min(initial=0.0) < 0:
        raise UserError(f"{path}: holds negative values; probabilities are needed, not logits: apply a softmax")
    unscored, classes = competition.unscored_index, len(competition.classes)
    if unscored is not None and len(values) == len(competition.scored):
        values = np.insert(values, unscored, 0, axis=0)
    told = values.shape[1] if competition.task == "multilabel" else len(values)
    if told != classes:
        raise UserError(
            f"{path}: holds {told} classes, {competition.name} has {classes} ({', '.join(competition.classes)}); "
            "export them all, in this order"
        )
    total = values.sum(0)
    worst = np.abs(total - 1)
    if worst.max(initial=0.0) > LEEWAY:
        raise UserError(
            f"{path}: probabilities of one answer sum to {float(total.flat[worst.argmax()]):.3f}, not to 1; apply a softmax"
        )
    if unscored is not None:
        values[unscored] = 0
    return (values / np.maximum(values.sum(0), 1e-6)).astype(np.float16)
