"""The audit: everything about a competition's data that may spoil a score, found before anything is trained."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from podium import preprocess
from podium.audit.describe import Description, describe
from podium.audit.drops import in_short
from podium.audit.features import features
from podium.audit.near import across
from podium.audit.outliers import Outlier, rank
from podium.audit.pictures import before_after, gallery
from podium.audit.quality import quality
from podium.audit.screen import Link, Screening, join, screen
from podium.audit.shift import TestLike, shift
from podium.config import Competition
from podium.config_preprocess import Standardise, Step
from podium.cores import cores
from podium.data.kinds import kinds
from podium.data.part import Dataset, Part
from podium.store import write_json

SHOWN = 32
"""Images on a contact sheet."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Difference:
    """How train and test differ: see ``shift.Shift``."""

    auc: float | None
    low: float | None
    high: float | None
    verdict: str
    test_like: tuple[TestLike, ...]


@dataclass(frozen=True)
class Report:
    """What an audit found. Ids everywhere; lists are ranked, the most telling first.

    dropped: id → reason, what ``data.drop: auto`` leaves out; everything else is listed and stays. near: near copies,
    which folds keep together. contradictions: near copies with different labels. drawn_twice: equal pictures with
    different masks. leaks: training images that occur in test. group_leaks: near copies in two groups of the
    competition's own column. outliers_apart: how many lie far out; thorough: what ``--thorough`` adds, else empty.
    """

    competition: str
    data: str
    seconds: float
    train: Description
    test: Description | None
    skipped: tuple[str, ...]
    dropped: dict[str, str]
    near: tuple[Link, ...]
    groups: int
    grouped: int
    contradictions: tuple[Link, ...]
    drawn_twice: tuple[tuple[str, ...], ...]
    leaks: tuple[Link, ...]
    group_leaks: tuple[Link, ...]
    outliers: tuple[Outlier, ...]
    outliers_apart: int
    faults: dict[str, tuple[str, ...]]
    difference: Difference | None
    preprocessing: tuple[str, ...]
    thorough: dict[str, Any] = field(default_factory=dict)
    pictures: tuple[str, ...] = ()

    @property
    def reasons(self) -> dict[str, int]:
        """How many images are dropped for which reason."""
        return dict(Counter(in_short(reason) for reason in self.dropped.values()))


def audit(
    competition: Competition, data: str, source: Dataset, folder: Path, say: Say, thorough: bool = False
) -> Report:
    """Search ``source``, the data as the files hold them, and leave report.json, drop.csv, groups.csv and pictures in ``folder``.

    data: where it comes from, for the report. thorough: also train a small autoencoder, and look for the content of
    repeated pictures inside others; it takes a minute or so.
    """
    started = time.monotonic()
    train, test = source.train, source.test
    assert train.targets is not None
    unscored = competition.unscored_index
    say("searching for copies and near copies")
    screening = screen(train, competition, folder)
    leaks = _named(across(train.images, test.images), train, test) if test is not None else ()
    say("describing images, targets and outliers")
    targets, classes = kinds(train.targets, competition)
    described = describe(train.images, targets, classes, unscored)
    described_test = describe(test.images, None, classes, unscored) if test is not None else None
    table = features(train.images)
    # what is dropped anyway would only crowd the lists
    kept = np.array([name not in screening.reasons for name in train.images.ids.tolist()])
    ranked = rank(train.images.ids[kept], table[kept], screening.groups[kept])
    looks = quality(train.images)
    faults = {
        kind: tuple(name for name in getattr(looks, kind) if name not in screening.reasons)
        for kind in ("dark", "bright", "blurred", "low_information")
    }
    difference = None
    if test is not None:
        say("telling train from test")
        together = [screening.groups]
        if train.groups is not None:  # else a patient's other pictures would give the answer away
            together.append(np.unique(train.groups, return_inverse=True)[1])
        found = shift(table[kept], features(test.images), train.images.ids[kept], join(together)[kept])
        difference = Difference(found.auc, found.low, found.high, found.verdict, found.test_like)
    more: dict[str, Any] = {}
    if thorough:
        from podium.audit.thorough import thorough as search

        say("training an autoencoder and looking for repeated content")
        deeper = search(train.images, described.duplicates)
        more = {
            "reconstruction": [asdict(item) for item in deeper.odd],
            "templates": [asdict(item) for item in deeper.templates],
            "repeated_content": [asdict(item) for item in deeper.matches],
        }
    _, sizes = np.unique(screening.groups, return_counts=True)
    pictures = _pictures(competition, train, screening, ranked.ranking, leaks, test, difference, faults, more, folder)
    report = Report(
        competition.name,
        data,
        round(time.monotonic() - started, 1),
        described,
        described_test,
        source.skipped,
        screening.reasons,
        screening.links,
        int((sizes > 1).sum()),
        int(sizes[sizes > 1].sum()),
        () if train.masks else _different(screening.links, train, [item.tobytes().hex() for item in train.targets]),
        screening.conflicts,
        leaks,
        _different(screening.links, train, train.groups.tolist()) if train.groups is not None else (),
        ranked.ranking,
        ranked.apart,
        faults,
        difference,
        tuple(step.name for step in competition.preprocess),
        more,
        pictures,
    )
    write_json(folder / "report.json", asdict(report))
    return report


