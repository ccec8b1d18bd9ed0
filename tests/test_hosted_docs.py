"""The ready notebook and docs/hosted.md: what they tell a reader to type is what the command line takes."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import typer.main

from podium.cli import app

DOCS = Path(__file__).resolve().parents[1] / "docs"
NOTEBOOK = DOCS / "kaggle_notebook.ipynb"
SHELL = re.compile(r"^\s*!(.*)$", re.MULTILINE)


def commands(text: str) -> Iterator[list[str]]:
    """The calls of podium in a line for the shell, as the words after ``podium``."""
    for part in re.split(r"&&|\|\||;", text):
        words = shlex.split(part)
        for at, word in enumerate(words):
            if word.rpartition("/")[2] == "run_cv.sh":
                yield ["run", *words[at + 1 :]]
            elif word == "podium" and (at == 0 or words[at - 1] == "-m"):
                yield words[at + 1 :]


def parse(words: list[str]) -> None:
    """Raises where the command line would refuse these words."""
    verbs = typer.main.get_command(app)
    verb = verbs.commands[words[0]]  # type: ignore[attr-defined]
    verb.make_context(words[0], words[1:])


def cells(kind: str) -> list[str]:
    found = nbformat.read(NOTEBOOK, as_version=4)
    return [cell.source for cell in found.cells if cell.cell_type == kind]


def test_the_notebook_is_one_and_holds_no_outputs() -> None:
    found = nbformat.read(NOTEBOOK, as_version=nbformat.NO_CONVERT)
    nbformat.validate(found)
    assert found.nbformat == 4 and NOTEBOOK.stat().st_size < 20_000
    assert all(not cell.outputs and cell.execution_count is None for cell in found.cells if cell.cell_type == "code")


def test_its_python_is_python() -> None:
    for source in cells("code"):
        ast.parse(SHELL.sub(lambda line: line[0].replace(f"!{line[1]}", "pass"), source))


def test_its_commands_are_those_of_the_command_line() -> None:
    lines = [line for kind in ("code", "markdown") for source in cells(kind) for line in SHELL.findall(source)]
    called = [words for line in lines for words in commands(line)]
    assert {words[0] for words in called} == {"run", "board"} and len(called) == 6
    for words in called:
        parse(words)


def test_commands_of_the_page_are_those_of_the_command_line() -> None:
    lines = re.findall(r"^    (\S.*)$", (DOCS / "hosted.md").read_text(encoding="utf-8"), re.MULTILINE)
    called = [words for line in lines for words in commands(line.partition("  #")[0])]
    assert len(called) >= 4
    for words in called:
        parse(words)


@pytest.mark.parametrize(
    "words", [["run", "mars", "--budgets", "1h"], ["rnu", "mars"], ["board", "mars", "--budget", "1h"]]
)
def test_a_command_that_is_none_would_be_found(words: list[str]) -> None:
    with pytest.raises(Exception, match="budget|rnu"):
        parse(words)
