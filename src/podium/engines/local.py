"""The local engine: jobs of a plan in spawned, reused worker processes, one after the other or side by side."""

from __future__ import annotations

import multiprocessing as mp
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Any, Literal

from podium.cores import gpus
from podium.engines import worker
from podium.jobs import Job, Site
from podium.speeds import devices

OnEvent = Callable[[Job, dict[str, Any]], None]
STRETCH = (0.5, 1.5)
"""Least and most of its planned seconds that a job is given when the run is behind or ahead of its budget."""


KEEP_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "MALLOC_TOP_PAD_": str(1 << 28),
}
"""For glibc: activations that a step has freed serve the next one, instead of going back to the system and coming again as
pages that must be cleared; 5 to 13 % of a step on a CPU (docs/performance.md)."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended. ``skipped``: something it needs failed. ``cached``: it had been done before."""

    status: Literal["done", "cached", "failed", "skipped"]
    record: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    user: bool = False
    trace: str = ""


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    pipe: connection.Connection
    slot: int
    job: Job | None = None

    def stop(self) -> None:
        end(self.process, self.pipe)


def run(
    jobs: Sequence[Job],
    workers: int = 1,
    on_event: OnEvent = lambda job, event: None,
    deadline: float | None = None,
    threads_alone: int | None = None,
) -> dict[str, Outcome]:
    """Carry out a graph of jobs and say how each ended.

    A job starts when all that it ``needs`` is done; one that fails, or whose process dies, takes along only those that
    need it. deadline (time.monotonic): when a budget ends; jobs with planned seconds get more or less of them as the run
    is ahead or behind. threads_alone: what a training has that is left over when equal rounds of the others are done.
    on_event is called in this process with whatever a job reports.
    """
    outcomes: dict[str, Outcome] = {}
    for job in jobs:
        done = job.done
        if done is not None:
            outcomes[job.name] = Outcome("cached", done)
            on_event(job, {"event": "cached"})
    waiting = [job for job in jobs if job.name not in outcomes]
    last = _left_over(waiting, workers) if threads_alone else None
    pool: list[_Worker] = []
    try:
        while waiting or any(one.job for one in pool):
            _skip(waiting, outcomes, on_event)
            for job in [job for job in waiting if all(need in outcomes for need in job.needs)]:
                if job.name == last and any(one.job and one.job.kind == "train" for one in pool):
                    continue  # those of its round end at about the same time
                idle = next((one for one in pool if one.job is None), None)
                if idle is None and len(pool) < workers:
                    idle = _start(job, min(set(range(workers)) - {one.slot for one in pool}))
                    pool.append(idle)
                if idle is None:
                    break
                waiting.remove(job)
                busy = [one.job for one in pool if one.job]
                idle.job = job
                on_event(job, {"event": "start"})
                threads = threads_alone if job.name == last else None
                _give(idle, job, _allowance(job, waiting, busy, outcomes, workers, deadline), threads)
            _listen(pool, outcomes, on_event)
    finally:
        for one in pool:
            one.stop()
    return outcomes


def end(process: BaseProcess, pipe: connection.Connection) -> None:
    """End a process that serves a pipe: by closing it, and where that does not help within two seconds, by force."""
    pipe.close()
    process.join(timeout=2)
    if process.is_alive():
        process.kill()
        process.join()


def _start(job: Job, slot: int) -> _Worker:
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe()
    # not a daemon: a streamed source has reading processes of its own
    process = context.Process(target=worker.main, args=(theirs,), daemon=False, name="podium-worker")
    with environment(job.site, slot):
        process.start()
    theirs.close()
    return _Worker(process, ours, slot)


