"""One trial: train_fold watched at its rungs, interrupted and continued; and the recipe that a win is written as."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from conftest import Tiny
from podium.config_file import load_recipe
from podium.data.fit import plan_fit
from podium.jobs import Site
from podium.store import Folder, Key, read_json
from podium.training import checkpoint
from podium.training.fold import train_fold
from podium.training.trainer import Trainer
from podium.tuning.confirm import Confirmed, winner
from podium.tuning.objective import Bench, clear, folder_of, train_trial
from podium.tuning.offer import differences, write_recipe
from podium.tuning.space import recipe_of
from podium.tuning.study import Brief, trial_key
from tuning import brief_in


class Ended(Exception):
    """What a watch raises in these tests."""


def bench_of(tiny: Tiny, tmp_path: Path, epochs: int = 9, **changes: object) -> Bench:
    """A bench with the tiny competition in memory."""
    given = brief_in(tmp_path)
    recipe = tiny.changed(train={"epochs": epochs})
    tuning = given.tuning.model_copy(update=changes)
    site = Site("tiny", "", tiny.dataset.data_id, tiny.dataset.source_id, "")
    brief = Brief(tiny.competition, recipe, tuning, site, given.folder, given.name, None, 0, tiny.folds.folds_id, 3)
    fit = plan_fit(tiny.dataset.parts, tiny.competition.data.fit)
    return Bench(brief, tiny.dataset, tiny.folds, (tiny.dataset.train, tiny.folds), fit, tiny.machine)


def home_of(bench: Bench) -> Path:
    return folder_of(bench.brief, trial_key(bench.brief, bench.brief.recipe)[1])


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every epoch, whatever it costs."""
    monkeypatch.setattr(checkpoint, "WORTH", 1e9)


@pytest.mark.usefixtures("often")
def test_a_watch_sees_every_epoch_and_what_it_raises_ends_the_training(tiny: Tiny, tmp_path: Path) -> None:
    """Continued afterwards, it ends in the same bits as one that was never interrupted."""
    seen: list[int] = []

    def watch(epoch: int, trainer: Trainer) -> None:
        seen.append(epoch)
        if seen == [1, 2, 3]:
            raise Ended

    def train(folder: Folder, watched: bool) -> str:
        fit = plan_fit(tiny.dataset.parts, None)
        part, folds = tiny.dataset.train, tiny.folds
        train_fold(
            tiny.competition,
            tiny.recipe,
            0,
            0,
            part,
            fit,
            folds,
            folder,
            tiny.machine,
            watch=watch if watched else None,
        )
        return hashlib.sha256(folder.file("ema.safetensors").read_bytes()).hexdigest()

    key = Key("fold", 1, {})
    shaken, calm = Folder(tmp_path / "shaken", key), Folder(tmp_path / "calm", key)
    with pytest.raises(Ended):
        train(shaken, True)
    assert shaken.done is None and shaken.file("last.pt").exists()
    bits = train(shaken, True)
    assert seen == [1, 2, 3, 3, 4]  # what comes before a checkpoint is repeated
    assert bits == train(calm, False)


def test_a_trial_reports_its_rungs_and_scores_its_end(tiny: Tiny, tmp_path: Path) -> None:
    bench = bench_of(tiny, tmp_path, folds=(0, 1))
    reported: list[tuple[int, float]] = []
    scores = train_trial(bench, bench.brief.recipe, lambda epoch, score: reported.append((epoch, score)))
    assert [epoch for epoch, _ in reported] == [1, 3]  # of the first fold alone
    assert len(scores) == 2 and all(0 < score < 1 for score in scores)
    assert read_json(home_of(bench) / "result.json") == {"scores": scores}
    clear(bench.brief, bench.brief.recipe)
    left = {path.name for path in home_of(bench).rglob("*") if path.is_file()}
    assert "history.csv" in left and not any(name.endswith((".safetensors", ".pt")) for name in left)
    # asked for again, it is not trained again
    assert train_trial(bench, bench.brief.recipe, lambda epoch, score: reported.append((epoch, score))) == scores


@pytest.mark.usefixtures("often")
def test_an_interrupted_trial_goes_on_from_its_checkpoint_and_says_the_same(tiny: Tiny, tmp_path: Path) -> None:
    calm, shaken = bench_of(tiny, tmp_path / "calm"), bench_of(tiny, tmp_path / "shaken")
    undisturbed: list[tuple[int, float]] = []
    whole = train_trial(calm, calm.brief.recipe, lambda epoch, score: undisturbed.append((epoch, score)))

    def killed(epoch: int, score: float) -> None:
        if epoch == 3:
            raise Ended

    events: list[dict[str, object]] = []
    with pytest.raises(Ended):
        train_trial(shaken, shaken.brief.recipe, killed, events.append)
    again: list[tuple[int, float]] = []
    scores = train_trial(shaken, shaken.brief.recipe, lambda epoch, score: again.append((epoch, score)), events.append)
    assert scores == whole and again == undisturbed
    assert {"event": "resumed", "epoch": 2} in events


