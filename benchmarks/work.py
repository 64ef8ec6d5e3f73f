"""What a work is: its images, and for featpipe and every peer how to do it and how to read the result."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Job = Callable[[], None]
"""What is timed, from the first look at the images to the last byte written; all imports lie behind it."""


@dataclass(frozen=True)
class Size:
    """How much to do."""

    quick: bool = False
    images: int | None = None
    """Of W1, where it shall not be the default."""


@dataclass(frozen=True)
class Contender:
    """One way to do a work.

    Parameters
    ----------
    prepare : callable
        Takes the folder of the images, the store to write and one of ``settings``; imports, and returns the job.
    maps : callable
        Takes the store and yields its float32 maps, the same for every contender.
    settings : tuple of dict
        All are tried before the clock starts; the fastest is kept.
    needs : tuple of str
        Packages without which it is left out.
    """

    prepare: Callable[..., Job]
    maps: Callable[[Path], Iterator[Float32]]
    settings: tuple[Mapping[str, Any], ...] = ({},)
    needs: tuple[str, ...] = ()

    def installed(self) -> bool:
        """Tell whether all it needs is there."""
        return all(importlib.util.find_spec(name) for name in self.needs)


@dataclass(frozen=True)
class Work:
    """A job end to end, from image files to zarr."""

    name: str
    title: str
    unit: str
    amount: float
    """How many units there are to do; rates are units per second."""
    tolerance: float
    """Largest difference from featpipe that counts as the same result, relative to the map's largest value."""
    setup: Callable[[Path], None]
    """Writes the images and kernels into a folder."""
    contenders: Mapping[str, Contender] = field(default_factory=dict)
    """The first is featpipe, with two threads; whose name begins with it is no peer."""


def run_featpipe(pipeline: Callable[[Path], dict[str, Any]], threads: int) -> Callable[[Path, Path], Job]:
    """Return a contender's ``prepare`` that runs a pipeline, given as the mapping for a folder of images."""

    def prepare(folder: Path, out: Path) -> Job:
        for name in ("dask.threaded", "imagecodecs", "zarr", "featpipe.task"):
            importlib.import_module(name)  # the imports that featpipe puts off count no more than the peers'
        from featpipe.run import default_resources, plan_run, run_plan
        from featpipe.spec.load import parse_pipeline

        def job() -> None:
            parsed = parse_pipeline({**pipeline(folder), "store": {"path": str(out)}})
            run_plan(plan_run(parsed, default_resources(threads=threads)))

        return job

    return prepare


def inferring(job: Job) -> Job:
    """Return the job in PyTorch's inference mode."""

    def run() -> None:
        import torch

        with torch.inference_mode():
            job()

    return run


def create_array(path: Path, shape: tuple[int, ...], chunks: tuple[int, ...]) -> Any:
    """Create a float32 zarr array for a peer, with the codec that featpipe uses."""
    import zarr
    from zarr.codecs import BloscCodec

    codec = BloscCodec(cname="zstd", clevel=1, shuffle="shuffle")
    return zarr.create_array(path, shape=shape, chunks=chunks, dtype="float32", compressors=codec)


def read_stack(*names: str) -> Callable[[Path], Iterator[Float32]]:
    """Return a function that yields these maps of a feature stack."""

    def maps(out: Path) -> Iterator[Float32]:
        from featpipe.stack import open_stack

        stack = open_stack(out)
        for name in names:
            yield np.asarray(stack[name][:])

    return maps


def read_array(out: Path) -> Iterator[Float32]:
    """Yield the one array that a peer has written."""
    import zarr

    yield np.asarray(zarr.open_array(out, mode="r")[:])
