"""Settings of the file that a competition wants."""

from __future__ import annotations

from typing import Literal

from podium.config_base import Count, Settings


class SubmissionSettings(Settings):
    """The file that the competition wants."""

    format: Literal["wide_csv"]
    id: str = "id"
    first_id: Count = 0
