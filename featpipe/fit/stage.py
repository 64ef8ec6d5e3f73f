"""The stage before a run: every bank that the pipeline learns, in order of depth."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

import numpy as np

from featpipe.errors import RunError
from featpipe.fit.gather import Cut, PatchWork
from featpipe.fit.learn import learn_bank
from featpipe.fit.sample import draw_patches
from featpipe.images.reader import open_reader
from featpipe.kernels.fitted import FittedBank
from featpipe.plan.fitting import FitRequest, fit_images, map_shapes
from featpipe.plan.model import Plan
from featpipe.plan.resolve import make_program


class Shelf(Protocol):
    """Where banks are kept."""

    def load(self, request: FitRequest) -> FittedBank | None: ...

    def save(self, request: FitRequest, bank: FittedBank) -> None: ...


Execute = Callable[[PatchWork, Iterable[int], Callable[[Cut], None]], None]
"""Runs a job's tasks, and hands over what each returns."""
Tell = Callable[[str], None]
"""Is told what is being done."""


def learn_banks(plan: Plan, execute: Execute, shelf: Shelf, tell: Tell) -> Plan:
    """Learn the banks that a plan asks for, and return the plan with them.

    Parameters
    ----------
    plan : Plan
    execute : callable
    shelf : Shelf
        Banks that it holds already are not learned again; others are saved there.
    tell : callable

    Raises
    ------
    PlanError
        If a bank cannot be learned from these images.
    RunError
        If an image cannot be read and ``images.on_error`` is ``fail``, or too few can.
    """
    fitted: dict[str, FittedBank] = {}
    while plan.program.fits:
        request: FitRequest = plan.program.fits[0]
        bank = shelf.load(request)
        if bank is None:
            tell(f"learning {request.title}: {request.bank.patches:,} patches")
            bank = _learn(plan, request, execute)
            shelf.save(request, bank)
        fitted[request.key] = bank
        program = make_program(plan.pipeline.features, plan.collection.channels, fitted)
        plan = replace(plan, program=program)
    return plan


def _learn(plan: Plan, request: FitRequest, execute: Execute) -> FittedBank:
    shapes = map_shapes(plan, request)
    images = fit_images(request, plan.collection, shapes)
    bank = request.bank
    features = plan.program.width(request.node) if request.each else 1
    sources = draw_patches(images, shapes, request.extent, bank.patches, bank.seed, features)
    work = PatchWork(plan, request, open_reader(plan.pipeline.images, plan.collection), sources)
    patches = np.empty((len(sources), bank.size, bank.size, request.channels), np.float32)
    there = np.zeros(len(sources), bool)
    failures: dict[int, str] = {}

    def arrived(cut: Cut) -> None:
        patches[cut.which] = cut.patches
        there[cut.which] = True
        failures.update(cut.failures)

    execute(work, work.tasks, arrived)
    if failures and plan.pipeline.images.on_error == "fail":
        raise RunError(next(iter(failures.values())))
    if not there.any():
        raise RunError(f"none of the images to learn from could be read: {next(iter(failures.values()), 'unknown')}")
    if not there.all():
        patches, sources = patches[there], sources[there]
    return learn_bank(request, patches, sources)
