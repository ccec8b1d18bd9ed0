"""Cross-validation against the leaderboard: every scored submission, how the two agree, a picture."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from podium.submission import ledger

FEWEST = 3
"""Submissions of which a correlation is told: of two it is always 1."""


@dataclass(frozen=True)
class Point:
    """A scored submission: its file, cross-validated score with the interval's ends where they are known, and what the
    leaderboard said."""

    file: str
    cv: float
    low: float | None
    high: float | None
    public: float
    private: float | None


@dataclass(frozen=True)
class Agreement:
    """How scores on the leaderboard follow the cross-validated ones.

    pearson, rank: linear and rank correlation (Spearman), None of fewer than three submissions or where one of both does not
    vary. difference: the leaderboard's score minus the cross-validated one, on average. inside: in how many of those with an
    interval the leaderboard's score lies within it, and how many have one. plot: where the picture is.
    """

    points: tuple[Point, ...]
    board: str
    pearson: float | None
    rank: float | None
    difference: float
    inside: tuple[int, int]
    plot: str

    def sentence(self) -> str:
        """For people."""
        count = len(self.points)
        told = f"{count} scored submission{'s' if count > 1 else ''}: the {self.board} score is on average {self.difference:+.4f} "
        told += f"beside the cross-validated one, inside its interval in {self.inside[0]} of {self.inside[1]}"
        if self.pearson is not None and self.rank is not None:
            told += f"; correlation {self.pearson:.2f}, of ranks {self.rank:.2f}"
        elif count < FEWEST:
            told += "; three are needed for a correlation"
        return f"{told}; {self.plot}"


def agreement(book: Path, name: str, picture: Path) -> Agreement | None:
    """How a competition's scored submissions agree with their cross-validation; None where there is none with both scores.

    Private scores are taken where all submissions have one. The picture is drawn anew.
    """
    points = scored_points(book, name)
    if not points:
        return None
    private = all(point.private is not None for point in points)
    board = "private" if private else "public"
    there = np.array([point.private if private else point.public for point in points], np.float64)
    cv = np.array([point.cv for point in points])
    known = [
        (point.low, point.high, score)
        for point, score in zip(points, there.tolist(), strict=True)
        if point.low is not None and point.high is not None
    ]
    inside = sum(low <= score <= high for low, high, score in known)
    draw(points, there, board, picture)
    return Agreement(
        tuple(points),
        board,
        _correlation(cv, there),
        _correlation(rankdata(cv), rankdata(there)),
        float((there - cv).mean()),
        (inside, len(known)),
        str(picture),
    )


def scored_points(book: Path, name: str) -> list[Point]:
    """Every submission of a competition that has a cross-validated and a public score, the last row of each reference."""
    found: dict[str, Point] = {}
    for row in ledger.read(book):
        if row["event"] != "scored" or row["competition"] != name or not row["cv"] or not row["public"]:
            continue
        low, high, private = (float(row[key]) if row[key] else None for key in ("cv_low", "cv_high", "private"))
        found[row["reference"]] = Point(row["file"], float(row["cv"]), low, high, float(row["public"]), private)
    return list(found.values())


def draw(points: list[Point], scores: np.ndarray, board: str, path: Path) -> None:
    """A picture: cross-validated scores with their intervals from left to right, the leaderboard's from bottom to top."""
    import matplotlib

    matplotlib.use("Agg")  # no screen is needed
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 6), layout="constrained")
    cv = np.array([point.cv for point in points])
    ends = [[point.cv - (point.low if point.low is not None else point.cv) for point in points]]
    ends += [[(point.high if point.high is not None else point.cv) - point.cv for point in points]]
    axes.errorbar(cv, scores, xerr=np.maximum(ends, 0), fmt="o", capsize=3)
    low, high = float(min(cv.min(), scores.min())), float(max(cv.max(), scores.max()))
    room = 0.05 * (high - low) or 0.01
    axes.plot([low - room, high + room], [low - room, high + room], color="grey", linewidth=1)
    axes.set_xlabel("cross-validated score and its 90 % interval")
    axes.set_ylabel(f"{board} score")
    axes.set_aspect("equal", "datalim")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    figure.savefig(part, format="png", dpi=120)
    plt.close(figure)
    part.replace(path)


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    if len(a) < FEWEST or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])
