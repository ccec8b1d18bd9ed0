"""Settings of how objects are found in masks."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from podium.config_base import Count, PositiveInt, Settings

DISTANCE = 10
"""Pixels between the centres of touching objects, where ``split: watershed`` does not say."""


class Objects(Settings):
    """What counts as one object of a mask.

    of: everything but the background as one (``foreground``), or each class' objects by themselves (``classes``). The
    background is the unscored class, or without one the first.
    split: ``components``, all pixels that hang together; ``watershed`` cuts these where they get narrow, for cells that
    touch. distance: of ``watershed`` only, the least distance in pixels between two objects' centres (10); about the
    radius of a small cell.
    fill_holes: background enclosed by one class (with ``foreground``, by anything) belongs to what encloses it.
    min_area: objects of fewer pixels are left out. connectivity: whether pixels that share a corner hang together (8)
    or only those that share a side (4).
    """

    of: Literal["classes", "foreground"] = "foreground"
    split: Literal["components", "watershed"] = "components"
    distance: PositiveInt | None = None
    fill_holes: bool = True
    min_area: Count = 0
    connectivity: Literal[4, 8] = 8

    @model_validator(mode="before")
    @classmethod
    def _default(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and raw.get("split") == "watershed" and raw.get("distance") is None:
            return raw | {"distance": DISTANCE}
        return raw

    @model_validator(mode="after")
    def _check(self) -> Objects:
        if self.distance is not None and self.split != "watershed":
            raise ValueError(f"distance: does nothing with split: {self.split}; remove it or set split: watershed")
        return self
