"""Losses over logits and class indices, with 255 for pixels that carry no label.

A net's output (B, K, H, W) is compared with labels (B, H, W); labels of whole images are masks of one pixel. ``pixelwise``
holds the terms that are sums over pixels, ``regions`` and ``boundary`` those that look at an image's areas; ``loss`` adds
them up as a recipe says.
"""

from podium.losses.loss import Loss, build
from podium.losses.seen import NO_LABEL
from podium.losses.weights import class_weights, label_weight

__all__ = ["NO_LABEL", "Loss", "build", "class_weights", "label_weight"]
