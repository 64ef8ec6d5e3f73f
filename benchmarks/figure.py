"""The picture: how many times faster featpipe is, and how near the machine's limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

OURS, THEIRS, LIMIT = "#1b6ca8", "#d9822b", "#444444"


def draw(record: dict[str, Any], path: Path) -> None:
    """Draw bars of ratios and a roofline from a record and write a PNG."""
    bars = _ratios(record)
    rows = record.get("kernels", [])
    heights = [0.32 * max(len(bars), 1) + 0.9] + ([4.6] if rows else [])
    figure = Figure(figsize=(8.5, sum(heights) + 0.6), layout="constrained", dpi=150)
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    _draw_ratios(parts[0].subplots(), bars)
    if rows:
        _draw_roofline(parts[1].subplots(), rows, record["machine"])
    machine = record["machine"]
    parts[-1].supxlabel(
        f"{machine['processor']}, {machine['cores']} cores. {machine['system']}", fontsize=8, color=LIMIT
    )
    figure.savefig(path)


def _ratios(record: dict[str, Any]) -> list[tuple[str, float]]:
    found = []
    rows = record.get("kernels", [])
    for threads in ("1", "2"):
        ratios = [row[f"ratio {threads}"] for row in rows if f"ratio {threads}" in row]
        if ratios:
            noun = "thread" if threads == "1" else "threads"
            found.append((f"K, {threads} {noun}, median of {len(ratios)}: best peer", float(np.median(ratios))))
    for work in record["works"]:
        for name, facts in work["contenders"].items():
            if not name.startswith("featpipe"):
                found.append((f"{work['name']}: {name}", facts["ratio"]))
    return found


def _draw_ratios(axes: Axes, bars: list[tuple[str, float]]) -> None:
    places = np.arange(len(bars))[::-1]
    values = [value for _, value in bars]
    axes.barh(places, values, color=[OURS if value >= 1 else THEIRS for value in values], height=0.68)
    axes.axvline(1, color=LIMIT, linewidth=1, linestyle="--")
    axes.set_yticks(places, [label for label, _ in bars])
    for place, value in zip(places, values, strict=True):
        axes.annotate(
            f"{value:.2f}×", (value, place), (4, 0), textcoords="offset points", va="center", fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
        )  # fmt: skip
    axes.set_xlim(0, max([*values, 1.0]) * 1.12)
    axes.set_title(
        "How many times as fast as the peer featpipe is (ratio of medians; dashed: equal)", fontsize=10, loc="left"
    )
    _clean(axes)


def _draw_roofline(axes: Axes, rows: list[dict[str, Any]], machine: dict[str, Any]) -> None:
    peak, copy = machine["gflops"]["1"], machine["copy_gbs"]["1"]
    intensity = np.array([row["flop"] / row["bytes"] for row in rows])
    ours = np.array([row["gflops"]["featpipe 1"] for row in rows])
    theirs = np.array([ours[i] / row["ratio 1"] if "ratio 1" in row else np.nan for i, row in enumerate(rows)])
    low, high = min(intensity.min() / 2, peak / copy / 2), intensity.max() * 2
    span = np.geomspace(low, high, 200)
    axes.plot(span, np.minimum(peak, copy * span), color=LIMIT, linewidth=1.5)
    axes.plot(span, np.minimum(peak, copy * span) * 0.75, color=LIMIT, linewidth=0.8, linestyle=":")
    axes.vlines(intensity, theirs, ours, color="#cccccc", linewidth=0.8, zorder=1)
    axes.scatter(intensity, theirs, s=22, color=THEIRS, marker="D", label="the best peer", zorder=2)
    axes.scatter(intensity, ours, s=26, color=OURS, label="featpipe", zorder=3)
    axes.set_xscale("log")
    axes.set_yscale("log")
    lowest = float(np.nanmin([ours.min(), *theirs[~np.isnan(theirs)]]))
    axes.set_ylim(lowest / 1.5, peak * 1.9)
    axes.set_xlim(low, high)
    axes.annotate(
        f"multiply-add peak {peak:.0f} GFLOP/s, copy {copy:.0f} GB/s; dotted: 75 %",
        (high, peak), (-4, 5), textcoords="offset points", ha="right", fontsize=9, color=LIMIT,
    )  # fmt: skip
    axes.set_xlabel("multiply-adds ×2 per byte that must be read or written once [FLOP/byte]", fontsize=9)
    axes.set_ylabel("GFLOP/s", fontsize=9)
    axes.set_title("K: one thread, convolution + ReLU + pooling, each row of the table", fontsize=10, loc="left")
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if axis is axes.yaxis else (1,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.grid(which="major", color="#eeeeee", zorder=0)
    _clean(axes)


def _clean(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
