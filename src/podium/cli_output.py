"""Where a command's words go: messages to stderr, results to stdout, or one JSON object."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def messages() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def say() -> Callable[[str], None]:
    console = messages()
    return lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True)


def results() -> Console:
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=160)


def print_json(value: Any) -> None:
    from dataclasses import asdict, is_dataclass

    def plain(item: Any) -> Any:
        if is_dataclass(item) and not isinstance(item, type):
            return asdict(item)
        if hasattr(item, "model_dump"):
            return item.model_dump(mode="json")
        return str(item)

    print(json.dumps(value, default=plain))