def _named(pairs: Any, train: Part, test: Part) -> tuple[Link, ...]:
    """Links between a training image and a test image, by id."""
    ours, theirs = train.images.ids, test.images.ids
    return tuple(
        Link(str(ours[pair.first]), str(theirs[pair.second]), round(float(pair.correlation), 4), pair.orientation)
        for pair in pairs
    )


def _different(links: tuple[Link, ...], train: Part, values: list[str]) -> tuple[Link, ...]:
    """Links whose two images differ in ``values``, one per row."""
    row = train.images.index
    return tuple(link for link in links if values[row[link.first]] != values[row[link.second]])


def _pictures(
    competition: Competition,
    train: Part,
    screening: Screening,
    outliers: tuple[Outlier, ...],
    leaks: tuple[Link, ...],
    test: Part | None,
    difference: Difference | None,
    faults: dict[str, tuple[str, ...]],
    more: dict[str, Any],
    folder: Path,
) -> tuple[str, ...]:
    """Write the contact sheets; those of an earlier audit that no longer have anything to show are removed."""
    row = train.images.index
    targets = train.targets
    sheets: dict[str, list[tuple[str, str]]] = {
        "dropped": [(name, in_short(reason)) for name, reason in screening.reasons.items()],
        "outliers": [(item.id, f"{item.id}: {item.score:.1f}") for item in outliers],
        "near_copies": [
            (name, f"{name} {link.correlation:.3f}") for link in screening.links for name in (link.first, link.second)
        ],
        "test_like": [(item.id, f"{item.id}: {item.probability:.2f}") for item in difference.test_like]
        if difference
        else [],
        **{kind: [(name, name) for name in names] for kind, names in faults.items()},
        **{
            kind: [(item["id"], f"{item['id']}: {item['score']:.2f}") for item in more.get(kind, [])]
            for kind in ("reconstruction", "repeated_content")
        },
    }
    written = []
    pool = ThreadPoolExecutor(cores())  # packing the sheets is most of the work, and holds no lock
    waiting = []
    for kind in (
        "dropped",
        "outliers",
        "near_copies",
        "test_like",
        *faults,
        "reconstruction",
        "repeated_content",
        "leaks",
    ):
        (folder / f"{kind}.png").unlink(missing_ok=True)
        items = sheets.get(kind, [])[:SHOWN]
        if items:
            rows = [row[name] for name, _ in items]
            captions = [text for _, text in items]
            path = folder / f"{kind}.png"
            waiting.append(pool.submit(gallery, path, train.images, rows, captions, targets=targets))
            written.append(f"{kind}.png")
    if leaks and test is not None:
        pairs = leaks[:SHOWN]
        before_after(
            folder / "leaks.png",
            [train.images[row[link.first]] for link in pairs],
            [test.images[test.images.index[link.second]] for link in pairs],
            [f"{link.first} = test {link.second}" for link in pairs],
        )
        written.append("leaks.png")
    with pool:
        for sheet in waiting:
            sheet.result()
    (folder / "preprocessing.png").unlink(missing_ok=True)
    if competition.preprocess:
        _show_steps(competition.preprocess, train, screening, folder / "preprocessing.png")
        written.append("preprocessing.png")
    return tuple(written)


def _show_steps(steps: tuple[Step, ...], train: Part, screening: Screening, path: Path) -> None:
    """Eight images as they are and after all steps; ``standardise`` with the statistics of the kept images shown."""
    everything = range(len(train))
    kept = [i for i in everything if str(train.images.ids[i]) not in screening.reasons] or list(everything)
    rows = [kept[i] for i in np.linspace(0, len(kept) - 1, min(8, len(kept))).astype(int)]
    before = [train.images[row] for row in rows]
    after = [preprocess.apply(steps, image) for image in before]
    if any(isinstance(step, Standardise) for step in steps):
        channels = [
            np.concatenate([image[c].ravel() for image in after]).astype(np.float32) for c in range(len(after[0]))
        ]
        mean, std = (np.array([getattr(values, what)() for values in channels]) for what in ("mean", "std"))
        scaled = [(image - mean[:, None, None]) / np.maximum(std, 1e-6)[:, None, None] for image in after]
        after = [np.clip((image + 2.5) * 51, 0, 255).astype(np.uint8) for image in scaled]  # ±2.5 deviations
        if before[0].dtype != np.uint8:
            top = max(float(image.max()) for image in before) or 1.0
            before = [(image * (255 / top)).astype(np.uint8) for image in before]
    captions = [f"{train.images.ids[row]}: {', '.join(step.name for step in steps)}" for row in rows]
    before_after(path, before, after, captions)
