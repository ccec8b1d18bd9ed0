"""Which copy of which image gets what: a function of the seed, the image's id and the copy's number, of nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from podium.config_validation import Corruptions
from podium.randomness import stream


def chosen(ids: np.ndarray, settings: Corruptions) -> np.ndarray:
    """int64, ascending: the positions of the images that are copied, ``settings.at_most`` of them.

    Every image has a number of its own and the smallest are taken: a new image takes the place of one other at most.
    """
    if settings.at_most is None or settings.at_most >= len(ids):
        return np.arange(len(ids))
    return np.sort(np.argsort(_mixed(_hashes("image", settings.seed, ids)), kind="stable")[: settings.at_most])


def draw(ids: np.ndarray, kinds: Sequence[str], settings: Corruptions) -> tuple[np.ndarray, np.ndarray]:
    """Kinds, unicode (N, copies), and strengths, int64 (N, copies), of the copies of images ``ids`` (N,).

    Every kind, and apart from it every strength, is as likely as any other. Each image ranks the kinds in an order of its own, and its
    copies take them from the top, so that they differ until all are used. Other images, more copies and the order of the
    settings' lists change nothing; a kind that is added changes the copies that get it, and those of that image after them.
    """
    names = np.array(sorted(kinds))
    images = _hashes("image", settings.seed, ids)
    ranks = np.argsort(_mixed(images[:, None] ^ _hashes("kind", 0, names)[None]), axis=1, kind="stable")
    copies = np.arange(settings.copies)
    strengths = np.array(sorted(settings.strengths), np.int64)
    drawn = _mixed(images[:, None] ^ _hashes("strength", 0, copies)[None]) % np.uint64(len(strengths))
    return names[ranks[:, copies % len(names)]], strengths[drawn.astype(np.int64)]


def _hashes(what: str, seed: int, names: np.ndarray) -> np.ndarray:
    return np.array([stream("corruptions", what, seed, name) for name in names.tolist()], np.uint64)


def _mixed(values: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every bit of the result depends on every bit given."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
