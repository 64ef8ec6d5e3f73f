"""Steps of a run: make the store ready, learn banks, compute what is missing, finish.

What computes and writes is imported where a step begins: planning needs no kernels and no zarr.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from errno import EDQUOT, ENOSPC
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featpipe.errors import ImageError, Problem, RunError, StoreError, WriteError
from featpipe.geometry.axis import Span
from featpipe.graph import Crew, Workers
from featpipe.images.content import UNKNOWN
from featpipe.plan.identity import plan_digests
from featpipe.plan.layout import array_plans
from featpipe.plan.model import Failure, MapPlan, Plan, Task, add_failures
from featpipe.report.units import bytes_text
from featpipe.run.learning import learn
from featpipe.run.report import Progress, RunReport, drain_on_interrupt
from featpipe.spec.defaults import resolved
from featpipe.store.place import free_bytes

if TYPE_CHECKING:
    from featpipe.run.standing import Standing
    from featpipe.store.lock import StoreLock
    from featpipe.store.receipts import Receipt as MapReceipt
    from featpipe.store.seal import Sum
    from featpipe.task import Receipt


class RunSession:
    """One run of a plan into its store: its failures, its receipts, and the steps that make them."""

    def __init__(
        self, standing: Standing, lock: StoreLock | None, max_failures: int | float | None, progress: Progress | None
    ) -> None:
        from featpipe.store.receipts import Journal

        self.standing = standing
        self.lock = lock
        self.progress = progress
        self.place = standing.place if lock is None else lock.fenced
        plan = standing.plan
        self.identities = standing.identities
        self.contents = standing.contents
        self.allowed = _allowed(max_failures, len(plan.collection))
        self.journal = Journal(self.place, 0 if lock is None else lock.generation)
        self.receipts = {receipt.place: receipt for receipt in standing.kept}
        self.plan = replace(plan, tasks=_with_maps(plan, standing.todo))
        self.stop = threading.Event()
        if lock is not None:
            lock.when_lost(self.stop.set)
        done = len(plan.tasks) - len(standing.todo)
        self.report = RunReport(
            str(self.place), "complete", len(plan.collection), paths=plan.collection.paths, resumed=done
        )
        self.sums: Mapping[str, Sum] = {}
        self.phases: Counter[str] = Counter()
        self.stored_bytes = 0
        self.crew: Crew | None = None
        self.failures: dict[int, Failure] = plan.unreadable()
        for receipt in standing.kept:
            add_failures(self.failures, _failures_of(receipt))

    def unchanged(self) -> RunReport:
        """Report a store that is complete already; failures of earlier runs count as they did then."""
        self.check_failures()
        self.report.status, self.report.resumed = "unchanged", 0
        self.report.failures = self._failed()
        if self.lock is not None:
            self._keep_stamps()
        return self.report

    def _keep_stamps(self) -> None:
        """Keep the times of the images with their contents, so that the next run need not compare them."""
        from featpipe.store.seen import write_stamps

        with suppress(StoreError):  # whoever cannot write them compares again
            write_stamps(self.place, self.plan.collection.paths, self.contents.final(), self.contents.stamps)

    def prepare(self) -> None:
        """Make the store ready for what it lacks: from here on it is one of this plan, and partial."""
        from featpipe.run.recovery import bank_group
        from featpipe.store.checksums import Findings, differing
        from featpipe.store.create import create_store
        from featpipe.store.fits import fits_prefixes

        self._settle(self._unread(), "noting the content")
        maps = {a_map.name: a_map for a_map in self.plan.maps}
        self.receipts = {place: self._renewed(one, maps[one.map]) for place, one in self.receipts.items()}
        self._begin()
        attributes = {
            "pipeline": resolved(self.plan.pipeline),
            "digests": plan_digests(self.plan),
            "pieces": {"batch": self.plan.batch, "block": self.plan.block},
        }
        arrays = ((self.plan.maps[i], array) for i, array in array_plans(self.plan))
        self.sums = create_store(
            self.place, arrays, self.plan.collection, attributes, self._finished(), self.contents.final()
        )
        keys = {*self.sums, *(shard.key for receipt in self.receipts.values() for shard in receipt.shards)}
        banks = self.standing.banks
        if banks:  # kept until the end, for a run that is killed meanwhile
            Findings(self.place).write(banks)
        lost = {bank_group(key) for key in differing(self.place, banks, banks)}
        spare = fits_prefixes(request.key for request in self.plan.program.fits)
        self._sweep(keys, spare=tuple(prefix for prefix in spare if prefix not in lost))

    def _sweep(self, keys: Container[str], spare: tuple[str, ...]) -> None:
        """Remove all but these keys from the groups of the store; files that lie beside its groups stay."""
        stale = [key for key, _ in self.place.files() if "/" in key and key not in keys and not key.startswith(spare)]
        if stale:
            self.place.remove(stale)
            self.place.tidy()

    def _unread(self) -> list[int]:
        """Return the images whose content is not found out on the way: those kept, or read by parts."""
        collection = self.plan.collection
        if collection.kind == "zarr":
            return list(range(len(collection)))
        by_parts = bool(self.plan.pieces.stream[0])
        todo = [task for task in self.plan.tasks if task.index in self.standing.todo]
        spans = [(*task.images,) for task in todo if by_parts or task.block is not None]
        spans += [receipt.images for receipt in self.receipts.values()]
        kept = {receipt.map for receipt in self.receipts.values()}
        drawn = (self.identities.drawn_for(a_map) for a_map in self.plan.maps if a_map.name in kept)
        return sorted({row for span in spans for row in range(*span)}.union(*drawn))

    def _settle(self, rows: Iterable[int], what: str) -> None:
        """Read images whose content is not known."""
        tell = self.progress.tell if self.progress is not None else lambda _: None
        self.contents.settle(rows, tell, what)

    def _renewed(self, receipt: MapReceipt, a_map: MapPlan) -> MapReceipt:
        """Return a kept receipt with the identity that it has been found to have, which featpipe 0.1 told by times."""
        identity = self.identities.of(a_map, Span(*receipt.images))
        return receipt if identity is None else replace(receipt, identity=identity)

    def learn(self, workers: Workers) -> None:
        """Learn the banks that the plan asks for."""
        from featpipe.store.fits import StoreShelf

        if self.plan.program.fits:
            shelf = StoreShelf(self.place, self._fit_digest, self.identities.stamped_fit)
            with self._told():
                self.plan = learn(
                    self.plan, shelf, workers=workers, progress=self.progress, stop=self.stop, note=self._learned
                )
                shelf.check(self.standing.banks)

    def _fit_digest(self, key: str) -> str:
        """Return the digest of the images that a fit looks at, all of which have been read by now."""
        self._settle(self.identities.drawn[key], "noting the content")
        return self.identities.fit(key) or ""

    def _learned(self, contents: Mapping[int, str]) -> None:
        """Take in the content of images that a bank was learned from."""
        self._take(contents)
        self.journal.add((), self.contents.seen(contents))

    def _take(self, contents: Mapping[int, str]) -> None:
        changed = self.contents.note(contents)
        if changed:
            self.journal.add((), self.contents.seen(changed))  # the next run compares with what they hold now
            name = self.plan.collection.paths[changed[0]]
            what, change = "has changed while the run was on.", "Run again when nobody writes it."
            if changed[0] in self.contents.assumed:
                what = "holds other bytes than when it was last read, though its size and its time are the same."
                change = "Run again: it tells which features were computed from what it held."
            raise RunError(Problem(name, what, change))

    def execute(self, workers: Workers) -> None:
        from featpipe.images.reader import open_reader
        from featpipe.store.write import StoreWriter
        from featpipe.task import Work

        reader = open_reader(self.plan.pipeline.images, self.plan.collection)
        job = Work(self.plan, reader, StoreWriter(self.place))
        tasks = sorted(self.standing.todo)
        start = time.perf_counter()
        if self.progress is not None:
            self.progress.start(self.plan, tasks)
        at_once = self.plan.memory.threads
        try:
            with self._told(), drain_on_interrupt(self.stop, self.progress):
                workers.run(job, tasks, self._arrived, self.stop, at_once=at_once, on_crew=self._staffed)
                while not self.stop.is_set() and (halves := self._halves()):
                    self._forget(halves)
                    job = Work(self.plan, reader, StoreWriter(self.place), dict(self.failures))
                    workers.run(job, sorted(halves), self._note, self.stop, at_once=at_once)
                self._check_lock()
        finally:
            self.report.seconds = time.perf_counter() - start
        self.check_failures()

    def _check_lock(self) -> None:
        """Fail where the lock was taken from this run: it was stopped for that, not because it is done."""
        if self.lock is not None and self.lock.lost.is_set():
            raise self.lock.fence.error()

    def _halves(self) -> dict[int, tuple[int, ...]]:
        """Return tasks and those of their maps that hold features of an image which has failed elsewhere.

        Such an image fails in one block or map, and others have been written, by this run or another. The tasks are run
        again without it, so that all of its features are NaN.
        """
        failed = np.array(sorted(self.failures), np.int64)
        found: dict[int, tuple[int, ...]] = {}
        for task in self.standing.plan.tasks if len(failed) else ():
            first, last = np.searchsorted(failed, task.images)
            for i in task.maps if first < last else ():
                receipt = self.receipts.get((self.plan.maps[i].name, task.images.start, task.block))
                if receipt is not None and not (receipt.failures or {}).keys() >= set(failed[first:last].tolist()):
                    found[task.index] = (*found.get(task.index, ()), i)
        return found

    def _forget(self, tasks: Mapping[int, tuple[int, ...]]) -> None:
        """Forget what some tasks have written of some maps, and plan to write it anew."""
        self.plan = replace(self.plan, tasks=_with_maps(self.standing.plan, tasks))
        for index in tasks:
            task = self.plan.tasks[index]
            for i in task.maps:
                del self.receipts[self.plan.maps[i].name, task.images.start, task.block]
        self._begin()

    def _begin(self) -> None:
        """Begin the journal anew with what is kept."""
        self.journal.begin(self.receipts.values(), self.contents.seen(range(len(self.plan.collection))))

    def _finished(self) -> npt.NDArray[np.bool_]:
        """Return which images have all of their features in what is kept."""
        plan = self.standing.plan
        there = plan.collection.heights > 0
        for index in self.standing.todo:
            there[slice(*plan.tasks[index].images)] = False
        there[list(self.failures)] = False
        return there

    def _staffed(self, crew: Crew) -> None:
        self.crew = crew
        if self.progress is not None:
            self.progress.crew(crew)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell of what went wrong while the run was on as a failure of the run, and how to go on."""
        try:
            yield
        except WriteError as error:
            raise RunError([_with_space(problem, error.errno, self) for problem in error.problems]) from error
        except (ImageError, StoreError) as error:
            raise RunError(error.problems) from error

    def _arrived(self, done: Receipt) -> None:
        self._note(done)
        report = self.report
        report.tasks += 1
        report.pixels += done.pixels
        report.bytes_written += done.bytes_written
        self.phases.update(done.seconds)
        if self.progress is not None:
            self.progress.update(done)
        if len(self.failures) > self.allowed:
            self.stop.set()

    def _note(self, done: Receipt) -> None:
        """Write down what a task has done."""
        from featpipe.store.receipts import Receipt as MapReceipt

        task = self.plan.tasks[done.task]
        failures = {failure.image: failure.reason for failure in done.failures}
        away = frozenset(failure.image for failure in done.failures if failure.unavailable)
        images = (task.images.start, task.images.stop)
        rows = range(*images)
        self._take({**dict.fromkeys(failures, UNKNOWN), **done.contents})
        self._settle(rows, "noting the content")
        receipts = []
        for i in task.maps:
            a_map = self.plan.maps[i]
            identity = self.identities.of(a_map, task.images)
            assert identity is not None
            shards = tuple(done.shards.get(i, ()))
            receipts.append(MapReceipt(a_map.name, images, task.block, identity, shards, failures, away))
            self.stored_bytes += sum(shard.bytes for shard in shards)
        self.journal.add(receipts, self.contents.seen(rows))
        self.receipts |= {receipt.place: receipt for receipt in receipts}
        self.report.retried += done.retried
        add_failures(self.failures, done.failures)

    def check_failures(self) -> None:
        """Fail where more images did than may."""
        failed = len(self.failures)
        if failed <= self.allowed:
            return
        reason, _ = Counter(failure.reason for failure in self.failures.values()).most_common(1)[0]
        what = f"{failed:,} of {self.report.images:,} images failed, and {self.allowed:,} may; the commonest reason: "
        change = "Mend or remove them, or allow more (--max-failures); then run again: it goes on from here."
        raise RunError(Problem("--max-failures", what + reason.rstrip(".") + ".", change))

    def outcome(self) -> dict[str, Any]:
        """Return what has been done, for the store's history."""
        report = self.report
        return {
            "status": report.status,
            "tasks": report.tasks,
            "failed": len(self.failures),
            "unavailable": len(self._unavailable()),
            "pixels": report.pixels,
            "bytes_written": report.bytes_written,
            "bytes_stored": self.stored_bytes,
            "seconds_computing": report.seconds,
            "phases": dict(self.phases),
            "workers": None if self.crew is None else self.crew.workers,
        }

    def _failed(self) -> list[Failure]:
        return [self.failures[image] for image in sorted(self.failures)]

    def _unavailable(self) -> list[int]:
        return [image for image, failure in sorted(self.failures.items()) if failure.unavailable]

    def finish(self) -> RunReport:
        from featpipe.store.checksums import Findings
        from featpipe.store.write import StoreWriter

        with self._told():
            self._check_lock()
        report = self.report
        report.phases = dict(self.phases)
        report.failures = self._failed()
        wanted = sum(len(task.maps) for task in self.standing.plan.tasks)
        if len(self.receipts) < wanted or self._halves():
            report.status = "interrupted"
            return report
        if len(report.failures) == len(self.plan.collection):
            self.journal.begin([])  # whatever it was, the next run tries them again
            reasons = Counter(failure.reason for failure in report.failures).most_common(1)
            raise RunError(f"none of the {report.images} images could be read; the commonest reason: {reasons[0][0]}")
        with self._told():
            told = {image: failure.reason for image, failure in self.failures.items()}
            contents = self.contents.final()
            StoreWriter(self.place).finish(told, self.receipts.values(), self._unavailable(), self.sums, contents)
            Findings(self.place).write({})
            self.journal.remove()
            self._keep_stamps()
        return report


