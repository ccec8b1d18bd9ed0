"""Which two submissions to select at a competition's end: the best one, and one that errs elsewhere and is not clearly worse."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from podium import metrics
from podium.blend.make import RESAMPLES, Blend, open_blend
from podium.blend.members import labels_of_test
from podium.blend.oof import together
from podium.catalogue import entries
from podium.errors import UserError
from podium.estimate import Gain, Repeats, bootstrap, over_repeats, paired, second_chance
from podium.metrics import Metric
from podium.prepare import Prepared
from podium.submission.history import attempts, packed
from podium.submission.pack import LEDGER


@dataclass(frozen=True)
class Candidate:
    """A blend whose test images are predicted.

    score, low, high: nested, with its 90 % interval. behind: by how much the first one is better on the same images. differs:
    the share of test labels (pixels, answers) that are not the first one's, of numbers the mean distance. file: what was packed
    of it last, empty where nothing was; reference, public: what was sent of that.
    """

    blend: str
    models: tuple[str, ...]
    score: float
    low: float
    high: float
    file: str
    reference: str
    public: str
    behind: Gain | None = None
    differs: float = 0.0


@dataclass(frozen=True)
class Final:
    """The proposal. first, second: the two to select, second None where no other is good enough.

    better: in what share of resamples the second beats the first; saves: by how much the better of both is better than the
    first, on average over all resamples. others: the rest, by score.
    """

    competition: str
    metric: str
    first: Candidate
    second: Candidate | None
    better: float
    saves: float
    others: tuple[Candidate, ...]

    def sentences(self) -> list[str]:
        """For people."""
        told = [f"select first: {_called(self.first, self.competition)}, the best nested score, {self.first.score:.4f}"]
        if self.second is None:
            return [*told, "select no second one by these figures: no other blend is there, or all are clearly worse"]
        second = self.second
        told.append(
            f"select second: {_called(second, self.competition)}, nested {second.score:.4f}: of those that are not clearly worse "
            f"the one that differs most, in {second.differs:.2%} of the test labels"
        )
        told.append(
            f"what that insures against: private images that are not like the training images; the second is the better one in "
            f"{self.better:.0%} of resamples, and the better of both beats the first by {self.saves:.4f} on average"
        )
        return told


def propose(prepared: Prepared) -> Final:
    """The two to select among all blends of the present data and folds whose test images are predicted.

    Not clearly worse: the 90 % interval of the paired difference to the best one holds zero. Public scores have no say: they are
    of few images, and have been looked at.
    """
    metric = metrics.of(prepared.competition)
    if prepared.dataset.test is None:
        raise UserError(
            f"{prepared.competition.name}: there are no test images, so how far two submissions lie apart cannot be told; "
            f"podium board {prepared.competition.name} has the scores"
        )
    there = _blends(prepared)
    if not there:
        raise UserError(
            f"{prepared.name}: no blend has predicted the test images; run: podium pack {prepared.competition.name}"
        )
    higher = metric.higher_is_better
    made = sorted(
        ((_candidate(prepared, metric, blend), blend) for blend in there),
        key=lambda each: -each[0].score if higher else each[0].score,
    )
    (first, best), rest = made[0], made[1:]
    labels = labels_of_test(best.members, best.decision, prepared.competition)
    others: list[tuple[Candidate, Blend]] = []
    for candidate, blend in rest:
        rows, ours, theirs = together(best.oof, blend.oof)
        if not len(rows):
            continue  # nothing can be said of the two together
        gain = paired(Repeats(metric), ours, theirs, prepared.folds.groups[rows], RESAMPLES)
        told = labels_of_test(blend.members, blend.decision, prepared.competition)
        assert told.ids.tolist() == labels.ids.tolist()
        apart = np.abs(told.values - labels.values) if told.values.dtype.kind == "f" else told.values != labels.values
        others.append((replace(candidate, behind=gain, differs=float(apart.mean())), blend))
    second = max(
        (each for each in others if each[0].behind is not None and each[0].behind.low <= 0 and each[0].differs > 0),
        key=lambda each: each[0].differs,
        default=None,
    )
    better, saves = 0.0, 0.0
    if second is not None:
        rows, ours, theirs = together(best.oof, second[1].oof)
        better, saves = second_chance(Repeats(metric), ours, theirs, prepared.folds.groups[rows], RESAMPLES)
    return Final(
        prepared.name,
        str(prepared.competition.metric),
        first,
        second[0] if second else None,
        better,
        saves,
        tuple(each for each, _ in others if second is None or each is not second[0]),
    )


def _blends(prepared: Prepared) -> list[Blend]:
    """All of the present data and folds whose members have predicted the test images."""
    there = [entry.model.member for entry in entries(prepared) if entry.problem is None]
    folders = sorted(prepared.workspace.runs(prepared.name).glob("blend-*"))
    found = [open_blend(path, prepared.competition, prepared.folds, there) for path in folders]
    return [blend for blend in found if blend is not None and all(member.test for member in blend.members)]


def _candidate(prepared: Prepared, metric: Metric, blend: Blend) -> Candidate:
    score = over_repeats(metric, blend.oof.stats)
    interval = bootstrap(Repeats(metric), blend.oof.stats, prepared.folds.groups[blend.oof.rows], RESAMPLES)
    book = prepared.workspace.submissions / LEDGER
    rows = [row for row in packed(book, prepared.name) if row["blend"].rpartition("@")[2] == blend.key[:8]]
    sent = [
        each for each in attempts(book, prepared.name) if rows and each.sha256 == rows[-1]["sha256"] and each.reference
    ]
    names = tuple(name for name, weight in blend.weights.items() if weight)
    return Candidate(
        f"{blend.decision.method} blend@{blend.key[:8]}",
        names,
        score,
        interval.low,
        interval.high,
        rows[-1]["file"] if rows else "",
        sent[-1].reference if sent else "",
        sent[-1].public if sent else "",
    )


def _called(candidate: Candidate, name: str) -> str:
    """A candidate in words: its file, and whether it can be selected already."""
    if name.endswith("-sample"):
        return f"{candidate.file or candidate.blend} ({candidate.blend}, of the built-in sample and not for uploading)"
    if not candidate.file:
        models = ",".join(candidate.models)
        return f"{candidate.blend} (not packed yet: podium blend {name} --models {models} --pack)"
    if not candidate.reference:
        return f"{candidate.file} ({candidate.blend}, not sent yet: podium submit {name} submissions/{candidate.file})"
    return f"{candidate.file} ({candidate.blend}, Kaggle's reference {candidate.reference})"
