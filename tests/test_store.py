"""Results on disk: identity, writes that are whole or absent, checksums, locks."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from podium.errors import UserError
from podium.store import (
    Folder,
    Key,
    canonical,
    read_done,
    read_json,
    sha256_of,
    write_atomically,
    write_json,
)

KEY = Key("fold", 3, {"lr": 1e-3, "widths": (4, 8), "net": {"name": "unet"}}, ("0123", "4567"))
TEXT = (
    '{"inputs":["0123","4567"],"kind":"fold","settings":{"lr":0.001,"net":{"name":"unet"},"widths":[4,8]},"version":3}'
)


def spawn(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Another Python that sees the same code."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env=environment, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )


def finished(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "result", KEY)
    write_atomically(folder.file("a.txt"), "one")
    write_atomically(folder.file("b.txt"), "two")
    folder.finish(("a.txt", "b.txt"), score=0.5)
    return folder


# ---------------------------------------------------------------- identity


def test_a_key_is_the_same_everywhere_and_always():
    # a change here makes every result that people have unfindable
    assert KEY.hash == hashlib.sha256(TEXT.encode()).hexdigest()[:16] == "cd22ceca91c6fa61"
    assert KEY.short == KEY.hash[:8]


def test_every_field_changes_the_key():
    others = [
        replace(KEY, kind="run"),
        replace(KEY, version=4),
        replace(KEY, settings={**KEY.settings, "lr": 2e-3}),
        replace(KEY, settings={**KEY.settings, "net": {"name": "fpn"}}),
        replace(KEY, inputs=("0123",)),
        replace(KEY, inputs=("4567", "0123")),
        replace(KEY, inputs=("01234", "567")),
    ]
    assert len({key.hash for key in [KEY, *others]}) == 8


def test_the_order_of_settings_and_a_trip_through_json_do_not():
    settings = dict(reversed(list(KEY.settings.items())))
    assert replace(KEY, settings=settings).hash == KEY.hash
    assert replace(KEY, settings=json.loads(json.dumps(KEY.settings))).hash == KEY.hash


def test_what_has_no_text_has_no_key():
    with pytest.raises(ValueError, match="Out of range float"):
        canonical(float("nan"))
    with pytest.raises(TypeError):
        canonical({"path": Path("x")})


# ---------------------------------------------------------------- writing


def test_a_write_replaces_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    write_atomically(path, "old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    write_atomically(path, lambda temporary: temporary.write_text("newer"))  # type: ignore[arg-type,return-value]
    assert path.read_text() == "newer"
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "file.txt"
    write_atomically(path, "old")

    def half(temporary: Path) -> None:
        temporary.write_text("ne")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_atomically(path, half)
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_reader_never_sees_a_part(tmp_path):
    path = tmp_path / "file.txt"
    write_atomically(path, "old")
    seen = []
    reader = path.open()

    def slow(temporary: Path) -> None:
        temporary.write_text("ne")
        seen.append(path.read_text())
        temporary.write_text("new")

    write_atomically(path, slow)
    assert seen == ["old"] and path.read_text() == "new"
    with reader:  # opened before, it goes on reading what it opened
        assert reader.read() == "old"


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file" / "below.txt", tmp_path):
        with pytest.raises(UserError, match=r"cannot be written .* --out"):
            write_atomically(path, "x")
    assert [file.name for file in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "in the way"
    with pytest.raises(UserError, match=r"cannot be written"), Folder(tmp_path / "file", KEY).lock():
        pass


def test_files_have_the_permissions_that_the_user_asked_for(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file.txt", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "file.txt").stat().st_mode & 0o777 == 0o640


def test_json_round_trip_absent_and_damaged(tmp_path):
    path = tmp_path / "x.json"
    assert read_json(path) is None
    write_json(path, {"name": "größer", "values": [1, 2.5, None]})
    assert read_json(path) == {"name": "größer", "values": [1, 2.5, None]}
    path.write_text(path.read_text()[:-4])
    with pytest.raises(UserError, match=r"x\.json: cannot be read .*; delete it and run the command again"):
        read_json(path)


# ---------------------------------------------------------------- finished results


def test_a_finished_result_records_its_files_and_facts(tmp_path):
    folder = finished(tmp_path)
    record = folder.done
    assert record is not None and record == read_done(folder.path)
    assert (record["kind"], record["key"], record["score"]) == ("fold", KEY.hash, 0.5)
    assert record["files"]["a.txt"] == {"sha256": hashlib.sha256(b"one").hexdigest(), "bytes": 3}
    assert sha256_of(folder.file("a.txt")) == hashlib.sha256(b"one").hexdigest()
    folder.verify()
    folder.verify("b.txt")


def test_an_unfinished_result_is_none_and_not_verified(tmp_path):
    folder = Folder(tmp_path, KEY)
    assert folder.done is None
    for ask in (folder.verify, lambda: read_done(tmp_path)):
        with pytest.raises(UserError, match="is not finished; run the command again"):
            ask()


def test_a_result_of_another_key_is_never_used(tmp_path):
    folder = finished(tmp_path)
    other = Folder(folder.path, replace(KEY, version=4))
    for ask in (lambda: other.done, other.verify):
        with pytest.raises(UserError, match=f"holds the result of key {KEY.hash}, expected {other.key.hash}; move it"):
            ask()


@pytest.mark.parametrize("damage", ["changed", "longer", "missing"])
def test_a_file_that_was_changed_is_found(tmp_path, damage):
    folder = finished(tmp_path)
    path = folder.file("b.txt")
    if damage == "missing":
        path.unlink()
    else:
        path.write_text("twö" if damage == "longer" else "owt")
    folder.verify("a.txt")
    for names in ((), ("b.txt",)):
        with pytest.raises(UserError, match=r"b\.txt: is missing or was changed after it was written; delete "):
            folder.verify(*names)


def test_a_file_that_nobody_finished_is_not_valid(tmp_path):
    folder = finished(tmp_path)
    folder.file("c.txt").write_text("x")
    with pytest.raises(UserError, match=r"c\.txt: is missing or was changed"):
        folder.verify("c.txt")


# ---------------------------------------------------------------- locks

HOLD = """
import sys, time
from pathlib import Path
from podium.store import Folder, Key
with Folder(Path(sys.argv[1]), Key("fold", 1, {})).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_keeps_others_out_and_dies_with_its_process(tmp_path):
    folder = Folder(tmp_path / "result", Key("fold", 1, {}))
    holder = spawn(HOLD, str(folder.path))
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process is working on it"), folder.lock():
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with folder.lock():
            pass
    finally:
        holder.kill()
        holder.communicate()


def test_what_a_killed_write_left_is_cleared_away(tmp_path):
    killed = """
import os, signal, sys
from pathlib import Path
from podium.store import write_atomically
def half(path):
    path.write_text("ne")
    os.kill(os.getpid(), signal.SIGKILL)
write_atomically(Path(sys.argv[1]), half)
"""
    folder = finished(tmp_path)
    process = spawn(killed, str(folder.file("a.txt")))
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert len(list(folder.path.iterdir())) == 4 and folder.file("a.txt").read_text() == "one"
    with folder.lock():
        assert sorted(file.name for file in folder.path.iterdir()) == [".lock", "a.txt", "b.txt", "done.json"]
    folder.verify()


def test_a_lock_is_given_back_when_the_work_fails(tmp_path):
    folder = Folder(tmp_path, KEY)
    with pytest.raises(RuntimeError), folder.lock():
        with pytest.raises(UserError, match="another process"), folder.lock():
            pass
        raise RuntimeError
    with folder.lock():
        pass
