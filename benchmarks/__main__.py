"""Run the works with featpipe and its peers, print medians and ratios, write ``benchmarks.json`` and a picture."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import Bench, say
from benchmarks.registry import FAMILIES
from benchmarks.work import Size

ALL = ("K", *FAMILIES)


def main() -> None:
    """Read the command line and do as it says."""
    options = _options()
    from benchmarks import machine

    say("measuring the machine")
    record: dict[str, Any] = {"machine": machine.measure(options.quick), "versions": _versions(), "works": []}
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="featpipe-bench-", dir=options.scratch) as scratch:
        if "K" in options.only:
            record["kernels"] = _measure_kernels(options, Path(scratch))
            _print_kernels(record["kernels"], record["machine"])
        for family in options.only:
            for work in FAMILIES[family](Size(options.quick, options.images)) if family != "K" else ():
                say(f"{work.name}: {work.title}")
                bench = Bench(work, Size(options.quick, options.images), Path(scratch) / work.name)
                found = bench.run(options.repeats)
                record["works"].append(found)
                _print_work(found)
    _write(record, options.out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default=",".join(ALL), help="some of K,W1,W2,W3,W4 (all)")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each (5)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does everything work?")
    parser.add_argument("--full", action="store_true", help="K: every combination, hours")
    parser.add_argument("--images", type=int, help="W1: how many images (10,000 and 4,000)")
    parser.add_argument(
        "--out", type=Path, default=Path("build/benchmarks"), help="for JSON and PNG (build/benchmarks)"
    )
    parser.add_argument("--scratch", type=Path, help="for images and stores; a disk that does not matter to the result")
    options = parser.parse_args()
    options.only = options.only.split(",")
    if unknown := [name for name in options.only if name not in ALL]:
        parser.error(f"there is no work {unknown[0]}; choose from {', '.join(ALL)}")
    return options


def _measure_kernels(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    from benchmarks import kernels

    say("K: kernels on arrays at hand, GFLOP/s")
    chosen = kernels.rows(quick=options.quick, full=options.full)
    return [kernels.measure(row, folder, options.repeats) for row in chosen]


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    names = ("featpipe", "numpy", "numba", "zarr", "torch", "scipy", "scikit-image", "dask-image")
    for name in (*names, "opencv-python-headless"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _print_kernels(rows: list[dict[str, Any]], machine: dict[str, Any]) -> None:
    peak = machine["gflops"]["1"]
    print(f"\nK, GFLOP/s   peak {peak:.0f} on one thread, {machine['gflops']['2']:.0f} on two")
    print(f"  {'':44s}  featpipe  of peak  best peer  ratio   on two: featpipe  best peer  ratio")
    for row in rows:
        parts = []
        for threads in ("1", "2"):
            ours = row["gflops"][f"featpipe {threads}"]
            share = f"{ours / machine['gflops'][threads]:8.0%}" if threads == "1" else " " * 8
            ratio = row.get(f"ratio {threads}")
            peer = f"{ours / ratio:9.0f}  {ratio:4.1f}×" if ratio else f"{'–':>9s}      "
            parts.append(f"{ours:8.0f} {share}  {peer}")
        print(f"  {row['title']:44s}  {'  '.join(parts)}")
    for threads in ("1", "2"):
        ratios = [row[f"ratio {threads}"] for row in rows if f"ratio {threads}" in row]
        if ratios:
            print(f"  {threads} thread(s): median ratio {statistics.median(ratios):.2f}×, lowest {min(ratios):.2f}×")
    large = [row["gflops"]["featpipe 1"] / peak for row in rows if row["work"] >= 1600]
    if large:
        print(f"  of peak where taps × kernels ≥ 1,600: {min(large):.0%} to {max(large):.0%}")


def _print_work(work: dict[str, Any]) -> None:
    print(f"\n{work['name']}: {work['title']}")
    heads = ("median", "fastest", f"{work['unit']}/s", "featpipe is", "process", "memory")
    print(" " * 22 + "".join(f"{head:>14s}" for head in heads) + "  settings")
    for name, facts in work["contenders"].items():
        cells = (
            f"{facts['median']:.2f} s",
            f"{facts['fastest']:.2f} s",
            f"{facts['rate']:.1f}",
            f"{facts['ratio']:.2f}×" if facts["ratio"] != 1 else "",
            f"{facts['process_median']:.2f} s",
            f"{facts['peak_bytes'] / 2**20:.0f} MiB",
        )
        settings = " ".join(f"{key}={value}" for key, value in facts["settings"].items())
        print(f"  {name:20s}" + "".join(f"{cell:>14s}" for cell in cells) + f"  {settings}")
    for name in work["left_out"]:
        print(f"  {name:20s} left out: not installed (pip install 'featpipe[bench]')")


def _write(record: dict[str, Any], out: Path) -> None:
    (out / "benchmarks.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"\n{out / 'benchmarks.json'}")
    try:
        os.environ.setdefault("MPLBACKEND", "Agg")
        from benchmarks.figure import draw
    except ImportError:
        say("no picture: matplotlib is not installed (pip install 'featpipe[bench]')")
        return
    draw(record, out / "benchmarks.png")
    print(out / "benchmarks.png")


if __name__ == "__main__":
    main()
