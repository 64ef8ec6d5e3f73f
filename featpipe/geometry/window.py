"""The window algebra: which input pixels one output sees (its receptive field).

Output ``i`` of a map sees the input pixels ``[offset + i * stride, offset + i * stride + size)`` of an axis::

    input   · · ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■
    i = 0   └────size────┘
    i = 1       └────size────┘            stride 2, offset -2 (two pixels of padding)

Following one window by another gives a window again, so a chain of any depth has one.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Receptive field of one axis, in input pixels."""

    size: int = 1
    stride: int = 1
    offset: int = 0

    def then(self, following: Window) -> Window:
        """Return the window of ``following`` applied to this window's outputs.

        Examples
        --------
        >>> Window(5, 1, -2).then(Window(2, 2, 0))
        Window(size=6, stride=2, offset=-2)
        """
        return Window(
            size=self.size + (following.size - 1) * self.stride,
            stride=self.stride * following.stride,
            offset=self.offset + following.offset * self.stride,
        )

    @property
    def halo(self) -> tuple[int, int]:
        """Extra pixels (before, after) that a block reads beyond the ``stride`` pixels of each output it owns."""
        return max(0, -self.offset), max(0, self.size - self.stride + self.offset)

    def centre(self, i: int) -> float:
        """Return the centre of output ``i`` in input pixels, where pixel 0 has its centre at 0."""
        return self.offset + i * self.stride + (self.size - 1) / 2
