"""Where studies are kept: a journal that is mended, databases that cannot be reached, and what makes a study another one."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from podium.config_tuning import Range
from podium.errors import UserError
from podium.tuning.journal import Flock, cut_torn, mend
from podium.tuning.storage import JOURNAL, advice, dashboard, open_storage
from podium.tuning.study import first_rung, open_study, rungs, study_key, trial_key
from tuning import brief_in, opened


def test_a_torn_last_line_is_cut_off_and_the_study_goes_on(tmp_path: Path) -> None:
    study, _, brief = opened(brief_in(tmp_path))
    study.tell(study.ask(), 0.25)
    journal = brief.folder / JOURNAL
    whole = journal.read_bytes()
    torn = whole + b'{"op_code":4,"worker_id":"someb'
    journal.write_bytes(torn)
    said: list[str] = []
    storage = open_storage(None, brief.folder, said.append)
    assert journal.read_bytes() == whole
    assert len(said) == 1 and str(journal) in said[0] and f"{len(torn) - len(whole)} bytes" in said[0]
    again = open_study(brief, storage)
    assert [trial.value for trial in again.trials if trial.state.is_finished()] == [0.25]
    again.tell(again.ask(), 0.5)
    assert len(open_study(brief, open_storage(None, brief.folder, said.append)).trials) == len(again.trials)
    assert len(said) == 1


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (b"", b""),
        (b'{"a":1}\n', b'{"a":1}\n'),
        (b'{"a":1}\n{"b"', b'{"a":1}\n'),
        (b'{"a":1}\n{"b":2}', b'{"a":1}\n'),  # what has no end may have been meant to go on
        (b'{"a":1}\n{"b":\n', b'{"a":1}\n'),
        (b'{"a":1}\n\0\0\0\0\n\n', b'{"a":1}\n'),
        (b'{"a"', b""),
        (b'{"a":1}\n' + b'{"b": "' + b"x" * (1 << 21), b'{"a":1}\n'),
    ],
)
def test_what_is_left_of_a_journal(text: bytes, kept: bytes, tmp_path: Path) -> None:
    journal = tmp_path / JOURNAL
    journal.write_bytes(text)
    assert mend(journal) == len(text) - len(kept)
    assert journal.read_bytes() == kept
    assert mend(journal) == 0


def test_whoever_writes_next_cuts_off_what_another_left(tmp_path: Path) -> None:
    """A worker killed while it wrote: the others do not append to half a line, which would be the end of the study."""
    study, _, brief = opened(brief_in(tmp_path))
    with (brief.folder / JOURNAL).open("ab") as file:
        file.write(b'{"op_code":4,"wor')
    study.tell(study.ask(), 0.25)
    assert [t.value for t in open_study(brief, open_storage(None, brief.folder)).trials if t.value is not None] == [
        0.25
    ]


def test_damage_in_the_middle_is_said_with_the_way_out(tmp_path: Path) -> None:
    study, _, brief = opened(brief_in(tmp_path))
    study.ask()
    journal = brief.folder / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([lines[0], b"{broken\n", *lines[1:]]))
    with pytest.raises(UserError, match=r"journal\.log: is damaged.*move"):
        open_storage(None, brief.folder)


def test_the_lock_keeps_others_out_and_lets_them_in_again(tmp_path: Path) -> None:
    journal = tmp_path / JOURNAL
    first, second = Flock(journal), Flock(journal)
    inside = threading.Event()

    def wait() -> None:
        second.acquire()
        inside.set()
        second.release()

    first.acquire()
    other = threading.Thread(target=wait)
    other.start()
    assert not inside.wait(0.2)
    first.release()
    other.join()
    assert inside.is_set() and cut_torn(journal) == 0


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql+nodriver://someone:secret@host/name", ["nodriver", "journal file"]),
        ("nothing://host/name", ["nothing", "postgresql://"]),
        ("not an address", ["postgresql://", "journal file"]),
        ("sqlite:////nowhere/at/all/study.db", ["sqlite", "cannot be reached", "unable to open"]),
    ],
)
def test_a_database_that_cannot_be_reached_is_one_sentence(url: str, words: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        open_storage(url, tmp_path)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "secret" not in str(caught.value)


def test_a_driver_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("psycopg", "psycopg2"):  # as if they were not installed
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"--storage postgresql://someone:\*\*\*@host/name: .*psycopg.*pip install"):
        open_storage("postgresql://someone:secret@host/name", tmp_path)


def test_sqlite_works_and_is_advised_against(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    brief = brief_in(tmp_path, 3, url)
    study = open_study(brief, open_storage(url, brief.folder))
    assert study.study_name == brief.name and "PostgreSQL" in (advice(url) or "")
    assert advice(None) is None and advice("postgresql://host/name") is None
    assert dashboard(url, brief.folder) == f"optuna-dashboard {url}"
    assert "secret" not in dashboard("postgresql://someone:secret@host/name", brief.folder)


def test_the_direction_is_the_metrics(tmp_path: Path) -> None:
    brief = brief_in(tmp_path)
    study = open_study(brief, open_storage(None, brief.folder))
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE


def test_what_changes_a_trials_meaning_makes_another_study(tmp_path: Path) -> None:
    brief = brief_in(tmp_path)
    given = (brief.competition, brief.recipe, brief.tuning, 0, "data", "folds", None)
    key = study_key(*given).hash
    assert study_key(*given).hash == key
    recipe = brief.recipe
    longer = recipe.model_copy(update={"train": recipe.train.model_copy(update={"epochs": 10})})
    space = dict(brief.tuning.space) | {"train.lr": Range(low=1e-4, high=0.2, log=True)}
    others = [
        (1, longer),
        (2, brief.tuning.model_copy(update={"space": space})),
        (2, brief.tuning.model_copy(update={"folds": (1,)})),
        (3, 1),
        (4, "other data"),
        (5, "other folds"),
        (6, "copies"),
    ]
    keys = {study_key(*given[:place], value, *given[place + 1 :]).hash for place, value in others}  # type: ignore
    assert len(keys) == len(others) and key not in keys
    confirmed = brief.tuning.model_copy(update={"confirm_epochs": 3})  # comes after the trials
    assert study_key(*given[:2], confirmed, *given[3:]).hash == key  # type: ignore[arg-type]


def test_trials_that_predict_otherwise_have_folders_of_their_own(tmp_path: Path) -> None:
    brief = brief_in(tmp_path)
    run, key = trial_key(brief, brief.recipe)
    predict = brief.recipe.predict.model_copy(update={"views": ("identity",)})
    other_run, other_key = trial_key(brief, brief.recipe.model_copy(update={"predict": predict}))
    assert other_run == run and other_key != key
    assert trial_key(replace(brief, seed=1), brief.recipe)[0] != run


def test_rungs_grow_by_three_and_leave_out_the_end() -> None:
    assert rungs(27, 1 / 27) == [1, 3, 9]
    assert rungs(12, 1 / 9) == [2, 6]
    assert rungs(1, 1 / 9) == [] and first_rung(1, 1 / 9) == 1
    assert rungs(9, 1.0) == []
