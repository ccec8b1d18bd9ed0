"""The one exception that is meant for the user's eyes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend: one sentence that says what is wrong, where, and the way out.

    The command line prints it without a traceback and exits with code 2. Everything else that is
    raised is a defect of podium and keeps its traceback.
    """


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """A half sentence naming the nearest spelling and everything allowed, to close an error message with."""
    allowed = [str(name) for name in allowed]
    near = difflib.get_close_matches(word, allowed, n=1, cutoff=0.5)
    guess = f"did you mean '{near[0]}'? " if near else ""
    return f"{guess}allowed: {', '.join(allowed) or 'nothing'}"
