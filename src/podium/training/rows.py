"""Some rows of a tensor, whatever it holds."""

from __future__ import annotations

import torch


def rows_of(values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """``values[rows]``, a copy, along the first axis; on a CPU in a fraction of the time that indexing takes."""
    known = values.view(torch.int16) if values.dtype == torch.uint16 else values  # which torch does little with
    return known.index_select(0, rows).view(values.dtype)
