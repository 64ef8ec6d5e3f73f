"""All works end to end."""

from __future__ import annotations

from benchmarks import w1_patches, w2_gabors, w3_pixels, w4_network
from benchmarks.work import Size, Work

FAMILIES = {"W1": w1_patches.works, "W2": w2_gabors.works, "W3": w3_pixels.works, "W4": w4_network.works}


def find_work(name: str, size: Size) -> Work:
    """Return the work of this name."""
    return next(work for family in FAMILIES.values() for work in family(size) if work.name == name)