@contextmanager
def environment(site: Site, slot: int) -> Iterator[None]:
    """The variables that a process started inside is to have: its threads, its memory, and of several GPUs its own.

    slot: number of the worker; they take turns over the GPUs. All of these are read once, when a process or a library
    starts. What the user has set for the memory stays.
    """
    wanted = {"OMP_NUM_THREADS": str(site.threads)} if site.threads else {}
    if site.device == "cpu" or not gpus():
        wanted |= {name: value for name, value in KEEP_MEMORY.items() if name not in os.environ}
    if devices(site) > 1:
        wanted["CUDA_VISIBLE_DEVICES"] = gpus()[slot % len(gpus())]
    kept = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def _give(one: _Worker, job: Job, allowance: float | None, threads: int | None) -> None:
    with suppress(OSError):  # if it died, its sentinel will say so
        one.pipe.send({"job": job.to_json(), "allowance": allowance, "threads": threads})


def _left_over(jobs: Sequence[Job], workers: int) -> str | None:
    """The training that no round has a second one for, where all are alike; it begins when the others have ended."""
    trainings = [job for job in jobs if job.kind == "train"]
    alike = len({job.recipe["name"] for job in trainings}) == 1
    return trainings[-1].name if alike and workers > 1 and len(trainings) % workers == 1 else None


def _skip(waiting: list[Job], outcomes: dict[str, Outcome], on_event: OnEvent) -> None:
    """Give up, without end to the chain, the jobs that need something failed."""
    changed = True
    while changed:
        changed = False
        for job in list(waiting):
            bad = [need for need in job.needs if need in outcomes and outcomes[need].status in ("failed", "skipped")]
            if bad:
                waiting.remove(job)
                outcomes[job.name] = Outcome("skipped", error=f"not run, since '{bad[0]}' failed")
                on_event(job, {"event": "skipped", "error": outcomes[job.name].error})
                changed = True


def _listen(pool: list[_Worker], outcomes: dict[str, Outcome], on_event: OnEvent) -> None:
    """Wait for the workers to say something, or to die."""
    ready = connection.wait([item for one in pool for item in (one.pipe, one.process.sentinel)], timeout=1.0)
    for one in list(pool):
        if one.pipe not in ready and one.process.sentinel not in ready:
            continue
        try:
            while one.pipe.poll():
                message = one.pipe.recv()
                job = one.job
                assert job is not None
                if message["event"] == "done":
                    outcomes[job.name] = Outcome("done", message["record"])
                    one.job = None
                elif message["event"] == "failed":
                    outcomes[job.name] = Outcome("failed", {}, message["error"], message["user"], message["trace"])
                    one.job = None
                on_event(job, message)
        except (EOFError, OSError):
            one.process.join(timeout=5)
        if not one.process.is_alive():
            pool.remove(one)
            if one.job is not None:
                code = one.process.exitcode
                how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
                hint = "; perhaps memory ran out" if code == -9 else ""
                error = f"its worker process died ({how}){hint}"
                outcomes[one.job.name] = Outcome("failed", error=error)
                on_event(one.job, {"event": "failed", "error": error})


def _allowance(
    job: Job,
    waiting: Sequence[Job],
    busy: Sequence[Job],
    outcomes: dict[str, Outcome],
    workers: int,
    deadline: float | None,
) -> float | None:
    """The seconds that this job may take now, so that the whole run ends at its deadline."""
    if deadline is None or job.seconds is None:
        return None
    to_come = sum(other.seconds is not None for other in waiting)
    rounds = -(-(1 + to_come + sum(other.seconds is not None for other in busy)) // workers)
    # predictions that finished trainings have already been charged for, still to be made
    promised = sum(owed(other, outcomes) for other in waiting if other.seconds is None)
    left = deadline - time.monotonic() - promised / workers
    low, high = STRETCH
    return job.seconds * min(high, max(low, left / (rounds * job.seconds)))


def owed(job: Job, outcomes: dict[str, Outcome]) -> float:
    """Seconds that a prediction will take, as the trainings it needs have measured."""
    total = 0.0
    for need in job.needs:
        record = outcomes[need].record if need in outcomes else {}
        share = record.get("prediction", {}).get(job.kind, 0.0)
        total += float(share)
    return total
