"""A study's worker processes on this machine: started, listened to, and replaced where one dies."""

from __future__ import annotations

import multiprocessing as mp
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Any

from podium.engines.local import end, environment
from podium.engines.worker import die_with_parent, failed
from podium.errors import UserError
from podium.tuning.queue import Stop
from podium.tuning.study import Brief

MOST_DEAD = 3
"""Workers that may die in one command."""
Say = Callable[[str], None]


@dataclass(eq=False)
class _Member:
    process: BaseProcess
    pipe: connection.Connection
    slot: int
    stop: Stop | None = None


def run(brief: Brief, workers: int, say: Say) -> Stop:
    """Let ``workers`` processes work on a study until there is nothing left to do; says why there is not.

    A process that dies is replaced, and its trial trained again, a few times; a training that fails for a reason that no
    other trial escapes ends all of them and is raised here.
    """
    crew = [_start(brief, slot) for slot in range(workers)]
    dead = 0
    try:
        while any(one.stop is None for one in crew):
            busy = [one for one in crew if one.stop is None]
            connection.wait([item for one in busy for item in (one.pipe, one.process.sentinel)])
            for one in busy:
                _listen(one, say)
                if one.stop is None and not one.process.is_alive():
                    dead += 1
                    crew[crew.index(one)] = _replaced(one, brief, dead, say)
    finally:
        for one in crew:
            if one.stop is None:
                one.process.terminate()
            end(one.process, one.pipe)
    stops = [one.stop for one in crew if one.stop is not None]
    return next((stop for stop in stops if stop != "enough"), "enough")


def _start(brief: Brief, slot: int) -> _Member:
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=main, args=(theirs, brief), daemon=False, name="podium-tuner")
    with environment(brief.site, slot):
        process.start()
    theirs.close()
    return _Member(process, ours, slot)


def _replaced(one: _Member, brief: Brief, dead: int, say: Say) -> _Member:
    code = one.process.exitcode
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    if dead >= MOST_DEAD:
        raise UserError(
            f"{brief.name}: {dead} worker processes have died, the last by {how}; perhaps memory ran out: use fewer --workers, or "
            "let the space hold smaller nets and batches"
        )
    say(f"a worker process died ({how}); another takes its trial")
    end(one.process, one.pipe)
    return _start(brief, one.slot)


def _listen(one: _Member, say: Say) -> None:
    """Pass on what a worker says; its end is noted, a defect of podium raised with its traceback."""
    try:
        while one.pipe.poll():
            message = one.pipe.recv()
            if message["event"] == "said":
                say(message["text"])
            elif message["event"] == "stopped":
                one.stop = message["why"]
                return
            elif message["user"]:
                raise UserError(message["error"])
            else:
                raise RuntimeError(f"{message['error']}\n{message['trace']}")
    except (EOFError, OSError):
        one.process.join(timeout=5)


def main(pipe: connection.Connection, brief: Brief) -> None:
    """What runs in a worker process."""
    die_with_parent()
    os.dup2(2, 1)  # whatever a library prints must not get between the lines of --json
    try:
        answer: dict[str, Any] = {"event": "stopped", "why": _work(pipe, brief)}
    except KeyboardInterrupt:
        return
    except Exception as error:
        answer = failed(error)
    pipe.send(answer)


def _work(pipe: connection.Connection, brief: Brief) -> Stop:
    from podium.tuning.loop import Report, work
    from podium.tuning.objective import clear, open_bench, train_trial
    from podium.tuning.storage import open_storage
    from podium.tuning.study import open_study

    def say(text: str) -> None:
        pipe.send({"event": "said", "text": text})

    def emit(event: dict[str, Any]) -> None:
        if event["event"] == "note":
            say(f"note: {event['text']}")

    storage = open_storage(brief.storage, brief.folder)
    study = open_study(brief, storage)
    bench = open_bench(brief)

    def train(recipe: Any, report: Report) -> list[float]:
        return train_trial(bench, recipe, report, emit)

    return work(study, storage, brief, train, partial(clear, brief), say)
