"""Results as people read them in a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from podium.report.board import Board, Row

MOST_COLUMNS = 8
"""Scores of a row beside its first; with more, the classes get a table of their own."""


def print_board(board: Board, console: Console) -> None:
    """The table of models and blend, what it means, and where the submission is."""
    # an unscored class has no value anywhere, and terminals are narrow
    names = list(board.rows[0].parts) if board.rows else []
    classes = [name for name in names if any(row.parts[name] is not None for row in board.rows)]
    table = Table(title=f"{board.competition}: out-of-fold {board.metric}, {_folds(board)}", title_justify="left")
    table.add_column("model")
    table.add_column("score", justify="right")
    table.add_column("90 % interval", justify="right", no_wrap=True)
    corrupted = any(row.corrupted is not None for row in board.rows)
    if corrupted:
        table.add_column("corrupted", justify="right")
    others = list(board.rows[0].also) if board.rows else []
    beside = classes if len(others) + len(classes) <= MOST_COLUMNS else []
    for name in (*others, *beside):
        table.add_column(name, justify="right")
    table.add_column("epochs", justify="right")
    table.add_column("minutes", justify="right")
    for row in board.rows:
        style = "bold" if row.kind == "blend" else None
        values = [_number(row.corrupted)] if corrupted else []
        values += [_number(row.also[name]) for name in others] + [_number(row.parts[name]) for name in beside]
        spent = [f"{row.epochs:.1f}" if row.epochs else "", f"{row.minutes:.1f}" if row.minutes else ""]
        score = f"{row.score:.4f}" + (f" ± {row.std:.4f}" if row.std is not None else "")
        table.add_row(_called(row), score, f"{row.low:.3f}–{row.high:.3f}", *values, *spent, style=style)
    console.print(table)
    if len(beside) < len(classes):
        each: list[list[Any]] = [[name, *(row.parts[name] for row in board.rows)] for name in classes]
        print_table("Class by class", ["", *map(_called, board.rows)], each, console)
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
    if corrupted:
        low, high = board.rows[-1].corrupted_low, board.rows[-1].corrupted_high
        console.print(
            f"corrupted is the same metric on corrupted copies of those images ({board.rows[-1].name}: {_number(low)} to "
            f"{_number(high)}); docs/robust.md says what they are."
        )
    if any(row.std is not None for row in board.rows):
        console.print(
            "± is the standard deviation over the repeats: what another split of the same images would change."
        )
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


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
