"""How a layer's window sweeps one axis, and which samples an output range needs.

A layer slides a window of ``size`` samples, ``dilation`` apart, over an axis of ``n`` samples, ``stride`` at a time,
after ``before`` and ``after`` samples of padding were added at its ends::

      before          n samples           after
    ┆· · ·┆■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■┆· ·┆
     └──┬──┘                                      output 0
         └──┬──┘                                  output 1    (stride 2)
             └──┬──┘                              output 2

Everything is planned from the output backwards: outputs ``[a, b)`` cover the virtual samples ``wanted``; those beyond
the axis are padding, copied from the samples that ``sources`` names; ``read`` is the shortest run of real samples that
holds them all. Blocks computed from ``read`` equal the whole axis bit for bit: every output sees the same values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from featpipe.geometry.window import Window

PaddingMode = Literal["zero", "edge", "reflect", "symmetric", "wrap"]


class Span(NamedTuple):
    """Samples ``[start, stop)`` of an axis."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start

    def hull(self, other: Span) -> Span:
        """Return the shortest span that holds both."""
        return Span(min(self.start, other.start), max(self.stop, other.stop))

    def within(self, outer: Span) -> slice:
        """Return where this span lies in an array that holds ``outer``."""
        return slice(self.start - outer.start, self.stop - outer.start)


@dataclass(frozen=True)
class Sweep:
    """A window of ``size`` samples swept over one axis; all lengths in samples of the layer's input."""

    size: int = 1
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0
    mode: PaddingMode = "zero"

    @property
    def extent(self) -> int:
        """Samples from the first to the last that one output sees."""
        return (self.size - 1) * self.dilation + 1

    @property
    def window(self) -> Window:
        return Window(self.extent, self.stride, -self.before)

    def length(self, n: int) -> int:
        """Return the number of outputs over ``n`` samples (0 or less when the window does not fit)."""
        return (n + self.before + self.after - self.extent) // self.stride + 1

    def wanted(self, out: Span) -> Span:
        """Return the samples that outputs ``out`` cover; what lies beyond the axis is padding."""
        return Span(out.start * self.stride - self.before, (out.stop - 1) * self.stride - self.before + self.extent)

    def read(self, out: Span, n: int) -> Span:
        """Return the shortest run of real samples, at least one, from which outputs ``out`` can be computed."""
        wanted = self.wanted(out)
        inside = Span(min(max(wanted.start, 0), n), max(min(wanted.stop, n), 0))
        runs = [inside] if inside.length > 0 else []
        if self.mode != "zero":
            for beyond in (Span(wanted.start, min(wanted.stop, 0)), Span(max(wanted.start, n), wanted.stop)):
                if beyond.length > 0:
                    copied = sources(beyond, n, self.mode)
                    runs.append(Span(int(copied.min()), int(copied.max()) + 1))
        if not runs:
            nearest = min(max(wanted.start, 0), n - 1)
            return Span(nearest, nearest + 1)
        return Span(min(run.start for run in runs), max(run.stop for run in runs))


def sources(span: Span, n: int, mode: PaddingMode) -> npt.NDArray[np.int64]:
    """Return the real sample that each virtual sample of ``span`` copies, or -1 for a zero.

    The modes are NumPy's (``numpy.pad``), for any width: a mirrored axis is mirrored again and again.

    Parameters
    ----------
    span : Span
        Virtual samples; negative ones and those from ``n`` on are padding.
    n : int
        Real samples on the axis.
    mode : {"zero", "edge", "reflect", "symmetric", "wrap"}

    Returns
    -------
    (span.length,) int64

    Examples
    --------
    >>> sources(Span(-3, 2), 4, "reflect").tolist()
    [3, 2, 1, 0, 1]
    >>> sources(Span(-3, 2), 4, "symmetric").tolist()
    [2, 1, 0, 0, 1]
    """
    i = np.arange(span.start, span.stop, dtype=np.int64)
    match mode:
        case "zero":
            return np.where((i >= 0) & (i < n), i, -1)
        case "edge":
            return np.clip(i, 0, n - 1)
        case "wrap":
            return i % n
        case "symmetric":
            i = i % (2 * n)
            return np.where(i < n, i, 2 * n - 1 - i)
        case "reflect":
            if n == 1:
                return np.zeros_like(i)
            i = i % (2 * n - 2)
            return np.where(i < n, i, 2 * n - 2 - i)


IDENTITY = Sweep()
"""The sweep of an op that looks at one sample at a time."""
