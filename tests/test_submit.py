"""``podium submit`` and ``download`` with the real Kaggle command line, against a server on loopback."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from kaggle_server import KEY, TOKEN, Kaggle, cut, refuse
from podium import cli
from podium.config_file import load_competition
from podium.data.ragged import Ragged
from podium.store import sha256_of
from podium.submission import ledger, send
from podium.submission.history import attempts
from podium.submission.pack import pack
from project import make_project, start, write_data

ROWS = 5


@dataclass
class Site:
    """A project with a packed file, and the server that it is sent to."""

    root: Path
    kaggle: Kaggle
    file: Path
    run: Callable[..., tuple[int, str, str]]

    @property
    def book(self) -> Path:
        return self.root / "submissions" / "ledger.csv"

    @property
    def events(self) -> list[tuple[str, str]]:
        """Event and status of each row."""
        return [(row["event"], row["status"]) for row in ledger.read(self.book)]

    @property
    def states(self) -> list[str]:
        return [each.state for each in attempts(self.book, "tiny")]

    def pack(self, value: int = 1) -> Path:
        """Another file, whose pixels are all of one class."""
        return packed(self.root, value)


def packed(root: Path, value: int) -> Path:
    competition = load_competition(root / "configs" / "competitions" / "tiny.yaml", ())
    ids = np.array([str(i) for i in range(ROWS)])
    labels = Ragged.stack(np.full((ROWS, 1, 16, 24), value, np.uint8), ids)
    done = pack(
        root / "submissions",
        competition,
        "tiny",
        labels,
        ids,
        labels.shapes,
        about=ledger.About("small@12345678", "uniform@abcdef01", 0.5125, 0.5, 0.525, 0.53),
    )
    return done.path


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Site]:
    root = make_project(tmp_path / "project")
    write_data(root / "data" / "tiny" / "tiny.npz", 24, ROWS)
    (root / "home").mkdir()
    file = packed(root, 1)
    with Kaggle() as kaggle:
        for name in ("KAGGLE_API_TOKEN", "KAGGLE_CONFIG_DIR", "XDG_CONFIG_HOME", "PODIUM_DATA"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {**kaggle.environment, "HOME": str(root / "home"), "PODIUM_ROOT": str(root)}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(send, "BACK_OFF", (0.05, 0.05))
        monkeypatch.setattr(send, "LOOKS", (0.0, 0.1, 0.1))

        def run(*words: str) -> tuple[int, str, str]:
            monkeypatch.setattr(sys, "argv", ["podium", *words])
            try:
                cli.main()
                code = 0
            except SystemExit as ended:
                code = int(ended.code or 0)
            out, err = capsys.readouterr()
            for text in (out, err, (root / "submissions" / "ledger.csv").read_text()):
                assert KEY not in text and TOKEN not in text  # no key, whatever happens
            assert "Traceback" not in err
            return code, out, err

        yield Site(root, kaggle, file, run)


def submit(site: Site, *words: str) -> tuple[int, str, str]:
    return site.run("submit", "tiny", "--every", "0.1s", *words)


# ---------------------------------------------------------------- what goes well


def test_the_newest_file_is_sent_and_followed_to_its_score(site: Site) -> None:
    site.kaggle.scored_after, site.kaggle.private = 2, "0.4875"
    code, out, err = submit(site, "--message", "first try")
    assert code == 0, err
    assert "public score 0.5125, private 0.4875" in out and "5 submissions are left today" in err
    (entry,) = site.kaggle.entries
    digest = site.file.name.split("-")[-1].removesuffix(".csv")
    assert entry.content == site.file.read_bytes() and entry.file == site.file.name
    assert entry.description == f"first try [{digest}]"
    assert site.events == [("packed", ""), ("sent", "uploading"), ("sent", "pending"), ("scored", "complete")]
    last = ledger.read(site.book)[-1]
    assert (last["public"], last["private"], last["reference"]) == ("0.5125", "0.4875", "1000")
    assert (last["models"], last["blend"], last["cv"]) == ("small@12345678", "uniform@abcdef01", "0.5125")
    assert last["in_sample"] == "0.53"


def test_what_was_sent_is_not_sent_again_unasked(site: Site) -> None:
    assert submit(site, "--no-wait")[0] == 0
    code, _, err = submit(site)
    assert code == 2 and "exactly this file was sent at" in err and "--again" in err
    assert site.kaggle.count("PUT") == 1 and site.states == ["pending"]
    code, out, err = submit(site, "--again", "--json")
    assert code == 0, err
    (told,) = json.loads(out)
    assert told["state"] == "scored" and told["reference"] == "1001"
    # following one that was sent looks after all that wait
    assert site.states == ["scored", "scored"]


def test_resume_fetches_what_was_not_waited_for(site: Site) -> None:
    assert submit(site, "--no-wait", "--json")[0] == 0
    assert site.states == ["pending"]
    code, out, _ = submit(site, "--resume")
    assert code == 0 and "public score 0.5125" in out and site.states == ["scored"]
    assert site.kaggle.count("PUT") == 1
    code, out, err = submit(site, "--resume")
    assert (code, out) == (0, "") and "nothing that was sent waits" in err


def test_slow_scoring_ends_with_the_time_that_was_given(site: Site) -> None:
    site.kaggle.scored_after = 1000
    code, out, _ = submit(site, "--wait", "1s")
    assert code == 0 and "has no score yet; podium submit --resume" in out and site.states == ["pending"]


def test_a_list_that_lags_behind_is_asked_again(site: Site) -> None:
    site.kaggle.hidden = 2  # the list before the upload, and the first one after it
    assert submit(site, "--no-wait")[0] == 0
    assert site.states == ["pending"] and site.kaggle.count("PUT") == 1


def test_any_message_is_a_message(site: Site) -> None:
    """One that begins like an option, and that on the list looks like a failure."""
    code, out, err = submit(site, "--message=--could not: 403 Forbidden, [1, 2]")
    assert code == 0 and "public score 0.5125" in out, err
    assert site.kaggle.entries[0].description.startswith("--could not: 403 Forbidden, [1, 2] [")


# ---------------------------------------------------------------- what goes wrong


def test_a_submission_that_cannot_be_scored(site: Site) -> None:
    site.kaggle.error = "Evaluation Exception: Submission must have 10022 rows"
    code, out, err = submit(site)
    assert code == 2 and "could not be scored" in out and "must have 10022 rows" in err
    assert site.events[-1] == ("failed", "error") and site.states == ["failed"]
    assert "10022 rows" in ledger.read(site.book)[-1]["message"]
    assert submit(site)[0] == 2  # the same file again would fail again


@pytest.mark.parametrize("status", [500, 503])
def test_an_upload_that_fails_for_a_while_is_tried_again(site: Site, status: int) -> None:
    site.kaggle.trouble["PUT"] = refuse(status, times=1)
    code, _, err = submit(site, "--no-wait")
    assert code == 0 and "nothing was counted; trying again" in err
    assert len(site.kaggle.entries) == 1 and site.states == ["pending"]


def test_an_upload_that_fails_for_good_counts_nothing(site: Site) -> None:
    site.kaggle.trouble["PUT"] = refuse(500)
    code, out, err = submit(site)
    assert code == 2 and out == "" and "nothing was counted" in err.splitlines()[-1]
    assert site.kaggle.count("PUT") == 3 and site.kaggle.entries == []
    assert site.events[-1] == ("failed", "not counted") and site.states == ["not counted"]
    del site.kaggle.trouble["PUT"]
    assert submit(site, "--no-wait")[0] == 0  # it did not count, so it may be sent


def test_a_connection_cut_in_the_upload(site: Site) -> None:
    site.kaggle.trouble["PUT"] = cut(1)
    assert submit(site, "--no-wait")[0] == 0 and len(site.kaggle.entries) == 1


def test_a_connection_cut_after_the_upload_was_counted_sends_nothing_twice(site: Site) -> None:
    """The answer to CreateSubmission is lost: the list shows the submission, and that decides."""
    made = site.kaggle.create_submission

    def lost(before: int) -> None:
        if before == 0:
            token = next(iter(site.kaggle.uploads))
            digest = site.file.name.split("-")[-1].removesuffix(".csv")
            made({"blobFileTokens": token, "submissionDescription": f"CV 0.5125 [{digest}]"})
            cut(1)(0)

    site.kaggle.trouble["CreateSubmission"] = lost
    code, _, err = submit(site, "--no-wait")
    assert code == 0, err
    assert len(site.kaggle.entries) == 1 and site.states == ["pending"] and site.kaggle.count("PUT") == 1


@pytest.mark.parametrize(
    ("method", "status", "message", "sentence"),
    [
        ("GetSubmissionLimits", 403, "Permission 'competitions.submit' was denied", "accept the rules at https"),
        ("GetSubmissionLimits", 404, "Not found", "Kaggle knows no such competition"),
        ("GetSubmissionLimits", 401, "Unauthenticated", "refuses the credentials in KAGGLE_USERNAME and KAGGLE_KEY"),
        ("StartSubmissionUpload", 403, "403 Client Error: Forbidden", "accept the rules at https"),
        ("StartSubmissionUpload", 404, "Could not find competition", "Kaggle knows no such competition"),
        ("StartSubmissionUpload", 400, "You reached the daily submission limit", "used up"),
        ("CreateSubmission", 400, "Submission not allowed: daily limit of 5 exceeded", "used up"),
    ],
)
def test_refusals_name_their_remedy_and_are_not_repeated(
    site: Site, method: str, status: int, message: str, sentence: str
) -> None:
    site.kaggle.trouble[method] = refuse(status, message)
    code, out, err = submit(site)
    last = err.splitlines()[-1]
    assert code == 2 and out == "" and sentence in last and last.startswith("podium: ")
    assert site.kaggle.count(method) == 1 and site.kaggle.entries == []
    wanted = ["packed"] if method == "GetSubmissionLimits" else ["packed", "sent", "failed"]
    assert [event for event, _ in site.events] == wanted


def test_the_days_limit_and_a_reserve(site: Site) -> None:
    site.kaggle.limit = 2
    assert submit(site, "--no-wait")[0] == 0
    site.pack(2)
    code, _, err = submit(site, "--keep", "1")
    assert code == 2 and "1 submissions are left today and --keep 1 leaves them alone" in err
    assert submit(site, "--no-wait")[0] == 0
    site.pack(3)
    code, _, err = submit(site)
    assert code == 2 and "all submissions of today are used up" in err
    assert site.kaggle.count("PUT") == 2 and site.states == ["pending", "pending"]


def test_kaggle_that_cannot_be_reached_is_no_used_up_day(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    code, _, err = submit(site)
    assert code == 2 and "Kaggle cannot be reached; look at the connection" in err and "used up" not in err
    assert site.events == [("packed", "")]


def test_files_about_the_sample_are_not_sent(site: Site) -> None:
    sample = site.file.with_name("mine.csv")
    sample.write_bytes(site.file.read_bytes())
    site.book.unlink()
    digest = sha256_of(sample)
    ledger.append(site.book, ledger.Event("packed", sample.name, digest, "tiny-sample"))
    code, _, err = submit(site)
    assert code == 2 and "only files about the built-in sample were packed" in err
    code, _, err = submit(site, str(sample))
    assert code == 2 and "is about the built-in sample and not for uploading" in err
    assert site.kaggle.asked == []


def test_without_credentials_nothing_is_asked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAGGLE_KEY")
    code, _, err = submit(site)
    assert code == 2 and "no Kaggle credentials; make a token at https://www.kaggle.com/settings" in err
    assert site.kaggle.asked == [] and site.events == [("packed", "")]
    code, _, err = site.run("download", "tiny", "--to", str(site.root / "new"))
    assert code == 2 and "no Kaggle credentials" in err


def test_a_token_in_a_file_is_used_and_never_shown(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name)
    (site.root / "home" / ".kaggle").mkdir()
    (site.root / "home" / ".kaggle" / "access_token").write_text(TOKEN)
    site.kaggle.trouble["CreateSubmission"] = lambda before: (400, f"odd token {TOKEN} and daily limit")
    code, _, err = submit(site)  # what the server repeats of it is hidden; ``run`` looks
    assert code == 2 and "odd token ***" in err


def test_a_file_from_elsewhere_is_checked_first(site: Site, tmp_path: Path) -> None:
    other = tmp_path / "theirs.csv"
    lines = site.file.read_text().splitlines()
    other.write_text("\n".join([*lines[:-1], lines[-1].replace(",1", ",9", 1)]) + "\n")
    code, _, err = submit(site, str(other))
    assert code == 2 and "nothing was sent" in err and "line 6" in err and "column '0'" in err
    assert site.kaggle.asked == []
    other.write_text("\n".join([*lines[:-1], lines[-1].replace(",1", ",2", 1)]) + "\n")
    code, out, err = submit(site, str(other), "-m", "a friend's")
    assert code == 0 and "theirs.csv" in out, err
    assert site.kaggle.entries[0].description.startswith("a friend's [")
    assert submit(site, str(tmp_path / "nothing.csv"))[2].endswith("there is no such file; name the one to send\n")


def test_a_kill_in_the_middle_is_cleared_up(site: Site) -> None:
    """Killed while uploading: whether it arrived is found out, and nothing is sent twice."""
    event = ledger.Event("sent", site.file.name, "0" * 64, "tiny", message="lost [00000000]", status="uploading")
    ledger.append(site.book, event)
    with site.book.open("ab") as book:
        book.write(b"2026-01-01T00:00:00Z,sent,half a r")  # and a torn row at the end
    code, out, err = submit(site, "--resume")
    assert code == 2 and "did not arrive" in err and "nothing was counted" in out
    assert site.states == ["not counted"]
    arrived = ledger.Event("sent", site.file.name, "1" * 64, "tiny", message="came [11111111]", status="uploading")
    ledger.append(site.book, arrived)
    site.kaggle.uploads["token-0-" + site.file.name] = b"x"
    site.kaggle.create_submission(
        {"blobFileTokens": f"token-0-{site.file.name}", "submissionDescription": "came [11111111]"}
    )
    code, out, _ = submit(site, "--resume")
    assert code == 0 and "public score" in out and site.states == ["not counted", "scored"]


@pytest.mark.parametrize("same", [True, False], ids=["the same file", "two files"])
def test_two_uploads_at_once_take_turns(site: Site, same: bool) -> None:
    other = site.file if same else site.pack(2)
    went_on = threading.Event()

    def slow(before: int) -> None:
        went_on.wait(2 if before == 0 else 0)

    site.kaggle.trouble["PUT"] = slow
    environment = {**site.kaggle.environment}
    running = [
        start(site.root, "submit", "tiny", str(path), "--no-wait", more=environment) for path in (site.file, other)
    ]
    ended = [process.communicate(timeout=120) for process in running]
    codes = sorted(process.returncode for process in running)
    assert codes == ([0, 2] if same else [0, 0]), ended
    assert len(site.kaggle.entries) == (1 if same else 2)
    assert all(KEY not in text for pair in ended for text in pair)
    assert site.states == ["pending"] * len(site.kaggle.entries)


def test_what_is_not_on_kaggle_or_not_packed(site: Site) -> None:
    site.file.unlink()
    code, _, err = submit(site)
    assert code == 2 and "was packed last and is gone" in err
    site.book.unlink()
    site.book.write_bytes(ledger.HEADER)
    code, _, err = submit(site)
    assert code == 2 and "nothing was packed yet; run: podium pack tiny" in err
    path = site.root / "configs" / "competitions" / "tiny.yaml"
    path.write_text(path.read_text().replace("kaggle: tiny-competition\n", ""))
    code, _, err = submit(site)
    assert code == 2 and "names no competition on Kaggle" in err
    code, _, err = submit(site, "--resume", "--again")
    assert code == 2 and "--resume sends nothing" in err


# ---------------------------------------------------------------- downloads


def archive(site: Site, **more: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for name, content in {"tiny.npz": (site.root / "data/tiny/tiny.npz").read_bytes(), **more}.items():
            zipped.writestr(name, content)
    return buffer.getvalue()


def test_a_download_that_was_cut_off_goes_on(site: Site) -> None:
    content = archive(site, more=np.random.default_rng(0).bytes(3_000_000))
    site.kaggle.files = {"tiny-competition.zip": content}
    site.kaggle.trouble["GET"] = cut(1)
    code, out, err = site.run("download", "tiny", "--to", str(site.root / "new"), "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["files"] == ["more", "tiny.npz"]
    assert any(each.startswith("GET from ") and each != "GET from 0" for each in site.kaggle.asked)
    assert [path.name for path in (site.root).glob(".new*")] == []
    code, _, err = site.run("download", "tiny", "--to", str(site.root / "new"))
    assert code == 2 and "holds tiny.npz already" in err


def test_a_file_of_another_size_is_refused(site: Site) -> None:
    site.kaggle.files = {"tiny-competition.zip": archive(site), "tiny.npz": b"another"}
    code, _, err = site.run("download", "tiny", "--to", str(site.root / "new"))
    assert code == 2 and "Kaggle lists 7" in err and not (site.root / "new").exists()


def test_the_command_line_is_the_real_one() -> None:
    told = subprocess.run([str(Path(sys.executable).parent / "kaggle"), "--version"], capture_output=True, text=True)
    assert told.stdout.startswith("Kaggle CLI 2.")


# ---------------------------------------------------------------- at the end of a run


def test_a_run_that_sends_what_it_packed(site: Site) -> None:
    words = ("run", "tiny", "--submit", "--set", "train.epochs=1", "--folds", "0,1", "--json")
    codes = []
    for _ in range(2):  # the second time all is finished, and sent
        process = start(site.root, *words, more=site.kaggle.environment)
        out, err = process.communicate(timeout=300)
        codes.append((process.returncode, json.loads(out)["sent"][0]["state"]))
        assert KEY not in out + err
    assert codes == [(0, "scored"), (0, "scored")], err
    assert "was sent before" in err
    (entry,) = site.kaggle.entries
    board = json.loads(out)
    assert entry.content == Path(board["submission"]).read_bytes()
    assert entry.description.startswith("CV 0.") and board["upload"] == "podium submit tiny"
    code, out, _ = site.run("board", "tiny", "--json")
    told = json.loads(out)
    assert code == 0 and told["rows"][-1]["public"] == 0.5125 and len(told["leaderboard"]["points"]) == 1
    assert Path(told["leaderboard"]["plot"]).is_file()


def test_a_run_that_could_not_send_says_so_first(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAGGLE_KEY")
    code, out, err = site.run("run", "tiny", "--submit", "--set", "train.epochs=1")
    assert code == 2 and out == "" and "no Kaggle credentials" in err and not (site.root / "runs").exists()
    monkeypatch.setenv("KAGGLE_KEY", KEY)
    code, _, err = site.run("run", "tiny", "--submit", "--sample")
    assert code == 2 and "--submit and --sample exclude each other" in err
