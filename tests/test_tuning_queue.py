"""Trials are trained as often as asked for and none twice, whatever dies in between; trainings are stand-ins here."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from podium.errors import UserError
from podium.tuning import queue
from podium.tuning.loop import work
from podium.tuning.queue import Claim, best, claim, settle
from podium.tuning.study import DEFAULTS, ENDED, ERROR, RETRY_OF, WORKER, finished, rungs
from podium.tuning.workers import alive, enrolled
from project import environment
from tuning import brief_in, check_whole, opened, quality, stand_in


def nothing(recipe: object) -> None:
    """Deletes nothing."""


def silent(text: str) -> None:
    """Says nothing."""


def begin(folder: Path, trials: int, seconds: float, url: str | None = None) -> subprocess.Popen[str]:
    """A worker in a process of its own."""
    command = [sys.executable, str(Path(__file__).with_name("tuning.py")), str(folder), str(trials), str(seconds)]
    env = environment(folder)
    env["PYTHONPATH"] += os.pathsep + str(Path(__file__).parent)
    return subprocess.Popen([*command, *([url] if url else [])], env=env, text=True, stdout=subprocess.PIPE)


def begun(folder: Path) -> int:
    log = folder / "begun.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def kill_once_begun(processes: list[subprocess.Popen[str]], folder: Path, count: int) -> None:
    """SIGKILL all of them in the middle of the training that is the ``count``-th to begin."""
    end = time.monotonic() + 60
    while begun(folder) < count and time.monotonic() < end:
        time.sleep(0.01)
    for process in processes:
        assert process.poll() is None, process.communicate()
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_study_killed_twice_ends_with_all_trials_and_none_twice(workers: int, tmp_path: Path) -> None:
    for count in (3, 7):
        kill_once_begun([begin(tmp_path, 12, 0.3) for _ in range(workers)], tmp_path, count)
    last = [begin(tmp_path, 12, 0.0) for _ in range(workers)]
    assert [process.communicate()[0].splitlines()[-1] for process in last] == ["enough"] * workers
    check_whole(brief_in(tmp_path), 12)
    assert begun(tmp_path) <= 12 + 2 * workers  # what was interrupted, and nothing else, was begun again
    study, _, _ = opened(brief_in(tmp_path))
    assert any(RETRY_OF in trial.user_attrs for trial in study.trials)
    assert DEFAULTS in study.trials[0].user_attrs


def test_a_database_keeps_the_same_promise(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    kill_once_begun([begin(tmp_path, 6, 0.3, url) for _ in range(2)], tmp_path, 3)
    last = [begin(tmp_path, 6, 0.0, url) for _ in range(2)]
    assert [process.communicate()[0].splitlines()[-1] for process in last] == ["enough"] * 2
    check_whole(brief_in(tmp_path, 6, url), 6)


def test_the_recipe_as_it_is_comes_first_and_is_never_given_up(tmp_path: Path) -> None:
    brief = brief_in(tmp_path, 10)
    study, storage, brief = opened(brief)
    assert work(study, storage, brief, stand_in(tmp_path / "log"), nothing, silent) == "enough"
    first = study.trials[0]
    assert first.state == TrialState.COMPLETE and first.params["train.lr"] == brief.recipe.train.lr
    assert first.value == quality(brief.recipe)
    pruned = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
    assert pruned and all(trial.last_step in rungs(9, 1 / 9) for trial in pruned)
    found = best(study, brief, 3)
    values = [trial.value for trial, _ in found]
    assert values == sorted(values, reverse=True) and all(DEFAULTS not in trial.user_attrs for trial, _ in found)
    assert work(study, storage, brief, stand_in(tmp_path / "log"), nothing, silent) == "enough"
    assert len(study.trials) == 10


def test_more_trials_go_on_where_fewer_had_stopped_and_draw_others(tmp_path: Path) -> None:
    for trials in (3, 5, 9):
        study, storage, brief = opened(brief_in(tmp_path, trials))
        work(study, storage, brief, stand_in(tmp_path / "log"), nothing, silent)
        check_whole(brief, trials)
    assert begun_rates(tmp_path / "log") == 9


def begun_rates(log: Path) -> int:
    return len({json.loads(line)[1] for line in log.read_text().splitlines()})


def test_a_space_that_is_tried_out_ends_the_search(tmp_path: Path) -> None:
    space = "space: {train.batch: {choices: [4, 8]}, train.rarest_rate: {low: 1, high: 2, int: true}}"
    study, storage, brief = opened(brief_in(tmp_path, 12, space=space))
    assert work(study, storage, brief, stand_in(tmp_path / "log"), nothing, silent) == "exhausted"
    check_whole(brief, 4)


def taken(study: optuna.Study, storage: optuna.storages.BaseStorage, brief: object, worker: str) -> Claim:
    found = claim(study, storage, brief, worker)  # type: ignore[arg-type]
    assert isinstance(found, Claim)
    return found


def test_who_is_alive_keeps_its_trial_and_who_is_not_loses_it_once(tmp_path: Path) -> None:
    study, storage, brief = opened(brief_in(tmp_path))
    with enrolled(brief.folder) as worker:
        mine = taken(study, storage, brief, worker)
        assert alive(brief.folder, worker)
        settle(study, storage, brief)
        assert study.trials[mine.trial.number].state == TrialState.RUNNING
    assert not alive(brief.folder, worker)
    for _ in range(3):
        settle(study, storage, brief)
    assert study.trials[mine.trial.number].state == TrialState.FAIL
    again = [trial for trial in study.trials if trial.user_attrs.get(RETRY_OF) == mine.trial.number]
    assert len(again) == 1 and again[0].state == TrialState.WAITING
    with enrolled(brief.folder) as worker:
        assert taken(study, storage, brief, worker).values == mine.values


def test_a_kill_between_queueing_again_and_ending_queues_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, storage, brief = opened(brief_in(tmp_path))
    with enrolled(brief.folder) as worker:
        mine = taken(study, storage, brief, worker)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(queue, "_fail", killed)
        settle(study, storage, brief)
    settle(study, storage, brief)
    assert [trial.user_attrs.get(RETRY_OF) for trial in study.trials].count(mine.trial.number) == 1
    assert study.trials[mine.trial.number].state == TrialState.FAIL


def test_a_kill_between_asking_and_signing_is_recognised(tmp_path: Path) -> None:
    study, storage, brief = opened(brief_in(tmp_path))
    lost = study.ask()  # the defaults, and nobody has signed
    assert WORKER not in lost.user_attrs
    settle(study, storage, brief)
    assert study.trials[lost.number].state == TrialState.FAIL
    with enrolled(brief.folder) as worker:
        again = taken(study, storage, brief, worker)
    assert again.defaults and again.values["train.lr"] == brief.recipe.train.lr


def test_others_at_the_last_trials_are_waited_for(tmp_path: Path) -> None:
    study, storage, brief = opened(brief_in(tmp_path, 1))
    with enrolled(brief.folder) as one, enrolled(brief.folder) as other:
        mine = taken(study, storage, brief, one)
        assert claim(study, storage, brief, other) is None
        study.tell(mine.trial, 0.5)
        assert claim(study, storage, brief, other) == "enough"


def test_trainings_that_fail_do_not_go_on_for_ever(tmp_path: Path) -> None:
    study, storage, brief = opened(brief_in(tmp_path))

    def fails(recipe: object, report: object) -> list[float]:
        raise UserError("the loss became nan")

    with pytest.raises(UserError, match="as it is fails already.*the loss became nan"):
        work(study, storage, brief, fails, nothing, silent)
    assert study.trials[0].user_attrs[ERROR] == "the loss became nan" and len(study.trials) == 1

    def fails_later(recipe: object, report: object) -> list[float]:
        return [0.5] if recipe == brief.recipe else fails(recipe, report)

    study, storage, brief = opened(brief_in(tmp_path))  # the command once more: the defaults are tried again
    with pytest.raises(UserError, match="5 trainings have failed.*the loss became nan"):
        work(study, storage, brief, fails_later, nothing, silent)
    assert len(finished(study.trials)) == 1


def test_a_score_that_is_no_number_is_a_failure(tmp_path: Path) -> None:
    study, storage, brief = opened(brief_in(tmp_path))
    with pytest.raises(UserError, match="its score is nan"):
        work(study, storage, brief, lambda recipe, report: [float("nan")], nothing, silent)


def test_a_budget_keeps_time_for_the_confirmation(tmp_path: Path) -> None:
    study, storage, brief = opened(brief_in(tmp_path, None))
    with enrolled(brief.folder) as worker:
        first = taken(study, storage, replace(brief, budget=1.0, started=time.time() - 100), worker)
        first.trial.set_user_attr("seconds", 90.0)  # of nine epochs on one fold
        study.tell(first.trial, 0.5)
        # confirming 30 epochs takes 300 s, for which 370 s are kept: with a trial of 90 s too much for 380 s
        short = replace(brief, budget=800.0, started=time.time() - 420, confirmation=30.0)
        assert claim(study, storage, short, worker) == "time"
        assert isinstance(claim(study, storage, replace(short, budget=3000.0), worker), Claim)
        assert isinstance(claim(study, storage, replace(short, confirmation=0.0), worker), Claim)
        # where confirming takes more than half, the search may have all of it
        assert isinstance(claim(study, storage, replace(short, budget=600.0), worker), Claim)


def test_a_database_gives_up_trials_without_a_sign_of_life_and_they_are_trained_again(tmp_path: Path) -> None:
    """As if another machine had died: its worker is of no name that is known here."""
    import sqlalchemy

    url = f"sqlite:///{tmp_path / 'study.db'}"
    study, storage, brief = opened(brief_in(tmp_path, 3, url))
    lost = study.ask()
    lost.set_user_attr(WORKER, "elsewhere-1")
    storage.record_heartbeat(lost._trial_id)
    settle(study, storage, brief)
    assert study.trials[lost.number].state == TrialState.RUNNING
    with sqlalchemy.create_engine(url).begin() as connection:
        connection.execute(sqlalchemy.text("update trial_heartbeats set heartbeat = '2020-01-01 00:00:00'"))
    settle(study, storage, brief)
    settle(study, storage, brief)
    assert study.trials[lost.number].state == TrialState.FAIL
    assert [trial.user_attrs.get(RETRY_OF) for trial in study.trials].count(lost.number) == 1
    assert work(study, storage, brief, stand_in(tmp_path / "log"), nothing, silent) == "enough"
    assert len(finished(study.trials)) == 3
    assert ENDED not in study.trials[lost.number].user_attrs


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_twenty_kills_at_any_moment_lose_nothing(kind: str, tmp_path: Path) -> None:
    """Trainings take next to no time here, so that most kills come while a trial is taken, reported or ended."""
    moments = random.Random(0)
    url = f"sqlite:///{tmp_path / 'study.db'}" if kind == "sqlite" else None
    killed = 0
    for _ in range(20):
        before = begun(tmp_path)
        processes = [begin(tmp_path, 400, 0.0, url) for _ in range(2)]
        end = time.monotonic() + 60
        while begun(tmp_path) == before and all(p.poll() is None for p in processes) and time.monotonic() < end:
            time.sleep(0.001)
        time.sleep(moments.uniform(0.0, 0.3))
        for process in processes:
            killed += process.poll() is None
            process.kill()
            process.communicate()
    assert killed >= 20
    last = [begin(tmp_path, 400, 0.0, url) for _ in range(2)]
    assert [process.communicate()[0].splitlines()[-1] for process in last] == ["enough"] * 2
    check_whole(brief_in(tmp_path, 400, url), 400)
