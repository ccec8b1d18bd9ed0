"""Settings of what a recipe minimises: a weighted sum of terms, as its YAML names them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from podium.config_base import PositiveInt, Settings
from podium.errors import did_you_mean

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Over = Literal["image", "batch"]


class CrossEntropy(Settings):
    """Cross-entropy of the softmax. label_smoothing: share of every label that is spread evenly over the classes."""

    name: Literal["cross_entropy"] = "cross_entropy"
    weight: Positive = 1.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Focal(Settings):
    """Cross-entropy times (1 - probability of the truth) ** gamma: easy pixels count less (Lin et al. 2017)."""

    name: Literal["focal"] = "focal"
    weight: Positive = 1.0
    gamma: Annotated[float, Field(ge=0, le=10)] = 2.0


class Bce(Settings):
    """Binary cross-entropy of each class against the rest, by sigmoids, averaged over the classes.

    Predictions are softmaxes all the same: the likeliest class is the same, its probability is nearer to 1.
    label_smoothing: share of every answer, yes or no, that is replaced by one half.
    """

    name: Literal["bce"] = "bce"
    weight: Positive = 1.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Dice(Settings):
    """1 - Dice's coefficient, averaged over the classes that are there.

    over: what is one region. ``image``: each image by itself. ``batch``: all images together, which is calmer for a class
    that few of them hold; where memory asks for a batch in pieces, each piece is then a batch of its own.
    smooth: pixels added above and below the fraction.
    """

    name: Literal["dice"] = "dice"
    weight: Positive = 1.0
    over: Over = "image"
    smooth: NotNegative = 0.0


class Jaccard(Settings):
    """1 - intersection over union, averaged over the classes that are there; ``over`` and ``smooth`` as of dice."""

    name: Literal["jaccard"] = "jaccard"
    weight: Positive = 1.0
    over: Over = "image"
    smooth: NotNegative = 0.0


class Tversky(Settings):
    """Dice with a price for each kind of mistake; ``over`` and ``smooth`` as of dice.

    alpha: what a false positive costs; beta: a false negative; 0.5 and 0.5 is dice, 1 and 1 jaccard. gamma: exponent of
    each class's loss; below 1 it dwells on classes that are nearly right, above 1 on those that are wrong.
    """

    name: Literal["tversky"] = "tversky"
    weight: Positive = 1.0
    over: Over = "image"
    smooth: NotNegative = 0.0
    alpha: NotNegative = 0.3
    beta: Positive = 0.7
    gamma: Annotated[float, Field(gt=0, le=10)] = 1.0


class Lovasz(Settings):
    """The Lovász extension of 1 - intersection over union, averaged over the classes that are there; ``over`` as of dice.

    It sorts all pixels: by far the slowest term on a CPU.
    """

    name: Literal["lovasz"] = "lovasz"
    weight: Positive = 1.0
    over: Over = "image"


class Boundary(Settings):
    """Probability times signed distance from the class's border (Kervadec et al. 2019); stands beside another term.

    reach: pixels of the net's output at which the distance stops growing; it is divided by that, so lies in -1..1.
    """

    name: Literal["boundary"] = "boundary"
    weight: Positive = 1.0
    reach: Annotated[PositiveInt, Field(le=100)] = 15


class Mse(Settings):
    """Squared difference of a number from the truth, in units of the training part's standard deviation."""

    name: Literal["mse"] = "mse"
    weight: Positive = 1.0


class Huber(Settings):
    """Squared for small differences, straight beyond ``delta`` standard deviations: outliers pull less (Huber 1964)."""

    name: Literal["huber"] = "huber"
    weight: Positive = 1.0
    delta: Positive = 1.0


NumberTerm = Mse | Huber
RegionTerm = Dice | Jaccard | Tversky | Lovasz | Boundary
PixelTerm = CrossEntropy | Focal | Bce
Term = Annotated[PixelTerm | RegionTerm | NumberTerm, Field(discriminator="name")]
PIXEL_TERMS = ("cross_entropy", "focal", "bce")
"""Terms that need no neighbours: labels, masks of one pixel, take these only."""
REGION_TERMS = ("dice", "jaccard", "tversky", "lovasz", "boundary")
NUMBER_TERMS = ("mse", "huber")
"""Terms of a number, which is all that regression takes."""


