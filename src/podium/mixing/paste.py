"""Copy-paste: areas of a class into the pieces of a batch, before they are augmented."""

from __future__ import annotations

import numpy as np
import torch

from podium.augment.draws import Chosen
from podium.config_mix import CopyPaste
from podium.mixing.bank import Areas


def draw_pastes(
    settings: CopyPaste, areas: Areas, n: int, size: tuple[int, int], rng: np.random.Generator
) -> list[Chosen]:
    """What is pasted where in an epoch of ``n`` samples: up to ``count`` rounds, in each of which a sample gets one area.

    Every place at which the area lies within the image, (height, width), is as likely. Values: number of the area, its
    top and left in the image, its height and width, and whether it is mirrored, across and down.
    """
    gets = rng.random(n) < settings.p
    count = np.where(gets, rng.integers(1, settings.count + 1, n), 0)
    rounds = []
    for number in range(settings.count):
        at = np.flatnonzero(count > number)
        area = rng.integers(0, len(areas.sizes), len(at))
        heights, widths = areas.sizes[area].T
        values = {
            "area": area,
            "top": rng.integers(0, size[0] - heights + 1),
            "left": rng.integers(0, size[1] - widths + 1),
            "height": heights,
            "width": widths,
            "across": rng.random(len(at)) < settings.flip_h,
            "down": rng.random(len(at)) < settings.flip_v,
        }
        rounds.append(chosen(at, values).to(areas.images.device))
    return rounds


def chosen(at: np.ndarray, values: dict[str, np.ndarray]) -> Chosen:
    """The samples ``at``, ascending, with a row of every value for each."""
    return Chosen(at, torch.from_numpy(at), {name: torch.from_numpy(value.copy()) for name, value in values.items()})


def paste(images: torch.Tensor, targets: torch.Tensor, areas: Areas, drawn: Chosen) -> None:
    """Paste, in place: images (B, C, H, W), uint8 or float32, as the areas are; targets uint8 (B, H, W).

    drawn: of ``draw_pastes``. A pixel becomes alpha of the area's and 1 - alpha of its own, rounded where pixels are
    whole numbers; its label changes where alpha is 1, on the area itself.
    """
    value, margin = drawn.values, areas.margin
    (canvas_height, canvas_width), (height, width) = areas.alpha.shape[1:], images.shape[2:]
    rows, from_rows, in_rows = _window(value["top"], value["height"], value["down"], margin, canvas_height, height)
    columns, from_columns, in_columns = _window(
        value["left"], value["width"], value["across"], margin, canvas_width, width
    )
    place, area = drawn.rows[:, None, None], value["area"][:, None, None]
    rows, columns = rows[:, :, None], columns[:, None, :]
    from_rows, from_columns = from_rows[:, :, None], from_columns[:, None, :]
    alpha = areas.alpha[area, from_rows, from_columns] * (in_rows[:, :, None] & in_columns[:, None, :])
    own = images[place, :, rows, columns].float()  # (n, rows, columns, C)
    new = areas.images[area, :, from_rows, from_columns].float()
    mixed = torch.lerp(own, new, alpha[..., None].float() / 255)
    images[place, :, rows, columns] = mixed if images.is_floating_point() else mixed.round().to(images.dtype)
    targets[place, rows, columns] = torch.where(alpha == 255, areas.label, targets[place, rows, columns])


def _window(
    first: torch.Tensor, length: torch.Tensor, mirrored: torch.Tensor, margin: int, canvas: int, side: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Along one axis: pixels of the image that an area and its margin cover, those of its canvas, and which of them count.

    All (n, m), m the smaller of canvas and side, so that every area moves as many pixels and none is written twice.
    """
    many = min(canvas, side)
    start = (first - margin).clamp(min=0, max=side - many)
    pixels = start[:, None] + torch.arange(many, device=first.device)
    source = pixels - (first - margin)[:, None]
    last = (length + 2 * margin - 1)[:, None]
    counts = (source >= 0) & (source <= last)
    source = torch.where(mirrored[:, None], last - source, source)
    return pixels, source.clamp(0, canvas - 1), counts
