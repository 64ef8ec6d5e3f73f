"""Facts as text for people: rich tables that fit the terminal and read well in a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from featpipe.printable import printable_facts
from featpipe.report.sections import Fitting, code, make_table, section, spaced, titled
from featpipe.report.store import label_texts
from featpipe.report.units import (
    brief_text,
    bytes_text,
    count_text,
    counts_text,
    rough,
    scaled_text,
    seconds_text,
    shape_text,
)

Facts = Mapping[str, Any]
SHOWN = 100
"""Branches and maps that a plan's text shows: nobody reads thousands of tables, and they take long to lay out."""


def render_plan(facts: Facts) -> RenderableType:
    """Return a plan for people."""
    facts = printable_facts(facts)
    parts: list[RenderableType] = [section("Images", _images(facts["images"]))]
    parts += [_layers(branch, facts["store"]["dtype"]) for branch in facts["branches"][:SHOWN]]
    parts += [Text(more, style="dim") for more in _more(facts["branches"], "branches and scales")]
    parts += [_maps(facts["store"]), section("Run", _run(facts)), section("Memory", _memory(facts["memory"]))]
    if facts["notes"]:
        parts.append(section("Notes", facts["notes"]))
    return spaced(parts)


def render_run(facts: Facts) -> RenderableType:
    """Return what a run did for people."""
    facts = printable_facts(facts)
    parts: list[RenderableType] = [section(_STATUS_TITLES[facts["status"]], _run_lines(facts))]
    if facts["failed"]:
        parts.append(_failures(facts))
    parts.append(code("To open it in Python:", facts["open"]) if facts["open"] else "")
    return spaced([part for part in parts if part])


def render_store(facts: Facts) -> RenderableType:
    """Return what a store holds for people."""
    facts = printable_facts(facts)
    parts: list[RenderableType] = [section("Store", _store_lines(facts)), section("Images", _store_images(facts))]
    parts += [_stored_map(one, complete=facts["status"] == "complete") for one in facts["maps"]]
    if facts["learned"]:
        parts.append(section("Learned", map(_learned, facts["learned"])))
    return spaced(parts)


def _learned(bank: Facts) -> str:
    """Say what a learned bank is, and what of."""
    parameters, (count, *shape) = bank["parameters"], bank["shape"]
    split = f" of split {parameters['split']}" if parameters["split"] else ""
    patches = f"{parameters['patches']:,} patches{split}, seed {parameters['seed']}"
    return f"{bank['fit']}, {count:,} kernels of {shape_text(shape)}, from {patches}: {bank['group']}"


def render_ingest(facts: Facts) -> RenderableType:
    """Return what was decoded for people."""
    facts = printable_facts(facts)
    shape = shape_text(facts["shape"])
    lines = [
        facts["target"],
        f"{count_text(facts['shape'][0], 'image')}, {shape} {facts['dtype']}, {bytes_text(facts['bytes'])} on disk",
    ]
    failed = facts["failed"]
    if failed:
        name, why = next(iter(failed.items()))
        lines.append(f"{count_text(len(failed), 'image')} FAILED, e.g. {_reason(name, why)}")
    return spaced([section("Done", lines), code("In the pipeline file:", ["images:", f"  path: {facts['path']}"])])


def render_banks(banks: Iterable[Facts]) -> RenderableType:
    """Return the banks there are as a table."""
    table = make_table("bank", "parameters", "what it is")
    table.columns[0].style = "bold"
    table.columns[0].no_wrap = True
    for bank in printable_facts(list(banks)):
        table.add_row(bank["name"], ", ".join(map(_parameter, bank["parameters"])), bank["summary"])
    return spaced([table, Text("featpipe banks show NAME tells more about one.", style="dim")])


def render_bank(bank: Facts) -> RenderableType:
    """Return one bank for people."""
    bank = printable_facts(bank)
    parts: list[RenderableType] = [section(bank["name"], [bank["summary"]])]
    if bank["parameters"]:
        table = make_table("parameter", "value", "default", "meaning")
        for one in bank["parameters"]:
            table.add_row(one["name"], one["type"], one["default"] or "must be given", one["description"])
        parts.append(table)
    parts.append(code("In the pipeline file, under layers:", [bank["example"]]))
    if bank["source"]:
        parts.append(section("Source", [bank["source"]]))
    return spaced(parts)


# -- the parts ---------------------------------------------------------------------------------------------------------


def _more(of: Sequence[Any], what: str) -> Iterator[str]:
    """Yield what is said of those that are not shown."""
    if len(of) > SHOWN:
        yield f"… and {len(of) - SHOWN:,} more {what}; --json tells of all."


def _images(images: Facts) -> Iterator[str]:
    yield images["path"]
    sizes = shape_text(images["least"], images["most"])
    channels = ", ".join(images["channels"])
    yield f"{count_text(images['count'], 'image')} · {sizes} px · {channels} · {images['dtype']}"
    yield from _names(images)
    bad = images["unreadable"]
    if bad:
        name, why = next(iter(bad.items()))
        yield f"{count_text(len(bad), 'image')} cannot be used, e.g. {_reason(name, why)}"


