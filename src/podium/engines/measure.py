"""How fast a recipe runs here: in which precision, compiled or not, and with how many workers side by side."""

from __future__ import annotations

import multiprocessing as mp
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing import connection
from typing import Any

from podium.config import Competition, Recipe
from podium.cores import cores
from podium.engines.local import end, environment
from podium.engines.worker import die_with_parent
from podium.errors import UserError
from podium.jobs import Site
from podium.speeds import Compiled, Speeds

ROUNDS = 2
"""How often each rate is measured, in turn; the best counts, since whatever else runs only slows down."""
SECONDS = 1.0
PREFER = 1.05
"""How much faster fp32 must be than the reduced precision to be chosen."""


def measure(competition: Competition, recipe: Recipe, site: Site, fold: int, counts: Sequence[int]) -> Speeds:
    """Measure a recipe on the rows outside a fold; about 10 s, and as many again with ``counts``.

    counts: further numbers of workers on one device to be tried beside 1. A recipe that cannot be trained here at all is a
    UserError; a number of workers that fails is left out.
    """
    with _team() as team:
        one = team.more(site)
        given = {"competition": competition.model_dump(mode="json"), "recipe": recipe.model_dump(mode="json")}
        opening = given | {"site": asdict(site), "fold": fold}
        one.do("open", **opening)
        facts = one.do("facts")
        best = facts["precision"]
        tried = [best] if site.precision != "auto" or best == "fp32" else [best, "fp32"]
        compile = "on" if site.compile == "on" else "off"
        micro = [one.do("prepare", name=name, precision=name, compile=compile)["micro_batch"] for name in tried]
        rates = dict.fromkeys(tried, 0.0)
        for _ in range(ROUNDS):
            for name in tried:
                rates[name] = max(rates[name], one.do("train", name=name, seconds=SECONDS, threads=facts["threads"]))
        chosen = max(tried, key=lambda name: rates[name] * (PREFER if name == best else 1.0))
        micro_batch = micro[tried.index(chosen)]
        predict = one.do("predict", name=chosen, seconds=SECONDS)["rate"]
        compiled = _compiled(one, chosen, micro_batch, facts) if site.compile == "auto" else None
        memory = one.do("facts")["memory"]
        for name in tried:
            if name != chosen:
                one.do("forget", name=name)
        train = {1: rates[chosen]}
        for count in counts:
            try:
                team.fill(count, site, opening, {"precision": chosen, "compile": compile, "micro_batch": micro_batch})
                train[count] = team.side_by_side(chosen, max(1, cores() // count), train[1])
            except (UserError, _Broken):
                break  # too many for the memory
        return Speeds(
            chosen,
            micro_batch,
            {count: round(rate, 1) for count, rate in train.items()},
            round(predict, 1),
            memory,
            facts["capacity"],
            compiled,
            tuple(counts),
        )


def _compiled(one: _Member, precision: str, micro_batch: int | None, facts: dict[str, Any]) -> Compiled | None:
    """On a GPU; on CPUs compiled steps have only been slower so far (docs/performance.md)."""
    if facts["device"] != "cuda":
        return None
    warm_up = one.do("prepare", name="compiled", precision=precision, compile="on", micro_batch=micro_batch)["warm_up"]
    rates = [one.do("train", name="compiled", seconds=SECONDS, threads=facts["threads"]) for _ in range(ROUNDS)]
    prediction = one.do("predict", name="compiled", seconds=SECONDS)
    one.do("forget", name="compiled")
    return Compiled(max(rates), warm_up, prediction["rate"], prediction["warm_up"])


class _Broken(Exception):
    """A process that measures died or failed in a way that is not the user's."""


class _Member:
    """A process that carries out one ``Trial``."""

    def __init__(self, site: Site) -> None:
        context = mp.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        # not a daemon: a streamed source has reading processes of its own
        self.process = context.Process(target=_serve, args=(theirs,), daemon=False, name="podium-trial")
        with environment(site, 0):
            self.process.start()
        theirs.close()
        self.ready = False

    def do(self, what: str, **given: Any) -> Any:
        self.send(what, **given)
        return self.answer()

    def send(self, what: str, **given: Any) -> None:
        try:
            self.pipe.send((what, given))
        except OSError as error:
            raise _Broken("its process died") from error

    def answer(self) -> Any:
        try:
            status, value = self.pipe.recv()
        except (EOFError, OSError) as error:
            self.process.join(timeout=5)
            raise _Broken(f"its process died (exit code {self.process.exitcode})") from error
        if status == "user":
            raise UserError(value)
        if status == "failed":
            raise _Broken(value)
        return value

    def stop(self) -> None:
        end(self.process, self.pipe)


class _Team(list[_Member]):
    def more(self, site: Site) -> _Member:
        self.append(_Member(site))
        return self[-1]

    def fill(self, count: int, site: Site, opening: dict[str, Any], way: dict[str, Any]) -> None:
        """As many members as that, all ready to train in the same way; its precision is the name for it."""
        new = [self.more(site) for _ in range(count - len(self))]
        for order, given in (("open", opening), ("prepare", way | {"name": way["precision"]})):
            for member in new:
                member.send(order, **given)
            for member in new:
                member.answer()

    def side_by_side(self, name: str, threads: int, alone: float) -> float:
        """Images per second of each when all train at once, as a share of one alone at the same time, times ``alone``.

        The share is measured in turn, since a machine's speed changes from minute to minute.
        """
        ones, alls = [], []
        for _ in range(ROUNDS):
            ones.append(self[0].do("train", name=name, seconds=SECONDS, threads=cores()))
            for member in self:
                member.send("train", name=name, seconds=2 * SECONDS, threads=threads)
            rates = [member.answer() for member in self]
            alls.append(sum(rates) / len(rates))
        return alone * max(alls) / max(ones)


@contextmanager
def _team() -> Iterator[_Team]:
    team = _Team()
    try:
        yield team
    except _Broken as error:
        raise UserError(str(error)) from error
    finally:
        for member in team:
            member.stop()


def _serve(pipe: connection.Connection) -> None:
    """What runs in a member: orders are methods of its ``Trial``."""
    die_with_parent()
    os.dup2(2, 1)
    from podium.training.trial import Trial

    trial: Trial | None = None
    while True:
        try:
            what, given = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        answer: tuple[str, Any]
        try:
            if what == "open":
                trial = Trial(**given)
                answer = ("done", None)
            else:
                answer = ("done", getattr(trial, what)(**given))
        except KeyboardInterrupt:
            return
        except UserError as error:
            answer = ("user", str(error))
        except Exception as error:
            answer = ("failed", f"{type(error).__name__}: {error}")
        try:
            pipe.send(answer)
        except OSError:
            return
