"""Operations that move pixels: several that stand together are one step, and no pixel is interpolated twice.

A step is a matrix for each sample, from where a pixel is to where it comes from. What flips and quarter turns alone make is
done by index, exactly; all else by one ``grid_sample`` of the image (bilinear) and one of its mask (nearest).

Coordinates are those of ``grid_sample``: -1..1 from edge to edge, x to the right, y down.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import grid_sample

from podium.augment.draws import Chosen
from podium.config_augment import Affine, FlipH, FlipV, Single, Turn90
from podium.data.chunk import NO_LABEL


def drawn(
    step: Sequence[Single], wanted: Sequence[torch.Tensor], generator: torch.Generator, shape: Sequence[int]
) -> tuple[Chosen, Chosen, Chosen, Chosen]:
    """A step's samples: those to transpose, then to turn upside down, then to mirror, and, among all others, those to
    resample, with ``theta``, float32 (m, 2, 3).

    step: flips, turns and affine maps in the order in which they are done. wanted: to which samples each is, bool (n,).
    """
    _, height, width = shape
    n = len(wanted[0])
    matrix = torch.eye(3, dtype=torch.float64).repeat(n, 1, 1)
    inexact = torch.zeros(n, dtype=torch.bool)
    for item, done in zip(step, wanted, strict=True):
        matrix = torch.where(done.view(-1, 1, 1), matrix @ _backwards(item, n, generator, shape), matrix)
        if isinstance(item, Affine):
            inexact |= done
    aside = matrix[:, 0, 0] == 0  # of those that are exact
    if height != width:
        inexact |= aside
    exact = ~inexact
    # out[y, x] = in[...]: beside the diagonal x comes from y, so the transposed image is what is flipped
    upside_down = torch.where(aside, matrix[:, 0, 1], matrix[:, 1, 1]) < 0
    mirrored = torch.where(aside, matrix[:, 1, 0], matrix[:, 0, 0]) < 0
    return (
        Chosen.where(exact & aside),
        Chosen.where(exact & upside_down),
        Chosen.where(exact & mirrored),
        Chosen.where(inexact, {"theta": matrix[:, :2].float()}),
    )


def _backwards(item: Single, n: int, generator: torch.Generator, shape: Sequence[int]) -> torch.Tensor:
    """For ``n`` samples the map of one operation from where a pixel is to where it comes from, float64 (n or 1, 3, 3)."""
    matrix = torch.eye(3, dtype=torch.float64)
    if isinstance(item, FlipH):
        matrix[0, 0] = -1
    elif isinstance(item, FlipV):
        matrix[1, 1] = -1
    elif isinstance(item, Turn90):
        quarter = torch.tensor([[0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)  # as numpy.rot90 turns
        turns = torch.stack([quarter, quarter @ quarter, quarter @ quarter @ quarter])
        return turns[torch.randint(3, (n,), generator=generator)]
    elif isinstance(item, Affine):
        return _affine(item, n, generator, shape)
    return matrix[None]


def _affine(item: Affine, n: int, generator: torch.Generator, shape: Sequence[int]) -> torch.Tensor:
    """Forwards, in pixels from the centre: rotate(scale(shear(point))) + shift; this is the inverse, in -1..1."""
    _, height, width = shape

    def uniform(amounts: tuple[float, float]) -> torch.Tensor:
        low, high = amounts
        return low + (high - low) * torch.rand(n, generator=generator).double()

    angle, scale = uniform(item.rotate).deg2rad(), uniform(item.scale)
    across, down = 2 * uniform(item.shift), 2 * uniform(item.shift)
    shear_x, shear_y = uniform(item.shear).deg2rad().tan(), uniform(item.shear).deg2rad().tan()
    cos, sin = angle.cos(), angle.sin()
    # the inverse of [[1, shear_x], [shear_y, 1]] times that of scale * [[cos, sin], [-sin, cos]] (y is down)
    shrunk = scale * (1 - shear_x * shear_y)
    a, b = (cos - shear_x * sin) / shrunk, (-sin - shear_x * cos) / shrunk
    c, d = (sin - shear_y * cos) / shrunk, (cos + shear_y * sin) / shrunk
    b, c = b * (height / width), c * (width / height)
    zero, one = torch.zeros(n, dtype=torch.float64), torch.ones(n, dtype=torch.float64)
    rows = (a, b, -(a * across + b * down), c, d, -(c * across + d * down), zero, zero, one)
    return torch.stack(rows, dim=1).view(n, 3, 3)


def turned(x: torch.Tensor, step: Sequence[Chosen]) -> torch.Tensor:
    """Images (B, C, H, W) or masks (B, H, W) with flips and quarter turns done, to the bit."""
    transposed, upside_down, mirrored, _ = step
    x = transposed.change(x, lambda some: some.transpose(-1, -2).contiguous())
    x = upside_down.change(x, lambda some: some.flip(-2))
    return mirrored.change(x, lambda some: some.flip(-1))


def resampled(
    images: torch.Tensor, masks: torch.Tensor | None, drawn: Sequence[Chosen], step: Sequence[Single]
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """float32 images (B, C, H, W) and uint8 masks (B, H, W), if any, with everything done that is not exact."""
    chosen = drawn[-1]
    if not len(chosen):
        return images, masks
    fill = next((item.fill for item in step if isinstance(item, Affine)), "reflect")
    padding = "reflection" if fill == "reflect" else "zeros"
    where = grid(chosen.values["theta"], *images.shape[-2:])

    def picture(some: torch.Tensor) -> torch.Tensor:
        # zeros come in from outside, so 0 is what is to come in
        zero = some.mean((2, 3), keepdim=True) if fill == "mean" else None
        some = some if zero is None else some - zero
        some = grid_sample(some, where, "bilinear", padding, align_corners=False)
        return some if zero is None else some.add_(zero)

    def labels(some: torch.Tensor) -> torch.Tensor:
        shifted = some[:, None].float() - NO_LABEL
        return grid_sample(shifted, where, "nearest", padding, align_corners=False)[:, 0].add_(NO_LABEL).to(torch.uint8)

    return chosen.change(images, picture), None if masks is None else chosen.change(masks, labels)


def grid(theta: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Where the centre of every pixel comes from, float32 (m, H, W, 2): ``affine_grid`` without its matrix product."""
    x = (2 * torch.arange(width, device=theta.device) + 1) / width - 1
    y = (2 * torch.arange(height, device=theta.device) + 1) / height - 1
    found = theta.new_empty((len(theta), height, width, 2))
    for k in (0, 1):
        along, down, shift = (theta[:, k, i, None] for i in range(3))
        torch.add((along * x)[:, None, :], (down * y + shift)[:, :, None], out=found[..., k])
    return found
