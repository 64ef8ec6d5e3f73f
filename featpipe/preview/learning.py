"""The program of a preview: with the banks of the store, or with banks learned as a run learns them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from featpipe.errors import PlanError, Problem, StoreError, key_path
from featpipe.kernels.fitted import FittedBank
from featpipe.plan.fitting import FitRequest
from featpipe.plan.program import Program
from featpipe.plan.resolve import make_learned
from featpipe.run.learning import learn
from featpipe.run.planning import default_resources, plan_run
from featpipe.run.report import Progress
from featpipe.run.standing import identities_now
from featpipe.spec.pipeline import Pipeline
from featpipe.store.fits import StoreShelf
from featpipe.store.place import open_place
from featpipe.trace import Example


class ReadOnlyShelf:
    """Gives the banks that a store holds, and keeps none: a preview writes nothing but its picture."""

    def __init__(self, shelf: StoreShelf, missing: Callable[[], None]) -> None:
        self.shelf = shelf
        self.missing = missing

    def load(self, request: FitRequest) -> FittedBank | None:
        bank = self.shelf.load(request)
        if bank is None:
            self.missing()
        return bank

    def save(self, request: FitRequest, bank: FittedBank) -> None:
        """Keep nothing."""


def learn_for_preview(
    pipeline: Pipeline,
    example: Example,
    tell: Callable[[Program], None],
    progress: AbstractContextManager[Progress | None],
) -> Program:
    """Return a pipeline's program with the banks of its store; what is not there is learned from the collection.

    Parameters
    ----------
    pipeline : Pipeline
    example : Example
        The image to be shown.
    tell : callable
        Is told the program before something is learned.
    progress : context manager of Progress

    Raises
    ------
    SourceError
        If there is no collection.
    PlanError, RunError
        If a bank cannot be learned from it, or is for images of other channels than the example has.
    """
    plan = plan_run(pipeline, default_resources())
    if len(plan.collection.channels) != len(example.channels):
        request = plan.program.fits[0]
        here, there = len(example.channels), len(plan.collection.channels)
        what = f"its bank is learned from images of {there} channels, and {example.name} has {here}."
        change = "Choose another image, or set images.color."
        raise PlanError(Problem(key_path(request.location), what, change, request.location))
    told: list[bool] = []

    def missing() -> None:
        if not told:
            tell(plan.program)
        told.append(True)

    place = open_place(pipeline.store.path)
    identities = identities_now(place, plan)
    shelf = ReadOnlyShelf(StoreShelf(place, identities.fit, identities.known.stamped_fit), missing)
    with progress as shown:
        return learn(plan, shelf, progress=shown).program


def stored_program(pipeline: Pipeline, channels: Sequence[str]) -> Program | None:
    """Return a pipeline's program with the banks of its store alone, whatever they were learned from; None without."""
    try:
        program = make_learned(pipeline.features, channels, StoreShelf(open_place(pipeline.store.path)).load)
    except (StoreError, OSError):
        return None
    return None if program.fits else program
