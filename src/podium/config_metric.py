"""Settings of a competition's metric."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from podium.config_base import Settings


class MetricSettings(Settings):
    """The leaderboard's metric, by name. convention: of ``mean_iou`` only, how the unscored class is treated (``keras``)."""

    name: Literal["mean_iou", "accuracy"]
    convention: Literal["keras", "foreground", "masked"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _default(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and raw.get("name") == "mean_iou" and raw.get("convention") is None:
            return raw | {"convention": "keras"}
        return raw

    @model_validator(mode="after")
    def _check(self) -> MetricSettings:
        if self.convention is not None and self.name != "mean_iou":
            raise ValueError(f"convention: does nothing with {self.name}; remove it")
        return self

    def __str__(self) -> str:
        return f"{self.name} ({self.convention})" if self.convention else self.name
