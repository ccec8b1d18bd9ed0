"""A csv submission held against the competition's own sample_submission: the same header, ids, order and kinds of values."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TextIO

from podium.errors import UserError
from podium.submission.checks.report import MOST, short
from podium.submission.reading import opened

NAMES = ("sample_submission.csv", "sampleSubmission.csv", "sample_submission.csv.gz", "sample_submission.csv.zip")
"""What it is called where the competition's configuration does not say."""
LOOKED_AT = 50
"""Rows whose values are held against the sample's kinds."""


def find_sample(folder: Path, named: str | None = None) -> Path | None:
    """The sample in a competition's folder: the one that is ``named``, which must be there, else one by a usual name."""
    if named is not None:
        if not (folder / named).is_file():
            raise UserError(f"{folder / named}: there is no such file; correct submission.sample of the competition")
        return folder / named
    return next((folder / name for name in NAMES if (folder / name).is_file()), None)


def hold_against_sample(path: Path, sample: Path, rows: bool = True) -> tuple[list[str], list[str]]:
    """Errors and warnings: what differs from the sample.

    Errors are the header, ids and their order, row by row, and the number of rows; that a value is of another kind than the
    sample's of its column, a number with a fraction where the sample has whole ones, is a warning, since samples often hold
    placeholders. rows: False where rows need not be the sample's, and only the header is. A sample that cannot be read is a UserError.
    """
    try:
        return _held(path, sample, rows)
    except (OSError, EOFError, zipfile.BadZipFile, IndexError, csv.Error) as error:
        raise UserError(f"{sample}: cannot be read beside {path.name} ({error}); look into both") from error


def _held(path: Path, sample: Path, by_row: bool) -> tuple[list[str], list[str]]:
    errors: list[str] = []
    warnings: list[str] = []
    wrong = more = rows = wanted = 0
    kinds: list[str] = []
    with opened(sample) as theirs, opened(path) as ours:
        expected, found = _rows(theirs), _rows(ours)
        try:
            header, told = next(expected), next(found, [])
        except StopIteration:
            raise UserError(f"{sample}: is empty; remove it or download it again") from None
        if told != header:
            errors.append(f"line 1: the header is {_header(told)}, {sample.name} has {_header(header)}")
        if not by_row:
            return errors, warnings
        for number, (want, got) in enumerate(zip_longest(expected, found), start=2):
            wanted += want is not None
            rows += got is not None
            if want is None or got is None:
                continue
            if want[:1] != got[:1]:
                wrong += 1
                if wrong <= MOST // 2:
                    errors.append(
                        f"line {number}: id {short(_first(got))}, {sample.name} has {short(_first(want))} there"
                    )
                else:
                    more += 1
            if number < LOOKED_AT and len(warnings) < 3 and told == header:
                kinds = [_joined(kind, _kind(text)) for kind, text in zip_longest(kinds, want, fillvalue="")]
                warnings += _odd(number, header, kinds, got, sample.name)
    if more:
        errors.append(f"and {more} more ids differ from {sample.name}")
    if rows != wanted:
        errors.append(f"{rows} rows below the header, {sample.name} has {wanted}")
    return errors, warnings[:3]


def _rows(file: TextIO) -> Iterator[list[str]]:
    """The rows of a csv file; of those behind the first ``LOOKED_AT`` only the id, since a row may be a picture's pixels."""
    for number, line in enumerate(file, start=1):
        start = line if number <= LOOKED_AT or line.startswith('"') else line.partition(",")[0]
        yield next(csv.reader([start]), [])


def _odd(number: int, header: list[str], kinds: list[str], row: list[str], name: str) -> Iterator[str]:
    for column, kind, text in list(zip(header, kinds, row, strict=False))[1:]:
        found = _kind(text)
        if kind == "whole" and found in ("fraction", "text"):
            yield f"line {number}, column '{column}' holds {short(text)}, {name} has whole numbers there"
        elif kind == "fraction" and found == "text" and text:
            yield f"line {number}, column '{column}' holds {short(text)}, {name} has numbers there"


def _kind(text: str) -> str:
    if text.lstrip("+-").isdigit():
        return "whole"
    try:
        float(text)
    except ValueError:
        return "text"
    return "fraction"


def _joined(before: str, now: str) -> str:
    """What a column holds that held ``before`` and now something."""
    return now if not before or before == now else "text" if "text" in (before, now) else "fraction"


def _header(columns: list[str]) -> str:
    shown = ",".join(columns[:4])
    return f"{short(shown + (',...' if len(columns) > 4 else ''))} ({len(columns)} columns)"


def _first(row: list[str]) -> str:
    return row[0] if row else ""