def _names(facts: Facts) -> Iterator[str]:
    for key in ("splits", "classes"):
        if facts[key]:
            yield f"{key}: {counts_text(facts[key])}"


def _reason(name: str, why: str) -> str:
    return why if why.startswith(f"{name}:") else f"{name}: {why}"


def _layers(branch: Facts, dtype: str) -> RenderableType:
    table = Fitting(
        ("layer", "output y×x×k", "window", "stride", "halo", "weights", "FLOP/image", "≈ time"),
        map(partial(_layer, branch["map"]), branch["layers"]),
        spare=("weights", "FLOP/image", "halo", "stride", "≈ time", "window"),
        right=("weights", "FLOP/image", "≈ time"),
        wrap="layer",
    )
    return titled(f"{branch['branch']}, scale {branch['scale']}", f"computed in float32, stored as {dtype}", table)


def _layer(result: str, layer: Facts) -> list[RenderableType]:
    """Return a layer's cells; ``result`` is the map that the last layer makes."""
    name = Text(layer["layer"])
    if layer["stored_as"] not in (None, result):
        name.append(" → saved", style="dim")
    return [
        name,
        _tight(layer),
        shape_text(layer["window"]) if layer["window"] else "cell",
        _pair(layer["stride"]) if layer["stride"] else "",
        _halo(layer["halo"]) if layer["halo"] else "",
        _weights(layer),
        scaled_text(layer["flop_per_image"]) if layer["flop_per_image"] else "",
        brief_text(layer["seconds_per_image"]),
    ]


def _tight(facts: Facts) -> str:
    """Write a shape, or the shapes between two, without spaces."""
    return shape_text(facts["least"], facts["most"]).replace(" ", "")


def _pair(values: Sequence[int]) -> str:
    return f"{values[0]}" if values[0] == values[1] else f"{values[0]}×{values[1]}"


def _halo(halo: Sequence[Sequence[int]]) -> str:
    """Write the halo (before, after) along y and x as shortly as it can be."""
    sides = [f"{before}" if before == after else f"{before}+{after}" for before, after in halo]
    return sides[0] if sides[0] == sides[1] else f"{sides[0]}×{sides[1]}"


def _maps(store: Facts) -> RenderableType:
    rows = (
        [
            one["map"],
            _tight(one),
            f"{one['shards']:,}",
            shape_text(one["shard"]),
            bytes_text(one["shard_bytes"]),
            bytes_text(one["bytes"]),
        ]
        for one in store["maps"][:SHOWN]
    )
    table = Fitting(
        ("map", "shape", "shards", "shard", "size", "total"),
        rows,
        spare=("shard", "size", "shards"),
        right=("shards", "size", "total"),
        wrap="shape",
    )
    parts: list[RenderableType] = [titled("Store", f"{store['path']}, {store['dtype']}", table)]
    apart = [one["map"] for one in store["maps"] if not one["stacked"]]
    notes = list(_more(store["maps"], "maps"))
    if apart:
        more = f" and {len(apart) - SHOWN:,} more" if len(apart) > SHOWN else ""
        notes.append(f"An array for each image, as the images differ in size: {', '.join(apart[:SHOWN])}{more}.")
    parts += [Padding(Text(note), (0, 0, 0, 2)) for note in (*notes, store["there"]) if note]
    return Group(*parts)


def _run(facts: Facts) -> Iterator[str]:
    pieces = []
    if facts["batch"]:
        pieces.append(f"batches of {count_text(min(facts['batch'], facts['images']['count']), 'image')}")
    if facts["block"]:
        pieces.append(f"blocks of {shape_text(facts['block'])} px")
    threads = count_text(facts["memory"]["threads"], "thread")
    yield f"{count_text(facts['tasks'], 'task')} ({', '.join(pieces)}) on {threads}"
    flop = scaled_text(facts["flop"])
    flop += "FLOP" if " " in flop else " FLOP"
    yield (
        f"{flop} · {bytes_text(facts['store']['bytes'])} of features before compression · "
        f"roughly {seconds_text(rough(facts['seconds_nominal']))}"
    )


def _weights(layer: Facts) -> str:
    """Return how many weights a layer has; and how many, were they shared by all positions."""
    if not layer["parameters"]:
        return ""
    shared = layer["parameters_shared"]
    beside = "" if shared == layer["parameters"] else f" (convolve: {scaled_text(shared)})"
    return scaled_text(layer["parameters"]) + beside


