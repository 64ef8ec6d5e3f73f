"""Making the plan: program, maps, pieces, tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from featpipe.errors import PlanError, Problem
from featpipe.geometry.axis import Span
from featpipe.plan.budget import Budget, Kept, Resources
from featpipe.plan.check import exclude_misfits
from featpipe.plan.collection import Collection
from featpipe.plan.fitting import FitRequest, check_fits, fit_bytes, gathered_bytes, library_bytes
from featpipe.plan.layout import owned_blocks
from featpipe.plan.local import refuse_unequal_images, weight_bytes
from featpipe.plan.model import MapPlan, Memory, Plan, Task
from featpipe.plan.program import Program
from featpipe.plan.resolve import make_program
from featpipe.plan.schedule import node_shapes
from featpipe.spec.pipeline import Pipeline

IMAGE_BYTES = 1000
"""What a process holds of each image of the collection: name, size, label, place."""


def make_plan(pipeline: Pipeline, collection: Collection, resources: Resources, kept: Kept | None = None) -> Plan:
    """Decide everything about a run without reading a pixel.

    Parameters
    ----------
    pipeline : Pipeline
    collection : Collection
    resources : Resources
        Memory and threads that the run may use.
    kept : Kept, optional
        The batches and blocks of the store that is there; the pipeline's own wishes go before them.

    Raises
    ------
    PlanError
        If a layer does not fit its input, or a task does not fit the memory.
    """
    program = make_program(pipeline.features, collection.channels)
    fits = [
        f"{request.title}: learned from {request.bank.patches:,} patches before the run" for request in program.fits
    ]
    collection, misfits = exclude_misfits(program, collection, pipeline.images.on_error)
    notes = [*([f"{collection.passed}."] if collection.passed else []), *misfits]
    refuse_unequal_images(program, collection)
    kernels = weight_bytes(program, node_shapes(program, collection.shape))
    held = kernels + IMAGE_BYTES * len(collection) + library_bytes(program.fits)
    base, gathered = resources.base_bytes + held, gathered_bytes(program.fits)
    budget = Budget(
        pipeline, collection, program, replace(resources, base_bytes=base + gathered), kept or Kept()
    )  # tasks leave room for the patches that they cut
    large = budget.asked_block is not None or budget.needs_blocks()
    maps = _make_maps(program, collection, large=large)
    pieces = budget.choose_pieces(maps, large=large)
    block = pieces.block
    asked = pipeline.store.block
    if asked is not None and block is not None and list(block) != list(asked):
        notes.append(
            f"store.block [{asked[0]}, {asked[1]}] became [{block[0]}, {block[1]}]: every map's stride divides it."
        )
    plan = Plan(
        pipeline=pipeline,
        collection=collection,
        program=program,
        maps=maps,
        pieces=pieces,
        tasks=(),
        memory=_with_fits(replace(budget.memory(maps, pieces), base=base), program.fits),
        flops=budget.flops(),
        seconds=budget.seconds(),
        output_bytes=budget.output_bytes(maps),
        notes=(*notes, *fits),
    )
    check_fits(plan)
    _refuse_too_large(plan)
    return replace(plan, tasks=tuple(_make_tasks(plan)))


def _with_fits(memory: Memory, fits: Sequence[FitRequest]) -> Memory:
    """Add what the fits take: their patches while tasks cut them, then what is made of these."""
    if not fits:
        return memory
    return replace(memory, fit=max(gathered_bytes(fits) + memory.threads * memory.task, *map(fit_bytes, fits)))


def _make_maps(program: Program, collection: Collection, *, large: bool) -> tuple[MapPlan, ...]:
    maps = []
    for output in program.outputs:
        windows = program.windows(output.node)
        fixed = windows is None
        maps.append(
            MapPlan(
                name=output.name,
                branch=output.branch,
                scale=output.scale,
                node=output.node,
                features=tuple({**labels, "scale": output.scale} for labels in program.features(output.node)),
                windows=windows,
                stacked=fixed or collection.uniform,
                batched=fixed or not large,
            )
        )
    return tuple(maps)


def _make_tasks(plan: Plan) -> Iterator[Task]:
    """Yield one task for every shard: batches of the batched maps, then blocks of the others, image by image."""
    batched = tuple(i for i, m in enumerate(plan.maps) if m.batched)
    blocked = tuple(i for i, m in enumerate(plan.maps) if not m.batched)
    index = 0
    if batched:
        for start in range(0, len(plan.collection), plan.batch):
            yield Task(index, Span(start, min(start + plan.batch, len(plan.collection))), batched)
            index += 1
    if blocked and plan.block is not None:
        maps = [plan.maps[i] for i in blocked]
        for image in range(len(plan.collection)):
            if plan.collection.heights[image] == 0:
                continue
            for at in owned_blocks(plan.program, maps, plan.block, plan.shape(image)):
                yield Task(index, Span(image, image + 1), blocked, at)
                index += 1


def _refuse_too_large(plan: Plan) -> None:
    memory = plan.memory
    if memory.peak <= memory.limit:
        return
    parts = ", ".join(f"{name} {_bytes_text(size)}" for name, size in memory.parts.items() if size)
    what = (
        f"a task needs {_bytes_text(memory.task)} ({parts}); {memory.threads} of them and {_bytes_text(memory.base)} "
        f"for the process itself come to {_bytes_text(memory.peak)}, and there are {_bytes_text(memory.limit)}."
    )
    store = plan.pipeline.store
    if store.batch is not None or store.block is not None:
        change = f"Lower store.{'batch' if store.batch is not None else 'block'}, or leave it out."
    elif memory.threads > 1 and memory.base + memory.task <= memory.limit:
        change = "Use fewer threads (--threads 1), or give more memory (--memory)."
    else:
        change = "Give more memory (--memory), pool earlier in the chain, or use fewer kernels a branch."
    raise PlanError(Problem("plan", what, change, ("store",) if store.batch or store.block else ()))


def _bytes_text(size: int) -> str:
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:.{2 if unit == 2**30 else 1}f} {name}"
    return f"{size} B"
