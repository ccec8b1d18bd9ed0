"""Settings of a recipe's training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from podium.config_base import Count, PositiveInt, Settings, Share

Factor = Annotated[float, Field(gt=0, lt=1)]


class Cosine(Settings):
    """Half a cosine down to zero at the last step (Loshchilov & Hutter 2017, arXiv:1608.03983)."""

    name: Literal["cosine"]


class Constant(Settings):
    """The same rate to the end."""

    name: Literal["constant"]


class StepDown(Settings):
    """Times ``factor`` after every ``every`` epochs."""

    name: Literal["step"]
    every: PositiveInt
    factor: Factor = 0.1


class Plateau(Settings):
    """Times ``factor`` when the score on the inner split has not grown for ``patience`` epochs, down to ``lowest``."""

    name: Literal["plateau"]
    factor: Factor = 0.5
    patience: PositiveInt = 5
    lowest: Annotated[float, Field(ge=0)] = 1e-6


Schedule = Annotated[Cosine | Constant | StepDown | Plateau, Field(discriminator="name")]


class TrainSettings(Settings):
    """Length and step of the training.

    epochs: length without a time budget. min_epochs: fewer than this the planner calls useless.
    batch: images per step; accumulate: pieces in which they go through the net, where memory is short.
    optimiser, momentum (of sgd), weight_decay (left out, 0.01 with adamw, else 0, since there it is added to the gradient).
    layer_decay: the rate of every stage of a backbone as a share of that of the stage after it; freeze_epochs: for so long
    the backbone is left as it is.
    schedule: of the learning rate, after ``warmup``, the share of the steps in which it rises.
    rarest_rate: how many times as often as others images are drawn that hold the rarest scored class which occurs;
    rarest_rate_end: the same in the last epoch, with even steps in between; the epochs are then as long as at the lower rate.
    ema: time constant of the moving average of the weights, as a share of all steps.
    keep: the weights that predict: the moving average at the end, the last ones, or those of the epoch that scored best.
    early_stopping: epochs without a better score after which the training ends, however long it might have been.
    inner: share of the training images that are set aside, never trained on, where ``plateau``, ``early_stopping`` or
    ``keep: best`` need a score to go by; the fold that is scored in the end has no part in that.
    """

    epochs: PositiveInt = 30
    min_epochs: PositiveInt = 5
    batch: PositiveInt = 32
    accumulate: PositiveInt = 1
    optimiser: Literal["adamw", "adam", "sgd"] = "adamw"
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    lr: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    freeze_epochs: Count = 0
    schedule: Schedule = Cosine(name="cosine")
    warmup: Share = 0.05
    clip: Annotated[float, Field(gt=0)] = 1.0
    ema: Share = 0.05
    keep: Literal["ema", "last", "best"] = "ema"
    early_stopping: PositiveInt | None = None
    inner: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    rarest_rate: PositiveInt = 1
    rarest_rate_end: PositiveInt | None = None

    @model_validator(mode="after")
    def _fit_together(self) -> TrainSettings:
        if self.momentum is not None and self.optimiser != "sgd":
            raise ValueError(f"momentum: does nothing with {self.optimiser}; remove it")
        if self.keep == "ema" and not self.ema:
            raise ValueError("keep: ema needs ema above 0; set keep: last")
        if self.accumulate > self.batch:
            raise ValueError(f"accumulate: a batch of {self.batch} has no {self.accumulate} pieces; lower it")
        return self

    @property
    def decay(self) -> float:
        """``weight_decay``, or what the optimiser has where it is left out."""
        return (1e-2 if self.optimiser == "adamw" else 0.0) if self.weight_decay is None else self.weight_decay

    @property
    def needs_inner(self) -> bool:
        """Whether some training images are set aside to be scored on."""
        return self.keep == "best" or self.early_stopping is not None or self.by_epochs

    @property
    def by_epochs(self) -> bool:
        """Whether the length shows only while training, so that a time budget would cut it anywhere."""
        return self.schedule.name == "plateau"
