"""One piece of work in a process of its own, so that the one that asks for it need not import torch."""

from __future__ import annotations

import multiprocessing as mp
import os
import traceback
from collections.abc import Callable
from multiprocessing import connection

from podium.engines.worker import die_with_parent
from podium.errors import UserError

Say = Callable[[str], None]
Work = Callable[[Say], None]
"""Must be what can be sent to another process: a function of a module, or a ``partial`` of one."""


def work_apart(work: Work, say: Say, what: str) -> None:
    """``work`` in a spawned process, which hands on what there is to say, and the sentence of a UserError.

    what: is being made, in the plural, for messages.
    """
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_main, args=(theirs, work), daemon=True, name="podium-apart")
    process.start()
    theirs.close()
    try:
        while True:
            kind, text = ours.recv()
            if kind == "say":
                say(text)
            elif kind == "refused":
                raise UserError(text)
            elif kind == "failed":
                raise RuntimeError(f"{what} could not be made\n{text}")
            else:
                return
    except EOFError:
        process.join()
        raise UserError(
            f"{what}: the process that makes them ended with exit code {process.exitcode}; run the command again, with more "
            "memory where it was killed for want of it"
        ) from None
    finally:
        ours.close()
        process.join(timeout=2)
        if process.is_alive():
            process.kill()
            process.join()


def _main(pipe: connection.Connection, work: Work) -> None:
    die_with_parent()
    os.dup2(2, 1)  # whatever a library prints must not get between the lines of --json
    try:
        work(lambda text: pipe.send(("say", text)))
    except UserError as error:
        pipe.send(("refused", str(error)))
    except Exception:
        pipe.send(("failed", traceback.format_exc()))
    else:
        pipe.send(("done", ""))
