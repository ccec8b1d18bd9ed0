"""Competitions and recipes: strict, frozen settings read from YAML, with errors that name file, key and way out."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

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


# ---------------------------------------------------------------- reading


def load_competition(path: Path, overrides: Sequence[str] = ()) -> Competition:
    """Read a competition's YAML; ``overrides`` are ``key.key=value`` texts."""
    return _validate(Competition, _override(read_yaml(path), overrides), path)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe's YAML; ``like: other`` takes another recipe of the same folder as its defaults, once.

    The ``net`` section is inherited only where its name stays the same.
    """
    raw = read_yaml(path)
    like = raw.pop("like", None)
    if like is not None:
        parent_path = path.parent / f"{like}.yaml"
        if parent_path == path:
            raise UserError(
                f"{path}: key 'like': a recipe cannot inherit from itself; {did_you_mean('', _names(path.parent))}"
            )
        if not parent_path.is_file():
            raise UserError(
                f"{path}: key 'like': there is no recipe '{like}'; {did_you_mean(str(like), _names(path.parent))}"
            )
        parent = read_yaml(parent_path)
        if "like" in parent:
            raise UserError(
                f"{path}: key 'like': '{like}' itself has a 'like'; inherit from '{parent['like']}', recipes inherit once"
            )
        ours, theirs = raw.get("net"), parent.get("net")
        if (
            isinstance(ours, dict)
            and isinstance(theirs, dict)
            and ours.get("name", theirs.get("name")) != theirs.get("name")
        ):
            parent.pop("net")  # another net shares none of its parent's options
        raw = _merge(parent, raw)
    raw = {"name": path.stem} | raw
    if raw["name"] != path.stem:
        raise UserError(f"{path}: key 'name': a recipe is called as its file, '{path.stem}'; remove the key")
    return _validate(Recipe, _override(raw, overrides), path)


def split_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Sort ``--set`` texts into those for the competition and those for the recipes, by their first key."""
    ours: dict[str, list[str]] = {"competition": [], "recipe": []}
    for text in overrides:
        key = text.partition("=")[0].strip().split(".")[0]
        if key in Competition.model_fields and key != "name":
            ours["competition"].append(text)
        elif key in Recipe.model_fields and key != "name":
            ours["recipe"].append(text)
        else:
            allowed = [k for k in (*Recipe.model_fields, *Competition.model_fields) if k != "name"]
            raise UserError(f"--set {text}: unknown key '{key}'; {did_you_mean(key, allowed)}")
    return ours["competition"], ours["recipe"]


def find(folder: Path, name: str, what: str) -> Path:
    """The file ``name``.yaml in ``folder``, or an error with the nearest spelling."""
    path = folder / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"no {what} '{name}' in {folder}; {did_you_mean(name, _names(folder))}")
    return path


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping; a key given twice is an error."""
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-13-45
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(raw, dict):
        raise UserError(f"{path}: holds {type(raw).__name__} where a mapping of keys to values is expected")
    return raw


class _StrictLoader(yaml.SafeLoader):
    """yaml.safe_load, except that a key given twice is refused instead of the last one winning, and so is one that is not text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # <<: *anchor
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is not text; quote it", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 1e-3 as text; people mean the number.
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def _names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _override(raw: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    for text in overrides:
        dotted, equals, value = text.partition("=")
        keys = [key.strip() for key in dotted.split(".")]
        if not equals or not all(keys):
            raise UserError(f"--set {text}: expected key.key=value, for example train.epochs=5")
        try:
            parsed = yaml.load(value, Loader=_StrictLoader)
        except (yaml.YAMLError, ValueError):
            raise UserError(f"--set {text}: '{value}' is not a YAML value; quote it") from None
        for key in reversed(keys):
            parsed = {key: parsed}
        raw = _merge(raw, parsed)
    return raw


Model = TypeVar("Model", bound=Settings)


def _validate(model: type[Model], raw: dict[str, Any], path: Path) -> Model:
    try:
        # strict, so that "5" or true is no number; by way of JSON, whose lists may become tuples all the same
        return model.model_validate_json(json.dumps(raw, default=str), strict=True)
    except ValidationError as error:
        raise UserError(f"{path}: {_explain(model, error)}") from None


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    """The first problem of a validation as one sentence: key, what is wrong, what is allowed."""
    problem = error.errors()[0]
    where = [part for part in problem["loc"] if not str(part).startswith("function-")]
    key = ".".join(str(part) for part in where)
    if problem["type"] == "extra_forbidden":
        allowed = _fields(model, where[:-1])
        return f"unknown key '{key}'; {did_you_mean(str(where[-1]), allowed)}"
    if problem["type"] == "missing":
        return f"key '{key}' is missing"
    if problem["type"] == "value_error":
        name, _, text = problem["msg"].removeprefix("Value error, ").partition(":")
        return f"key '{key}.{name}':{text}" if key else f"key '{name}':{text}"
    if problem["type"] == "literal_error":
        allowed = [word.strip(" '") for word in problem["ctx"]["expected"].replace(" or ", ", ").split(",")]
        return f"key '{key}': '{problem['input']}' is not allowed; {did_you_mean(str(problem['input']), allowed)}"
    said = problem["msg"][0].lower() + problem["msg"][1:]
    return f"key '{key}': {said}, found {problem['input']!r}"


def _fields(model: type[BaseModel], where: Sequence[str | int]) -> list[str]:
    for part in where:
        field = model.model_fields.get(str(part))
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)
