"""What a run did, who watches it go on, and how it is interrupted."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Literal, Protocol

from featpipe.graph.jobs import Crew
from featpipe.plan.model import Failure, Plan

if TYPE_CHECKING:
    from featpipe.task import Receipt


class Progress(Protocol):
    """Who wants to see the run go on."""

    def start(self, plan: Plan, tasks: Sequence[int]) -> None: ...

    def update(self, receipt: Receipt) -> None: ...

    def tell(self, what: str) -> None: ...

    def crew(self, crew: Crew) -> None: ...

    def stopping(self) -> None: ...


@dataclass
class RunReport:
    """What a run did."""

    store: str
    status: Literal["complete", "unchanged", "interrupted"]
    images: int
    failures: list[Failure] = field(default_factory=list)
    paths: tuple[str, ...] = ()
    tasks: int = 0
    """Tasks done by this run."""
    resumed: int = 0
    """Tasks that an earlier run had done."""
    pixels: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    retried: int = 0
    """Reads that succeeded only when they were tried again."""
    phases: dict[str, float] = field(default_factory=dict)
    """Seconds of all tasks together spent on read, compute and write."""


@contextmanager
def drain_on_interrupt(stop: threading.Event, progress: Progress | None) -> Iterator[None]:
    """Let the first Ctrl-C finish the running tasks and the second abort at once."""

    def interrupted(_signal: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()
        if progress is not None:
            progress.stopping()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: Callable[[int, FrameType | None], object] | int | None = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
