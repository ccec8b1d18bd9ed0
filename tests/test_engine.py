"""The local engine: order, failures that stay where they are, workers that die."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from podium import pipeline
from podium.engines import local
from podium.errors import UserError
from podium.jobs import Job
from podium.pipeline import make_plan
from podium.prepare import Options, prepare
from project import environment, make_project


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Training and prediction of one recipe on three folds: 3 train, 3 oof, 1 test."""
    root = make_project(tmp_path)
    for key, value in environment(root).items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv("PODIUM_DATA", raising=False)
    options = Options(overrides=("train.epochs=2",), precision="fp32", threads=1)
    prepared = prepare("tiny", options, lambda text: None)
    return list(make_plan(prepared, options, Console(quiet=True).print, measure=False).jobs)


def test_all_jobs_end_done_and_a_second_time_cached(jobs: list[Job]) -> None:
    events: list[tuple[str, str]] = []
    outcomes = local.run(jobs, 2, lambda job, event: events.append((job.name, event["event"])))
    assert {outcome.status for outcome in outcomes.values()} == {"done"} and len(outcomes) == 7
    for job in jobs:
        begun = events.index((job.name, "start"))
        assert all(events.index((need, "done")) < begun for need in job.needs)
    assert {outcome.status for outcome in local.run(jobs).values()} == {"cached"}


def test_a_training_that_is_left_over_has_the_machine_for_itself(jobs: list[Job]) -> None:
    outcomes = local.run(jobs, 2, threads_alone=2)
    threads = [outcomes[f"small fold {fold}"].record["machine"]["threads"] for fold in range(3)]
    assert threads == [1, 1, 2] and outcomes["small test"].record["machine"]["threads"] == 1


def test_only_equal_rounds_leave_one_over(jobs: list[Job]) -> None:
    left_over = local._left_over
    assert left_over(jobs, 2) == "small fold 2" and left_over(jobs, 1) is left_over(jobs, 3) is None
    assert left_over(jobs[2:], 2) is None  # two trainings
    other = replace(jobs[0], recipe=jobs[0].recipe | {"name": "other"})
    assert left_over([*jobs[1:], other], 2) is None


def test_a_failed_job_takes_along_only_what_needs_it(jobs: list[Job]) -> None:
    bad = replace(jobs[2], recipe=jobs[2].recipe | {"net": {"name": "unet", "encoder": "resnet1888"}})
    assert bad.name == "small fold 1"
    outcomes = local.run([*jobs[:2], bad, *jobs[3:]])
    ended = {name: outcome.status for name, outcome in outcomes.items()}
    assert ended.pop("small fold 1") == "failed" and outcomes["small fold 1"].user
    assert "resnet1888" in outcomes["small fold 1"].error and "resnet18" in outcomes["small fold 1"].error
    assert ended.pop("small fold 1 oof") == ended.pop("small test") == "skipped"
    assert set(ended.values()) == {"done"} and len(ended) == 4


def test_an_unexpected_error_keeps_its_traceback(jobs: list[Job]) -> None:
    bad = replace(jobs[0], site=replace(jobs[0].site, threads=-3))
    outcome = local.run([bad])[bad.name]
    assert outcome.status == "failed" and not outcome.user and "Traceback" in outcome.trace


def test_a_dying_worker_does_not_take_the_others_along(jobs: list[Job]) -> None:
    killed: list[int] = []

    def kill_once(job: Job, event: dict[str, Any]) -> None:
        if job.name == "small fold 0" and event["event"] == "epoch" and not killed:
            killed.append(_working())
            os.kill(killed[0], signal.SIGKILL)

    outcomes = local.run(jobs, 1, kill_once)
    assert killed and "signal 9" in outcomes["small fold 0"].error
    assert {
        outcomes[name].status for name in ("small fold 1", "small fold 2", "small fold 1 oof", "small fold 2 oof")
    } == {"done"}
    assert outcomes["small test"].status == "skipped"
    assert {outcome.status for outcome in local.run(jobs).values()} == {"cached", "done"}


def _working() -> int:
    children = multiprocessing.active_children()
    assert len(children) == 1 and children[0].pid is not None
    return children[0].pid


def test_a_job_behind_its_budget_gets_less_and_one_ahead_gets_more(
    monkeypatch: pytest.MonkeyPatch, jobs: list[Job]
) -> None:
    now = 1000.0
    monkeypatch.setattr(local.time, "monotonic", lambda: now)
    trains = [replace(job, seconds=100.0) for job in jobs if job.kind == "train"]
    test = next(job for job in jobs if job.kind == "test")

    def allowance(left: float, outcomes: dict[str, local.Outcome] | None = None) -> float | None:
        return local._allowance(trains[0], [*trains[1:], test], [], outcomes or {}, 1, now + left)

    assert allowance(300) == pytest.approx(100)
    assert allowance(240) == pytest.approx(80)
    assert allowance(345) == pytest.approx(115)
    assert allowance(10) == 50 and allowance(9999) == 150
    # predictions that are still to be made for finished folds are kept free
    done = {name: local.Outcome("done", {"prediction": {"oof": 5.0, "test": 15.0}}) for name in test.needs}
    assert allowance(345, done) == pytest.approx(100)
    assert local._allowance(test, [], [], {}, 1, now + 100) is None
    # three jobs on two workers take two rounds, whichever of the first two is asked about; the last has the rest
    one, two, three = trains
    assert local._allowance(one, [two, three], [], {}, 2, now + 200) == pytest.approx(100)
    assert local._allowance(two, [three], [one], {}, 2, now + 200) == pytest.approx(100)
    assert local._allowance(three, [], [two], {}, 2, now + 90) == pytest.approx(90)


def test_a_disk_without_room_is_noticed_before_the_first_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: list[Job]
) -> None:
    needed = (24 + 7) * 4 * 16 * 24 * 2  # out-of-fold and test probabilities
    free = SimpleNamespace(free=needed - 1)
    monkeypatch.setattr(pipeline.shutil, "disk_usage", lambda path: free)
    options = Options(overrides=("train.epochs=1",), precision="fp32", threads=1)
    with pytest.raises(UserError, match="make room"):
        pipeline.run("tiny", options, "pack", Console(quiet=True))
    assert not list((tmp_path / "runs" / "tiny").glob("small-*/fold*"))
    free.free = needed
    assert pipeline.run("tiny", options, "pack", Console(quiet=True)).failures == {}
