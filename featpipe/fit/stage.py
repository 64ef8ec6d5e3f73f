"""The stage before a run: every bank that the pipeline learns, in order of depth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from featpipe.errors import Problem, RunError, key_path
from featpipe.fit.gather import Cut, PatchWork
from featpipe.fit.learn import learn_bank
from featpipe.fit.sample import draw_patches
from featpipe.images.reader import open_reader
from featpipe.kernels.fitted import FittedBank
from featpipe.plan.fitting import FitRequest, fit_images, map_shapes, unreached_images
from featpipe.plan.model import Failure, Plan, add_failures
from featpipe.plan.resolve import make_program
from featpipe.report.units import count_text


class Shelf(Protocol):
    """Where banks are kept."""

    def load(self, request: FitRequest) -> FittedBank | None: ...

    def save(self, request: FitRequest, bank: FittedBank) -> None: ...


Execute = Callable[[PatchWork, Iterable[int], Callable[[Cut], None]], None]
"""Runs a job's tasks, and hands over what each returns."""
Tell = Callable[[str], None]
"""Is told what is being done."""
Note = Callable[[Mapping[int, str]], None]
"""Is told the content of images that were read."""


def learn_banks(plan: Plan, execute: Execute, shelf: Shelf, tell: Tell, note: Note = lambda _: None) -> Plan:
    """Learn the banks that a plan asks for, and return the plan with them.

    Parameters
    ----------
    plan : Plan
    execute : callable
    shelf : Shelf
        Banks that it holds already are not learned again; others are saved there.
    tell : callable
    note : callable, optional
        Is told the content of the images that are read.

    Raises
    ------
    PlanError
        If a bank cannot be learned from these images.
    RunError
        If an image could not be reached, for the bank would be another one without it; if one cannot be read and
        ``images.on_error`` is ``fail``; or if none can.
    """
    fitted: dict[str, FittedBank] = {}
    bad = plan.collection.unreadable
    if plan.program.fits and bad:
        first = min(bad)
        tell(f"{count_text(len(bad), 'image')} cannot be read, as {plan.collection.paths[first]}: {bad[first]}")
    while plan.program.fits:
        request: FitRequest = plan.program.fits[0]
        bank = shelf.load(request)
        if bank is None:
            tell(f"learning {request.title}: {request.bank.patches:,} patches")
            bank = _learn(plan, request, execute, tell, note)
            shelf.save(request, bank)
        fitted[request.key] = bank
        program = make_program(plan.pipeline.features, plan.collection.channels, fitted)
        plan = replace(plan, program=program)
    return plan


def _learn(plan: Plan, request: FitRequest, execute: Execute, tell: Tell, note: Note) -> FittedBank:
    collection = plan.collection
    away = sorted(unreached_images(request, collection))
    _check_reached(request, [f"{collection.paths[i]}: {collection.unreadable[i]}" for i in away])
    shapes = map_shapes(plan, request)
    images = fit_images(request, plan.collection, shapes)
    bank = request.bank
    features = plan.program.width(request.node) if request.each else 1
    sources = draw_patches(images, shapes, request.extent, bank.patches, bank.seed, features)
    work = PatchWork(plan, request, open_reader(plan.pipeline.images, plan.collection), sources)
    patches = np.empty((len(sources), bank.size, bank.size, request.channels), np.float32)
    there = np.zeros(len(sources), bool)
    failures: dict[int, Failure] = {}

    def arrived(cut: Cut) -> None:
        patches[cut.which] = cut.patches
        there[cut.which] = True
        add_failures(failures, cut.failures)
        note(cut.contents)

    execute(work, work.tasks, arrived)
    del work  # and what its reader keeps for each thread, before the fit takes its share
    listed = [failures[image] for image in sorted(failures)]
    _check_reached(request, [one.reason for one in listed if one.unavailable])
    if listed and plan.pipeline.images.on_error == "fail":
        raise RunError(listed[0].reason)
    if not there.any():
        raise RunError(f"none of the images to learn from could be read: {listed[0].reason if listed else 'unknown'}")
    if listed:
        lost = f"{len(sources) - int(there.sum()):,} of {len(sources):,} patches"
        tell(f"{count_text(len(listed), 'image')} cannot be read, and {lost} are left out: {listed[0].reason}")
    if not there.all():
        patches, sources = patches[there], sources[there]
    return learn_bank(request, patches, sources)


def _check_reached(request: FitRequest, reasons: Sequence[str]) -> None:
    """Refuse to learn from some of the images only because the others could not be reached."""
    if not reasons:
        return
    what = f"{count_text(len(reasons), 'image')} to learn from could not be reached, as {reasons[0].rstrip('.')}."
    change = "Nothing was learned, as the bank would be another one. Check the disk or the network, then run again."
    raise RunError(Problem(key_path(request.location), what, change, request.location))