def _memory(memory: Facts) -> Iterator[str]:
    threads = count_text(memory["threads"], "thread")
    yield f"{bytes_text(memory['peak'])} at most, of {bytes_text(memory['limit'])} that it may use"
    yield f"= {bytes_text(memory['base'])} for the process + {threads} × {bytes_text(memory['task'])} for a task"
    if memory["fit"]:
        yield f"and before that {bytes_text(memory['fit'])} to learn from patches, not both at once"
    yield "a task: " + " · ".join(f"{part} {bytes_text(size)}" for part, size in memory["parts"].items())


_STATUS_TITLES = {"complete": "Done", "unchanged": "Unchanged", "interrupted": "Interrupted"}


def _run_lines(facts: Facts) -> Iterator[str]:
    yield facts["store"]
    if facts["status"] == "unchanged":
        yield f"It holds the features of these {count_text(facts['images'], 'image')} already, complete: nothing to do."
        if facts["failed"]:
            yield f"{facts['failed']:,} of them FAILED in an earlier run; --retry-failed tries them again."
        yield from _unreached(facts)
        return
    done = facts["images"] - facts["failed"]
    if facts["status"] == "interrupted":
        tasks = count_text(facts["tasks"], "task")
        yield f"{facts['tasks_done']:,} of {tasks} done. The same command goes on from here."
    elif facts["failed"]:
        images, failed = count_text(facts["images"], "image"), f"{facts['failed']:,}"
        yield f"{done:,} of {images} done, {failed} FAILED: their features are NaN and their ok is false."
    else:
        yield f"{count_text(done, 'image')} done, none failed."
    yield from _unreached(facts)
    if facts["reads_retried"]:
        yield f"{count_text(facts['reads_retried'], 'read')} failed at first, and were tried again."
    if facts["tasks_resumed"]:
        yield f"{facts['tasks_resumed']:,} of {count_text(facts['tasks'], 'task')} had been done by an earlier run."
    yield (
        f"{seconds_text(facts['seconds'])} · {scaled_text(facts['images_per_second'])} images/s · "
        f"{scaled_text(facts['pixels_per_second'])}pixel/s read · "
        f"{bytes_text(facts['bytes_per_second'])}/s of features written"
    )
    shares = facts["shares"]
    if shares:
        yield "time of the tasks: " + " · ".join(f"{phase} {share:.0%}" for phase, share in shares.items())


def _unreached(facts: Facts) -> Iterator[str]:
    """Say how many of the images that failed are not broken, and what to do."""
    away = facts["unavailable"]
    if away:
        them = "it" if away == 1 else "them"
        yield f"{count_text(away, 'image')} could not be reached; run again to try {them} again."


def _failures(facts: Facts, most: int = 5) -> RenderableType:
    """Return the reasons of failed images, the commonest first, each with the first paths."""
    table = make_table("failed", "why", "which", right=("failed",))
    reasons = facts["failures"]
    for one in reasons[:most]:
        paths = one["paths"][:3]
        more = one["count"] - len(paths)
        table.add_row(f"{one['count']:,}", one["reason"], "\n".join([*paths, f"… {more:,} more"] if more else paths))
    if len(reasons) > most:
        table.add_row("", f"… {len(reasons) - most:,} other reasons: see --json", "")
    return table


def _store_lines(facts: Facts) -> Iterator[str]:
    yield facts["path"]
    version = facts["versions"].get("featpipe", "of unknown version")
    written = facts["written"].replace("T", " ")
    yield f"{facts['status']} · {bytes_text(facts['disk_bytes'])} on disk · written {written} by featpipe {version}"


def _store_images(facts: Facts) -> Iterator[str]:
    yield count_text(facts["images"], "image")
    yield from _names(facts)
    if facts["failures"]:
        name, why = next(iter(facts["failures"].items()))
        yield f"{count_text(len(facts['failures']), 'image')} failed, e.g. {_reason(name, why)}"
    yield from _unreached({"unavailable": len(facts["unavailable"])})


def _stored_map(one: Facts, *, complete: bool) -> RenderableType:
    if "most" not in one:
        return titled(one["name"], "nothing yet", Text())
    many = "" if one["stacked"] else f", {count_text(one['arrays'], 'array')}, one for each image"
    ratio = one["bytes"] / max(1, one["disk_bytes"])
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("features", Text(f"{one['features']:,}: " + " · ".join(label_texts(one["labels"]))))
    grid.add_row("shards", Text(f"{shape_text(one['shard'])} of chunks {shape_text(one['chunk'])}"))
    smaller = f" ({ratio:.1f} times smaller)" if complete and ratio >= 1.05 else ""
    sizes = f"{bytes_text(one['bytes'])}, on disk {bytes_text(one['disk_bytes'])}{smaller}"
    grid.add_row("size", Text(sizes))
    return titled(one["name"], f"{shape_text(one['least'], one['most'])} {one['dtype']}{many}", grid)


def _parameter(parameter: Facts) -> str:
    return f"{parameter['name']}={parameter['default']}" if parameter["default"] else parameter["name"]


__all__ = ["render_bank", "render_banks", "render_plan", "render_run", "render_store"]
