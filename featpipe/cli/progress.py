"""How a run goes on, on stderr: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from featpipe.cli.console import messages, say
from featpipe.printable import json_text, printable
from featpipe.report.units import bytes_text, count_text, scaled_text, seconds_text

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from featpipe.graph import Crew
    from featpipe.plan.model import Plan
    from featpipe.run import Progress
    from featpipe.task import Receipt

SECONDS_BETWEEN_LINES = 5.0
DRAINING = "finishing the tasks that are running; Ctrl-C again stops at once"


@dataclass
class Tally:
    """What receipts have told so far."""

    images: int = 0
    weight: int = 1
    done: int = 0
    before: int = 0
    """What of ``done`` an earlier run had done."""
    bytes_written: int = 0
    failed: set[int] = field(default_factory=set)
    staff: Crew | None = None
    """Who works, where that is a cluster."""
    began: float = field(default_factory=time.perf_counter)

    def begun(self, plan: Plan, tasks: Sequence[int]) -> Tally:
        """Return the tally of a run that begins now, of the same staff; a task weighs its images, or its block."""
        weight = sum(task.images.length for task in plan.tasks)
        before = weight - sum(plan.tasks[task].images.length for task in tasks)
        return Tally(len(plan.collection), max(1, weight), done=before, before=before, staff=self.staff)

    def add(self, receipt: Receipt) -> None:
        self.done += receipt.images
        self.bytes_written += receipt.bytes_written
        self.failed |= {failure.image for failure in receipt.failures}

    @property
    def images_done(self) -> int:
        return self.images * self.done // self.weight

    @property
    def rate(self) -> float:
        """Images a second."""
        seconds = max(1e-9, time.perf_counter() - self.began)
        return self.images * (self.done - self.before) / self.weight / seconds

    @property
    def seconds_left(self) -> float | None:
        """How long the rest will take; None while nothing is done, or nothing is left."""
        here = self.done - self.before
        seconds = time.perf_counter() - self.began
        return seconds * (self.weight - self.done) / here if here and self.done < self.weight else None

    def rates(self) -> str:
        """Return the speed, who works, and what failed, in words."""
        seconds = max(1e-9, time.perf_counter() - self.began)
        text = f"{scaled_text(self.rate)} images/s, {bytes_text(self.bytes_written / seconds)}/s features"
        if self.staff is not None:
            text += f", {crew_text(self.staff)}"
        return text + (f", {len(self.failed):,} failed" if self.failed else "")

    def line(self) -> str:
        """Return everything in one line."""
        left = self.seconds_left
        ahead = f", {seconds_text(left)} left" if left is not None else ""
        share = self.done / self.weight
        return (
            f"featpipe: {self.images_done:,} of {count_text(self.images, 'image')} ({share:.0%}), {self.rates()}{ahead}"
        )


def crew_text(crew: Crew) -> str:
    """Say who works.

    Examples
    --------
    >>> from featpipe.graph import Crew
    >>> crew_text(Crew(2, 4)), crew_text(Crew(1, 2, 1))
    ('2 workers', '1 worker (1 lost)')
    """
    return count_text(crew.workers, "worker") + (f" ({crew.lost:,} lost)" if crew.lost else "")


class LineProgress:
    """Plain lines, for logs."""

    def __init__(self, seconds: float = SECONDS_BETWEEN_LINES) -> None:
        self.seconds = seconds
        self.tally = Tally()
        self.last = 0.0

    def start(self, plan: Plan, tasks: Sequence[int]) -> None:
        self.tally = self.tally.begun(plan, tasks)
        self.last = time.perf_counter()
        todo, threads = count_text(len(plan.tasks), "task"), count_text(plan.memory.threads, "thread")
        if len(tasks) < len(plan.tasks):
            todo += f" ({len(plan.tasks) - len(tasks):,} of them done before)"
        images, peak = count_text(len(plan.collection), "image"), bytes_text(plan.memory.peak)
        say(f"featpipe: {images} in {todo} on {threads}, at most {peak} of memory, to {plan.pipeline.store.path}")

    def update(self, receipt: Receipt) -> None:
        self.tally.add(receipt)
        if time.perf_counter() - self.last >= self.seconds or self.tally.done == self.tally.weight:
            self.last = time.perf_counter()
            say(self.tally.line())

    def stopping(self) -> None:
        say(f"featpipe: {DRAINING}")

    def tell(self, what: str) -> None:
        say(f"featpipe: {what}")

    def crew(self, crew: Crew) -> None:
        if self.tally.staff is None or crew.workers != self.tally.staff.workers:
            board = f"; dashboard: {crew.dashboard}" if crew.dashboard and self.tally.staff is None else ""
            say(f"featpipe: {crew_text(crew)}, {count_text(crew.threads, 'thread')}{board}")
        self.tally.staff = crew


class JsonProgress:
    """An object of JSON a line, for programs."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self.tally = Tally()
        self.last = 0.0

    def start(self, plan: Plan, tasks: Sequence[int]) -> None:
        self.tally = self.tally.begun(plan, tasks)
        self._say("start", tasks=len(tasks), tasks_before=len(plan.tasks) - len(tasks), peak_bytes=plan.memory.peak)

    def update(self, receipt: Receipt) -> None:
        self.tally.add(receipt)
        if time.perf_counter() - self.last >= self.seconds or self.tally.done == self.tally.weight:
            self._say("progress")

    def stopping(self) -> None:
        self._say("stopping")

    def tell(self, what: str) -> None:
        self._say("stage", message=what)

    def crew(self, crew: Crew) -> None:
        self.tally.staff = crew
        self._say("workers", threads=crew.threads, dashboard=crew.dashboard)

    def _say(self, event: str, **more: Any) -> None:
        self.last = time.perf_counter()
        tally, staff = self.tally, self.tally.staff
        facts = {
            "event": event,
            "time": datetime.now().astimezone().isoformat(timespec="milliseconds"),
            "done": tally.images_done,
            "total": tally.images,
            "failed": len(tally.failed),
            "rate": round(tally.rate, 3),
            "eta_seconds": None if tally.seconds_left is None else round(tally.seconds_left, 1),
            "bytes_written": tally.bytes_written,
            "workers": None if staff is None else staff.workers,
            "workers_lost": None if staff is None else staff.lost,
            **more,
        }
        sys.stderr.write(json_text(facts) + "\n")
        sys.stderr.flush()


