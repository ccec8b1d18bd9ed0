"""``podium predict --objects``: the objects in the masks that the last run's blend predicts for the test images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from podium import pipeline, remembered, standing
from podium.blend.members import labels_of_test
from podium.errors import UserError
from podium.jobs import open_copies
from podium.objects.report import ObjectsReport, write_report
from podium.prepare import Options, prepare


@dataclass(frozen=True)
class Found:
    """What was found and where it is written down."""

    competition: str
    report: ObjectsReport

    def sentence(self) -> str:
        """For people."""
        told = self.report
        kinds = ", ".join(f"{count} {kind}" for kind, count in zip(told.kinds, told.per_kind, strict=True))
        return (
            f"Objects: {told.objects} in {told.images} images ({kinds}; {told.empty} images without any), "
            f"tables and {told.overlays} overlays in {told.folder}"
        )


def report_objects(name: str, out: Path | None, overlays: int | None) -> Found:
    """Find the objects that the competition's ``objects`` section describes; files in runs/<name>/objects."""
    options = remembered.last_options(name, Options(out=out))
    prepared = prepare(name, options, lambda text: None)
    competition, test = prepared.competition, prepared.dataset.test
    if not competition.masks:
        raise UserError(f"--objects: {name}'s task is {competition.task}, and objects are in masks; leave it out")
    if test is None:
        raise UserError(f"--objects: {name} has no test images; add data.test to its configuration")
    plan = pipeline.make_plan(prepared, options, lambda text: None, measure=False)
    models = [standing.Model.of(run) for run in plan.runs]
    copies = open_copies(plan.site, prepared.dataset, prepared.folds) if plan.site.corrupted is not None else None
    blend = standing.score(prepared, models, copies).blend
    labels = labels_of_test([model.member for model in models], blend.decision, competition)
    folder = prepared.workspace.runs(prepared.name) / "objects"
    source = prepared.source.test
    assert source is not None
    classes = competition.classes
    report = write_report(folder, source, labels, competition.objects, classes, competition.unscored_index, overlays)
    return Found(prepared.name, report)
