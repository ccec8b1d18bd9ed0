"""What runs in a spawned worker process: take a job, carry it out, say how it went, until told to stop."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from multiprocessing import connection, parent_process
from typing import Any

from podium.errors import UserError


def failed(error: Exception) -> dict[str, Any]:
    """The answer of a process whose work ended with ``error``, which is being handled."""
    if isinstance(error, UserError):
        return {"event": "failed", "error": str(error), "user": True, "trace": ""}
    said = f"{type(error).__name__}: {error}"
    return {"event": "failed", "error": said, "user": False, "trace": traceback.format_exc()}


def main(pipe: connection.Connection) -> None:
    """Serve jobs from ``pipe``. Each is answered with events and one final ``done`` or ``failed`` message."""
    die_with_parent()
    os.dup2(2, 1)  # whatever a library prints must not get between the lines of --json
    from podium.jobs import Job, execute

    while True:
        try:
            order = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            answer: dict[str, Any] = {
                "event": "done",
                "record": execute(Job.from_json(order["job"]), pipe.send, order["allowance"], order["threads"]),
            }
        except KeyboardInterrupt:
            return
        except Exception as error:
            answer = failed(error)
        _send(pipe, answer)


def _send(pipe: connection.Connection, answer: dict[str, Any]) -> None:
    try:
        pipe.send(answer)
    except OSError:
        sys.exit(1)


def die_with_parent() -> None:
    """A worker whose parent was killed must not go on and hold the results that the next run wants to continue."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
