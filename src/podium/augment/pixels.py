"""Operations that leave pixels where they are; images are float32 (m, C, H, W) in about 0..1 and are not clipped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch.nn.functional import pad

from podium.augment.draws import Chosen
from podium.config_augment import Blur, Brightness, Colour, Contrast, Cutout, Gamma, Noise, Single
from podium.data.chunk import NO_LABEL

Values = Mapping[str, torch.Tensor]
YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
"""From red, green and blue to luma and two axes of colour, around which hue turns (NTSC 1953)."""


def drawn(item: Single, n: int, generator: torch.Generator, shape: Sequence[int]) -> Values:
    """The amounts of one operation for ``n`` samples, a row each, in the form that computing with them wants."""

    def uniform(amounts: tuple[float, float], *each: int) -> torch.Tensor:
        low, high = amounts
        return low + (high - low) * torch.rand((n, *each), generator=generator)

    match item:
        case Brightness():
            return {"shift": uniform(item.shift)}
        case Contrast():
            return {"factor": uniform(item.factor)}
        case Gamma():
            return {"exponent": uniform(item.exponent)}
        case Noise():
            return {"std": uniform(item.std)}
        case Blur():
            return {"weights": _weights(uniform(item.sigma), item.sigma[1])}
        case Colour():
            return {"matrix": _colours(uniform(item.hue), uniform(item.saturation), uniform(item.gain, 3))}
        case Cutout():
            sizes = uniform(item.size, item.count, 2)
            return {"boxes": _boxes(sizes, torch.rand(sizes.shape, generator=generator), shape)}
    raise ValueError(f"{item.name} moves pixels")


def changed(x: torch.Tensor, item: Single, chosen: Chosen) -> torch.Tensor:
    """A batch with one operation done to the samples chosen for it."""
    values = chosen.values

    def change(some: torch.Tensor) -> torch.Tensor:
        match item:
            case Brightness():
                return some + _each(values["shift"])
            case Contrast():
                factor = _each(values["factor"])
                return some * factor + some.mean((1, 2, 3), keepdim=True) * (1 - factor)
            case Gamma():
                return some.abs().pow_(_each(values["exponent"])).copysign_(some)
            case Noise():
                return some.addcmul(torch.randn_like(some), _each(values["std"]))
            case Blur():
                return _blurred(_blurred(some, values["weights"], -1), values["weights"], -2)
            case Colour():
                return _mixed(some, values["matrix"])
            case Cutout():
                filled = some.mean((2, 3), keepdim=True) if item.fill == "mean" else some.new_zeros(())
                return torch.where(_inside(values["boxes"], *some.shape[-2:])[:, None], filled, some)
        raise ValueError(f"{item.name} moves pixels")

    return chosen.change(x, change)


def unlabelled(masks: torch.Tensor, chosen: Chosen) -> torch.Tensor:
    """Masks (B, H, W) without a label where cutout hides the image."""
    boxes = chosen.values["boxes"]
    return chosen.change(masks, lambda some: some.masked_fill(_inside(boxes, *some.shape[-2:]), NO_LABEL))


def _each(amounts: torch.Tensor) -> torch.Tensor:
    return amounts.view(-1, 1, 1, 1)


# ---------------------------------------------------------------- blur


def _weights(sigma: torch.Tensor, largest: float) -> torch.Tensor:
    """Of the pixel itself and of those 1, 2, ... away on either side, (n, r + 1); up to three ``largest`` sigmas."""
    away = torch.arange(max(1, math.ceil(3 * largest)) + 1)
    weights = torch.exp(-0.5 * (away / sigma.clamp(min=1e-3)[:, None]) ** 2)
    return _to_one(weights)


def _to_one(weights: torch.Tensor) -> torch.Tensor:
    return weights / (weights[:, :1] + 2 * weights[:, 1:].sum(1, keepdim=True))


def _blurred(x: torch.Tensor, weights: torch.Tensor, axis: int) -> torch.Tensor:
    """Along one axis, mirrored about the outermost pixels: a weighted sum of shifted copies.

    Nothing is gained by a grouped convolution, whose bits depend on how many samples there are.
    """
    size = x.shape[axis]
    reach = min(weights.shape[1] - 1, size - 1)
    if reach < weights.shape[1] - 1:
        weights = _to_one(weights[:, : reach + 1])
    around = pad(x, (reach, reach, 0, 0) if axis == -1 else (0, 0, reach, reach), mode="reflect")
    total = x * _each(weights[:, 0])
    for away in range(1, reach + 1):
        both = around.narrow(axis, reach - away, size) + around.narrow(axis, reach + away, size)
        total.addcmul_(both, _each(weights[:, away]))
    return total


# ---------------------------------------------------------------- colour


def _colours(hue: torch.Tensor, saturation: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    """From red, green and blue to red, green and blue, (n, 3, 3): hue and saturation leave the luma, then the gains."""
    to = torch.tensor(YIQ, dtype=torch.float64)
    angle, saturation = hue.double().deg2rad(), saturation.double()
    turn = torch.zeros((len(hue), 3, 3), dtype=torch.float64)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = saturation * angle.cos()
    turn[:, 1, 2] = saturation * angle.sin()  # from red to yellow to green
    turn[:, 2, 1] = -turn[:, 1, 2]
    return (gain[:, :, None] * (torch.linalg.inv(to) @ turn @ to)).float()


def _mixed(x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Each channel a weighted sum of the three; a batched matrix product of 3×3 is slower."""
    made = torch.empty_like(x)
    for row in range(3):
        weights = matrix[:, row, :, None, None]
        torch.mul(x[:, 0], weights[:, 0], out=made[:, row])
        made[:, row].addcmul_(x[:, 1], weights[:, 1]).addcmul_(x[:, 2], weights[:, 2])
    return made


# ---------------------------------------------------------------- cutout


def _boxes(sizes: torch.Tensor, places: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Boxes of shares of height and width, (n, count, 2), that lie at shares of the room left: int32 (n, count, 4), top,
    left, and the first row and column below and beyond."""
    whole = torch.tensor(shape[1:])
    extent = (sizes * whole).round()
    first = torch.minimum((places * (whole - extent + 1)).floor(), whole - extent)
    return torch.cat([first, first + extent], dim=2).to(torch.int32)


def _inside(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Pixels that lie in a box, bool (m, H, W)."""
    y, x = (torch.arange(size, device=boxes.device, dtype=boxes.dtype) for size in (height, width))
    top, left, bottom, right = (edge[..., None] for edge in boxes.unbind(2))
    rows, columns = (y >= top) & (y < bottom), (x >= left) & (x < right)
    return (rows[..., :, None] & columns[..., None, :]).any(1)
