"""Packing a blend as code: nets exported, the file written, tried out, and only then put in its place."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from podium.blend.make import Blend
from podium.cores import cores
from podium.data.fit import plan_fit
from podium.engines.apart import work_apart
from podium.packing import about, unchanged
from podium.prepare import Prepared, Say
from podium.report.board import Row
from podium.standing import Model
from podium.store import read_json, sha256_of, write_json
from podium.submission.checks.model_zip import check_model_zip
from podium.submission.checks.report import Report
from podium.submission.model_zip import archive, trial
from podium.submission.model_zip.content import Content, gather
from podium.submission.pack import place_checked

IMAGES, REFERENCE = "images.npy", "reference.npz"


def submit_model(prepared: Prepared, models: Sequence[Model], blend: Blend, row: Row, say: Say) -> tuple[str, str]:
    """Pack the blend as a model_zip, unless this very blend was packed before and the file is still as it was.

    Returns the file and a sentence on how its trial went, which the ledger keeps too. What cannot be done by numpy and
    onnxruntime alone, a file above the size limit, and one that does not answer as podium does are UserErrors.
    """
    competition, part = prepared.competition, prepared.dataset.train
    content = gather(competition, models, blend.decision, part, plan_fit(prepared.dataset.parts, competition.data.fit))
    made_of = content.made_of() | {"code": sha256_of(archive.CODE)}
    record_path = blend.folder / "packed_model.json"
    record = read_json(record_path)
    if record and record["made_of"] == made_of and unchanged(Path(record["file"]), record["sha256"]):
        return str(record["file"]), str(record["told"])
    with tempfile.TemporaryDirectory(prefix="podium-model-") as name:
        work = Path(name)
        rows = trial.pick(np.flatnonzero(prepared.folds.kept), content.batch)
        np.save(work / IMAGES, np.ascontiguousarray(part.images.stacked[rows].transpose(0, 2, 3, 1)))
        work_apart(partial(_export, content, work), say, "nets of the submission")
        tried: list[trial.Trial] = []

        def check(path: Path) -> Report:
            """The file as it lies there, and how it answers; it is run only where it is what it should be."""
            empty = np.zeros(0, np.str_), np.zeros((0, 3), np.int64)
            report = check_model_zip(path, competition, *empty, own=True)
            if not report.ok:
                return report
            tried.append(trial.run(path, work / IMAGES, work / REFERENCE))
            return replace(report, errors=tried[-1].errors)

        known = about(prepared, [member.name for member in content.members], blend, row)
        packed = place_checked(
            prepared.workspace.submissions,
            prepared.name,
            ".zip",
            lambda path: archive.write(path, content, work),
            check,
            lambda: replace(known, message=told(content, tried[-1])),
        )
    sentence = told(content, tried[-1])
    write_json(record_path, {"file": str(packed.path), "sha256": packed.sha256, "told": sentence, "made_of": made_of})
    return str(packed.path), sentence


def told(content: Content, tried: trial.Trial) -> str:
    """How the trial of a file went."""
    nets = sum(len(member.nets) for member in content.members)
    return (
        f"model_zip: {nets} net{'s' * (nets > 1)}, run where only numpy and onnxruntime are, answer as podium does on "
        f"{tried.images} training images (probabilities within {tried.difference:.0e}); {tried.milliseconds:.1f} ms per image "
        f"on {cores()} cores, {tried.memory / archive.MB:.0f} MB of memory at most"
    )


def _export(content: Content, work: Path, say: Say) -> None:
    """In a process of its own: this one does without torch."""
    from podium.submission.model_zip.export import make

    make(content, work / IMAGES, work, say)
