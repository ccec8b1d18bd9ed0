"""A blend of models: chosen on their out-of-fold predictions, scored where it was not chosen, kept on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np

from podium import metrics
from podium.blend.choose import WAYS, Chooser, Wanted
from podium.blend.members import Member, same_folds, volumes
from podium.blend.oof import Oof, gather, layout
from podium.blend.table import Table
from podium.config import Competition
from podium.data.part import Part
from podium.decode import Decision
from podium.decode_steps import NAMES, Step
from podium.estimate import Repeats, bootstrap, nested, over_repeats, paired
from podium.folds import Folds
from podium.jobs import OOF, STATS, VERSIONS
from podium.metrics import Metric
from podium.scoring import also, scored_by
from podium.store import DONE, Folder, Key, read_json, verify, write_json

CORRUPTED = "corrupted.npy"
RESAMPLES = 2000
Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Blend:
    """What was chosen, and what it is worth.

    members: in the order of ``decision.weights``. oof: statistics of every image under the choice that was made without
    its fold; corrupted: the same of corrupted copies, None where there are none. also: further metrics by name. in_sample:
    the score of ``decision`` where it was chosen, an optimistic number. gains: over the uniform blend, over the best single
    model and, of the decoding, over none: mean, interval and share of paired resamples above zero. notes: what is to be said.
    """

    folder: Path
    key: str
    members: tuple[Member, ...]
    decision: Decision
    oof: Oof
    corrupted: Oof | None
    also: dict[str, float]
    in_sample: float
    gains: dict[str, dict[str, float]]
    notes: tuple[str, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """The members' names."""
        return tuple(member.name for member in self.members)

    @property
    def weights(self) -> dict[str, float]:
        """By model."""
        return dict(zip(self.models, self.decision.weights, strict=True))

    @property
    def tuned(self) -> bool:
        """Whether anything was chosen on the scores."""
        return self.decision.method != "uniform" or bool(self.decision.steps)


def make(
    members: Sequence[Member],
    competition: Competition,
    folds: Folds,
    part: Part,
    runs_folder: Path,
    copies: tuple[Part, Folds] | None = None,
    say: Say = lambda text: None,
) -> Blend:
    """Blend ``members`` as the competition's ``blend`` section says; what was blended before is read back.

    copies: corrupted ones and their folds; with ``choose_by: corrupted`` the choice is made on them.
    """
    results = [result for member in members for result in member.results]
    settings: dict[str, Any] = {
        "models": [member.name for member in members],
        "blend": competition.blend.model_dump(mode="json"),
        "choose_by": competition.validation.choose_by if copies else "clean",
        "also": [str(metric) for metric in competition.also],
    }
    key = Key("blend", VERSIONS["blend"], settings | scored_by(competition), tuple(key.hash for _, key in results))
    folder = Folder(runs_folder / f"blend-{key.short}", key)
    files = (STATS, "blend.json", "decode.json", *([CORRUPTED] if copies else []))
    with folder.lock():
        made_of = [Folder(path, key).file_sum(OOF) for path, key in results]
        if folder.done is None or folder.done["oof"] != made_of:
            _Making(members, competition, folds, part, copies, say).write(folder)
            folder.finish(files, oof=made_of)
        folder.verify()
        told = read_json(folder.file("blend.json"))
        return _told(folder.path, key.hash, told, members, competition, folds, copies)


def open_blend(path: Path, competition: Competition, folds: Folds, there: Sequence[Member]) -> Blend | None:
    """A blend on disk; None where it is not finished, of another metric, or of models that are not ``there`` any more.

    Corrupted copies are left aside.
    """
    done, told = read_json(path / DONE), read_json(path / "blend.json")
    if done is None or told is None or told.get("scored_by") != scored_by(competition):
        return None
    of_run = {(member.name, member.run): member for member in there}
    wanted = [(name, model["run"]) for name, model in told["models"].items()]
    if any(each not in of_run for each in wanted):
        return None
    verify(path, STATS)
    return _told(path, done["key"], told, [of_run[each] for each in wanted], competition, folds, None)


