"""What a table's cells say of a whole image: its class, its number, or its answers to questions."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from podium.config_data import Label
from podium.data.chunk import NO_LABEL, Reading
from podium.data.class_names import ClassNames, class_names

WORDS = {"1": 1, "0": 0, "true": 1, "false": 0, "yes": 1, "no": 0, "1.0": 1, "0.0": 0, "": NO_LABEL}
"""Answers to a question in a column of its own, whatever their case; empty where nothing is known."""
BETWEEN = re.compile(r"\s*[,;|]\s*|\s+")
"""What stands between the names of the questions that are answered with yes, where one column holds them."""


@dataclass(frozen=True, eq=False)
class Answers:
    """Cells to targets (1, K, 1): uint8 classes, uint8 answers 0 and 1 with 255 for none, or float32 numbers.

    names: of the classes; None of numbers without classes. columns: the questions that have a column each.
    """

    task: str
    names: ClassNames | None
    columns: tuple[str, ...]
    classes: tuple[str, ...]

    def target(self, text: str, answers: Sequence[str]) -> np.ndarray:
        """The target of a row, of its cell of labels or of its ``columns``; ValueError with half a sentence."""
        if self.columns:
            found = [WORDS.get(answer.lower()) for answer in answers]
            if None in found:
                at = found.index(None)
                raise ValueError(f"has '{answers[at]}' in column '{self.columns[at]}'; write 0, 1 or nothing")
            return np.array(found, np.uint8).reshape(1, -1, 1)
        if self.names is None:
            return np.array(_number(text), np.float32).reshape(1, 1, 1)
        if self.task != "multilabel":
            return np.full((1, 1, 1), self.names.index(text), np.uint8)
        # a name may hold blanks: then it stands alone, or commas part it from others
        parts = [text] if text in self.names.indices else [part for part in BETWEEN.split(text) if part]
        column = np.zeros(len(self.classes), np.uint8)
        for part in parts:
            column[self.names.index(part)] = 1
        return column.reshape(1, -1, 1)


def answers_of(reading: Reading, target: str | None, values: Mapping[str, Label | tuple[Label, ...]] | None) -> Answers:
    """How the rows of a table are to be read. target: the column of labels; without, each question has one."""
    if reading.task == "regression" and not reading.classes:
        return Answers(reading.task, None, (), ())
    columns = reading.classes if reading.task == "multilabel" and target is None else ()
    return Answers(reading.task, class_names(reading.classes, values), columns, reading.classes)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(np.float32(number)):
        raise ValueError(f"is '{text}', which is no number; correct it or remove the row")
    return number
