"""A model's probabilities for labels, worked out image by image and view by view, without podium's inference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from podium import nets
from podium.config import Recipe

TURNS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "identity": lambda x: x,
    "hflip": lambda x: x.flip(3),
    "vflip": lambda x: x.flip(2),
    "rot90": lambda x: x.rot90(1, (2, 3)),
    "rot180": lambda x: x.flip(2, 3),
    "rot270": lambda x: x.rot90(-1, (2, 3)),
    "transpose": lambda x: x.transpose(2, 3),
    "antitranspose": lambda x: x.flip(2, 3).transpose(2, 3),
}


def by_hand(recipe: Recipe, weights: Sequence[Path], images: np.ndarray, classes: int) -> np.ndarray:
    """float64 (n, classes): the mean over files of weights and views; images uint8 (n, height, width, C)."""
    total = np.zeros((len(images), classes))
    x = torch.from_numpy(images).permute(0, 3, 1, 2).double() / 255
    for path in weights:
        size = (images.shape[1], images.shape[2])
        net = nets.build(recipe.net, "classification", images.shape[3], classes, size=size)
        net.load_state_dict(load_file(path))
        net = net.double().eval()
        for view in recipe.predict.views:
            with torch.no_grad():
                total += net(TURNS[view](x)).softmax(1)[:, :, 0, 0].numpy()
    return np.asarray(total / len(weights) / len(recipe.predict.views))
