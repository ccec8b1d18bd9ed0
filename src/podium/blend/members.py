"""The models of a blend, whoever trained them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from podium.blend.oof import volume
from podium.config import Competition
from podium.data.ragged import Ragged
from podium.decode import Decision
from podium.errors import UserError
from podium.folds import Folds
from podium.jobs import TEST
from podium.plan import Run
from podium.scoring import labels_of, submitted
from podium.store import Folder, Key


@dataclass(frozen=True)
class Member:
    """A model's predictions on disk: fold → (folder, key) out of fold and on corrupted copies, and those of the test set.

    run: hash of its training, or of what was imported.
    """

    name: str
    run: str
    oof: Mapping[int, tuple[Path, Key]]
    test: tuple[Path, Key] | None
    corrupted: Mapping[int, tuple[Path, Key]] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Run) -> Member:
        """A recipe of a plan."""
        return cls(run.recipe.name, run.key.hash, run.oof, run.test, run.corrupted)

    @property
    def results(self) -> list[tuple[Path, Key]]:
        """All that it is judged by."""
        return [*self.oof.values(), *self.corrupted.values()]


def volumes(members: Sequence[Member], fold: int, folds: Folds, competition: Competition, copies: bool) -> list[Ragged]:
    """A fold's predictions of each member, checked by id; of corrupted copies, with their folds, where ``copies``."""
    results = [(member.corrupted if copies else member.oof)[fold] for member in members]
    return [volume(*result, fold, folds, competition.answers) for result in results]


def same_folds(members: Sequence[Member]) -> tuple[int, ...]:
    """The folds that all members have; others than the first one's are a UserError."""
    first = tuple(sorted(members[0].oof))
    for member in members[1:]:
        if tuple(sorted(member.oof)) != first:
            theirs, ours = (", ".join(map(str, some)) for some in (sorted(member.oof), first))
            raise UserError(
                f"{member.name}: has predictions of folds {theirs}, {members[0].name} of folds {ours}; train both on the "
                f"same folds: podium train <competition> --models {member.name} --folds {ours.replace(' ', '')}"
            )
    return first


def labels_of_test(members: Sequence[Member], decision: Decision, competition: Competition) -> Ragged:
    """The labels of the test set: the same ``finish`` as for out-of-fold predictions."""
    return labels_of(_tested(members), decision, competition)


def predictions_of_test(members: Sequence[Member], decision: Decision, competition: Competition) -> Ragged:
    """What the competition's submission is made of: labels of the test set, or its probabilities."""
    return submitted(_tested(members), decision, competition)


def _tested(members: Sequence[Member]) -> list[Ragged]:
    """The test predictions of each member, as they were when they were made."""
    opened = []
    for member in members:
        if member.test is None:
            raise UserError(
                f"{member.name}: has no test predictions; leave it out with --models, or predict the test set"
            )
        path, key = member.test
        Folder(path, key).verify()
        opened.append(Ragged.open(path / TEST))
    return opened
