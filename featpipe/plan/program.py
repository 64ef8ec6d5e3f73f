"""The program: every branch and scale of a pipeline as one tree of nodes, resolved to arrays and sweeps.

The root is the image; the pyramid's scales, the layers of every branch and the saved maps hang below it::

    image ─┬─ convolve ─ modulus ─ pool*            texture/scale1
           ├─ halve ── convolve ─ modulus ─ pool*   texture/scale2
           └─ convolve ─ relu* ─ pool*              corners/edges/scale1, corners/scale1      (* an output)

A program depends on the pipeline and the number of channels alone, never on an image's size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from featpipe.errors import Location
from featpipe.geometry.axis import IDENTITY, Sweep
from featpipe.geometry.window import Window
from featpipe.kernels.bank import Labels
from featpipe.kernels.factors import Factors
from featpipe.kernels.positions import LocalKernels

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Statistic = Literal["max", "mean", "min", "sum", "l2", "std"]
Formula = Literal["products", "eigenvalues", "bif", "sign", "argmax", "digits"]


@dataclass(frozen=True, eq=False)
class KernelGroup:
    """Kernels of one size within a bank.

    Parameters
    ----------
    weights : (k, y, x, c) float32
        ``c`` is 1 where each input feature is filtered by itself.
    corner : (int, int)
        First tap (y, x) of these kernels in the frame of the bank's largest, in samples (dilation included).
    columns : (k,) int64
        Which feature of the bank each kernel makes.
    factors : tuple of Factors
        The same kernels as passes along y and x, where that costs less; each input feature is then filtered by itself.
    """

    weights: Float32
    corner: tuple[int, int]
    columns: Int64
    factors: tuple[Factors, ...] = ()

    @property
    def multiplies(self) -> int:
        """Multiply-adds of one output position and input feature (of all of them where the kernels span them)."""
        return sum(part.multiplies for part in self.factors) or self.weights.size


@dataclass(frozen=True, eq=False)
class ConvolveOp:
    """Correlate with a bank; ``epsilon`` asks for contrast normalisation of each patch.

    The kernels' mean is 0 then: the response to a patch is the response to the patch less its mean.
    """

    groups: tuple[KernelGroup, ...]
    bias: Float32
    each: bool
    epsilon: float | None = None


@dataclass(frozen=True)
class ActivateOp:
    """Apply a function of one value, or of one pixel's features."""

    name: str
    threshold: float = 0.0


@dataclass(frozen=True, eq=False)
class FoldOp:
    """Combine groups of features; ``members[starts[g]:starts[g + 1]]`` are those of group g."""

    by: Statistic
    starts: Int64
    members: Int64


@dataclass(frozen=True, eq=False)
class CombineOp:
    """Combine groups of features by a formula; see `featpipe.kernels.combining`, also for what the arrays hold."""

    formula: Formula
    starts: Int64
    members: Int64
    numbers: Float64


@dataclass(frozen=True)
class PoolOp:
    """Summarise windows; with ``bins``, the sums are those of a histogram: how often each value is there."""

    by: Statistic
    bins: int | None = None


@dataclass(frozen=True)
class GridOp:
    """Pool to cells that follow the map's size; ``(1, 1)`` is global pooling."""

    by: Statistic
    grid: tuple[int, int]
    bins: int | None = None
    """Of histograms, as in `PoolOp`."""


@dataclass(frozen=True, eq=False)
class StandardiseOp:
    """Subtract ``mean`` and divide by ``std``, (k,) or (1,)."""

    mean: Float32
    std: Float32


@dataclass(frozen=True)
class LocalOp:
    """Local contrast normalisation, feature by feature."""

    epsilon: float


@dataclass(frozen=True, eq=False)
class LocallyConnectedOp:
    """Correlate every window with the kernels of its position.

    Parameters
    ----------
    kernels : LocalKernels
    bias : (1, 1, k) or (oy, ox, k) float32
    """

    kernels: LocalKernels
    bias: Float32

    @property
    def positions(self) -> tuple[int, int] | None:
        """The shape (y, x) that the output must have; None for any."""
        if self.bias.shape[:2] != (1, 1):
            return self.bias.shape[0], self.bias.shape[1]
        return self.kernels.positions


@dataclass(frozen=True)
class DistanceOp:
    """Turn |w - v|² - w · w, of every centroid v, and the components of w behind them into distances |w - v|."""


MapOp = ConvolveOp | LocallyConnectedOp | PoolOp | GridOp | LocalOp
PointOp = ActivateOp | FoldOp | CombineOp | StandardiseOp | DistanceOp
Op = MapOp | PointOp
ROOT = -1
"""The parent of nodes that read the image."""


@dataclass(frozen=True, eq=False)
class Node:
    """One op on one parent's map."""

    parent: int
    op: Op
    sweeps: tuple[Sweep, Sweep]
    """Along y and x; of a grid pooling they mean nothing."""
    features: tuple[Labels, ...]
    """Labels of the features that leave the node."""
    title: str
    """For people: ``convolve gabor 31×31``."""
    location: Location
    """Of the layer in the pipeline file."""
    windows: tuple[Window, Window] | None
    """Receptive fields along y and x in image pixels; None from a grid pooling on."""


@dataclass(frozen=True, eq=False)
class Output:
    """A map that goes to the store."""

    name: str
    branch: str
    scale: int
    node: int


@dataclass(frozen=True, eq=False)
class Program:
    """Nodes in an order in which parents come first, and the outputs among them."""

    inputs: tuple[Labels, ...]
    """Labels of the image's channels."""
    nodes: tuple[Node, ...]
    outputs: tuple[Output, ...]
    fits: tuple[Any, ...] = ()
    """The banks that must be learned first (`featpipe.plan.fitting.FitRequest`), those that others need before them."""

    def path(self, node: int) -> list[int]:
        """Return the nodes from the image to ``node``."""
        steps: list[int] = []
        while node != ROOT:
            steps.append(node)
            node = self.nodes[node].parent
        return steps[::-1]

    def width(self, node: int) -> int:
        """Return the number of features that leave a node; the channels for the root."""
        return len(self.features(node))

    @property
    def channels(self) -> int:
        """The number of the image's channels."""
        return len(self.inputs)

    def features(self, node: int) -> tuple[Labels, ...]:
        """Return the labels of the features that leave a node; of the channels for the root."""
        return self.inputs if node == ROOT else self.nodes[node].features

    def windows(self, node: int) -> tuple[Window, Window] | None:
        """Return a node's receptive fields along y and x; single pixels for the root."""
        return (Window(), Window()) if node == ROOT else self.nodes[node].windows


POINT = (IDENTITY, IDENTITY)
