"""A competition's files sent to Kaggle and fetched from it, with everything checked first that can be."""

from __future__ import annotations

from pathlib import Path

from podium import remembered
from podium.checking import check
from podium.config import Competition
from podium.errors import UserError
from podium.kaggle.credentials import needed
from podium.kaggle.download import download
from podium.prepare import Options, Say, read_competition
from podium.store import sha256_of
from podium.submission.history import Attempt
from podium.submission.pack import LEDGER
from podium.submission.send import Desk, Patience, check_real, follow, newest, send, sent_before, was_packed
from podium.workspace import Workspace


def desk_of(workspace: Workspace, competition: Competition) -> Desk:
    """Where submissions of a competition go; a UserError where it is not on Kaggle."""
    if competition.kaggle is None:
        raise UserError(
            f"{competition.name}: its configuration names no competition on Kaggle; add 'kaggle: <name in its address>'"
        )
    return Desk(competition.kaggle, competition.name, workspace.submissions / LEDGER, workspace.root)


def send_and_follow(
    name: str,
    file: Path | None,
    patience: Patience,
    say: Say,
    message: str = "",
    keep: int = 0,
    again: bool = False,
    data: Path | None = None,
    out: Path | None = None,
) -> list[Attempt]:
    """Check a file, send it, and wait for its score as long as ``patience`` says.

    file: None for the one that was packed last. One that was packed here was read back and compared then; any other is
    checked against what the competition asks for, and refused for every error.
    """
    options = Options(data=data, out=out)
    workspace, competition = read_competition(name, options)
    desk = desk_of(workspace, competition)
    path = file or newest(desk)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; name the one to send")
    needed()
    check_real(desk, path, sha256_of(path))
    if not was_packed(desk, sha256_of(path)):
        _check(path, options, competition, say)
    sent = send(desk, path, message, keep, again, say)
    if not patience.wait:
        return [sent]
    return [each for each in follow(desk, patience, say) if each.reference == sent.reference]


def ready(name: str, out: Path | None, sample: bool) -> None:
    """Before a run that ends with a submission: whether it can be sent. Hours later is too late to learn of it."""
    workspace, competition = read_competition(name, Options(out=out))
    desk_of(workspace, competition)
    needed()
    if sample:
        raise UserError("--submit and --sample exclude each other: a file about the sample is not for uploading")


def send_packed(name: str, out: Path | None, say: Say) -> list[Attempt]:
    """Send what the last run packed, unless it was sent before, and wait for its score."""
    board = remembered.last_board(name, out)
    if board["upload"] is None:
        raise UserError(f"{name}: nothing was packed that is for uploading ({board['data']}); nothing was sent")
    path = Path(board["submission"])
    desk = desk_of(*read_competition(name, Options(out=out)))
    before = sent_before(desk, sha256_of(path))
    if before is None:
        return send_and_follow(name, path, Patience(), say, out=out)
    say(f"{path.name}: was sent before, at {before.time}")
    found = {each.reference: each for each in follow(desk, Patience(), say)}
    return [found.get(before.reference, before)]


def resume_all(name: str, out: Path | None, patience: Patience, say: Say) -> list[Attempt]:
    """Fetch the scores of all that was sent and has none yet."""
    desk = desk_of(*read_competition(name, Options(out=out)))
    found = follow(desk, patience, say)
    if not found:
        say(f"{name}: nothing that was sent waits for its score")
    return found


def fetch(name: str, to: Path | None, say: Say) -> Path:
    """Download a competition's files; returns the folder that holds them."""
    workspace, competition = read_competition(name, Options())
    desk = desk_of(workspace, competition)
    folder = (to or workspace.root / "data" / name).resolve()
    if (folder / competition.data.expects).exists():
        raise UserError(f"{folder}: holds {competition.data.expects} already; name another folder with --to")
    say(f"downloading {desk.slug} from Kaggle to {folder} (credentials: {needed()})")
    download(desk.slug, folder, competition.data.expects, say)
    return folder


def _check(path: Path, options: Options, competition: Competition, say: Say) -> None:
    """Refuse a file that the competition would refuse: it costs one of the day's submissions, or at least time."""
    found = check(competition.name, path, options, say)
    report = found.report
    if found.of_sample:
        raise UserError(
            f"{path}: was not packed here and cannot be checked without the competition's data; name them with --data"
        )
    for warning in report.warnings:
        say(f"warning: {warning}")
    if report.errors:
        more = f" (and {len(report.errors) - 1} more)" if len(report.errors) > 1 else ""
        raise UserError(
            f"{path}: {report.errors[0]}{more}; nothing was sent, podium check {competition.name} {path} lists all"
        )
