"""K: one bank on one image at hand: convolution, ReLU, pooling; GFLOP/s on one thread and on two."""

from __future__ import annotations

import importlib.util
import itertools
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import difference, say
from benchmarks.work import Float32

TOLERANCE = 1e-4
SHORTEST = 0.2
"""Seconds that a timed run takes at least; shorter ones are repeated within it."""
MOST_FLOP = 30e9
"""Of a row; larger ones get a smaller image."""
Call = Callable[[int], list[Float32]]
"""Computes so many times over; returns the result for all images, in one array or several."""


@dataclass(frozen=True)
class Row:
    """One size of problem: an image (edge, edge, channels), ``kernels`` of size × size × channels, a pooling."""

    edge: int
    channels: int
    kernels: int
    size: int
    pool: int | str | None
    by: str = "mean"

    @property
    def title(self) -> str:
        """For the table."""
        pool = f"{self.by} {self.pool}" if self.pool else "no pool"
        return f"{self.edge}²×{self.channels}, {self.kernels} of {self.size}², {pool}"

    @property
    def outputs(self) -> int:
        """Responses along an axis that are needed; pooling leaves out the rest."""
        valid = self.edge - self.size + 1
        return valid // self.pool * self.pool if isinstance(self.pool, int) else valid

    @property
    def taps(self) -> int:
        """Of one kernel."""
        return self.size**2 * self.channels

    @property
    def flop(self) -> float:
        """Of the convolution alone."""
        return 2.0 * self.outputs**2 * self.kernels * self.taps

    @property
    def moved(self) -> float:
        """Bytes that must be read or written once: image, kernels, result."""
        pooled = 1 if self.pool == "global" else self.outputs // (self.pool if isinstance(self.pool, int) else 1)
        return 4.0 * (self.edge**2 * self.channels + self.kernels * self.taps + pooled**2 * self.kernels)


TABLE = (
    Row(256, 3, 64, 3, 2),
    Row(256, 3, 64, 7, 8),
    Row(1024, 3, 64, 5, 8),
    Row(1024, 1, 16, 5, 8),
    Row(64, 64, 64, 3, 2),
    Row(512, 1, 64, 15, 8),
    Row(64, 3, 512, 6, 8),
)
"""Problems that the kernels were first measured with."""
POOLS: tuple[tuple[int | str | None, str], ...] = (
    (None, "mean"), (2, "max"), (8, "mean"), ("global", "mean"), (2, "mean"), (8, "max"), ("global", "max"),
)  # fmt: skip


def rows(*, quick: bool = False, full: bool = False) -> list[Row]:
    """Return the problems: the table, then of all combinations every one, some thirty, or two."""
    combinations = list(itertools.product((8, 40, 100), (1, 3, 16, 64), (3, 5, 7, 11, 31)))
    if quick:
        return [Row(32, 3, 8, 3, 2), Row(32, 1, 8, 5, None, "max")]
    if full:
        return [*TABLE, *(_fitting(c, k, r, *pool) for (k, c, r), pool in itertools.product(combinations, POOLS))]
    # every second combination, the poolings going round
    some = [_fitting(c, k, r, *POOLS[i % len(POOLS)]) for i, (k, c, r) in enumerate(combinations[::2])]
    return [*TABLE, *some]


def _fitting(channels: int, kernels: int, size: int, pool: int | str | None, by: str) -> Row:
    edges = (256, 128, 64)
    found = [Row(edge, channels, kernels, size, pool, by) for edge in edges]
    return next((row for row in found if row.flop <= MOST_FLOP), found[-1])