def _written_out(terms: Any) -> Any:
    """Bare names as mappings, a list as a tuple (strict validation takes no list after this)."""
    if not isinstance(terms, list | tuple):
        return terms
    return tuple(_term(term) for term in terms)


def _term(term: Any) -> Any:
    names = (*PIXEL_TERMS, *REGION_TERMS, *NUMBER_TERMS)
    if isinstance(term, dict) and "name" not in term:
        raise ValueError(
            f"name: a term has none; write it as in {{name: dice, weight: 0.5}}; {did_you_mean('', names)}"
        )
    return {"name": term} if isinstance(term, str) else term


class LossSettings(Settings):
    """A weighted sum of terms; pixels without a label and the unscored class have no part in any of them.

    terms: by name, or with options as in ``{name: focal, gamma: 3, weight: 0.5}``.
    weight_power, weight_beta, weight_cap: class weights, in the terms that count pixels (cross_entropy, focal, bce); those
    that compare regions count every class alike anyhow. A class weighs (largest class / class) ** weight_power, at most
    weight_cap: power 0 for none, 0.5 for the square root, 1 for inverse frequency. With weight_beta a class of n pixels
    counts as its effective number (1 - beta ** n) / (1 - beta) (Cui et al. 2019, arXiv:1901.05555), which stops growing
    at about 1 / (1 - beta); 1 - 1e-6 is a beginning for pixels, 0.999 for labels, with power 1.
    deep: weights of the outputs of a net with deep supervision, full resolution first, divided by their sum; as many as
    the net has outputs. Left out, each weighs half of the one before it.
    """

    terms: Annotated[tuple[Term, ...], Field(min_length=1), BeforeValidator(_written_out)] = (CrossEntropy(),)
    weight_power: Annotated[float, Field(ge=0, le=1)] = 0.5
    weight_beta: Annotated[float, Field(gt=0, lt=1)] | None = None
    weight_cap: Annotated[float, Field(ge=1)] = 8.0
    deep: Annotated[tuple[NotNegative, ...], Field(min_length=1, max_length=7)] | None = None

    @field_validator("deep")
    @classmethod
    def _full_resolution(cls, deep: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if deep is not None and deep[0] == 0:
            raise ValueError("0: the first output is what predicts; its weight must be above 0")
        return deep

    @model_validator(mode="after")
    def _check(self) -> LossSettings:
        names = [term.name for term in self.terms]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"terms: {name} is named {names.count(name)} times; name every term once")
        if self.weight_beta is not None and self.weight_power == 0:
            raise ValueError("weight_beta: does nothing with weight_power 0; remove it or set weight_power: 1")
        return self

    def misfit(self, task: str) -> str | None:
        """Why this cannot be the loss of ``task``, as a sentence; None where it can."""
        numbers = task == "regression"
        odd = next((term.name for term in self.terms if (term.name in NUMBER_TERMS) != numbers), None)
        if odd is not None:
            what, allowed = ("classes", NUMBER_TERMS) if numbers else ("numbers", PIXEL_TERMS)
            return f"loss.terms: '{odd}' is of {what}, and the task is {task}; use any of {', '.join(allowed)}"
        fields = type(self).model_fields
        given = [
            key for key in ("weight_power", "weight_beta", "weight_cap") if getattr(self, key) != fields[key].default
        ]
        if numbers and given:
            return f"loss.{given[0]}: weighs classes, and a number has none; remove it"
        region = next((term.name for term in self.terms if term.name in REGION_TERMS), None)
        if task != "segmentation" and region is not None:
            return f"loss.terms: '{region}' compares regions and labels have none; use any of {', '.join(PIXEL_TERMS)}"
        if task != "segmentation" and self.deep is not None and len(self.deep) > 1:
            return "loss.deep: is for masks, a label has one resolution; remove it"
        return None
