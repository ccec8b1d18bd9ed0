"""Kill -9 at any moment: the same command goes on and ends in the same bits."""

from __future__ import annotations

import hashlib
import random
import time
from pathlib import Path

import pytest

from project import kill_after, make_project, podium, podium_json, start

LONG = ("run", "tiny", "--set", "train.epochs=200", "--precision", "fp32", "--threads", "1")


def _bits(root: Path) -> dict[str, str]:
    """Hashes of all weights, predictions and statistics, and of the submission."""
    runs = root / "runs" / "tiny"
    files = [path for path in runs.rglob("*") if path.name in ("ema.safetensors", "oof.npy", "test.npy", "stats.npy")]
    found = {str(path.relative_to(runs)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    submissions = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (root / "submissions").glob("tiny-*.csv")}
    return found | {"submission": " ".join(sorted(submissions))}


def _interrupted_equals_undisturbed(tmp_path: Path, kills: int, seed: int) -> None:
    calm, shaken = make_project(tmp_path / "calm"), make_project(tmp_path / "shaken")
    began = time.monotonic()
    podium_json(calm, *LONG)
    whole = time.monotonic() - began
    moments = random.Random(seed)
    killed = 0
    for _ in range(kills):
        process = start(shaken, *LONG)
        # of which starting takes about a fifth: some kills come before the training, the others in the middle of it; and
        # early enough for most to come before the end, should the machine be twice as fast by now
        killed += kill_after(process, moments.uniform(0.1, 0.35) * whole)
    done = podium(shaken, *LONG, "--json")
    assert done.returncode == 0, done.stderr
    assert killed >= 3
    assert _bits(shaken) == _bits(calm)
    assert len(_bits(calm)) == 3 * 3 + 1 + 1 + 1  # weights, oof, stats of 3 folds; blend's stats; test; submission
    leftovers = [path for path in (shaken / "runs").rglob("*") if ".partial." in path.name or path.name == "last.pt"]
    assert not leftovers


def test_five_kills_end_in_the_same_bits(tmp_path: Path) -> None:
    _interrupted_equals_undisturbed(tmp_path, 5, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_many_kills_end_in_the_same_bits(seed: int, tmp_path: Path) -> None:
    _interrupted_equals_undisturbed(tmp_path, 12, seed)


def test_two_commands_at_once_do_not_spoil_each_other(tmp_path: Path) -> None:
    """One of them finds the results taken and says so; the other is not disturbed."""
    root = make_project(tmp_path)
    podium_json(root, "fold", "tiny")
    first, second = start(root, *LONG), start(root, *LONG)
    outputs = [process.communicate(timeout=300) for process in (first, second)]
    codes = {first.returncode, second.returncode}
    assert codes == {0, 2}, outputs
    for (_, err), process in zip(outputs, (first, second), strict=True):
        assert process.returncode == 0 or "another process is working on it" in err
    assert podium_json(root, *LONG)["failures"] == {}
