"""The fold file: written once for the data at hand, checked at every load, and open to be made by hand."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from podium.config import FoldSettings
from podium.errors import UserError
from podium.folds import ALGORITHM, DROPPED, Folds
from podium.store import Key, write_atomically

COLUMNS = ("id", "group", "stratum", "fold", "reason")
_NEEDED = ("id", "fold")


def file_name(name: str, inputs: tuple[str, ...], settings: FoldSettings) -> str:
    """``<name>-<hash8>.csv``; other data, settings or another version of the algorithm have another file.

    inputs: hashes of the data and of what says which rows are dropped and which belong together.
    """
    return f"{name}-{Key('folds', ALGORITHM, settings.model_dump(exclude={'file'}), inputs).short}.csv"


def columns(repeats: int) -> tuple[str, ...]:
    """The columns of a file: further repeats follow the first as ``fold1``, ``fold2``, ..."""
    return (*COLUMNS[:4], *(f"fold{repeat}" for repeat in range(1, repeats)), COLUMNS[4])


def save(folds: Folds, path: Path) -> None:
    """Write the fold file atomically; one that is there and says something else is a UserError and stays."""
    head = {"data_id": folds.data_id, "count": str(folds.count)} if folds.data_id else {"count": str(folds.count)}
    if folds.settings is not None:
        head |= {key: str(value) for key, value in folds.settings.model_dump(exclude={"file"}).items()}
        head |= {"algorithm": str(ALGORITHM)}
    lines = ["# podium folds: who is trained on and who is validated on; -1 is dropped"]
    lines += [f"# {key}: {value}" for key, value in head.items()] + [",".join(columns(folds.repeats))]
    table = (folds.ids, folds.groups, folds.strata, *folds.table.T, folds.reasons)
    for row in zip(*(column.tolist() for column in table), strict=True):
        lines.append(",".join(_field(str(value)) for value in row))
    content = ("\n".join(lines) + "\n").encode()
    if path.exists():
        if path.is_file() and path.read_bytes() == content:
            return
        raise UserError(f"{path}: exists with another content and is not overwritten; move it away or delete it")
    write_atomically(path, content)


def load(path: Path, ids: Sequence[str] | np.ndarray, data_id: str, by_hand: bool = False) -> Folds:
    """Read a fold file, ``save``'s or a hand-made one (columns id and fold; no head needed), and check it.

    Where it has no groups, every row is one of its own. Further columns ``fold1``, ``fold2``, ... are further repeats.
    ids: the data's, every one must be there once; the rows come back in their order. data_id: compared with the
    recorded one. by_hand: a file that its user made and podium does not make anew. Whatever does not hold is a
    UserError.
    """
    head, lines = _read(path)
    known = {name: i for i, name in enumerate(np.asarray(ids, np.str_).tolist())}
    mend = "correct the file" if by_hand else "delete the file and run the command again, it is made anew"
    if head.get("data_id", data_id) != data_id:
        raise UserError(f"{path}: was made for other data (data_id {head['data_id']}, here {data_id}); {mend}")
    first = lines[0][1] if lines else {}
    unsaid = "dropped by the fold file" if by_hand else ""
    names = ["fold", *(f"fold{repeat}" for repeat in range(1, len(first)) if f"fold{repeat}" in first)]
    for repeat, column in enumerate(names):
        if column != f"fold{repeat or ''}":
            raise UserError(
                f"{path}: has a column {column} and no fold{repeat}; name the repeats fold, fold1, fold2, ..."
            )
    found: dict[str, tuple[int, list[int], str, str]] = {}
    named = _group_numbers([line["group"] for _, line in lines]) if lines and "group" in first else None
    for number, line in lines:
        name = line["id"]
        if name in found:
            raise UserError(f"{path}: line {number}: id '{name}' is there twice; remove one of the lines")
        if name not in known:
            raise UserError(f"{path}: line {number}: id '{name}' is not in the data; {mend}")
        group = known[name] if named is None else named[line["group"]]
        fold = [_integer(path, number, column, line[column]) for column in names]
        if min(fold) < DROPPED:
            raise UserError(
                f"{path}: line {number}: fold {min(fold)} is not allowed; folds count from 0, -1 means dropped"
            )
        if min(fold) < 0 <= max(fold):
            raise UserError(f"{path}: line {number}: id '{name}' is dropped in one repeat only; drop it in all or none")
        found[name] = (
            group,
            fold,
            line.get("stratum", ""),
            line.get("reason", "") or (unsaid if min(fold) < 0 else ""),
        )
    missing = [name for name in known if name not in found]
    if missing:
        raise UserError(f"{path}: {len(missing)} of {len(known)} ids are missing, the first is '{missing[0]}'; {mend}")

    rows = [found[name] for name in known]
    groups = np.array([row[0] for row in rows], np.int64)
    table = np.array([row[1] for row in rows], np.int64).reshape(len(rows), -1)
    highest = int(table.max(initial=-1))
    count = _integer(path, 0, "count", head["count"]) if "count" in head else highest + 1
    if highest >= count:
        raise UserError(f"{path}: fold {highest} is not allowed, its head says count: {count}; correct one of them")
    if count < 2:
        raise UserError(f"{path}: holds {max(count, 0)} folds, at least 2 are needed; {mend}")
    for column, fold_of in zip(names, table.T.tolist(), strict=True):
        _check_repeat(path, column, groups.tolist(), fold_of, count, mend)
    strata, reasons = (np.array([row[i] for row in rows], np.str_) for i in (2, 3))
    fold_array = table if len(names) > 1 else table[:, 0]
    ordered = np.array(list(known), np.str_)
    return Folds(ordered, groups, strata, fold_array, reasons, head.get("data_id", ""), count, _settings(path, head))


def _group_numbers(texts: list[str]) -> dict[str, int]:
    """A number for each group: its own where all are whole numbers, else counted by first occurrence."""
    different = list(dict.fromkeys(texts))
    try:
        numbers = {text: int(text) for text in different}
    except ValueError:
        return {text: i for i, text in enumerate(different)}
    fit = all(abs(number) < 1 << 62 for number in numbers.values())
    return numbers if fit else {text: i for i, text in enumerate(different)}


def _check_repeat(path: Path, column: str, groups: list[int], fold_of: list[int], count: int, mend: str) -> None:
    """No group on two sides, and no fold without rows."""
    sides: dict[int, int] = {}
    for group, fold in zip(groups, fold_of, strict=True):
        if fold >= 0 and sides.setdefault(group, fold) != fold:
            raise UserError(
                f"{path}: group {group} lies in folds {sides[group]} and {fold} ({column}); give its rows one fold"
            )
    there = set(fold_of)
    empty = next((fold for fold in range(count) if fold not in there), None)
    if empty is not None:
        raise UserError(f"{path}: no row is in fold {empty} ({column}), but folds 0..{count - 1} need rows; {mend}")


def _field(text: str) -> str:
    """A CSV field; csv.writer leaves a lone carriage return unquoted, which csv.reader takes for the line's end."""
    return '"' + text.replace('"', '""') + '"' if any(char in text for char in ',"\r\n') else text


