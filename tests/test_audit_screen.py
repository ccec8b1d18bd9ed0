"""What the folds are told: drops and groups, found once, read back afterwards, and joined with other groups."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from podium.audit import screen as module
from podium.audit.near import Near
from podium.audit.screen import join, screen
from podium.config import Competition
from podium.data.part import Part
from podium.data.ragged import Ragged


def competition(**changed: object) -> Competition:
    raw = {
        "name": "toy",
        "task": "classification",
        "data": {"format": "npz", "file": "x.npz", "train": {"image": {"key": "x"}, "target": {"key": "y"}}},
        "classes": ["a", "b"],
        "metric": {"name": "accuracy"},
        "models": ["net"],
    }
    return Competition.model_validate(raw | changed)


def part() -> Part:
    """Twelve smooth pictures; 1 is 0 flipped, 3 a copy of 2 with its label, 5 a copy of 4 with another."""
    rng = np.random.default_rng(3)
    coarse = rng.uniform(20, 220, (12, 1, 8, 8)).repeat(6, axis=2).repeat(6, axis=3)
    images = np.clip(coarse + rng.normal(0, 12, coarse.shape), 0, 255).astype(np.uint8)
    images[1] = images[0][:, :, ::-1]
    images[3], images[5] = images[2], images[4]
    labels = np.array([0, 0, 1, 1, 0, 1, 0, 1, 0, 1, 0, 1], np.uint8).reshape(12, 1, 1, 1)
    ids = [f"r{i}" for i in range(12)]
    return Part("train", Ragged.stack(images, ids), Ragged.stack(labels, ids), "d" * 16)


def test_drops_and_groups(tmp_path: Path) -> None:
    found = screen(part(), competition(), tmp_path)
    assert found.reasons == {
        "r3": "copy of r2",
        "r4": "2 equal pictures with 2 different labels",
        "r5": "2 equal pictures with 2 different labels",
    }
    assert found.groups.tolist()[:6] == [found.groups[0]] * 2 + [found.groups[2]] * 2 + [found.groups[4]] * 2
    assert len(set(found.groups.tolist())) == 9
    assert [(link.first, link.second, link.orientation) for link in found.links][-1] == ("r0", "r1", "flip h")
    assert (tmp_path / "drop.csv").read_text().splitlines() == [
        "id,reason",
        *(f"{k},{v}" for k, v in found.reasons.items()),
    ]
    rows = [line.split(",") for line in (tmp_path / "groups.csv").read_text().splitlines()]
    assert [row[0] for row in rows] == ["id", "r0", "r1", "r2", "r3", "r4", "r5"]


def test_a_search_is_not_done_twice_and_its_files_are_believed_only_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = screen(part(), competition(), tmp_path)
    calls: list[int] = []
    real = module.near_duplicates

    def counted(images: Ragged) -> Near:
        calls.append(1)
        return real(images)

    monkeypatch.setattr(module, "near_duplicates", counted)
    again = screen(part(), competition(), tmp_path)
    assert calls == [] and again.reasons == first.reasons and again.groups.tolist() == first.groups.tolist()
    assert [asdict(link) for link in again.links] == [asdict(link) for link in first.links]
    (tmp_path / "drop.csv").write_text("id,reason\n")
    assert screen(part(), competition(), tmp_path).reasons == first.reasons and len(calls) == 1
    screen(part(), competition(classes=["b", "a"]), tmp_path)
    assert len(calls) == 2


def test_groups_are_joined_directly_and_by_way_of_others() -> None:
    copies = np.array([0, 0, 1, 2, 3, 4])
    patients = np.array([7, 5, 5, 6, 9, 7])
    assert join([copies]).tolist() == [0, 0, 1, 2, 3, 4]
    assert join([copies, patients]).tolist() == [0, 0, 0, 1, 2, 0]
    assert join([np.arange(3)]).tolist() == [0, 1, 2]
