"""What goes into a model_zip: which nets, and the settings by which ``model.py`` puts their answers together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from podium.combine import FLOOR
from podium.config import Competition, Recipe
from podium.config_model_zip import ModelZip
from podium.config_preprocess import image_steps
from podium.data.fit import Fit
from podium.data.part import Part
from podium.decode import Decision
from podium.decode_steps import factors
from podium.errors import UserError
from podium.jobs import VERSIONS, weights_file
from podium.standing import Model
from podium.store import Key, verify

STEPS = ("bias", "threshold")
"""Steps of a decoding that are factors of the classes, which is all that labels have."""


@dataclass(frozen=True)
class Net:
    """The net of one fold. file: its name in the archive. weights: where they lie, with their SHA-256."""

    file: str
    weights: Path
    sha256: str


@dataclass(frozen=True)
class Member:
    """A model of the blend. name: of the recipe, with the beginning of its run's key; nets: one per fold."""

    name: str
    recipe: Recipe
    weight: float
    nets: tuple[Net, ...]


@dataclass(frozen=True)
class Content:
    """All that a model_zip is made of; can be sent to another process.

    decision: with the weights of ``members`` only; a model of weight 0 is left out. shape: (C, H, W) of the images. scale:
    what their values are divided by.
    """

    competition: Competition
    decision: Decision
    members: tuple[Member, ...]
    shape: tuple[int, int, int]
    scale: float

    @property
    def batch(self) -> int:
        """Images that go through a net at once at the grader's."""
        assert isinstance(self.competition.submission, ModelZip)
        return self.competition.submission.batch

    def settings(self) -> dict[str, Any]:
        """What ``model.py`` reads from settings.json."""
        channels, height, width = self.shape
        factor = factors(self.decision.steps, len(self.competition.classes))
        return {
            "classes": list(self.competition.classes),
            "image": {"shape": [height, width, channels], "scale": self.scale},
            "batch": self.batch,
            "mean": self.decision.mean,
            "floor": FLOOR,
            "factors": None if factor is None else factor.tolist(),
            "models": [
                {
                    "name": member.name,
                    "weight": member.weight,
                    "views": list(member.recipe.predict.views),
                    "nets": [net.file for net in member.nets],
                }
                for member in self.members
            ],
        }

    def made_of(self) -> dict[str, Any]:
        """What a packed file depends on, as plain values: a file made of the same need not be made again."""
        assert self.competition.submission is not None
        sums = [[net.sha256 for net in member.nets] for member in self.members]
        return {"settings": self.settings(), "weights": sums, "submission": self.competition.submission.model_dump()}


def gather(competition: Competition, models: Sequence[Model], decision: Decision, part: Part, fit: Fit) -> Content:
    """The content for a blend; its weights' files are compared with their checksums.

    models: in the order of ``decision.weights``. part: the training images, like which the grader's are. What only podium
    can do, and no net nor numpy, is a UserError that names it.
    """
    _check(competition, decision, fit)
    members = tuple(
        _member(model, weight) for model, weight in zip(models, decision.weights, strict=True) if weight > 0
    )
    own = replace(decision, weights=tuple(member.weight for member in members))
    return Content(competition, own, members, (part.channels, *fit.size), part.scale)


def _check(competition: Competition, decision: Decision, fit: Fit) -> None:
    where = f"{competition.name}: submission.format model_zip"
    for step in image_steps(competition.preprocess):
        raise UserError(
            f"{where} cannot do preprocess.{step.name} at the grader's, where only numpy and onnxruntime are; leave that "
            f"step out and train again, or give submission another format"
        )
    if fit.how != "same":
        raise UserError(
            f"{where} cannot do data.fit.how {fit.how} at the grader's, where only numpy and onnxruntime are; train on images "
            f"of one size without data.fit, or give submission another format"
        )
    for name in [step.name for step in decision.steps if step.name not in STEPS]:
        raise UserError(
            f"{where} cannot do the decoding's step {name} of labels; set blend.decode=false, or give submission another "
            f"format"
        )


def _member(model: Model, weight: float) -> Member:
    """A model with its nets, each as its run left it."""
    run = model.member.run
    if model.recipe is None:
        raise UserError(
            f"{model.name}: was imported as predictions, and a model_zip needs its nets; leave it out with --models"
        )
    again = f"train it again, or leave {model.name} out with --models"
    if not model.weights:
        raise UserError(f"{model.name}: its trained folds are not there, and a model_zip needs its nets; {again}")
    file, nets = weights_file(model.recipe.train.keep), []
    for fold, folder in sorted(model.weights.items()):
        record = verify(folder, file)
        wanted = Key("fold", VERSIONS["fold"], {"fold": fold}, (run,)).hash
        if record["key"] != wanted:
            raise UserError(f"{folder}: holds weights of key {record['key']}, expected {wanted}; {again}")
        name = f"{model.name}-{run[:8]}-fold{fold}.onnx"
        nets.append(Net(name, folder / file, str(record["files"][file]["sha256"])))
    return Member(f"{model.name}@{run[:8]}", model.recipe, weight, tuple(nets))
