"""Features of an array in memory, or lazily of a dask array."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featpipe.chain.execute import run_whole
from featpipe.errors import ImageError, PlanError, Problem, key_path
from featpipe.graph import is_lazy, map_images
from featpipe.images.header import Decoded, white
from featpipe.images.refusal import Refused
from featpipe.images.region import region_shape, region_spans
from featpipe.images.values import channel_names, prepare, recoloured
from featpipe.plan.check import shape_problems
from featpipe.plan.program import Program
from featpipe.plan.resolve import make_program
from featpipe.plan.schedule import node_shapes
from featpipe.spec.load import parse_pipeline
from featpipe.spec.pipeline import Images, Pipeline

Float32 = npt.NDArray[np.float32]


def extract(array: Any, pipeline: Pipeline | Mapping[str, Any] | str | Path) -> dict[str, Any]:
    """Compute the features of images at hand.

    The pipeline's ``images`` options on values, colour, region and size apply as in a run; its path does not matter.

    Parameters
    ----------
    array : (n, y, x) or (n, y, x, c) array
        NumPy or dask. A dask array must know its shape; it is taken image by image, lazily.
    pipeline : path, mapping or Pipeline
        A pipeline file, or the same as a mapping; one with ``features`` alone will do.

    Returns
    -------
    dict of str to (n, y, x, k) float32 array
        ``"branch/scale1"`` (and ``"branch/saved name/scale1"``) to its features; NumPy in, NumPy out; dask in, lazy
        dask out.

    Raises
    ------
    SpecError, PlanError
        If the pipeline is wrong, or does not suit the array.
    ImageError
        If an image holds NaN or infinity, or does not suit ``color`` or ``size``.

    Examples
    --------
    >>> images = np.ones((2, 8, 8), np.float32)
    >>> maps = extract(images, {"features": {"edges": {"layers": [{"convolve": {"bank": "sobel"}}, "modulus"]}}})
    >>> maps["edges/scale1"].shape
    (2, 6, 6, 1)
    """
    spec = pipeline if isinstance(pipeline, Pipeline) else parse_pipeline(pipeline)
    array = array if is_lazy(array) else np.asarray(array)
    if array.ndim not in (3, 4):
        raise PlanError(f"extract takes (n, y, x) or (n, y, x, c) arrays, got {array.ndim} axes: {array.shape}.")
    if array.dtype.kind not in "biuf":
        raise PlanError(f"extract takes numbers, got {array.dtype}.")
    if array.ndim == 3:
        array = array[..., None]
    try:
        channels = channel_names(recoloured(array.shape[3], spec.images.color))
        used = region_shape(spec.images, array.shape[1:3])
    except Refused as refusal:
        raise PlanError(f"the array {refusal}.") from None
    program = make_program(spec.features, channels)
    if program.fits:
        what = f"learns a bank ({program.fits[0].title}), and extract takes the images as they come."
        change = "Learn it with featpipe fit, and write bank: {file: bank.npz}."
        where = program.fits[0].location
        raise PlanError(Problem(key_path(where), what, change, where))
    size = spec.images.size or used
    shape = (int(size[0]), int(size[1]))
    problems = shape_problems(program, shape)
    if problems:
        raise PlanError(problems)
    if is_lazy(array):
        return _extract_lazily(program, spec.images, array, shape)
    return _extract(program, spec.images, array)


def _extract(program: Program, images: Images, array: npt.NDArray[Any], node: int | None = None) -> dict[str, Float32]:
    """Compute all maps, or those of one node, image by image, so that only results grow with n."""
    outputs = [output for output in program.outputs if node is None or output.node == node]
    results: dict[str, Float32] = {}
    for n in range(len(array)):
        maps = run_whole(program, _prepare(array[n], images)[None], frozenset(output.node for output in outputs))
        for output in outputs:
            values = maps[output.node]
            if output.name not in results:
                results[output.name] = np.empty((len(array), *values.shape[1:]), np.float32)
            results[output.name][n] = values[0]
    if not len(array):
        return {output.name: np.empty((0, 0, 0, program.width(output.node)), np.float32) for output in outputs}
    return results


def _extract_lazily(program: Program, images: Images, array: Any, shape: tuple[int, int]) -> dict[str, Any]:
    shapes = node_shapes(program, shape)

    def compute(block: npt.NDArray[Any], node: int, name: str) -> Float32:
        return _extract(program, images, block, node)[name]

    return {
        output.name: map_images(
            array,
            partial(compute, node=output.node, name=output.name),
            (*shapes[output.node], program.width(output.node)),
        )
        for output in program.outputs
    }


def _prepare(image: npt.NDArray[Any], images: Images) -> Float32:
    try:
        rows, columns = region_spans(images, image.shape[:2])
        return prepare(Decoded(image[slice(*rows), slice(*columns)], full=white(image.dtype)), images)
    except Refused as refusal:
        raise ImageError(f"an image {refusal}.") from None