class BarProgress:
    """A bar, for people."""

    def __init__(self, bar: Bar) -> None:
        self.bar = bar
        self.tally = Tally()
        self.task: TaskID | None = None

    def start(self, plan: Plan, tasks: Sequence[int]) -> None:
        self.tally = self.tally.begun(plan, tasks)
        self.task = self.bar.add_task("", total=self.tally.weight, completed=self.tally.done, **self._fields())

    def update(self, receipt: Receipt) -> None:
        self.tally.add(receipt)
        if self.task is not None:
            self.bar.update(self.task, completed=self.tally.done, **self._fields())

    def stopping(self) -> None:
        self.bar.console.print(DRAINING)

    def tell(self, what: str) -> None:
        self.bar.console.print(printable(what))

    def crew(self, crew: Crew) -> None:
        if crew.dashboard and self.tally.staff is None:
            self.bar.console.print(f"dashboard: {crew.dashboard}")
        self.tally.staff = crew
        if self.task is not None:
            self.bar.update(self.task, **self._fields())

    def _fields(self) -> dict[str, Any]:
        return {
            "images": f"{self.tally.images_done:,}/{count_text(self.tally.images, 'image')}",
            "rates": self.tally.rates(),
        }


@contextmanager
def run_progress(*, quiet: bool, log_format: str = "text") -> Iterator[Progress | None]:
    """Give the progress that suits where stderr goes, or what was asked for."""
    if quiet:
        yield None
        return
    if log_format == "json":
        yield JsonProgress()
        return
    console = messages()
    if not console.is_terminal or console.is_dumb_terminal:
        yield LineProgress()
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(bar_width=None),
        TextColumn("{task.fields[images]}, {task.fields[rates]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, expand=True) as bar:
        yield BarProgress(bar)


@contextmanager
def count_progress(what: str, *, quiet: bool) -> Iterator[Any]:
    """Give a function of (done, in all) that shows how far something is; None where nothing is to be shown."""
    console = messages()
    if quiet or not console.is_terminal or console.is_dumb_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(bar_width=None), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, expand=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class StageLines:
    """Plain lines about work in stages, for logs: one every few seconds, and one as a longer stage ends."""

    def __init__(self, seconds: float = SECONDS_BETWEEN_LINES) -> None:
        self.seconds = seconds
        self.stage = ""
        self.began = self.last = time.perf_counter()

    def __call__(self, stage: str, done: int, total: int | None, unit: str) -> None:
        now = time.perf_counter()
        if stage != self.stage:
            self.stage, self.began = stage, now
        ends = done == total and now - self.began >= self.seconds
        if now - self.last >= self.seconds or ends:
            self.last = now
            say(f"featpipe: {stage_line(stage, done, total, unit, now - self.began)}")


def stage_line(stage: str, done: int, total: int | None, unit: str, seconds: float) -> str:
    """Return in one line how far a stage is, how fast, and how long it will still take.

    Examples
    --------
    >>> stage_line("test", 300, 400, "image", 2.0)
    'test: 300 of 400 images (75%), 150 images/s, 0.667 s left'
    >>> stage_line("logistic", 90000, None, "image", 3.0)
    'logistic: 90,000 images, 30 k images/s'
    """
    rate = f", {scaled_text(done / seconds)} {unit}s/s" if done and seconds > 0 else ""
    if total is None:
        return f"{stage}: {count_text(done, unit)}{rate}"
    left = f", {seconds_text(seconds * (total - done) / done)} left" if 0 < done < total else ""
    return f"{stage}: {done:,} of {count_text(total, unit)} ({done / max(1, total):.0%}){rate}{left}"


@contextmanager
def stage_progress(*, quiet: bool) -> Iterator[Any]:
    """Give a function of (stage, done, in all or None, unit) that shows how far work in stages is."""
    if quiet:
        yield None
        return
    console = messages()
    if not console.is_terminal or console.is_dumb_terminal:
        yield StageLines()
        return
    from rich.progress import BarColumn, Progress, TextColumn

    with Progress(BarColumn(20), TextColumn("{task.fields[line]}"), console=console, transient=True) as bar:
        task, lines = bar.add_task("", total=None, line=""), StageLines()

        def show(stage: str, done: int, total: int | None, unit: str) -> None:
            now = time.perf_counter()
            if stage != lines.stage:
                lines.stage, lines.began = stage, now
                bar.reset(task, total=total)
            bar.update(task, completed=done, total=total, line=stage_line(stage, done, total, unit, now - lines.began))

        yield show
