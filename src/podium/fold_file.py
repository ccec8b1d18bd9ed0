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
_NEEDED = ("id", "group", "fold")


def file_name(name: str, data_id: str, settings: FoldSettings) -> str:
    """``<name>-<hash8>.csv``; other data, settings or another version of the algorithm have another file."""
    return f"{name}-{Key('folds', ALGORITHM, settings.model_dump(), (data_id,)).short}.csv"


def save(folds: Folds, path: Path) -> None:
    """Write the fold file atomically; one that is there and says something else is a UserError and stays."""
    head = {"data_id": folds.data_id, "count": str(folds.count)} if folds.data_id else {"count": str(folds.count)}
    if folds.settings is not None:
        head |= {key: str(value) for key, value in folds.settings.model_dump().items()} | {"algorithm": str(ALGORITHM)}
    lines = ["# podium folds: who is trained on and who is validated on; -1 is dropped"]
    lines += [f"# {key}: {value}" for key, value in head.items()] + [",".join(COLUMNS)]
    columns = (folds.ids, folds.groups, folds.strata, folds.fold, folds.reasons)
    for row in zip(*(column.tolist() for column in columns), strict=True):
        lines.append(",".join(_field(str(value)) for value in row))
    content = ("\n".join(lines) + "\n").encode()
    if path.exists():
        if path.is_file() and path.read_bytes() == content:
            return
        raise UserError(f"{path}: exists with another content and is not overwritten; move it away or delete it")
    write_atomically(path, content)


def load(path: Path, ids: Sequence[str] | np.ndarray, data_id: str) -> Folds:
    """Read a fold file, ``save``'s or a hand-made one (columns id, group, fold; no head needed), and check it.

    ids: the data's, every one must be there once; the rows come back in their order. data_id: compared with the
    recorded one. Whatever does not hold is a UserError.
    """
    head, lines = _read(path)
    known = {name: i for i, name in enumerate(np.asarray(ids, np.str_).tolist())}
    mend = "delete the file and run the command again, it is made anew"
    if head.get("data_id", data_id) != data_id:
        raise UserError(f"{path}: was made for other data (data_id {head['data_id']}, here {data_id}); {mend}")
    found: dict[str, tuple[int, int, str, str]] = {}
    for number, line in lines:
        name = line["id"]
        if name in found:
            raise UserError(f"{path}: line {number}: id '{name}' is there twice; remove one of the lines")
        if name not in known:
            raise UserError(f"{path}: line {number}: id '{name}' is not in the data; {mend}")
        group, fold = (_integer(path, number, key, line[key]) for key in ("group", "fold"))
        if fold < DROPPED:
            raise UserError(f"{path}: line {number}: fold {fold} is not allowed; folds count from 0, -1 means dropped")
        found[name] = group, fold, line.get("stratum", ""), line.get("reason", "")
    missing = [name for name in known if name not in found]
    if missing:
        raise UserError(f"{path}: {len(missing)} of {len(known)} ids are missing, the first is '{missing[0]}'; {mend}")

    rows = [found[name] for name in known]
    groups, fold_of = (np.array([row[i] for row in rows], np.int64) for i in (0, 1))
    sides: dict[int, int] = {}
    for group, fold in zip(groups.tolist(), fold_of.tolist(), strict=True):
        if fold >= 0 and sides.setdefault(group, fold) != fold:
            raise UserError(f"{path}: group {group} lies in folds {sides[group]} and {fold}; give its rows one fold")
    highest = int(fold_of.max(initial=-1))
    count = _integer(path, 0, "count", head["count"]) if "count" in head else highest + 1
    if highest >= count:
        raise UserError(f"{path}: fold {highest} is not allowed, its head says count: {count}; correct one of them")
    if count < 2:
        raise UserError(f"{path}: holds {max(count, 0)} folds, at least 2 are needed; {mend}")
    empty = sorted(set(range(count)) - set(fold_of.tolist())) if count <= len(rows) else [highest + 1]
    if empty:
        raise UserError(
            f"{path}: no row is in fold {empty[0]}, but folds 0..{count - 1} need rows; correct it or {mend}"
        )
    strata, reasons = (np.array([row[i] for row in rows], np.str_) for i in (2, 3))
    names = np.array(list(known), np.str_)
    return Folds(names, groups, strata, fold_of, reasons, head.get("data_id", ""), count, _settings(path, head))


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
        unknown = [key for key in header if key not in COLUMNS]
        if absent or unknown or len(set(header)) != len(header):
            found = ",".join(header) or "nothing"
            wanted = ",".join(COLUMNS)
            raise UserError(
                f"{path}: line {skipped + 1}: expected the columns {wanted}, found {found}; correct the line"
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
    if not all(key in head for key in FoldSettings.model_fields):
        return None
    try:
        return FoldSettings.model_validate({key: head[key] for key in FoldSettings.model_fields})
    except ValidationError as error:
        key = error.errors()[0]["loc"][0]
        raise UserError(f"{path}: head: {key} '{head[str(key)]}' is not allowed; correct or remove the line") from None
