"""What is packed of a blend, in the competition's format, and what can be said of that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from podium.blend.make import Blend
from podium.blend.members import Member, predictions_of_test
from podium.jobs import TEST
from podium.prepare import Prepared, Say
from podium.report.board import Row
from podium.standing import Model
from podium.store import Folder, read_json, sha256_of, write_json
from podium.submission import ledger
from podium.submission.pack import pack

SAMPLE_FILE = "this is a file about the built-in sample: it exercises the whole path and is not for uploading"


def upload_command(prepared: Prepared, submission: str | None) -> str | None:
    """What uploads a packed file, where there is one that is about real data of a competition on Kaggle."""
    if submission is None or prepared.competition.kaggle is None or prepared.origin.sample:
        return None
    return f"podium submit {prepared.competition.name}"


def lacks(prepared: Prepared) -> str | None:
    """What a submission needs and the competition's configuration does not name; None where nothing is missing."""
    settings = prepared.competition.submission
    if settings is None:
        return "submission format"
    return "test images" if prepared.dataset.test is None and settings.format != "model_zip" else None


def submit(prepared: Prepared, models: Sequence[Model], blend: Blend, row: Row, say: Say) -> tuple[str, list[str]]:
    """Pack the blend in the competition's format: the file, and what is to be noted of it. Nothing may be ``lacks``-ing."""
    settings = prepared.competition.submission
    if settings is not None and settings.format == "model_zip":
        from podium.submission.model_zip.submit import submit_model

        file, told = submit_model(prepared, models, blend, row, say)
        return file, [told]
    return submit_file(prepared, [model.member for model in models], blend, row), []


def submit_file(prepared: Prepared, members: Sequence[Member], blend: Blend, row: Row) -> str:
    """Pack what the format needs of the blend, unless this very blend was packed before and the file is still as it was."""
    competition, test = prepared.competition, prepared.dataset.test
    assert competition.submission is not None and test is not None
    record_path = blend.folder / "packed.json"
    made_of = {
        "test": [Folder(*member.test).file_sum(TEST) for member in members if member.test is not None],
        "weights": blend.weights,
        "mean": blend.decision.mean,
        "steps": [step.to_json(competition.classes) for step in blend.decision.steps],
        "submission": competition.submission.model_dump(),
    }
    record = read_json(record_path)
    if record and record["made_of"] == made_of and unchanged(Path(record["file"]), record["sha256"]):
        return str(record["file"])
    packed = pack(
        prepared.workspace.submissions,
        competition,
        prepared.name,
        predictions_of_test(members, blend.decision, competition),
        test.images.ids,
        test.images.shapes,
        about=about(prepared, [f"{member.name}@{member.run[:8]}" for member in members], blend, row),
        data_folder=prepared.origin.folder,
    )
    write_json(record_path, {"file": str(packed.path), "sha256": packed.sha256, "made_of": made_of})
    return str(packed.path)


def about(prepared: Prepared, models: Sequence[str], blend: Blend, row: Row) -> ledger.About:
    """What the ledger keeps of a packed blend; models: with the beginnings of their runs' keys."""
    commit, dirty = ledger.git_state(prepared.workspace.root)
    return ledger.About(
        " ".join(models),
        f"{blend.decision.method}@{blend.key[:8]}",
        row.score,
        row.low,
        row.high,
        blend.in_sample,
        commit,
        dirty,
    )


def unchanged(path: Path, sha256: str) -> bool:
    """Whether a file is there, and as it was."""
    return path.is_file() and sha256_of(path) == sha256