def test_lower_is_better_where_the_metric_says_so(tiny: Tiny, tmp_path: Path) -> None:
    """The score of a trial is the metric itself, also where nets are steered by what is larger when better."""
    from podium.tuning.objective import _unsigned

    raw = tiny.competition.model_dump(mode="json") | {"metric": {"name": "rmse"}, "task": "regression"}
    raw |= {"classes": [], "unscored": None, "submission": None}
    lower = type(tiny.competition).model_validate(raw)
    assert _unsigned(lower, -0.5) == 0.5 and _unsigned(tiny.competition, 0.5) == 0.5


# ---------------------------------------------------------------- what is offered

PARENT = """
net: {name: residual_unet, widths: [4, 8]}
augment: {batch: [flip_h, {name: noise, p: 1.0}]}
train: {epochs: 3, batch: 8, lr: 1e-2, rarest_rate: 2}
"""


def parents(tmp_path: Path) -> Path:
    folder = tmp_path / "configs" / "models"
    folder.mkdir(parents=True)
    (folder / "small.yaml").write_text(PARENT)
    return folder


def test_a_recipe_is_written_as_its_parent_plus_the_differences(tmp_path: Path) -> None:
    folder = parents(tmp_path)
    values = {
        "train.lr": 0.0123456789,
        "net.dropout": 0.1,
        "augment.batch.1.p": 0.5,
        "train.schedule": {"name": "step", "every": 2},
        "train.epochs": 50,  # the length that was asked for is not what was searched
    }
    tuned = recipe_of(load_recipe(folder / "small.yaml"), values)
    path = write_recipe(folder, folder, tuned, "small", ["where it comes from"])
    assert path == folder / "small_tuned.yaml"
    text = path.read_text()
    assert text.startswith("# where it comes from\nlike: small\n") and "batch: 8" not in text and "epochs" not in text
    read = load_recipe(path)
    assert (read.train.lr, read.train.epochs, read.net.dropout) == (0.0123456789, 3, 0.1)
    assert read.train.schedule.name == "step" and read.augment.batch[1].p == 0.5
    assert read.augment.batch[0] == load_recipe(folder / "small.yaml").augment.batch[0]


def test_nothing_is_written_over_and_nothing_written_twice(tmp_path: Path) -> None:
    folder = parents(tmp_path)
    own = load_recipe(folder / "small.yaml")
    first = write_recipe(folder, folder, recipe_of(own, {"train.lr": 0.02}), "small", ["one"])
    kept = first.read_bytes()
    assert write_recipe(folder, folder, recipe_of(own, {"train.lr": 0.02}), "small", ["again"]) == first
    second = write_recipe(folder, folder, recipe_of(own, {"train.lr": 0.03}), "small", ["two"])
    third = write_recipe(folder, folder, recipe_of(own, {"train.lr": 0.04}), "small", ["three"])
    assert [path.name for path in (second, third)] == ["small_tuned2.yaml", "small_tuned3.yaml"]
    assert first.read_bytes() == kept and load_recipe(third).train.lr == 0.04


def test_differences_keep_what_another_name_needs() -> None:
    parent = {"a": 1, "b": {"name": "x", "p": 1, "q": 2}, "c": [1, 2]}
    child = {"a": 1, "b": {"name": "x", "p": 1, "q": 3}, "c": [1, 3]}
    assert differences(parent, child) == {"b": {"q": 3}, "c": [1, 3]}
    assert differences(parent, {"a": 1, "b": {"name": "y", "r": 1}, "c": [1, 2]}) == {"b": {"name": "y", "r": 1}}


def test_only_a_gain_whose_interval_lies_above_zero_wins() -> None:
    likely = Confirmed("likely", 1, 0.60, 0.50, 0.10, -0.001, 0.2)
    certain = Confirmed("certain", 2, 0.55, 0.50, 0.05, 0.001, 0.1)
    better = Confirmed("better", 3, 0.56, 0.50, 0.06, 0.002, 0.1)
    assert winner([likely]) is None and winner([]) is None
    assert winner([likely, certain, better]) == better
