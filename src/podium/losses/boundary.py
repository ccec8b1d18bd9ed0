"""The boundary term, and the distance maps that it needs, computed for a whole batch on its device."""

from __future__ import annotations

import torch

from podium.losses.seen import NO_LABEL, Seen, one_hot


def boundary(seen: Seen, reach: int = 15) -> torch.Tensor:
    """Mean over images of the mean over labelled pixels of the sum over classes of p × signed distance.

    Kervadec et al. 2019, arXiv:1812.07032, eq. 5, for every class. p is the softmax; the distance is ``signed_distances``,
    so lies in -1..1, and so does the term: it is negative where a prediction is good. An image without a label counts as
    0. With a second set of labels (MixUp) the distances are mixed by their shares, not computed from mixed labels.

    Differs from the authors' code: the distance is to the border between two pixels rather than to the next pixel's
    centre, it is cut off, and a class that an image does not hold is far away everywhere, instead of free to be predicted.
    """

    def of(labels: torch.Tensor) -> torch.Tensor:
        valid = (labels != NO_LABEL)[:, None]
        return signed_distances(labels, seen.classes, reach).to(seen.dtype).mul_(valid)

    with torch.no_grad():
        distances = seen.mixture(of)
        pixels = seen.mass.sum((1, 2, 3)).clamp(min=1e-6)
    return ((seen.probabilities * distances).sum((1, 2, 3)) / pixels).mean()


def signed_distances(labels: torch.Tensor, classes: int, reach: int) -> torch.Tensor:
    """Euclidean distance of every pixel from the border of every class, float32 (B, classes, H, W) in -1..1.

    labels: uint8 (B, H, W), 255 for none. From the pixel's centre to the nearest centre of a pixel of the class, less one
    half: the border lies between pixels. Inside the class it is minus the distance to the nearest pixel of another class;
    pixels without a label are of no class and make no border. At most ``reach``, and divided by it: 1 everywhere where the
    class does not occur, -1 everywhere where nothing else does. Exact below that; reach is at most 100.
    """
    inside = one_hot(labels, classes)
    squared = squared_distances(inside, reach)
    own = inside.to(torch.int16)
    # within its class a pixel is as far from the border as from the nearest of the other classes
    other = (squared + own * (reach + 1) ** 2).amin(1, keepdim=True)
    distance = squared.addcmul_(own, other).float().sqrt_().sub_(0.5).clamp_(max=reach).div_(reach)
    return distance.mul_(1 - 2 * own)


def squared_distances(inside: torch.Tensor, reach: int) -> torch.Tensor:
    """Squared distance to the nearest true pixel, int16 (B, K, H, W), exact up to reach × (reach + 1).

    What is farther is given as any larger number, (reach + 1) ** 2 where no true pixel is within ``reach``. First along the
    rows by steps that double, then along the columns by one pass for every step of ``reach``; in int16, of which a
    processor works on many at once.
    """
    far = reach + 1
    height, width = inside.shape[-2:]
    rows = (~inside).to(torch.int16).mul_(far)
    done = 0
    while done < min(reach, width - 1):
        step = done + 1
        moved = rows.clone()
        raised = rows + step
        _lower(moved[..., step:], raised[..., :-step])
        _lower(moved[..., :-step], raised[..., step:])
        rows, done = moved, done + step
    rows.mul_(rows)
    squared, raised = rows.clone(), rows
    for step in range(1, min(reach, height - 1) + 1):
        raised.add_(2 * step - 1)  # the next square, in place: fresh memory costs more than the sum
        _lower(squared[..., step:, :], raised[..., :-step, :])
        _lower(squared[..., :-step, :], raised[..., step:, :])
    return squared


def _lower(values: torch.Tensor, to: torch.Tensor) -> None:
    torch.minimum(values, to, out=values)