def _told(
    path: Path,
    key: str,
    told: dict[str, Any],
    members: Sequence[Member],
    competition: Competition,
    folds: Folds,
    copies: tuple[Part, Folds] | None,
) -> Blend:
    """The blend that its files tell of."""
    steps = read_json(path / "decode.json")["steps"]
    weights = tuple(told["models"][member.name]["weight"] for member in members)
    chosen_steps = tuple(Step.from_json(step, competition.classes) for step in steps)
    decision = Decision(weights, told["mean"], chosen_steps, told["method"])
    chosen, name = same_folds(members), f"{decision.method} blend"
    oof = Oof(name, *layout(chosen, folds), np.load(path / STATS, allow_pickle=False))
    corrupted = None
    if copies is not None:
        stats = np.load(path / CORRUPTED, allow_pickle=False)
        corrupted = Oof(name, *layout(chosen, copies[1]), stats)
    return Blend(
        path,
        key,
        tuple(members),
        decision,
        oof,
        corrupted,
        told["also"],
        told["in_sample"],
        told["gains"],
        tuple(told["notes"]),
    )


class _Making:
    """The choice on each repeat, without each fold and on all of them, and the statistics that follow."""

    def __init__(
        self,
        members: Sequence[Member],
        competition: Competition,
        folds: Folds,
        part: Part,
        copies: tuple[Part, Folds] | None,
        say: Say,
    ) -> None:
        self.members, self.competition, self.folds, self.say = members, competition, folds, say
        self.metric = metrics.of(competition)
        chosen = same_folds(members)
        repeats = sorted({fold // folds.count for fold in chosen})
        of_repeat = [[fold for fold in chosen if fold // folds.count == repeat] for repeat in repeats]
        self.tables = [self._table(part, folds, some, False) for some in of_repeat]
        self.copies = [self._table(*copies, some, True) for some in of_repeat] if copies else []
        self.copies_folds = copies[1] if copies else None
        by_copies = copies is not None and competition.validation.choose_by == "corrupted"
        self.notes: list[str] = []
        self.without: dict[int, Decision] = {}
        finals = [self._choose(table) for table in (self.copies if by_copies else self.tables)]
        self.in_each = [self._score_in_sample(table, final) for table, final in zip(self.tables, finals, strict=True)]
        self.decision = _joined(finals)

    def _table(self, part: Part, folds: Folds, chosen: list[int], copies: bool) -> Table:
        assert part.targets is not None
        opened = {k: volumes(self.members, k, folds, self.competition, copies) for k in chosen}
        rows = {k: np.array([folds.index[name] for name in every[0].ids.tolist()]) for k, every in opened.items()}
        return Table(self.competition, self.metric, part.targets, opened, rows, folds.groups)

    def _choose(self, table: Table) -> Decision:
        """The decision on a repeat, and into ``without`` those made without each of its folds."""
        models, settings = len(self.members), self.competition.blend
        plain = Decision((1 / models,) * models, "geometric" if settings.mean == "geometric" else "arithmetic")
        if len(table.folds) < 2:  # nothing can be scored where it was not chosen, so nothing is chosen
            self.without |= dict.fromkeys(table.folds, plain)
            return plain
        method, mean = settings.method, settings.mean
        wanted = Wanted(None if method == "auto" else method, None if mean == "auto" else mean, settings.decode)
        chooser = Chooser(table, wanted, self.say)
        column = np.concatenate([np.full(len(table.rows[k]), k) for k in table.folds])

        def choose(rows: np.ndarray) -> Decision:
            return chooser.decide(tuple(np.unique(column[rows]).tolist()))

        def apply(decision: Decision, rows: np.ndarray) -> np.ndarray:
            return np.concatenate([chooser.stats(decision, k) for k in np.unique(column[rows]).tolist()])

        found = nested(choose, apply, column, self.metric.value)
        self.without |= zip(table.folds, found.choices_per_fold, strict=True)
        self.notes += [note for note in chooser.notes if note not in self.notes]
        return found.choice

    def _score_in_sample(self, table: Table, decision: Decision) -> float:
        return self.metric.value(np.concatenate([table.stats(decision, k) for k in table.folds]))

    def _oof(self, decide: Callable[[int], Decision], metric: Metric | None = None, copies: bool = False) -> Oof:
        """Statistics of all folds, each under the decision for it."""
        pieces = {}
        for table in self.copies if copies else self.tables:
            for k in table.folds:
                pieces[k] = table.volumes[k][0].ids, table.stats(decide(k), k, metric)
        folds = self.copies_folds if copies else self.folds
        assert folds is not None
        return gather("blend", pieces, folds)

    def write(self, folder: Folder) -> None:
        """All files of the blend's folder."""
        metric, competition, decision = self.metric, self.competition, self.decision
        oof = self._oof(self.without.__getitem__)
        np.save(folder.file(STATS), oof.stats)
        if self.copies:
            np.save(folder.file(CORRUPTED), self._oof(self.without.__getitem__, copies=True).stats)
        groups = self.folds.groups[oof.rows]
        interval = bootstrap(Repeats(metric), oof.stats, groups, RESAMPLES)
        models = {
            member.name: {"run": member.run, "weight": weight}
            for member, weight in zip(self.members, decision.weights, strict=True)
        }
        gains = {
            name: asdict(paired(Repeats(metric), oof.stats, other.stats, groups, RESAMPLES))
            for name, other in self._others().items()
        }
        nested_score = over_repeats(metric, oof.stats)
        record = {
            "method": decision.method,
            "mean": decision.mean,
            "models": models,
            "scored_by": scored_by(competition),
            "in_sample": float(np.mean(self.in_each)),
            "score": nested_score,
            "interval": {"low": interval.low, "high": interval.high, "level": interval.level},
            "gains": gains,
            "also": {
                name: over_repeats(other, self._oof(self.without.__getitem__, other).stats)
                for name, other in also(competition).items()
            },
            "without_fold": {str(k): self._words(each) for k, each in self.without.items()},
            "notes": self.notes,
        }
        write_json(folder.file("blend.json"), record)
        undecoded = self._oof(lambda k: replace(self.without[k], steps=()))
        decoding = {
            "unscored": competition.unscored,
            "steps": _steps(decision, competition.classes),
            "in_sample": float(np.mean(self.in_each)),
            "nested": nested_score,
            "plain": over_repeats(metric, undecoded.stats),
        }
        write_json(folder.file("decode.json"), decoding)

    def _others(self) -> dict[str, Oof]:
        """What the blend is compared with: without steps, uniform, and the single model that scores best on all images."""
        count = len(self.members)
        others = {}
        if any(each.steps for each in (self.decision, *self.without.values())):
            others["decoding"] = self._oof(lambda k: replace(self.without[k], steps=()))
        if count == 1:
            return others
        others["uniform"] = self._oof(lambda k: Decision((1 / count,) * count))
        single = [Decision(tuple(row)) for row in np.eye(count).tolist()]
        alone = [self._oof(dict.fromkeys(self.without, decision).__getitem__) for decision in single]
        scores = np.array([over_repeats(self.metric, oof.stats) for oof in alone])
        best = int(scores.argmax() if self.metric.higher_is_better else scores.argmin())
        return others | {f"best single ({self.members[best].name})": alone[best]}

    def _words(self, decision: Decision) -> dict[str, Any]:
        names = (member.name for member in self.members)
        return {
            "method": decision.method,
            "mean": decision.mean,
            "weights": dict(zip(names, decision.weights, strict=True)),
            "steps": _steps(decision, self.competition.classes),
        }


def _steps(decision: Decision, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """The steps with what each gained."""
    pairs = zip(decision.steps, decision.gains, strict=True)
    return [step.to_json(classes) | {"gain": gain} for step, gain in pairs]


def _joined(decisions: Sequence[Decision]) -> Decision:
    """One decision of those of several repeats, which are splits of the same images.

    The way that most of them took, of equals the simplest, with the mean of their weights; the steps that more than half of
    all took, with the median of their amounts.
    """
    if len(decisions) == 1:
        return decisions[0]
    taken = Counter((each.method, each.mean) for each in decisions)
    method, mean = max(taken, key=lambda way: (taken[way], -WAYS.index(way) if way in WAYS else -len(WAYS)))
    weights = np.mean([each.weights for each in decisions if (each.method, each.mean) == (method, mean)], axis=0)
    of_kind: dict[tuple[str, int | None], list[tuple[Step, float]]] = {}
    for each in decisions:
        for step, gain in zip(each.steps, each.gains, strict=True):
            of_kind.setdefault((step.name, step.of), []).append((step, gain))
    joined = []
    for found in of_kind.values():
        if 2 * len(found) > len(decisions):
            amounts = zip(*(step.value for step, _ in found), strict=True)
            step = replace(found[0][0], value=tuple(median_low(amount) for amount in amounts))
            joined.append((step, float(np.mean([gain for _, gain in found]))))
    joined.sort(key=lambda pair: NAMES.index(pair[0].name))
    steps, gains = tuple(step for step, _ in joined), tuple(gain for _, gain in joined)
    return Decision(tuple(weights.tolist()), mean, steps, method, gains)
