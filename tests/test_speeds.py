"""What is measured of a machine: kept, joined, asked for again only where it is lacking."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from podium import calibrate, cores, speeds
from podium.config import Competition
from podium.config_file import load_competition, load_recipe
from podium.engines import measure
from podium.engines.local import KEEP_MEMORY, environment
from podium.errors import UserError
from podium.jobs import Site
from podium.plan import Means, Sizes
from podium.speeds import Compiled, Notes, Speeds, counts_to_try, key_of

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SITE = Site("mars", "/cache", "d" * 16, "e" * 16, "/folds.csv")
FAST = Speeds("bf16", None, {1: 100.0}, 400.0, 10**9, 24 * 10**9)
MARS = load_competition(CONFIGS / "competitions" / "mars.yaml")
RECIPE = load_recipe(CONFIGS / "models" / "residual_unet.yaml", ())
KEY = key_of(MARS, RECIPE, (1, 64, 128), SITE)


# ---------------------------------------------------------------- the book


def test_what_was_measured_comes_back(tmp_path: Path) -> None:
    whole = replace(FAST, micro_batch=16, compiled=Compiled(200.0, 30.0, 800.0, 12.5), tried=(2, 4))
    Notes.read(tmp_path / "machine.json").put(KEY, whole)
    assert Notes.read(tmp_path / "machine.json").get(KEY) == whole
    json.loads((tmp_path / "machine.json").read_text())
    other = key_of(MARS, RECIPE, (3, 64, 128), SITE)
    assert Notes.read(tmp_path / "machine.json").get(other) is None


def test_rates_of_more_workers_join_those_that_plans_were_made_with(tmp_path: Path) -> None:
    """The machine was twice as fast the second time: what counts is the ratio to one worker in the same minute."""
    notes = Notes.read(tmp_path / "machine.json")
    notes.put(KEY, FAST)
    joined = notes.put(KEY, replace(FAST, precision="fp32", train={1: 200.0, 2: 120.0}, tried=(2, 4)))
    assert joined == replace(FAST, train={1: 100.0, 2: 60.0}, tried=(2, 4)) == notes.get(KEY)


def test_what_an_older_version_kept_counts_as_nothing(tmp_path: Path) -> None:
    (tmp_path / "machine.json").write_text(json.dumps({KEY.hash: 123.4}))
    notes = Notes.read(tmp_path / "machine.json")
    assert notes.get(KEY) is None
    notes.put(KEY, FAST)
    assert notes.get(KEY) == FAST


def test_speeds_belong_to_the_net_its_input_and_the_machines_use() -> None:
    changed = [
        key_of(MARS, load_recipe(CONFIGS / "models" / "unet_resnet18.yaml", ()), (1, 64, 128), SITE),
        key_of(MARS, RECIPE, (1, 128, 128), SITE),
        *(
            key_of(MARS, RECIPE, (1, 64, 128), site)
            for site in (
                replace(SITE, device="cpu"),
                replace(SITE, precision="fp32"),
                replace(SITE, threads=1),
                replace(SITE, source="streamed"),
            )
        ),
    ]
    assert len({KEY.hash, *(key.hash for key in changed)}) == 1 + len(changed)
    same = load_recipe(CONFIGS / "models" / "residual_unet.yaml", ("train.lr=0.1", "train.epochs=3"))
    assert key_of(MARS, same, (1, 64, 128), replace(SITE, folds="/other.csv")).hash == KEY.hash


def test_a_rate_that_was_not_measured_is_that_of_the_next_fuller_machine() -> None:
    some = replace(FAST, train={1: 100.0, 4: 40.0})
    assert [some.rate(count) for count in (1, 2, 3, 4)] == [100.0, 40.0, 40.0, 40.0]
    assert some.rate(8) == 20.0  # a full machine is shared
    assert [some.rate(count, devices=4) for count in (1, 4, 5, 16)] == [100.0, 100.0, 40.0, 40.0]


# ---------------------------------------------------------------- what is worth measuring


@pytest.mark.parametrize(
    ("there", "threads", "jobs", "expected"),
    [
        (2, None, 5, (2,)),
        (16, None, 5, (2, 4)),
        (64, None, 10, (2, 4, 8)),
        (1, None, 5, ()),
        (8, None, 1, ()),
        (8, 4, 10, (2,)),
        (8, 8, 10, ()),
    ],
)
def test_numbers_of_workers_to_try(
    monkeypatch: pytest.MonkeyPatch, there: int, threads: int | None, jobs: int, expected: tuple[int, ...]
) -> None:
    monkeypatch.setattr(speeds, "cores", lambda: there)
    monkeypatch.setattr(speeds, "gpus", lambda: ())
    assert counts_to_try(jobs, replace(SITE, threads=threads)) == expected


def find(
    path: Path, monkeypatch: pytest.MonkeyPatch, train: int = 2000, **options: Any
) -> tuple[Means, list[Any], str]:
    """The means, the numbers of workers that were measured, and what was said."""
    asked: list[Any] = []
    said: list[str] = []

    def measured(competition: Competition, recipe: Any, site: Site, fold: int, counts: Any) -> Speeds:
        if "fails" in options:
            raise UserError("no")
        asked.append(tuple(counts))
        return replace(FAST, train={1: 100.0} | dict.fromkeys(counts, 60.0), tried=tuple(counts))

    monkeypatch.setattr(calibrate, "measure", measured)
    monkeypatch.setattr(speeds, "cores", lambda: 4)
    given = {name: value for name, value in options.items() if name != "fails"}
    sizes = Sizes(train=train, test=10, input=1, output=1.0)
    means = calibrate.find_means(MARS, [RECIPE], SITE, sizes, (1, 64, 128), (0, 1, 2), path, said.append, **given)
    return means, asked, " ".join(said)


def test_a_short_run_is_not_kept_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "machine.json"
    means, asked, said = find(path, monkeypatch, train=50)
    assert (asked, said, means.speeds) == ([], "", {}) and not path.exists()
    # 30 epochs of 63 batches, three times, are enough for all; a short budget for the plain rate
    assert find(path, monkeypatch, budget=100.0)[1] == [()]
    assert find(path, monkeypatch, budget=100.0)[1] == []  # known
    assert find(path, monkeypatch)[1] == [(2,)]
    assert find(path, monkeypatch)[1] == find(path, monkeypatch, budget=900.0)[1] == []


def test_workers_that_are_asked_for_are_measured_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    means, asked, _ = find(tmp_path / "machine.json", monkeypatch, workers=3, budget=100.0)
    assert asked == [(3,)] and means.workers == 3 and means.speeds[RECIPE.name].train == {1: 100.0, 3: 60.0}
    assert find(tmp_path / "other.json", monkeypatch, workers=1, budget=100.0)[1] == [()]


def test_without_leave_or_where_it_fails_the_plan_says_what_it_assumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    means, asked, said = find(tmp_path / "a.json", monkeypatch, budget=900.0, may_measure=False)
    assert not asked and not means.speeds and "has not been measured yet with residual_unet" in said
    means, _, said = find(tmp_path / "a.json", monkeypatch, budget=900.0, fails=True)
    assert not means.speeds and "residual_unet could not be measured (no)" in said


# ---------------------------------------------------------------- measured for real


def test_measuring_gives_rates_of_one_and_of_several(tiny_site: tuple[Competition, Any, Site]) -> None:
    competition, recipe, site = tiny_site
    found = measure.measure(competition, recipe, replace(site, device="cpu", precision="fp32"), 0, (2,))
    assert found.precision == "fp32" and found.micro_batch is None and found.compiled is None
    assert set(found.train) == {1, 2} and found.tried == (2,)
    assert min(*found.train.values(), found.predict) > 0
    assert 1e8 < found.memory < found.capacity


def test_a_recipe_that_cannot_be_trained_here_is_no_accident(tiny_site: tuple[Competition, Any, Site]) -> None:
    competition, recipe, site = tiny_site
    with pytest.raises(UserError, match="not a device"):
        measure.measure(competition, recipe, replace(site, device="abacus"), 0, ())


@pytest.fixture
def tiny_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Competition, Any, Site]:
    """A prepared tiny competition; rates over a moment only."""
    from podium.prepare import Options, prepare
    from project import make_project

    monkeypatch.setattr(measure, "SECONDS", 0.01)
    monkeypatch.setattr(measure, "ROUNDS", 1)
    monkeypatch.setenv("PODIUM_ROOT", str(make_project(tmp_path)))
    prepared = prepare("tiny", Options(), lambda text: None)
    cache = str(prepared.workspace.cache(prepared.name))
    ids = prepared.dataset.data_id, prepared.dataset.source_id
    return prepared.competition, prepared.recipes[0], Site(prepared.name, cache, *ids, str(prepared.folds_path))


# ---------------------------------------------------------------- a worker's variables


def test_workers_on_a_cpu_keep_the_memory_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    names = set(KEEP_MEMORY)
    for name in names:
        monkeypatch.delenv(name, raising=False)
    with environment(replace(SITE, device="cpu"), 0):
        assert {name: os.environ[name] for name in names} == KEEP_MEMORY
    assert not names & set(os.environ)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "7")  # the user's own
    with environment(replace(SITE, device="cpu"), 0):
        assert os.environ["MALLOC_ARENA_MAX"] == "7"
    with environment(replace(SITE, device="cuda:1"), 0):
        assert "MALLOC_MMAP_MAX_" in os.environ or cores.gpus()


def test_workers_take_turns_over_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_drivers_gpus", lambda: 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    cores.gpus.cache_clear()
    try:
        seen = []
        for slot in range(3):
            with environment(replace(SITE, threads=2), slot):
                seen.append((os.environ["CUDA_VISIBLE_DEVICES"], os.environ["OMP_NUM_THREADS"]))
        assert seen == [("3", "2"), ("1", "2"), ("3", "2")] and os.environ["CUDA_VISIBLE_DEVICES"] == "3,1"
        with environment(replace(SITE, device="cuda:1"), 0):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,1"  # one is asked for: its number counts among these
    finally:
        cores.gpus.cache_clear()


@pytest.mark.parametrize(
    ("drivers", "visible", "expected"),
    [(2, None, ("0", "1")), (2, "1", ("1",)), (2, "", ()), (2, "-1", ()), (0, "0", ()), (0, None, ())],
)
def test_gpus_are_those_that_may_be_used(
    monkeypatch: pytest.MonkeyPatch, drivers: int, visible: str | None, expected: tuple[str, ...]
) -> None:
    monkeypatch.setattr(cores, "_drivers_gpus", lambda: drivers)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert cores.gpus.__wrapped__() == expected


def test_a_containers_limit_is_its_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cores, "CGROUP", tmp_path)
    free, total = cores.free_memory(), cores.total_memory()
    assert 1 << 20 < free < total
    (tmp_path / "memory.max").write_text("max\n")
    assert cores.total_memory() == total
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("2000000\n")
    assert (cores.free_memory(), cores.total_memory()) == (3_000_000, 5_000_000)
