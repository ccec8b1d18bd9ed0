"""One step: the same in pieces as whole, through memory that runs out, and compiled or not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from conftest import SIZE, Tiny
from podium.config import Recipe
from podium.config_loss import CrossEntropy, Dice, LossSettings
from podium.data.fit import Fit
from podium.errors import UserError
from podium.losses import Loss
from podium.training.choose import make_source
from podium.training.compiled import compiled
from podium.training.machine import Machine
from podium.training.memory import out_of_memory
from podium.training.probe import Probe
from podium.training.source import Batch, Source
from podium.training.trainer import Trainer

OUT = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB")


class NoNorm(nn.Module):
    """A net without batch norm: its gradient is a sum over images, whatever goes through it together."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.layer, self.most = nn.Conv2d(1, 4, 3, padding=1), most
        self.seen: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(x))
        if len(x) > self.most:
            raise OUT
        return self.layer(x)


def source_of(tiny: Tiny, recipe: Recipe | None = None) -> Source:
    recipe = recipe or tiny.recipe
    rows, _ = tiny.folds.rows(0)
    return make_source(tiny.dataset.train, rows, Fit(SIZE, "same"), tiny.competition, recipe, tiny.machine)


def trainer_of(
    tiny: Tiny, machine: Machine | None = None, net: NoNorm | None = None, notes: list[str] | None = None
) -> Trainer:
    told = (lambda text: None) if notes is None else notes.append
    made = Trainer(tiny.competition, tiny.recipe, source_of(tiny), machine or tiny.machine, 10, 0, told)
    if net is not None:
        made.model.net = net
        made.parameters = list(made.model.parameters())
        made.optimiser = torch.optim.AdamW([{"params": made.parameters, "scale": 1.0}])
    return made


def batch_of(count: int = 7) -> Batch:
    """Random images, and masks in which images hold different numbers of labels; one has none."""
    generator = torch.Generator().manual_seed(1)
    targets = torch.randint(0, 3, (count, *SIZE), generator=generator).to(torch.uint8)
    for number in range(count):
        targets[number, : number * SIZE[0] // count] = 255
    targets[0] = 255
    return Batch(torch.rand((count, 1, *SIZE), generator=generator), targets)


def mixed_batch() -> Batch:
    """With a second set of labels."""
    batch = batch_of()
    return Batch(batch.images, batch.targets, batch.targets.flip(0), torch.linspace(0, 1, len(batch.images)))


def gradients(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in trainer.parameters if p.grad is not None])


def test_the_losses_of_pieces_add_up_to_the_batchs() -> None:
    batch, weights = batch_of(), torch.tensor([1.0, 2.5, 4.0])
    logits = torch.randn(7, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    loss = Loss(LossSettings(), weights)
    total = loss.total(batch.targets)
    by_hand = sum(float((batch.targets == k).sum()) * float(weights[k]) for k in range(3))
    assert total.tolist() == pytest.approx([by_hand])
    pieces = [loss(logits[i : i + 2], batch.targets[i : i + 2], total=total) for i in range(0, 7, 2)]
    assert float(sum(pieces)) == pytest.approx(float(loss(logits, batch.targets)), rel=1e-6)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("micro", [1, 2, 3, 6])
def test_a_batch_in_pieces_has_the_gradient_of_the_whole(tiny: Tiny, micro: int, mixed: bool) -> None:
    found, batch = [], mixed_batch() if mixed else batch_of()
    for size in (7, micro):
        torch.manual_seed(0)
        net = NoNorm(most=7)
        trainer = trainer_of(tiny, net=net)
        trainer.micro = size
        if mixed:
            both = LossSettings(terms=(CrossEntropy(), Dice()))
            trainer.loss = Loss(both, trainer.loss.weights)
        loss = trainer._gradients(batch)
        assert loss is not None
        found.append((float(loss), gradients(trainer)))
        assert max(net.seen) <= size and sum(net.seen) == 7 and max(net.seen) - min(net.seen) <= 1
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-5, atol=1e-7)
    if mixed:  # and it is the loss of both sets of labels
        with torch.no_grad():
            logits = trainer.model(batch.images)
            expected = trainer.loss(logits, batch.targets, batch.other, batch.share)
        assert found[0][0] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("micro", [7, 2])
def test_two_sets_of_labels_have_the_gradient_of_both_in_their_shares(tiny: Tiny, micro: int) -> None:
    plain, found = batch_of(), []
    first = plain.targets.where(plain.targets != 255, 1)  # all labelled, so that both sets weigh the same
    second = first.flip(0)
    share = torch.full((len(first),), 0.3)
    for targets, other, shares in ((first, None, None), (second, None, None), (first, second, share)):
        torch.manual_seed(0)
        trainer = trainer_of(tiny, net=NoNorm(most=7))
        trainer.micro = micro
        trainer.loss = Loss(LossSettings(weight_power=0), torch.ones(4))
        loss = trainer._gradients(Batch(plain.images, targets, other, shares))
        assert loss is not None
        found.append((loss, gradients(trainer)))
    assert not torch.allclose(found[0][1], found[1][1], rtol=1e-2)
    for one, two, both in zip(*found, strict=True):
        torch.testing.assert_close(both, 0.7 * one + 0.3 * two, rtol=1e-5, atol=1e-7)


