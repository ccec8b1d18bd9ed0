"""All that a recipe's ``mix`` does to a source's batches, epoch by epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from podium.augment.draws import Chosen
from podium.config_mix import CopyPaste, CutMix, Mixes, misfit
from podium.errors import UserError
from podium.mixing import bank
from podium.mixing.bank import Areas, Pieces, Read
from podium.mixing.blend import box, box_around, draw_blends, takes_kept
from podium.mixing.paste import draw_pastes, paste
from podium.training.rows import rows_of

Augment = Callable[[torch.Tensor, torch.Tensor, slice], tuple[torch.Tensor, torch.Tensor]]
"""Images and targets of kept pieces → augmented; the slice says which they are of all that an epoch takes."""
Blended = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]
"""Images, targets, and where labels are mixed a second set of targets and its share (B,) in each sample."""


class Mixing:
    """What is kept of the training part, and what it is used for.

    read, held: a training piece by its number, and the pixels (or labels) of the rarest class in each; see ``bank``.
    batch: samples per step. size: (height, width) of a piece. Copy-paste without masks is a UserError.
    """

    def __init__(
        self,
        mixes: Mixes,
        task: str,
        rarest: int,
        held: np.ndarray,
        read: Read,
        batch: int,
        size: tuple[int, int],
        device: torch.device,
    ) -> None:
        problem = misfit(mixes, task)
        if problem is not None:
            raise UserError(problem)
        self.rarest, self.batch, self.size, self.device = rarest, batch, size, device
        self.masks = task == "segmentation"
        self.pasting = next((mix for mix in mixes if isinstance(mix, CopyPaste)), None)
        self.blending = [mix for mix in mixes if not isinstance(mix, CopyPaste)]
        self.areas: Areas | None = None
        self.kept: Pieces | None = None
        if self.pasting is not None:
            self.areas = bank.areas(read, held, rarest, self.pasting.most, self.pasting.edge, device)
        if any(takes_kept(mix) for mix in self.blending):
            self.kept = bank.pieces(read, held, device)

    def epoch(self, seed: int, n: int) -> Mixed:
        """What is done in an epoch of ``n`` samples, from ``seed`` alone."""
        rng = np.random.default_rng(seed)
        pastes: list[Chosen] = []
        if self.pasting is not None and self.areas is not None:
            pastes = draw_pastes(self.pasting, self.areas, n, self.size, rng)
        kept = 0 if self.kept is None else len(self.kept.images)
        blends = draw_blends(self.blending, kept, n, self.batch, self.size, rng)
        return Mixed(self, pastes, [drawn.to(self.device) for drawn in blends])


@dataclass(frozen=True, eq=False)
class Mixed:
    """The draws of one epoch. A batch for which nothing was drawn is given back as it came."""

    mixing: Mixing
    pastes: list[Chosen]
    blends: list[Chosen]

    @property
    def taken(self) -> int:
        """Kept pieces that the epoch takes, counting repetitions; each is augmented by itself."""
        return sum(len(drawn) for mix, drawn in zip(self.mixing.blending, self.blends, strict=True) if takes_kept(mix))

    def before(self, step: int, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Copy-paste, before the augmentation: images (B, C, H, W) as stored and targets; both may be written to."""
        for every in self.pastes:
            drawn = every.between(*self._samples(step))
            if len(drawn):
                assert self.mixing.areas is not None
                images = images.float() if images.dtype == torch.uint16 else images  # torch cannot compute with those
                paste(images, targets, self.mixing.areas, drawn)
        return images, targets

    def after(self, step: int, images: torch.Tensor, targets: torch.Tensor, augment: Augment) -> Blended:
        """CutMix and MixUp, after the augmentation: images float32 (B, C, H, W) and targets; both may be written to.

        Partners from the batch are as they were before any of it was mixed.
        """
        start, stop = self._samples(step)
        todo = []
        for mix, every in zip(self.mixing.blending, self.blends, strict=True):
            drawn = every.between(start, stop)
            if len(drawn):
                partner, kept = drawn.values["partner"], self.mixing.kept
                if takes_kept(mix):
                    assert kept is not None
                    first = int(np.searchsorted(every.at, start))
                    pieces = rows_of(kept.images, partner), rows_of(kept.targets, partner)
                    theirs = augment(*pieces, slice(first, first + len(drawn)))
                else:
                    theirs = rows_of(images, partner), rows_of(targets, partner)
                todo.append((mix, drawn, *theirs))
        other: torch.Tensor | None = None
        shares: torch.Tensor | None = None
        for mix, drawn, their_images, their_targets in todo:
            own, share = drawn.rows, drawn.values["share"]
            if isinstance(mix, CutMix):
                inside = self._inside(mix, drawn, their_targets)
                images.index_copy_(0, own, torch.where(inside[:, None], their_images, rows_of(images, own)))
                if self.mixing.masks:
                    targets.index_copy_(0, own, torch.where(inside, their_targets, rows_of(targets, own)))
                    continue
            else:
                weight = share.view(-1, 1, 1, 1)
                images.index_copy_(0, own, (1 - weight) * rows_of(images, own) + weight * their_images)
            if other is None or shares is None:
                other, shares = targets.clone(), torch.zeros(len(images), device=images.device)
            other.index_copy_(0, own, their_targets)
            shares.index_copy_(0, own, share)
        return images, targets, other, shares

    def _samples(self, step: int) -> tuple[int, int]:
        return step * self.mixing.batch, (step + 1) * self.mixing.batch

    def _inside(self, mix: CutMix, drawn: Chosen, targets: torch.Tensor) -> torch.Tensor:
        if takes_kept(mix) and self.mixing.masks:
            return box_around(drawn, targets, self.mixing.rarest)
        return box(drawn, *self.mixing.size)
