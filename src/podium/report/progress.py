"""One progress display for all jobs, with the time left: bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from podium.jobs import Job

LINE_SECONDS = 60.0


class Display:
    """Follows the events of an engine; ``console`` writes to stderr, so that --json keeps stdout for itself."""

    def __init__(self, jobs: Sequence[Job], console: Console, workers: int, deadline: float | None) -> None:
        self.jobs, self.console, self.workers, self.deadline = jobs, console, workers, deadline
        self._started: dict[str, float] = {}
        self._left: dict[str, tuple[float, float]] = {}
        self._spent: dict[str, float] = {}
        self._ended: set[str] = set()
        self._quiet_since = time.monotonic()
        self._bars = Progress(
            TextColumn("{task.description}"), BarColumn(24), TextColumn("{task.fields[note]}"), console=console
        )
        self._tasks: dict[str, TaskID] = {}
        self._total: TaskID | None = None

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self._bars.start()
            self._total = self._bars.add_task("all", total=len(self.jobs), note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, job: Job, event: dict[str, Any]) -> None:
        """Take in one event of a job."""
        now = time.monotonic()
        what = event["event"]
        if what == "start":
            self._started[job.name] = now
        elif what in ("epoch", "predict"):
            self._left[job.name] = (now, event["left"])
            self._show(job, event, now)
        elif what == "note":
            self._say(f"{job.name}: {event['text']}")
        elif what == "score":
            self._say(f"{job.name}: score {event['score']:.4f}; {self._time_left(now)}")
        elif what == "resumed":
            self._say(f"{job.name}: goes on after epoch {event['epoch']}")
        else:
            self._ended.add(job.name)
            if job.name in self._started:
                self._spent[job.name] = now - self._started[job.name]
            self._finished(job, event)
        if self._total is not None:
            self._bars.update(self._total, completed=len(self._ended), note=self._time_left(now))

    def seconds_left(self, now: float) -> float | None:
        """Seconds until all jobs are done, None while nothing is known."""
        if self.deadline is not None:
            return max(0.0, self.deadline - now)
        total, unknown = 0.0, 0
        for job in self.jobs:
            if job.name in self._ended:
                continue
            if job.name in self._left:
                at, left = self._left[job.name]
                total += max(0.0, left - (now - at))
                continue
            guess = self._guess(job)
            if guess is None:
                unknown += job.kind == "train"
            else:
                total += guess
        return None if unknown else total / self.workers

    def _guess(self, job: Job) -> float | None:
        """From jobs of the same kind and recipe, else of the same kind."""
        known = {name: spent for name, spent in self._spent.items()}
        for name, (at, left) in self._left.items():
            if name in self._started and name not in known:
                known[name] = at - self._started[name] + left
        alike = [known[other.name] for other in self.jobs if other.name in known and other.kind == job.kind]
        same = [
            known[other.name]
            for other in self.jobs
            if other.name in known and other.kind == job.kind and other.recipe["name"] == job.recipe["name"]
        ]
        pick = same or alike
        return sum(pick) / len(pick) if pick else None

    def _show(self, job: Job, event: dict[str, Any], now: float) -> None:
        done, of = (event["epoch"], event["epochs"]) if event["event"] == "epoch" else (event["rows"], event["of"])
        note = f"epoch {done}/{of}, loss {event['loss']:.4f}" if event["event"] == "epoch" else f"{done}/{of} images"
        if self._total is not None:
            if job.name not in self._tasks:
                self._tasks[job.name] = self._bars.add_task(job.name, total=of, note=note)
            self._bars.update(self._tasks[job.name], completed=done, total=of, note=note)
        elif now - self._quiet_since >= LINE_SECONDS:
            self._say(f"{job.name}: {note}; {self._time_left(now)}")

    def _finished(self, job: Job, event: dict[str, Any]) -> None:
        if job.name in self._tasks:
            self._bars.remove_task(self._tasks.pop(job.name))
        if event["event"] == "cached":
            return
        if event["event"] in ("failed", "skipped"):
            self._say(f"{job.name}: {event['event']}: {event['error']}")
            return
        record, spent = event["record"], self._spent.get(job.name, 0.0)
        if job.kind == "train":
            result = record["result"]
            self._say(
                f"{job.name}: {result['epochs']:.1f} epochs, loss {result['loss']:.4f}, {result['rate']:.0f} images/s, {spent:.0f} s"
            )
        elif job.kind == "test":
            self._say(f"{job.name}: predicted in {spent:.0f} s")

    def _time_left(self, now: float) -> str:
        left = self.seconds_left(now)
        if left is None:
            return "time left unknown yet"
        return f"{left / 60:.0f} min left" if left >= 90 else f"{left:.0f} s left"

    def _say(self, text: str) -> None:
        self._quiet_since = time.monotonic()
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
