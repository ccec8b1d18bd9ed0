"""An audit as people read it in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from podium.audit.describe import Description
from podium.audit.label_report import LabelReport
from podium.audit.labels import ImageLabels
from podium.audit.report import Report

LISTED = 8
MOST = 20
"""Rows of the table of labels in question."""


def print_report(report: Report, folder: Path, console: Console) -> None:
    """One page: what there is, what is dropped, what is doubtful, and where the details lie."""

    def line(text: str, style: str | None = None) -> None:
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    line(f"Audit of {report.competition}: {report.data}", "bold")
    for name, part in (("train", report.train), ("test", report.test)):
        if part is not None:
            line(f"{name}: {_size(part)}")
    _classes(report, console)
    for style, text in _findings(report):
        line(text, style)
    if report.pictures:
        line(f"Pictures: {', '.join(report.pictures)}")
    line(f"Written to {folder}: report.json, drop.csv, groups.csv ({report.seconds:.1f} s)")


def _size(part: Description) -> str:
    first = part.sizes[0]
    sizes = f"{first.height} x {first.width}"
    if len(part.sizes) > 1:
        sizes = f"{len(part.sizes)} sizes, {sizes} the most frequent ({first.images})"
    values = "; ".join(f"{c.minimum:g} to {c.maximum:g}, mean {c.mean:.1f}" for c in part.channels)
    return f"{part.count} images of {sizes}, {len(part.channels)} channels of {part.dtype} ({values})"


def _classes(report: Report, console: Console) -> None:
    targets = report.train.targets
    if targets is None:
        return
    masks = targets.kind == "masks"
    table = Table(title="Classes", title_justify="left")
    for i, title in enumerate(("class", "share of pixels", "images") if masks else ("class", "share", "images")):
        table.add_column(title, justify="right" if i else "left")
    for item in targets.classes:
        table.add_row(item.name, f"{item.share:.3%}", str(item.images))
    console.print(table)


def _findings(report: Report) -> Iterator[tuple[str | None, str]]:
    """(style, sentence) for everything worth saying."""
    for sentence in report.skipped[:LISTED]:
        yield "red", f"Left out: {sentence}"
    if len(report.skipped) > LISTED:
        yield "red", f"Left out: {len(report.skipped) - LISTED} more"
    if report.dropped:
        yield "red", f"Dropped: {len(report.dropped)} images ({_each(report.reasons)})"
    else:
        yield "green", "Dropped: nothing; no image is beyond doubt out of place"
    targets = report.train.targets
    if targets is not None and targets.kind == "masks":
        for what, names in (
            ("without any label", targets.all_ignored),
            ("of nothing but background", targets.empty),
            ("of a single class", targets.single_class),
        ):
            if names:
                yield None, f"Masks {what}: {len(names)} ({_ids(names)})"
        simple = targets.shared_simple
        if simple.masks:
            yield (
                None,
                f"Masks of one class that several images share: {simple.masks}, in {simple.images} images; they stay",
            )
    elif targets is not None and targets.all_ignored:
        yield None, f"Images without a label: {len(targets.all_ignored)} ({_ids(targets.all_ignored)})"
    if report.groups:
        yield None, f"Copies and near copies: {report.grouped} images in {report.groups} groups, each kept in one fold"
    for links, text in (
        (report.contradictions, "Near copies with different labels"),
        (report.group_leaks, "Near copies in different groups of the competition's own column"),
        (report.leaks, "Training images that occur in test"),
    ):
        if links:
            pairs = ", ".join(f"{link.first}={link.second}" for link in links[:LISTED])
            yield "yellow", f"{text}: {len(links)} ({pairs}{', ...' if len(links) > LISTED else ''})"
    if report.drawn_twice:
        some = ", ".join("=".join(names) for names in report.drawn_twice[:LISTED])
        yield (
            "yellow",
            f"Equal pictures with different masks: {len(report.drawn_twice)} ({some}); they stay, in one fold",
        )
    if report.outliers_apart:
        names = tuple(item.id for item in report.outliers[: report.outliers_apart])
        yield "yellow", f"Far from all others: {report.outliers_apart} images ({_ids(names)}); doubtful, they stay"
    for kind, names in report.faults.items():
        if names:
            yield "yellow", f"{kind.replace('_', ' ').capitalize()}: {len(names)} images ({_ids(names)})"
    for kind, text in (
        ("reconstruction", "Worst drawn by the autoencoder"),
        ("repeated_content", "Hold the content of another image"),
    ):
        if found := report.thorough.get(kind):
            yield "yellow", f"{text}: {_ids(tuple(item['id'] for item in found))}"
    if report.difference is not None:
        yield None, f"Train against test: {report.difference.verdict}"
        if report.difference.test_like:
            yield (
                None,
                f"Training images most like test images: {_ids(tuple(i.id for i in report.difference.test_like))}",
            )


def _each(reasons: dict[str, int]) -> str:
    return "; ".join(f"{count}: {reason}" for reason, count in reasons.items())


def _ids(names: tuple[str, ...]) -> str:
    return ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")


def print_labels(report: LabelReport, console: Console) -> None:
    """The most probable label errors, and what the list is worth."""
    found = report.found
    images = isinstance(found, ImageLabels)
    table = Table(title=f"{report.competition}: labels that {report.model} (score {report.score:.4f}) disagrees with")
    columns = ("id", "given", "suggested", "margin") if images else ("id", "given", "suggested", "pixels", "box (y, x)")
    for i, title in enumerate(columns):
        table.add_column(title, justify="right" if i > 2 else "left")
    if isinstance(found, ImageLabels):
        probable = [item for item in found.suspects if item.probable]
        for item in probable[:MOST]:
            table.add_row(item.id, item.given, item.suggested, f"{item.score:.3f}")
        total = len(probable)
    else:
        for region in found.regions[:MOST]:
            box = f"{region.y0}–{region.y1}, {region.x0}–{region.x1}"
            table.add_row(region.id, region.given, region.suggested, str(region.area), box)
        total = len(found.regions)
    if total:
        console.print(table)
    what = "images" if images else "regions"
    text = f"{total} {what} in question among {report.judged} images; {report.file}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print(
        "The list ranks, it proves nothing: a weak model disagrees often, and errors that it has learnt are not in it.",
        highlight=False,
        soft_wrap=True,
    )