def _read(path: Path) -> tuple[dict[str, str], list[tuple[int, dict[str, str]]]]:
    """The head's ``# key: value`` lines and, with their line numbers, the rows as mappings."""
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such fold file; run `podium fold`") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error}); delete it and run `podium fold`") from None
    head: dict[str, str] = {}
    lines = list(io.StringIO(content, newline=""))
    skipped = 0
    while skipped < len(lines) and lines[skipped].startswith("#"):
        key, colon, value = lines[skipped][1:].partition(":")
        if colon:
            head[key.strip()] = value.strip()
        skipped += 1
    out: list[tuple[int, dict[str, str]]] = []
    reader = csv.reader(lines[skipped:], strict=True)
    try:
        header = next(reader, [])
        absent = [key for key in _NEEDED if key not in header]
        unknown = [key for key in header if key not in columns(len(header))]
        if absent or unknown or len(set(header)) != len(header):
            found = ",".join(header) or "nothing"
            wanted = ",".join(columns(sum(key.startswith("fold") for key in header)))
            raise UserError(
                f"{path}: line {skipped + 1}: expected the columns {wanted}, of which id and fold are enough, found "
                f"{found}; correct the line"
            )
        for fields in reader:
            if not fields:
                continue
            number = skipped + reader.line_num
            if len(fields) != len(header):
                raise UserError(
                    f"{path}: line {number}: {len(fields)} fields, expected {len(header)}; correct the line"
                )
            out.append((number, dict(zip(header, fields, strict=True))))
    except csv.Error as error:
        number = skipped + reader.line_num
        raise UserError(f"{path}: line {number}: not valid CSV ({error}); correct the line") from None
    return head, out


def _integer(path: Path, line: int, key: str, text: str) -> int:
    try:
        value = int(text)
        if abs(value) < 1 << 62:
            return value
    except ValueError:
        pass
    where = f"line {line}" if line else "head"
    raise UserError(f"{path}: {where}: {key} '{text}' is not a whole number; correct it") from None


def _settings(path: Path, head: dict[str, str]) -> FoldSettings | None:
    """The settings that the head records, None where it does not name all of them."""
    keys = [key for key in FoldSettings.model_fields if key != "file"]
    if not all(key in head for key in keys):
        return None
    try:
        return FoldSettings.model_validate({key: head[key] for key in keys})
    except ValidationError as error:
        key = error.errors()[0]["loc"][0]
        raise UserError(f"{path}: head: {key} '{head[str(key)]}' is not allowed; correct or remove the line") from None
