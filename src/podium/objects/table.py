"""The tables: a row per object, and a row per image with how many there are."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import astuple, fields

from podium.objects.measure import Measures

COLUMNS = tuple("class" if field.name == "kind" else field.name for field in fields(Measures))


def header() -> str:
    """The first line of the table of objects."""
    return line(COLUMNS)


def object_line(measures: Measures) -> str:
    """The line of one object."""
    return line(astuple(measures))


def counts_header(kinds: Sequence[str]) -> str:
    """The first line of the table of counts: image, objects, and a column per kind where there are several."""
    return line(("image", "objects", *_several(kinds)))


def counts_line(image: str, counts: Sequence[int]) -> str:
    """The line of one image; ``counts`` are its objects of each kind."""
    return line((image, sum(counts), *_several(counts)))


def line(values: Sequence[object]) -> str:
    """``values`` as a line of csv, ended by LF.

    Floats have seven significant digits, more than a measure is good for and fewer than differ between processors; what
    is not a number is left empty.
    """
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow([_text(value) for value in values])
    return buffer.getvalue()


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.7g}" if math.isfinite(value) else ""
    return str(value)


def _several(values: Sequence[object]) -> Sequence[object]:
    return values if len(values) > 1 else ()
