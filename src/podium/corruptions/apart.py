"""Making corrupted copies in a process of its own, so that the one that asks for them need not import torch."""

from __future__ import annotations

import multiprocessing as mp
import os
import traceback
from multiprocessing import connection

from podium.corruptions.copies import Order, Say, make
from podium.engines.worker import die_with_parent
from podium.errors import UserError


def make_apart(order: Order, say: Say) -> None:
    """``make`` in a spawned process, which hands on what there is to say, and the sentence of a UserError."""
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_main, args=(theirs, order), daemon=True, name="podium-corruptions")
    process.start()
    theirs.close()
    try:
        while True:
            what, text = ours.recv()
            if what == "say":
                say(text)
            elif what == "refused":
                raise UserError(text)
            elif what == "failed":
                raise RuntimeError(f"corrupted copies could not be made\n{text}")
            else:
                return
    except EOFError:
        process.join()
        raise UserError(
            f"corrupted copies: the process that makes them ended with exit code {process.exitcode}; run the command again, "
            "with more memory where it was killed for want of it"
        ) from None
    finally:
        ours.close()
        process.join(timeout=2)
        if process.is_alive():
            process.kill()
            process.join()


def _main(pipe: connection.Connection, order: Order) -> None:
    die_with_parent()
    os.dup2(2, 1)  # whatever a library prints must not get between the lines of --json
    try:
        make(order, lambda text: pipe.send(("say", text)))
    except UserError as error:
        pipe.send(("refused", str(error)))
    except Exception:
        pipe.send(("failed", traceback.format_exc()))
    else:
        pipe.send(("done", ""))