def test_memory_that_runs_out_halves_the_pieces_and_the_step_is_the_same(tiny: Tiny) -> None:
    weights: list[torch.Tensor] = []
    notes: list[str] = []
    for most in (7, 2):
        torch.manual_seed(0)
        net = NoNorm(most)
        trainer = trainer_of(tiny, net=net, notes=notes)
        trainer.micro = 7
        for step in range(3):
            trainer.step(batch_of(), step)
        weights.append(torch.cat([p.detach().flatten() for p in trainer.parameters]))
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-5, atol=1e-6)
    assert (
        net.seen == [7, 4, 2, 2, 2, 1] + [2, 2, 2, 1] * 2
    )  # 7 and 4 (of 4 and 3) are too many; what was learnt is kept
    assert [text.split(":")[0] for text in notes] == [
        "memory ran out with 7 images at once",
        "memory ran out with 4 images at once",
    ]
    # a training that is continued starts where it had arrived
    again = trainer_of(tiny, net=NoNorm(7))
    again.restore(trainer.state())
    assert again.micro == trainer.micro == 2


def test_a_single_image_that_is_too_much_says_what_to_do(tiny: Tiny) -> None:
    with pytest.raises(UserError, match="one image at a time is too much for the memory of .*; use a smaller net"):
        trainer_of(tiny, net=NoNorm(0)).step(batch_of(), 0)


def test_only_memory_makes_pieces(tiny: Tiny) -> None:
    assert out_of_memory(OUT) and not out_of_memory(RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator") as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert out_of_memory(caught.value)

    class Wrong(NoNorm):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        trainer_of(tiny, net=Wrong(7)).step(batch_of(), 0)


def test_the_number_at_once_may_be_given_and_is_at_most_the_batch(tiny: Tiny) -> None:
    batch = source_of(tiny).batch
    assert trainer_of(tiny, replace(tiny.machine, micro_batch=3)).micro == 3
    assert trainer_of(tiny, replace(tiny.machine, micro_batch=10**6)).micro == batch
    assert Probe(tiny.competition, tiny.recipe, source_of(tiny), replace(tiny.machine, micro_batch=2)).micro == 2


# ---------------------------------------------------------------- compiled


def test_a_compiled_step_is_the_step(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the compiler's tracing and its derivatives, and without its C++, which takes a minute."""
    real, asked = torch.compile, []

    def quick(model: Any, **options: Any) -> Any:
        asked.append(options)
        return real(model, backend="aot_eager", dynamic=options["dynamic"])

    monkeypatch.setattr(torch, "compile", quick)
    found = []
    for compile in ("off", "on"):
        trainer = trainer_of(tiny, replace(tiny.machine, compile=compile))
        for module in trainer.model.modules():
            if isinstance(module, nn.Dropout | nn.Dropout2d):
                module.p = 0.0  # the compiler draws in another order
        batches = list(source_of(tiny).epoch(0, 0, 0, tiny.recipe.augment))
        losses = [float(trainer.step(batch, step)) for step, batch in enumerate(batches)]
        found.append((losses, torch.cat([value.flatten().float() for value in trainer.average.state.values()])))
    assert asked == [{"dynamic": False, "mode": "default"}]
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-4)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("at", ["once", "later"])
def test_a_net_that_cannot_be_compiled_runs_as_it_is(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    def fails(model: Any, **options: Any) -> Any:
        def run(images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no C++ compiler\n  found")

        if at == "once":
            run(torch.zeros(1))
        return run

    monkeypatch.setattr(torch, "compile", fails)
    notes: list[str] = []
    trainer = trainer_of(tiny, replace(tiny.machine, compile="on"), notes=notes)
    plain = trainer_of(tiny)
    batch = next(iter(source_of(tiny).epoch(0, 0, 0, tiny.recipe.augment)))
    losses = []
    for one in (trainer, plain):
        torch.manual_seed(0)  # for the dropout
        losses.append([float(one.step(batch, step)) for step in range(2)])
    assert losses[0] == losses[1]
    assert notes == ["the net could not be compiled (RuntimeError: no C++ compiler found); it runs as it is"]


def test_memory_that_runs_out_in_a_compiled_net_is_no_reason_not_to_compile(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda model, **options: model)
    notes: list[str] = []
    net = NoNorm(2)
    run = compiled(net, replace(tiny.machine, compile="on"), notes.append)
    with pytest.raises(torch.OutOfMemoryError):
        run(torch.zeros(3, 1, 4, 4))
    assert run(torch.zeros(2, 1, 4, 4)).shape == (2, 4, 4, 4) and not notes


def test_a_machine_that_does_not_compile_calls_the_net_itself(tiny: Tiny) -> None:
    net = NoNorm(2)
    assert compiled(net, tiny.machine, lambda text: None) is net