def measure(row: Row, folder: Path, repeats: int) -> dict[str, Any]:
    """Check, then time every contender of a row in turn; return the record."""
    rng = np.random.default_rng(0)
    images = rng.random((2, row.edge, row.edge, row.channels), np.float32)
    bank = rng.standard_normal((row.kernels, row.size, row.size, row.channels)).astype(np.float32)
    calls: dict[str, Call] = {}
    for threads in (1, 2):
        calls |= {f"featpipe {threads}": _featpipe(row, images[:threads], bank, folder)}
        for name, make in _peers(row).items():
            calls[f"{name} {threads}"] = make(row, images[:threads], bank)
            if threads > 1 and name != "OpenCV":
                calls[f"{name} apart {threads}"] = _apart([make(row, image[None], bank) for image in images])
    errors = _check(calls)
    loops = {name: _loops(call) for name, call in calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(repeats):
        for name in list(calls) if i % 2 == 0 else list(calls)[::-1]:
            threads = int(name[-1])
            _set_threads(threads)
            start = time.perf_counter()
            calls[name](loops[name])
            seconds[name].append((time.perf_counter() - start) / loops[name])
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    rates = {name: int(name[-1]) * row.flop / median / 1e9 for name, median in medians.items()}
    facts = {**asdict(row), "title": row.title, "flop": row.flop, "bytes": row.moved, "work": row.taps * row.kernels}
    record = {**facts, "seconds": seconds, "gflops": rates, "difference": errors}
    for used in ("1", "2"):
        peers = [rate for name, rate in rates.items() if name[-1] == used and not name.startswith("featpipe")]
        if peers:
            record[f"ratio {used}"] = rates[f"featpipe {used}"] / max(peers)
    say(f"  {row.title:44s} " + "  ".join(f"{name} {rate:.0f}" for name, rate in rates.items()))
    return record


def _check(calls: dict[str, Call]) -> dict[str, float]:
    errors = {}
    expected = {threads: calls[f"featpipe {threads}"](1) for threads in ("1", "2")}
    for name, call in calls.items():
        _set_threads(int(name[-1]))
        errors[name] = difference(np.concatenate(expected[name[-1]]), np.concatenate(call(1)))
        if not errors[name] <= TOLERANCE:
            raise RuntimeError(f"{name} differs by {errors[name]:.1e} of the largest value; {TOLERANCE:.0e} is allowed")
    return errors


def _loops(call: Call) -> int:
    start = time.perf_counter()
    call(1)
    return max(1, round(SHORTEST / max(time.perf_counter() - start, 1e-6)))


def _apart(calls: list[Call]) -> Call:
    """Give every call a thread of its own: two threads that work through many images."""
    pool = ThreadPoolExecutor(len(calls))

    def alone(call: Call, times: int) -> list[Float32]:
        _set_threads(1)
        return call(times)

    return lambda times: [values for made in pool.map(alone, calls, [times] * len(calls)) for values in made]


def _set_threads(threads: int) -> None:
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(threads)
    if importlib.util.find_spec("cv2"):
        import cv2

        cv2.setNumThreads(threads)


def _featpipe(row: Row, images: Float32, bank: Float32, folder: Path) -> Call:
    """Take featpipe's chain, one image per thread as in a run."""
    from featpipe.chain.execute import run_schedule, whole_schedule
    from featpipe.plan.program import ROOT
    from featpipe.plan.resolve import make_program
    from featpipe.spec.load import parse_pipeline

    file = folder / "kernels.npy"
    np.save(file, bank)
    layers: list[Any] = [{"convolve": {"kernels": str(file), "channels": "sum"}}, {"activate": "relu"}]
    layers += [{"pool": {row.by: row.pool}}] if row.pool else []
    program = make_program(parse_pipeline({"features": {"k": {"layers": layers}}}).features, ["c"] * row.channels)
    schedule = whole_schedule(program, (row.edge, row.edge))

    def one(image: Float32, times: int) -> list[Float32]:
        for _ in range(times):
            made = list(run_schedule(program, schedule, {ROOT: image[None]}))
        return [values for _, values in made]

    calls: list[Call] = [partial(one, image) for image in images]
    return calls[0] if len(calls) == 1 else _apart(calls)


def _peers(row: Row) -> dict[str, Callable[[Row, Float32, Float32], Call]]:
    found: dict[str, Callable[[Row, Float32, Float32], Call]] = {}
    if importlib.util.find_spec("torch"):
        found = {"PyTorch channels-last": _torch_last, "PyTorch channels-first": _torch_first}
    if importlib.util.find_spec("cv2") and row.channels == 1 and row.kernels <= 16:
        found["OpenCV"] = _opencv
    return found


def _torch_last(row: Row, images: Float32, bank: Float32) -> Call:
    return _torch(row, images, bank, last=True)


def _torch_first(row: Row, images: Float32, bank: Float32) -> Call:
    return _torch(row, images, bank, last=False)


def _torch(row: Row, images: Float32, bank: Float32, *, last: bool) -> Call:
    import torch
    import torch.nn.functional as F

    layout = torch.channels_last if last else torch.contiguous_format
    x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    w = torch.from_numpy(bank).permute(0, 3, 1, 2).contiguous(memory_format=layout)

    def call(times: int) -> list[Float32]:
        with torch.inference_mode():
            for _ in range(times):
                z = F.relu_(F.conv2d(x, w))
                if row.pool == "global":
                    z = z.mean((2, 3), keepdim=True) if row.by == "mean" else z.amax((2, 3), keepdim=True)
                elif row.pool:
                    z = (F.avg_pool2d if row.by == "mean" else F.max_pool2d)(z, row.pool)
            result: Float32 = z.permute(0, 2, 3, 1).numpy()
        return [result]

    return call


def _opencv(row: Row, images: Float32, bank: Float32) -> Call:
    import cv2

    need, low = row.outputs, (row.size - 1) // 2

    def one(image: Float32, kernel: Float32) -> Any:
        z = cv2.filter2D(image, cv2.CV_32F, kernel)[low : low + need, low : low + need]
        z = cv2.max(z, 0.0)
        if row.pool == "global":
            return np.array([[cv2.mean(z)[0] if row.by == "mean" else cv2.minMaxLoc(z)[1]]], np.float32)
        if not row.pool:
            return z
        assert isinstance(row.pool, int)
        if row.by == "mean":
            return cv2.resize(z, (need // row.pool,) * 2, interpolation=cv2.INTER_AREA)
        wide = cv2.dilate(z, np.ones((row.pool, row.pool), np.uint8), anchor=(0, 0))
        return wide[:: row.pool, :: row.pool]

    def call(times: int) -> list[Float32]:
        for _ in range(times):
            planes = [[one(image[..., 0], kernel[..., 0]) for kernel in bank] for image in images]
        return [np.moveaxis(np.array(planes, np.float32), 1, -1)]

    return call