def _with_maps(plan: Plan, maps: Mapping[int, tuple[int, ...]]) -> tuple[Task, ...]:
    """Return a plan's tasks, some of them for some of their maps only."""
    return tuple(replace(task, maps=maps.get(task.index, task.maps)) for task in plan.tasks)


def _failures_of(receipt: MapReceipt) -> Iterator[Failure]:
    """Yield the failures that a receipt in the store tells of."""
    for image, reason in (receipt.failures or {}).items():
        yield Failure(image, reason, image in receipt.unavailable)


def _allowed(max_failures: int | float | None, images: int) -> int:
    """Return how many images may fail."""
    if max_failures is None:
        return images
    return max_failures if isinstance(max_failures, int) else int(max_failures * images)


def _with_space(problem: Problem, errno: int | None, run: RunSession) -> Problem:
    """Return the problem of a full disk with what is needed and what is there."""
    if errno not in (ENOSPC, EDQUOT):
        return problem
    report, free = run.report, free_bytes(run.place)
    ratio = run.stored_bytes / report.bytes_written if report.bytes_written else 1.0
    share = len(run.standing.todo) / max(1, len(run.plan.tasks))
    needed = max(1, int((run.plan.output_bytes * share - report.bytes_written) * ratio))
    said = f", and {bytes_text(free)} are free" if free is not None else ""
    what = f"is full: about {bytes_text(needed)} ({needed:,} bytes) are still to be written{said}."
    change = "Free that much there, then run again: it goes on from here. Or set store.path to another place."
    return Problem(problem.where, what, change)
