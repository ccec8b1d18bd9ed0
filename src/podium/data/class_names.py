"""What a table may call a class: by its name, by its index, or as the competition's ``values`` say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from podium.config_data import Label
from podium.errors import UserError, did_you_mean

WHOLE = re.compile(r"[0-9]+\.0*")


@dataclass(frozen=True)
class ClassNames:
    """The index of every text that stands for a class. shown: the texts that a message lists; key: what gave them."""

    indices: Mapping[str, int]
    shown: Sequence[str]
    key: str

    def index(self, text: str) -> int:
        """The index of the class that ``text`` stands for; ValueError with half a sentence where there is none."""
        found = self.indices.get(text)
        if found is None and WHOLE.fullmatch(text):  # pandas writes 3 as 3.0 where another row's label is missing
            found = self.indices.get(text.partition(".")[0])
        if found is not None:
            return found
        if not text:
            raise ValueError("is empty; every row needs a class")
        raise ValueError(f"is '{text}', which is no class; correct it or {self.key}; {did_you_mean(text, self.shown)}")


def class_names(classes: Sequence[str], values: Mapping[str, Label | tuple[Label, ...]] | None) -> ClassNames:
    """The texts for ``classes``: those of ``values`` alone, or, without, the names and the indices.

    Numbers and texts are the same as long as they are written alike. Where a class is called by a number, indices are
    not understood: 1 could be the class 1 or the second class. A text for two classes is a UserError.
    """
    if values is None:
        numbered = any(name.isdigit() for name in classes)
        by_index = {} if numbered else {str(index): index for index in range(len(classes))}
        return ClassNames(by_index | {name: index for index, name in enumerate(classes)}, classes, "'classes'")
    indices: dict[str, int] = {}
    for name, given in values.items():
        for text in given if isinstance(given, tuple) else (given,):
            index = indices.setdefault(str(text).strip(), classes.index(name))
            if index != classes.index(name):
                raise UserError(
                    f"data.values: '{text}' stands for '{classes[index]}' and for '{name}'; give each value to one class"
                )
    return ClassNames(indices, list(indices), "data.values")
