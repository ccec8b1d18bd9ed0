"""What the checks of formats with probabilities share: how far from one a sum may be, and what that is called."""

from __future__ import annotations

import numpy as np

from podium.submission.checks.report import Findings, Tally

OWN = 1e-5
"""How far from 1 the probabilities of a file made here may sum: float32 leaves less than a hundredth of that."""
OWN_HALF = 1e-3
"""The same of float16, whose values are off by up to half of that in all."""
FOREIGN = 1e-3
"""The same of a file from elsewhere: three digits behind the point are what rounding leaves of most."""


def tolerance(own: bool, dtype: np.dtype | None = None) -> float:
    """How far from 1 probabilities may sum. dtype: of an array's values."""
    return (OWN_HALF if dtype == np.float16 else OWN) if own else FOREIGN


def judge_sums(findings: Findings, wrong: Tally, own: bool) -> None:
    """Note that probabilities do not sum to one: an error in a file made here, else a warning."""
    if not wrong:
        return
    if own:
        findings.whole.append(f"{wrong}: probabilities that should sum to 1")
    else:
        findings.warnings.append(f"{wrong}: where the metric needs probabilities that sum to 1, such a row costs score")
