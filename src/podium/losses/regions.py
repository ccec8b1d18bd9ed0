"""Terms that compare areas: Dice, Jaccard, Tversky and the Lovász extension of Jaccard.

A region is an image or, with ``over`` "batch", all images given. For class c of a region, with p the softmax and y the
truth (0 or 1, or a share of a pixel where two sets of labels are mixed), over the pixels that carry a label:

    I = sum of min(p, y)    P = sum of p    T = sum of y

which for hard labels is the usual sum of p × y; for soft ones it is the form whose best prediction is the truth itself
(Wang et al. 2023, arXiv:2303.16296). A class is there where T > 0. A region's loss is the mean over the classes that are
there, 0 where nothing is labelled; the term is the mean over regions. Classes count alike however large they are, so class
weights made of pixel counts have no place here.
"""

from __future__ import annotations

import torch

from podium.losses.seen import Seen

LEAST = 1e-7


def dice(seen: Seen, over: str = "image", smooth: float = 0.0) -> torch.Tensor:
    """1 - (2 I + 2 s) / (P + T + 2 s), s = smooth (Milletari et al. 2016, arXiv:1606.04797, without their squares)."""
    return tversky(seen, 0.5, 0.5, 1.0, over, smooth)


def jaccard(seen: Seen, over: str = "image", smooth: float = 0.0) -> torch.Tensor:
    """1 - (I + s) / (P + T - I + s), s = smooth."""
    return tversky(seen, 1.0, 1.0, 1.0, over, smooth)


def tversky(
    seen: Seen, alpha: float, beta: float, gamma: float = 1.0, over: str = "image", smooth: float = 0.0
) -> torch.Tensor:
    """(1 - (I + s) / (I + alpha (P - I) + beta (T - I) + s)) ** gamma, s = smooth.

    Salehi et al. 2017, arXiv:1706.05721; the exponent is Abraham & Khan 2018's, arXiv:1810.07842, who write it 1 / gamma
    and use 3 / 4.
    """
    p, y = seen.probabilities, seen.wanted
    if seen.other is None:
        hit, predicted = p * y, p * seen.mass
    else:
        predicted = p * seen.mass
        hit = torch.minimum(predicted, y)
    both, found, there = (_areas(values, over) for values in (hit, predicted, y))
    index = (both + smooth) / (both + alpha * (found - both) + beta * (there - both) + smooth).clamp(min=LEAST)
    loss = 1 - index
    if gamma != 1:
        loss = loss.clamp(min=LEAST).pow(gamma)  # a root has no derivative at 0
    return _mean_present(loss, there)


def lovasz(seen: Seen, over: str = "image") -> torch.Tensor:
    """Lovász-Softmax (Berman et al. 2018, arXiv:1705.08790): errors |y - p|, largest first, times the steps of 1 - IoU
    as they turn from hits to mistakes one by one.

    With soft labels the sums that make up the IoU are of shares of pixels.
    """
    p, y, mass = seen.probabilities, seen.wanted, seen.mass
    errors = (y - p * mass).abs()
    if over == "batch":
        errors, y, mass = (values.transpose(0, 1)[None] for values in (errors, y, mass))
    errors, y, mass = (values.flatten(2) for values in (errors, y, mass))
    there = y.sum(2)
    with torch.no_grad():  # the steps are constants of the order
        order = _largest_first(errors)
        y_ordered = y.gather(2, order)
        n_ordered = (mass - y).gather(2, order)
        left = there[..., None] - y_ordered.cumsum(2)
        union = there[..., None] + n_ordered.cumsum(2)
        steps = 1 - left / union.clamp(min=LEAST)
        steps[..., 1:] -= steps[..., :-1].clone()
        steps = torch.empty_like(steps).scatter_(2, order, steps)
    return _mean_present((errors * steps).sum(2), there)


def _largest_first(errors: torch.Tensor) -> torch.Tensor:
    """The order of the last of three dimensions by falling value, equal ones as they stand; no value is below 0."""
    if errors.device.type != "cpu" or errors.dtype != torch.float32:
        return errors.argsort(dim=2, descending=True, stable=True)
    # On a processor torch's sort takes ten times as long as numpy's of whole numbers: as such, the bits of floats that are
    # not negative are ordered as the floats, and beside them there is room for the place
    places = torch.arange(errors.shape[2])
    keys = errors.view(torch.int32).long().neg_().mul_(2**32).add_(places).numpy()
    keys.sort(axis=2)
    return torch.from_numpy(keys).bitwise_and_(2**32 - 1)


def _areas(values: torch.Tensor, over: str) -> torch.Tensor:
    """Sums over the pixels of each region, (regions, K)."""
    areas = values.sum((2, 3))
    return areas.sum(0, keepdim=True) if over == "batch" else areas


def _mean_present(loss: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """The mean over regions of the mean over the classes that are there; both (regions, K)."""
    present = (there > 0).to(loss.dtype)
    return ((loss * present).sum(1) / present.sum(1).clamp(min=1)).mean()
