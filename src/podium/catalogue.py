"""What lies in a competition's folder of results: every model whose folds are predicted, trained here or imported, every blend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from podium.blend.members import Member
from podium.config import Competition, Recipe
from podium.errors import UserError, did_you_mean
from podium.imported import IMPORTED, open_imported
from podium.jobs import Job, run_key
from podium.prepare import Prepared
from podium.standing import Model
from podium.store import DONE, Key, canonical, read_json

ANOTHER = "@"
"""Between a model's name and the beginning of its run's key, where a name alone does not tell runs apart."""


@dataclass(frozen=True)
class Entry:
    """A model with finished out-of-fold predictions.

    problem: why it cannot be put beside others that are of the present data and folds, with the way out; None where it can.
    finished: when, in nanoseconds, to tell the newest.
    """

    model: Model
    problem: str | None
    finished: int

    @property
    def name(self) -> str:
        """Of the model."""
        return self.model.name

    @property
    def run(self) -> str:
        """Hash of its training, or of what was imported."""
        return self.model.member.run


def entries(prepared: Prepared) -> list[Entry]:
    """All models, the newest first; those that are not of the present data and folds with their ``problem``."""
    folder = prepared.workspace.runs(prepared.name)
    found = []
    for path in sorted(folder.glob("*/")):
        if path.name.startswith(f"{IMPORTED}-"):
            if (entry := _imported(path, prepared)) is not None:
                found.append(entry)
        elif not path.name.startswith("blend-") and list(path.glob("fold*/job.json")):
            found += _trained(path, prepared)
    return sorted(found, key=lambda entry: -entry.finished)


def pick(names: Sequence[str], there: Sequence[Entry], prepared: Prepared) -> list[Entry]:
    """The entries that are named, ``name`` or ``name@run``; of several runs the newest that can be used.

    What is not there, or is of other data or folds, is a UserError with the run that must be repeated.
    """
    if len(set(names)) != len(names):
        raise UserError(f"--models {','.join(names)}: every model is named once")
    picked = []
    for wanted in names:
        name, _, run = wanted.partition(ANOTHER)
        fitting = [entry for entry in there if entry.name == name and entry.run.startswith(run)]
        if not fitting:
            known = sorted({entry.name for entry in there})
            if not known:
                raise UserError(
                    f"{prepared.name}: no model has out-of-fold predictions in {prepared.workspace.runs(prepared.name)}; "
                    f"train one with: podium train {prepared.competition.name}"
                )
            raise UserError(f"--models {wanted}: no such model is predicted out of fold; {did_you_mean(name, known)}")
        usable = next((entry for entry in fitting if entry.problem is None), None)
        if usable is None:
            raise UserError(f"{fitting[0].name}{ANOTHER}{fitting[0].run[:8]}: {fitting[0].problem}")
        picked.append(usable)
    return picked


def _trained(path: Path, prepared: Prepared) -> Iterable[Entry]:
    """The models of a run's folder: one for every way in which all of its trained folds were predicted."""
    trained = {job.fold: job for job in _jobs(path, "fold*")}
    predicted, judged = _jobs(path, "fold*/oof-*"), _jobs(path, "fold*/robust-*")
    tested = _jobs(path, "test-*")
    for way in dict.fromkeys(canonical(dict(job.key.settings)) for job in predicted):
        mine = {job.fold: job for job in predicted if canonical(dict(job.key.settings)) == way}
        settings = dict(next(iter(mine.values())).key.settings)
        folds = sorted(mine)
        copies = {
            job.fold: job
            for job in judged
            if {**settings, "corrupted": job.site.corrupted} == dict(job.key.settings) and job.fold in mine
        }
        test = next(
            (
                job
                for job in tested
                if dict(job.key.settings) == settings and job.key.inputs == tuple(mine[k].key.inputs[0] for k in folds)
            ),
            None,
        )
        first = mine[folds[0]]
        recipe = Recipe.model_validate(first.recipe)
        run = trained[folds[0]].key.inputs[0] if folds[0] in trained else ""
        member = Member(
            recipe.name,
            run,
            {k: _result(mine[k]) for k in folds},
            None if test is None else _result(test),
            {k: _result(copies[k]) for k in folds} if set(copies) == set(folds) else {},
        )
        weights = {k: Path(mine[k].weights[0]) for k in folds}
        newest = max((Path(mine[k].folder) / DONE).stat().st_mtime_ns for k in folds)
        yield Entry(Model(member, recipe, weights), _problem(trained, run, prepared, recipe), newest)


def _problem(trained: dict[int, Job], run: str, prepared: Prepared, recipe: Recipe) -> str | None:
    """Why a run is not of the present data and folds."""
    if not trained:
        return "its training has left no record; train it again"
    job = next(iter(trained.values()))
    again = f"repeat it with: podium train {prepared.competition.name} --models {recipe.name}"
    if job.site.data_id != prepared.dataset.data_id:
        return f"was trained on other data ({job.site.data_id}, now {prepared.dataset.data_id}); {again}"
    if list(job.competition["classes"]) != list(prepared.competition.classes):
        return f"was trained for other classes ({', '.join(job.competition['classes'])}); {again}"
    asked = Competition.model_validate(job.competition), recipe, job.seed, job.seconds
    key = run_key(*asked, prepared.dataset.data_id, prepared.folds.folds_id)
    if key.hash != run:
        return f"was trained on other folds ({Path(job.site.folds).name}, now {prepared.folds_path.name}); {again}"
    return None


def _imported(path: Path, prepared: Prepared) -> Entry | None:
    found = open_imported(path)
    if found is None:
        return None
    member, of, finished = found
    problem = None
    if of != (prepared.dataset.data_id, prepared.folds.folds_id):
        problem = (
            "was imported for other data or folds; import it again with: "
            f"podium import-oof {prepared.competition.name} {member.name} --oof FILE"
        )
    return Entry(Model(member), problem, finished)


def _jobs(run: Path, pattern: str) -> list[Job]:
    """The finished jobs of a run's folder, wherever it lies now; records of other versions are passed over."""
    found = []
    for path in sorted(run.glob(f"{pattern}/job.json")):
        if not (path.parent / DONE).is_file():
            continue
        try:
            job = Job.from_json(read_json(path))
            Recipe.model_validate(job.recipe)
        except (KeyError, TypeError, ValidationError):
            continue
        weights = tuple(str(run / Path(folder).name) for folder in job.weights)
        job = replace(job, folder=str(path.parent), weights=weights)
        if job.done is not None:
            found.append(job)
    return found


def _result(job: Job) -> tuple[Path, Key]:
    return Path(job.folder), job.key
