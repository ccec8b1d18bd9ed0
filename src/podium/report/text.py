"""Results as people read them in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from podium.report.board import Board, Row

if TYPE_CHECKING:
    from podium.blending import Comparison

MOST_COLUMNS = 8
"""Scores of a row beside its first; with more, the classes get a table of their own."""


def print_board(board: Board, console: Console) -> None:
    """The table of models and blend, what it means, and where the submission is."""
    title = f"{board.competition}: out-of-fold {board.metric}, {_folds(board)}"
    print_rows(title, board.rows, console)
    if board.choice is not None:
        best = board.choice
        console.print(
            f"Best single model by {_scores(best.by)}: {best.model} {best.in_sample:.4f}; the same choice made anew on the other "
            f"folds scores {best.nested:.4f}.{'' if board.tuned else ' The blend has equal weights: nothing about it was tuned.'}"
        )
    console.print(
        "The score is of single-fold models on images they have not seen. The submission averages the folds, which usually "
        "helps a little; the test set may differ a little."
    )
    if any(row.in_sample is not None for row in board.rows):
        console.print(
            "Of a blend of which something was chosen, the score is of choices made anew without each fold; in sample is the "
            "score where the choice was made, which flatters it."
        )
    judged = [row for row in board.rows if row.corrupted is not None]
    if judged:
        low, high = judged[-1].corrupted_low, judged[-1].corrupted_high
        console.print(
            f"corrupted is the same metric on corrupted copies of those images ({judged[-1].name}: {_number(low)} to "
            f"{_number(high)}); docs/robust.md says what they are."
        )
    if any(row.std is not None for row in board.rows):
        console.print(
            "± is the standard deviation over the repeats: what another split of the same images would change."
        )
    if board.leaderboard is not None:
        console.print(board.leaderboard.sentence(), markup=False, highlight=False, soft_wrap=True)
    for note in board.notes:
        console.print(f"Note: {note}", style="yellow")
    for name, error in board.failures.items():
        console.print(f"Failed: {name}: {error}", style="red", markup=False)
    console.print(board.data, markup=False, soft_wrap=True)
    console.print(f"Time of this command: {board.minutes:.1f} minutes")
    if board.submission:
        console.print(f"Submission: {board.submission}", markup=False, soft_wrap=True)
    if board.upload:
        console.print(f"Upload it with: {board.upload}", markup=False, soft_wrap=True)


def print_rows(title: str, rows: Sequence[Row], console: Console) -> None:
    """Models and blends, one below the other."""
    # an unscored class has no value anywhere, and terminals are narrow
    names = list(rows[0].parts) if rows else []
    classes = [name for name in names if any(row.parts.get(name) is not None for row in rows)]
    others = list(rows[0].also) if rows else []
    beside = classes if len(others) + len(classes) <= MOST_COLUMNS else []
    columns: list[tuple[str, Callable[[Row], str]]] = [
        ("score", lambda row: f"{row.score:.4f}" + (f" ± {row.std:.4f}" if row.std is not None else "")),
        ("90 % interval", lambda row: f"{row.low:.3f}–{row.high:.3f}"),
        ("in sample", lambda row: _known(row.in_sample)),
        ("corrupted", lambda row: _known(row.corrupted)),
        *((name, lambda row, name=name: _number(row.also.get(name))) for name in others),
        *((name, lambda row, name=name: _number(row.parts.get(name))) for name in beside),
        ("public", lambda row: _known(row.public)),
        ("private", lambda row: _known(row.private)),
        ("parameters", lambda row: _thousands(row.parameters)),
        ("epochs", lambda row: f"{row.epochs:.1f}" if row.epochs else ""),
        ("minutes", lambda row: f"{row.minutes:.1f}" if row.minutes else ""),
    ]
    table = Table(title=title, title_justify="left")
    table.add_column("model")
    told = [(name, [cell(row) for row in rows]) for name, cell in columns]
    told = [(name, cells) for name, cells in told if any(cells)]
    for name, _ in told:
        table.add_column(name, justify="right", no_wrap=name == "90 % interval")
    for place, row in enumerate(rows):
        style = "bold" if row.kind == "blend" else None
        table.add_row(_called(row), *(cells[place] for _, cells in told), style=style)
    console.print(table)
    if len(beside) < len(classes):
        each: list[list[Any]] = [[name, *(row.parts.get(name) for row in rows)] for name in classes]
        print_table("Class by class", ["", *map(_called, rows)], each, console)


def print_comparison(found: Comparison, console: Console) -> None:
    """Two rows of the board on the same images."""
    gain = found.gain
    console.print(
        f"{found.competition}, {found.metric}, on the same {found.images} images: {found.first} {found.scores[0]:.4f}, "
        f"{found.second} {found.scores[1]:.4f}. {found.first} is better by {gain.mean:+.4f} (90 % of paired resamples "
        f"{gain.low:+.4f} to {gain.high:+.4f}; {gain.share_above_zero:.0%} of them above zero).",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def print_table(title: str, columns: list[str], rows: list[list[Any]], console: Console) -> None:
    """A plain table, numbers to the right."""
    table = Table(title=title, title_justify="left")
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*(_number(value) if value is None or isinstance(value, float) else str(value) for value in row))
    console.print(table)


def _called(row: Row) -> str:
    return row.name if row.weights in ("", "ema") else f"{row.name} ({row.weights} weights)"


def _scores(by: str) -> str:
    return "these scores" if by == "clean" else "the scores on corrupted copies"


def _folds(board: Board) -> str:
    if len(board.folds) == board.of_folds:
        return f"all {board.of_folds} folds"
    return f"folds {', '.join(map(str, board.folds))} of {board.of_folds} only"


def _known(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _thousands(count: int | None) -> str:
    if count is None:
        return ""
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.0f} k"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
