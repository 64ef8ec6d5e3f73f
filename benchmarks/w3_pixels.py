"""W3: features of every pixel of one large gray image: smoothing, edges and blobs at six widths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.photos import tiled
from benchmarks.work import Contender, Float32, Job, Size, Work, create_array, run_featpipe

SIGMAS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
CHUNK = 512
KINDS = ("gaussian", "gradient", "log")


def works(size: Size) -> list[Work]:
    """Return the work."""
    edge = 512 if size.quick else 4096

    def setup(folder: Path) -> None:
        np.save(folder / "image.npy", tiled(edge, seed=4))

    return [
        Work(
            name="W3",
            title=f"one gray image of {edge}², Gaussian, gradient and LoG at 6 σ, 18 maps",
            unit="megapixels",
            amount=edge * edge / 1e6,
            tolerance=1e-4,
            setup=setup,
            contenders={
                "featpipe": Contender(run_featpipe(_pipeline, 2), stack_maps),
                "scikit-image": Contender(
                    run_skimage, array_maps, ({"threads": 2}, {"threads": 1}), ("skimage", "scipy")
                ),
                "dask-image": Contender(
                    run_dask, array_maps, ({"block": 1024}, {"block": 2048}), ("dask_image", "scipy")
                ),
            },
        )
    ]


def _pipeline(folder: Path) -> dict[str, Any]:
    def bank(name: str) -> dict[str, Any]:
        return {"convolve": {"bank": name, "sigmas": list(SIGMAS), "padding": "reflect"}}

    return {
        "images": {"path": str(folder / "image.npy"), "axes": "yx"},
        "features": {
            "gaussian": {"layers": [bank("gaussian")]},
            "gradient": {"layers": [bank("gaussian-gradient"), "modulus"]},
            "log": {"layers": [bank("log")]},
        },
    }


def stack_maps(out: Path) -> Iterator[Float32]:
    """Yield featpipe's maps, (y, x) each."""
    from featpipe.stack import open_stack

    stack = open_stack(out)
    for kind in KINDS:
        features = stack[f"{kind}/scale1"]
        for k in range(len(SIGMAS)):
            yield np.asarray(features[..., k : k + 1])[0, :, :, 0]


def array_maps(out: Path) -> Iterator[Float32]:
    """Yield a peer's maps in the same order."""
    import zarr

    for kind in KINDS:
        array = zarr.open_array(out / kind, mode="r")
        for k in range(len(SIGMAS)):
            yield np.asarray(array[k])


def run_skimage(folder: Path, out: Path, threads: int) -> Job:
    """Do the work with scikit-image's and SciPy's functions, whole maps on a pool of threads."""
    from concurrent.futures import ThreadPoolExecutor

    import zarr  # noqa: F401
    from scipy import ndimage
    from skimage import filters

    functions = {
        "gaussian": lambda x, sigma: filters.gaussian(x, sigma, mode="mirror", preserve_range=True),
        "gradient": lambda x, sigma: ndimage.gaussian_gradient_magnitude(x, sigma, mode="mirror"),
        "log": lambda x, sigma: ndimage.gaussian_laplace(x, sigma, mode="mirror"),
    }

    def job() -> None:
        x = np.load(folder / "image.npy").astype(np.float32)
        x /= 255
        shape, chunks = (len(SIGMAS), *x.shape), (1, CHUNK, CHUNK)
        stores = {kind: create_array(out / kind, shape, chunks) for kind in KINDS}

        def compute(kind: str, k: int) -> None:
            stores[kind][k] = functions[kind](x, SIGMAS[k])

        with ThreadPoolExecutor(threads) as pool:
            futures = [pool.submit(compute, kind, k) for k in reversed(range(len(SIGMAS))) for kind in KINDS]
            for future in futures:
                future.result()

    return job


def run_dask(folder: Path, out: Path, block: int) -> Job:
    """Do the work with dask-image, block by block on two threads."""
    import dask
    import dask.array as da
    import zarr  # noqa: F401
    from dask_image import ndfilters

    functions = {
        "gaussian": ndfilters.gaussian_filter,
        "gradient": ndfilters.gaussian_gradient_magnitude,
        "log": ndfilters.gaussian_laplace,
    }

    def job() -> None:
        pixels = da.from_array(np.load(folder / "image.npy", mmap_mode="r"), chunks=block)
        x = pixels.astype(np.float32) / np.float32(255)
        sources, targets = [], []
        for kind, function in functions.items():
            store = create_array(out / kind, (len(SIGMAS), *x.shape), (1, CHUNK, CHUNK))
            sources.append(da.stack([function(x, sigma, mode="mirror") for sigma in SIGMAS]))
            targets.append(store)
        with dask.config.set(scheduler="threads", num_workers=2):
            da.store(sources, targets, lock=False)

    return job
