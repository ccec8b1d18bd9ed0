"""Cross-validation beside the leaderboard, worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from podium.report.leaderboard import agreement
from podium.submission.ledger import Event, append


def scored(book: Path, reference: str, cv: float | None, public: str, private: str = "") -> None:
    low, high = (None, None) if cv is None else (cv - 0.01, cv + 0.01)
    event = Event("scored", f"{reference}.csv", "0" * 64, "mars", cv=cv, cv_low=low, cv_high=high)
    append(book, replace(event, reference=reference, public=public, private=private))


def test_three_submissions(tmp_path: Path) -> None:
    book = tmp_path / "ledger.csv"
    assert agreement(book, "mars", tmp_path / "p.png") is None
    scored(book, "1", 0.50, "0.505")
    found = agreement(book, "mars", tmp_path / "p.png")
    assert found is not None and found.pearson is None and "three are needed for a correlation" in found.sentence()
    scored(book, "2", 0.52, "0.515")
    scored(book, "3", 0.54, "0.575")
    scored(book, "4", None, "0.9")  # without a cross-validated score there is nothing to compare
    append(book, Event("packed", "x.csv", "0" * 64, "mars", cv=0.9))
    append(book, Event("scored", "y.csv", "0" * 64, "mars-sample", cv=0.9, public="0.9", reference="5"))
    found = agreement(book, "mars", tmp_path / "runs" / "p.png")
    assert found is not None and len(found.points) == 3 and found.board == "public"
    # differences 0.005, -0.005, 0.035; deviations of cv ∓0.02, of public -0.02667, -0.01667, 0.04333
    assert found.difference == pytest.approx(0.035 / 3)
    assert found.pearson == pytest.approx((0.02 * 0.0266667 + 0.02 * 0.0433333) / (0.0008 * 0.0028666667) ** 0.5)
    assert found.rank == pytest.approx(1.0) and found.inside == (2, 3)
    assert "3 scored submissions: the public score is on average +0.0117" in found.sentence()
    with Image.open(tmp_path / "runs" / "p.png") as picture:
        assert picture.format == "PNG" and picture.size[0] > 400
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["p.png"]


def test_a_score_that_is_corrected_later_and_private_ones(tmp_path: Path) -> None:
    book = tmp_path / "ledger.csv"
    scored(book, "1", 0.5, "0.1", "0.49")
    scored(book, "1", 0.5, "0.5", "0.48")
    scored(book, "2", 0.6, "0.6")
    found = agreement(book, "mars", tmp_path / "p.png")
    assert found is not None and found.board == "public" and found.difference == 0.0
    scored(book, "2", 0.6, "0.6", "0.62")
    found = agreement(book, "mars", tmp_path / "p.png")
    assert found is not None and found.board == "private" and found.difference == pytest.approx(0.0)
    assert found.pearson is None  # two points
