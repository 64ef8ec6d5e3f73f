"""The reference: a pipeline on one whole image in plain NumPy, in float64, straight from the pipeline file's models.

Nothing here shares code with featpipe's geometry, plan or kernels; only the banks' weights come from there, and they
have references of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from featpipe.kernels.catalog import build_bank
from featpipe.spec.combining import BifLayer, Code, CodeLayer, EigenvaluesLayer, ProductsLayer
from featpipe.spec.layers import (
    ActivateLayer,
    Cells,
    Convolve,
    ConvolveLayer,
    Layer,
    LocalLayer,
    ModulusLayer,
    NormalizeLayer,
    Pool,
    PoolLayer,
    ReduceLayer,
    SaveLayer,
)
from featpipe.spec.local import DrawnKernels, Local
from featpipe.spec.padding import Padding
from featpipe.spec.pipeline import Pipeline

Array = npt.NDArray[np.float64]
Labelled = tuple[Array, list[dict[str, Any]]]
NUMPY_MODE = {"zero": "constant", "edge": "edge", "reflect": "reflect", "symmetric": "symmetric", "wrap": "wrap"}
STATISTIC: dict[str, Callable[..., Any]] = {
    "max": lambda w, axis: w.max(axis),
    "mean": lambda w, axis: w.mean(axis),
    "min": lambda w, axis: w.min(axis),
    "sum": lambda w, axis: w.sum(axis),
    "l2": lambda w, axis: np.sqrt((w**2).sum(axis)),
    "std": lambda w, axis: w.std(axis),
}


def reference(pipeline: Pipeline, image: npt.NDArray[Any], channels: tuple[str, ...]) -> dict[str, Array]:
    """Return every output map of one image, (y, x, k) float64."""
    maps = {}
    for name, branch in pipeline.features.items():
        for scale in branch.scales:
            x, labels = image.astype(np.float64), [{"channel": c} for c in channels]
            for _ in range(scale.bit_length() - 1):
                x = halve(x)
            for layer in branch.layers:
                if isinstance(layer, SaveLayer):
                    maps[f"{name}/{layer.save}/scale{scale}"] = x
                else:
                    x, labels = apply(layer, x, labels)
            maps[f"{name}/scale{scale}"] = x
    return maps


def halve(x: Array) -> Array:
    row = np.array([1, 4, 6, 4, 1]) / 16
    padded = np.pad(x, ((2, 2), (2, 2), (0, 0)), "reflect")
    windows = sliding_window_view(padded, (5, 5), axis=(0, 1))
    half: Array = np.einsum("yxcuv,u,v->yxc", windows, row, row)[::2, ::2]
    return half


def pad(x: Array, padding: Padding, extents: tuple[int, int], fill: float = 0.0) -> Array:
    mode = padding.explicit.mode if padding.explicit else padding.mode
    widths = []
    for axis in (0, 1):
        if padding.explicit:
            widths.append(tuple(padding.explicit.widths[axis]))
        elif padding.same:
            widths.append((extents[axis] // 2, extents[axis] - 1 - extents[axis] // 2))
        else:
            widths.append((0, 0))
    options: dict[str, Any] = {"constant_values": fill} if mode == "zero" else {}
    any_pad: Any = np.pad
    padded: Array = any_pad(x, (*widths, (0, 0)), NUMPY_MODE[mode], **options)
    return padded


def apply(layer: Layer, x: Array, labels: list[dict[str, Any]]) -> Labelled:
    if isinstance(layer, ConvolveLayer):
        return convolve(layer.convolve, x, labels)
    if isinstance(layer, LocalLayer):
        return connect_locally(layer.local, x)
    if isinstance(layer, ActivateLayer):
        return activate(layer, x, labels)
    if isinstance(layer, ModulusLayer):
        return fold(x, labels, "component", "l2")
    if isinstance(layer, ReduceLayer):
        return fold(x, labels, layer.reduce.over, layer.reduce.by)
    if isinstance(layer, PoolLayer) and layer.pool.bins is not None:
        return histogram(layer.pool, layer.pool.bins, x, labels)
    if isinstance(layer, PoolLayer):
        return pool(layer.pool, x), labels
    if isinstance(layer, ProductsLayer | EigenvaluesLayer | BifLayer):
        return combine(layer, x, labels)
    if isinstance(layer, CodeLayer):
        return code(layer.code, x, labels)
    assert isinstance(layer, NormalizeLayer)
    spec = layer.normalize
    if spec.local is None:
        return (x - np.array(spec.mean)) / np.array(spec.std), labels
    size = (spec.local.size[0], spec.local.size[1])
    windows = sliding_window_view(pad(x, spec.local.padding, size), size, axis=(0, 1))
    centre = windows[..., size[0] // 2, size[1] // 2]
    return (centre - windows.mean((-1, -2))) / np.sqrt(windows.var((-1, -2)) + spec.local.epsilon), labels


def convolve(spec: Convolve, x: Array, labels: list[dict[str, Any]]) -> Labelled:
    bank = build_bank(spec.source, x.shape[2], spec.names)
    each = not bank.spans_channels if spec.channels is None else spec.channels == "each"
    dilation = spec.dilation
    frame = [max(k.weights.shape[axis] for k in bank.kernels) for axis in (0, 1)]
    extents = ((frame[0] - 1) * dilation[0] + 1, (frame[1] - 1) * dilation[1] + 1)
    windows = sliding_window_view(pad(x, spec.padding, extents), extents, axis=(0, 1))
    windows = windows[:: spec.stride[0], :: spec.stride[1], :, :: dilation[0], :: dilation[1]]
    bias = np.broadcast_to(np.array(spec.bias, float), len(bank.kernels))
    responses = []
    for kernel, add in zip(bank.kernels, bias, strict=True):
        w = kernel.weights.astype(np.float32).astype(np.float64)
        w = w[..., None] if w.ndim == 2 else w
        w = np.repeat(w, x.shape[2], axis=2) if w.shape[2] != x.shape[2] else w
        w = w[::-1, ::-1] if spec.flip else w
        y0, x0 = (frame[axis] // 2 - w.shape[axis] // 2 for axis in (0, 1))
        patch = windows[..., y0 : y0 + w.shape[0], x0 : x0 + w.shape[1]]
        if spec.contrast:
            axes: Any = (-2, -1) if each else (2, 3, 4)
            mean, var = patch.mean(axes, keepdims=True), patch.var(axes, keepdims=True)
            patch = (patch - mean) / np.sqrt(var + spec.contrast.epsilon)
        responses.append(np.einsum("yxcuv,uvc->yxc" if each else "yxcuv,uvc->yx", patch, w) + add)
    stacked = np.stack(responses, axis=-1)
    kernels = [dict(k.labels) for k in bank.kernels]
    if not each:
        return stacked, kernels
    merged = []
    for parent in labels:
        for kernel_labels in kernels:
            one = dict(kernel_labels)
            for key, value in parent.items():
                while key in one:
                    key = f"input_{key}"  # noqa: PLW2901
                one[key] = value
            merged.append(one)
    return stacked.reshape(*stacked.shape[:2], -1), merged


def connect_locally(spec: Local, x: Array) -> Labelled:
    """Row i of drawn kernels comes from the generator of [seed, i], position by position from the left."""
    drawn = spec.kernels
    assert isinstance(drawn, DrawnKernels)
    size, count, channels = (drawn.size, drawn.size), drawn.kernels, x.shape[2]
    windows = sliding_window_view(pad(x, spec.padding, size), size, axis=(0, 1))
    windows = windows[:: spec.stride[0], :: spec.stride[1]]
    rows = []
    for i, row in enumerate(windows):
        draw = np.random.default_rng([drawn.seed, i]).standard_normal
        kernels = [draw((count, *size, channels)) * np.sqrt(2 / (size[0] * size[1] * channels)) for _ in row]
        rows.append([np.einsum("cuv,kuvc->k", w, k.astype(np.float32)) for w, k in zip(row, kernels, strict=True)])
    bias = np.array(spec.bias, float)
    return np.array(rows) + bias, [{"bank": "local", "kernel": k} for k in range(count)]


def activate(layer: ActivateLayer, x: Array, labels: list[dict[str, Any]]) -> Labelled:
    spec = layer.activate
    if spec.split is not None:
        t = spec.split.threshold
        both = [
            {"polarity": p, **{f"input_{k}" if k == "polarity" else k: v for k, v in one.items()}}
            for p in (1, -1)
            for one in labels
        ]
        return np.concatenate([np.maximum(x - t, 0), np.maximum(-x - t, 0)], axis=2), both
    if spec.soft_threshold is not None:
        return np.sign(x) * np.maximum(np.abs(x) - spec.soft_threshold.threshold, 0), labels
    functions: dict[str, Callable[[Any], Any]] = {
        "relu": lambda z: np.maximum(z, 0),
        "abs": np.abs,
        "square": np.square,
        "sqrt": lambda z: np.sqrt(np.maximum(z, 0)),
        "tanh": np.tanh,
        "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
        "triangle": lambda z: np.maximum(z.mean(2, keepdims=True) - z, 0),
        "hard": lambda z: np.eye(z.shape[2])[z.argmax(2)],
        "nearest": lambda z: np.eye(z.shape[2])[z.argmin(2)],
    }
    return functions[str(spec.name)](x), labels


def fold(x: Array, labels: list[dict[str, Any]], over: str, by: str) -> Labelled:
    keys = [tuple((k, v) for k, v in one.items() if k != over) for one in labels]
    distinct = list(dict.fromkeys(keys))
    groups = [[i for i, key in enumerate(keys) if key == one] for one in distinct]
    return np.stack([STATISTIC[by](x[..., g], -1) for g in groups], axis=-1), [dict(k) for k in distinct]


def combine(layer: ProductsLayer | EigenvaluesLayer | BifLayer, x: Array, labels: list[dict[str, Any]]) -> Labelled:
    """Each group of derivatives is told by its other labels; what a layer does not need is not looked at."""
    groups: dict[Any, dict[str, Array]] = {}
    for i, one in enumerate(labels):
        rest = tuple((k, v) for k, v in one.items() if k != "component")
        groups.setdefault(rest, {})[one["component"]] = x[..., i]
    maps: list[Array] = []
    made = []
    for rest, part in groups.items():
        if isinstance(layer, ProductsLayer):
            name, values = "component", {"yy": part["y"] ** 2, "xy": part["x"] * part["y"], "xx": part["x"] ** 2}
        elif isinstance(layer, EigenvaluesLayer):
            matrix = np.array([[part["yy"], part["xy"]], [part["xy"], part["xx"]]])
            both = np.linalg.eigvalsh(np.moveaxis(matrix, (0, 1), (-2, -1)))
            name, values = "eigenvalue", {"largest": both[..., 1], "smallest": both[..., 0]}
        else:
            name, values = "kind", basic_image_features(part, dict(rest)["sigma"], layer.bif.epsilon)
        maps += values.values()
        made += [{**{f"input_{k}" if k == name else k: v for k, v in rest}, name: value} for value in values]
    return np.stack(maps, axis=-1), made


def basic_image_features(part: dict[str, Array], sigma: float, epsilon: float) -> dict[str, Array]:
    s = {name: values * sigma ** (0 if name == "value" else len(name)) for name, values in part.items()}
    laplace, gamma = s["xx"] + s["yy"], np.sqrt((s["xx"] - s["yy"]) ** 2 + 4 * s["xy"] ** 2)
    return {
        "flat": epsilon * s["value"],
        "slope": 2 * np.hypot(s["x"], s["y"]),
        "dark-blob": laplace,
        "light-blob": -laplace,
        "dark-line": (gamma + laplace) / np.sqrt(2),
        "light-line": (gamma - laplace) / np.sqrt(2),
        "saddle": gamma,
    }


def code(spec: Code, x: Array, labels: list[dict[str, Any]]) -> Labelled:
    keys = [tuple((k, v) for k, v in one.items() if k != spec.over) for one in labels]
    distinct = list(dict.fromkeys(keys))
    maps = []
    for one in distinct:
        digits = x[..., [i for i, key in enumerate(keys) if key == one]]
        if spec.by == "argmax":
            maps.append(digits.argmax(-1).astype(float))
            continue
        worth = (2.0 if spec.base is None else float(spec.base)) ** np.arange(digits.shape[-1])
        maps.append((digits > 0 if spec.by == "sign" else digits) @ worth)
    return np.stack(maps, axis=-1), [dict(key) for key in distinct]


def histogram(spec: Pool, bins: int, x: Array, labels: list[dict[str, Any]]) -> Labelled:
    """Padding of zeros is made of what no bin takes."""
    there = (pad_for(spec, x)[..., None] == np.arange(bins)).astype(float)
    counts = pool_padded(spec, there.reshape(*there.shape[:2], -1), STATISTIC["sum"])
    made = [
        {**{f"input_{k}" if k == "bin" else k: v for k, v in one.items()}, "bin": b}
        for one in labels
        for b in range(bins)
    ]
    return counts, made


def pad_for(spec: Pool, x: Array) -> Array:
    if isinstance(spec.over, Cells):
        return x
    fill = {"max": -np.inf, "min": np.inf, "histogram": np.nan}.get(spec.by, 0.0)
    return pad(x, spec.padding, (spec.over[0], spec.over[1]), fill)


def pool(spec: Pool, x: Array) -> Array:
    return pool_padded(spec, pad_for(spec, x), STATISTIC[spec.by])


def pool_padded(spec: Pool, x: Array, statistic: Callable[..., Any]) -> Array:
    if isinstance(spec.over, Cells):
        rows, cols = spec.over.grid
        return np.stack(
            [
                np.stack([statistic(cell, (0, 1)) for cell in np.array_split(band, cols, axis=1)])
                for band in np.array_split(x, rows, axis=0)
            ]
        )
    size = (spec.over[0], spec.over[1])
    stride = spec.stride or spec.over
    windows = sliding_window_view(x, size, axis=(0, 1))
    pooled: Array = statistic(windows[:: stride[0], :: stride[1]], (-2, -1))
    return pooled
