"""The ledger: rows as they were given, two processes at once, kills in mid-write, foreign files."""

from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from podium.errors import UserError
from podium.submission import ledger
from podium.submission.ledger import COLUMNS, Event, append, git_state, read

EVENT = Event("packed", "mars-1.csv", "ab" * 32, "mars", models="a@1 b@2", cv=0.1 + 0.2, time="2026-03-01T09:05:07Z")
HEADER = (
    "time,event,file,sha256,competition,models,blend,cv,cv_low,cv_high,in_sample,commit,dirty,"
    "message,reference,status,public,private"
)


def test_known_bytes(tmp_path: Path) -> None:
    path = tmp_path / "submissions" / "ledger.csv"
    append(path, EVENT)
    row = f"2026-03-01T09:05:07Z,packed,mars-1.csv,{'ab' * 32},mars,a@1 b@2,,0.30000000000000004,,,,,,,,,,"
    assert path.read_text() == f"{HEADER}\n{row}\n"


def test_rows_come_back_as_they_were_given(tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    assert read(path) == []
    append(path, EVENT)
    append(
        path,
        Event("sent", "mars-1.csv", "ab" * 32, "mars", message='first, "real" try\r\nsecond\u2028line', reference="7"),
    )
    append(path, Event("scored", "mars-1.csv", "ab" * 32, "mars", status="complete", public="0.61", private=""))
    rows = read(path)
    assert [row["event"] for row in rows] == ["packed", "sent", "scored"]
    assert float(rows[0]["cv"]) == 0.1 + 0.2 and rows[0]["cv_low"] == ""
    assert rows[1]["message"] == 'first, "real" try second line'
    assert rows[2]["public"] == "0.61"
    assert all(tuple(row) == COLUMNS for row in rows)
    assert len(path.read_bytes().splitlines()) == 4


def test_a_ledger_of_older_columns_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    older = [column for column in COLUMNS if column != "in_sample"]
    path.write_text(",".join(older) + "\n" + ",".join(["2026-01-01T00:00:00Z", "packed", "old.csv", *[""] * 14]) + "\n")
    append(path, replace(EVENT, in_sample=0.7, message="new"))
    rows = read(path)
    assert [row["file"] for row in rows] == ["old.csv", "mars-1.csv"] and rows[1]["message"] == "new"
    assert all(tuple(row) == COLUMNS and row["in_sample"] == "" for row in rows)
    assert path.read_text().splitlines()[0] == ",".join(older)


def test_the_time_is_utc(tmp_path: Path) -> None:
    before = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    stamp = Event("packed", "", "", "").time
    assert before <= stamp <= time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _append_many(path: Path, who: str, rows: int) -> None:
    for i in range(rows):
        append(path, Event("sent", f"{who}-{i}", "", "mars", message="x" * 3000))


def test_two_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_append_many, args=(path, who, 40)) for who in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    files = [row["file"] for row in read(path)]
    for who in "ab":  # each writer's rows are all there, in its order
        assert [file for file in files if file.startswith(who)] == [f"{who}-{i}" for i in range(40)]
    assert len(files) == 80 and path.read_text().count("time,event") == 1


def test_a_killed_process_costs_no_row_that_was_reported_written(tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    spawn = multiprocessing.get_context("spawn")
    worker = spawn.Process(target=_append_many, args=(path, "a", 10**6))
    worker.start()
    deadline = time.monotonic() + 60
    while len(read(path)) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    worker.kill()
    worker.join()
    there = len(read(path))
    append(path, EVENT)
    assert there >= 5
    assert [row["file"] for row in read(path)] == [*(f"a-{i}" for i in range(there)), "mars-1.csv"]


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_torn_last_line_is_set_aside(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "ledger.csv"
    append(path, EVENT)
    whole = path.read_bytes()
    append(path, Event("sent", "x.csv", "", "mars", message="a,b", time="2026-03-02T00:00:00Z"))
    row = path.read_bytes()[len(whole) :]
    torn = row[: len(row) * cut // 20]
    assert 0 < len(torn) < len(row)
    path.write_bytes(whole + torn)
    assert [row["event"] for row in read(path)] == ["packed"]
    append(path, Event("failed", "x.csv", "", "mars"))
    assert [row["event"] for row in read(path)] == ["packed", "failed"]
    assert path.read_bytes().startswith(whole)
    assert (tmp_path / "ledger.torn").read_bytes() == torn + b"\n"


def test_torn_lines_pile_up_and_a_torn_header_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    path.write_bytes(HEADER.encode()[:30])
    assert read(path) == []
    append(path, EVENT)
    path.write_bytes(path.read_bytes() + b"2026-03")
    append(path, EVENT)
    assert len(read(path)) == 2
    assert (tmp_path / "ledger.torn").read_bytes() == HEADER.encode()[:30] + b"\n2026-03\n"


@pytest.mark.parametrize(
    "content",
    [
        b"date,score\n2024,0.5\n",
        b"date,score",
        HEADER.replace(",dirty", "").encode() + b"\n",
        b"\x00\x01",
        b"\n",
        b"\xef\xbb\xbf" + HEADER.encode() + b"\n",
    ],
)
def test_a_file_of_another_layout_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.csv"
    path.write_bytes(content)
    for act in (lambda: append(path, EVENT), lambda: read(path)):
        with pytest.raises(UserError, match=r"ledger\.csv: its header .* move the file away"):
            act()
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["ledger.csv"]


def test_a_row_that_someone_broke_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    append(path, EVENT)
    path.write_bytes(path.read_bytes() + b"2026,packed\n")
    with pytest.raises(UserError, match="line 3 has 2 columns, expected 18"):
        read(path)


def test_line_ends_of_windows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    append(path, EVENT)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    append(path, EVENT)
    assert [row["private"] for row in read(path)] == ["", ""]


def test_a_full_disk_leaves_whole_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.csv"
    append(path, EVENT)
    before = path.read_bytes()
    really = os.write
    monkeypatch.setattr(os, "write", lambda handle, text: really(handle, text[:20]))
    with pytest.raises(UserError, match="cannot be written"):
        append(path, EVENT)
    assert path.read_bytes() == before

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(UserError, match="No space left on device"):
        append(path, EVENT)
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written"):
        append(tmp_path / "file" / "ledger.csv", EVENT)
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path)


def test_git_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", *identity, *words]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) == ("", "")
    git("init", "-q")
    assert git_state(tmp_path) == ("", "")
    (tmp_path / "code.py").write_text("1")
    (tmp_path / "submissions").mkdir()
    append(tmp_path / "submissions" / "ledger.csv", EVENT)
    git("add", ".")
    git("commit", "-q", "-m", "first")
    commit = git("rev-parse", "HEAD")
    assert git_state(tmp_path) == (commit, "no")
    append(tmp_path / "submissions" / "ledger.csv", EVENT)
    assert git_state(tmp_path) == (commit, "no")
    (tmp_path / "code.py").write_text("2")
    assert git_state(tmp_path) == (commit, "yes")
    git("checkout", "-q", "code.py")
    (tmp_path / "new.py").write_text("1")
    assert git_state(tmp_path) == (commit, "yes")
    monkeypatch.setattr(ledger, "_git", lambda *_: None)
    assert git_state(tmp_path) == ("", "")
