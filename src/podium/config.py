"""Competitions and recipes: what can be set, as frozen and strict models; ``config_file`` reads them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from podium.errors import UserError, did_you_mean

PositiveInt = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
OWN_NETS = ("residual_unet",)
NAME = r"^[A-Za-z0-9][A-Za-z0-9_]*$"


class Settings(BaseModel):
    """Base of all settings: cannot be changed after reading, and a key nobody knows is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# ---------------------------------------------------------------- a competition: what is given


class NpzRole(Settings):
    """Where in an npz file a part lies: its key and, for stacked arrays, the index along axis 1."""

    key: str
    image: Count | None = None
    target: Count | None = None


class DataSettings(Settings):
    """The competition's file and how to read it."""

    format: Literal["npz"]
    file: str
    train: NpzRole
    test: NpzRole
    drop: Literal["auto", "none"] = "auto"
    shape: tuple[PositiveInt, PositiveInt] | None = None
    """Height and width that every image must have; not checked where absent."""


class MetricSettings(Settings):
    """The leaderboard's metric, by name."""

    name: Literal["mean_iou"]
    convention: Literal["keras", "foreground", "masked"] = "keras"


class Rules(Settings):
    """What the competition's rules allow."""

    pretrained: Literal["allowed", "forbidden"] = "allowed"


class FoldSettings(Settings):
    """How the training rows are split."""

    count: Annotated[int, Field(ge=2, le=100)] = 5
    seed: Count = 0
    strata: Literal["class_presence", "none"] = "class_presence"
    groups: Literal["duplicates", "none"] = "duplicates"


class SubmissionSettings(Settings):
    """The file that the competition wants."""

    format: Literal["wide_csv"]
    id: str = "id"
    first_id: Count = 0


class Competition(Settings):
    """Everything about a competition that podium needs; one YAML file in configs/competitions."""

    name: Annotated[str, Field(pattern=NAME)]
    task: Literal["segmentation"]
    kaggle: str | None = None
    data: DataSettings
    classes: Annotated[tuple[str, ...], Field(min_length=2, max_length=255)]
    unscored: str | None = None
    metric: MetricSettings
    rules: Rules = Rules()
    folds: FoldSettings = FoldSettings()
    submission: SubmissionSettings
    models: Annotated[tuple[str, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _class_names(self) -> Competition:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes: every class is named once")
        if self.unscored is not None and self.unscored not in self.classes:
            raise ValueError(f"unscored: '{self.unscored}' is not a class; {did_you_mean(self.unscored, self.classes)}")
        if self.data.train.target is None:
            raise ValueError("data.train.target: missing; it is the index of the masks along axis 1")
        return self

    @property
    def scored(self) -> tuple[int, ...]:
        """Indices of the classes that are scored: what a net predicts."""
        return tuple(i for i, name in enumerate(self.classes) if name != self.unscored)

    @property
    def unscored_index(self) -> int | None:
        """Index of the class that the metric leaves out, None where all are scored."""
        return None if self.unscored is None else self.classes.index(self.unscored)


# ---------------------------------------------------------------- a recipe: what is trained


class NetSettings(Settings):
    """The network: one of ours, or any architecture of segmentation_models_pytorch with any timm encoder.

    name: ``residual_unet``, or an smp architecture in lower case (``unet``, ``fpn``, ``segformer``, ...).
    widths, dropout: of the residual U-Net; channels per level from full resolution down.
    encoder, pretrained: of smp's architectures.
    """

    name: str
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=2, max_length=7)] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    encoder: str | None = None
    pretrained: bool = False

    @model_validator(mode="after")
    def _options_fit(self) -> NetSettings:
        own = self.name in OWN_NETS
        needed, foreign = ("widths", ("encoder", "pretrained")) if own else ("encoder", ("widths", "dropout"))
        if getattr(self, needed) is None:
            raise ValueError(f"{needed}: missing; a net '{self.name}' needs it")
        for key in foreign:
            if getattr(self, key):
                raise ValueError(f"{key}: does nothing for a net '{self.name}'; remove it")
        return self


class LossSettings(Settings):
    """Cross-entropy without the unscored class.

    weight_power: class weights are (largest class / class) ** power, 0 for none, 1 for inverse frequency.
    weight_cap: no class weighs more than this.
    """

    weight_power: Annotated[float, Field(ge=0, le=1)] = 0.5
    weight_cap: Annotated[float, Field(ge=1)] = 8.0


class AugmentSettings(Settings):
    """Batched augmentation on the device; amounts are for images scaled to 0..1.

    flip_h, flip_v: probability. brightness, contrast: half width of the uniform range of shift and factor.
    noise: largest standard deviation of Gaussian noise.
    """

    flip_h: Share = 0.5
    flip_v: Share = 0.0
    brightness: Share = 0.0
    contrast: Share = 0.0
    noise: Share = 0.0


class TrainSettings(Settings):
    """Length and step of the training.

    epochs: length without a time budget. min_epochs: fewer than this the planner calls useless.
    rarest_rate: how many times an epoch draws each image that holds the rarest scored class.
    ema: time constant of the moving average of the weights, as a share of all steps; 0 keeps the last weights.
    warmup: share of the steps in which the learning rate rises.
    """

    epochs: PositiveInt = 30
    min_epochs: PositiveInt = 5
    batch: PositiveInt = 32
    lr: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    warmup: Share = 0.05
    clip: Annotated[float, Field(gt=0)] = 1.0
    ema: Share = 0.05
    rarest_rate: PositiveInt = 1


class PredictSettings(Settings):
    """Test-time augmentation: the views that are averaged, the same for out-of-fold and test."""

    views: Annotated[tuple[Literal["identity", "hflip", "vflip", "rot180"], ...], Field(min_length=1)] = ("identity",)

    @model_validator(mode="after")
    def _views(self) -> PredictSettings:
        if len(set(self.views)) != len(self.views):
            raise ValueError("views: every view is named once")
        return self


class Recipe(Settings):
    """What is trained and how; one YAML file in configs/models, its name is the file's."""

    name: Annotated[str, Field(pattern=NAME)]
    net: NetSettings
    loss: LossSettings = LossSettings()
    augment: AugmentSettings = AugmentSettings()
    train: TrainSettings = TrainSettings()
    predict: PredictSettings = PredictSettings()


def check_rules(competition: Competition, recipe: Recipe) -> None:
    """Refuse a recipe that the competition's rules forbid."""
    if recipe.net.pretrained and competition.rules.pretrained == "forbidden":
        raise UserError(
            f"recipe '{recipe.name}': net.pretrained is true, but {competition.name}'s rules say "
            "'pretrained: forbidden'; set net.pretrained=false"
        )
