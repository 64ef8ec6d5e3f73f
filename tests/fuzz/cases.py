"""Inputs, each from a number: what is put into a case's folder, and the command's words."""

# ruff: noqa: E501 - tables of odd values

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import yaml

from featpipe.schema.build import pipeline_schema
from tests.fuzz.assets import GOOD, SOURCES, TRAPS, pipelines
from tests.fuzz.values import NUMBERS, TEXTS, Grammar, changed, garbled, odd_value, written

LIMITS = ("--quiet", "--threads", "1", "--memory", "700MiB")
ON_PIPELINES = (
    (30, ("plan", "p.yaml", "--threads", "1", "--memory", "700MiB")),
    (30, ("run", "p.yaml", *LIMITS)),
    (5, ("plan", "p.yaml", "--json")),
    (5, ("ingest", "p.yaml", "in.zarr", "--quiet")),
    (5, ("fit", "p.yaml", "-o", "f.npz", *LIMITS)),
    (2, ("preview", "p.yaml", "-o", "v.png", "--quiet")),
)
ON_STORES = (
    (4, ("info", "s.zarr")),
    (2, ("info", "s.zarr", "--json")),
    (4, ("verify", "s.zarr", *LIMITS)),
    (2, ("verify", "s.zarr", "--recompute", "2", *LIMITS)),
    (1, ("report", "s.zarr", "-o", "r.html", "--quiet")),
    (3, ("probe", "s.zarr", "--quiet")),
    (3, ("export", "s.zarr", "-o", "e.npz", "--quiet")),
    (1, ("export", "s.zarr", "-o", "e.ome.zarr", "--image", "0", "--quiet")),
    (3, ("run", "p.yaml", *LIMITS)),
    (2, ("plan", "p.yaml")),
    (1, ("unlock", "s.zarr")),
)
Case = Callable[[Random, Path], list[str]]


def wrong_pipeline(random: Random, folder: Path) -> list[str]:
    """Write a pipeline with something wrong in it."""
    data = yaml.safe_load(random.choice(pipelines()))
    way = random.randrange(4)
    if way == 0:
        text = garbled(written(data, random), random)
    elif way == 1:
        text = written(changed(data, random, random.choice((1, 1, 2, 5))), random)
    elif way == 2:
        drawn = Grammar(pipeline_schema()).draw(random)
        text = written(_on_images(drawn, random), random)
    else:
        text = _overridden(data, random)
    (folder / "p.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    return [*_chosen(random, ON_PIPELINES), *(_overrides(random) if random.random() < 0.1 else [])]


def _on_images(drawn: Any, random: Random) -> Any:
    """Put images that are there into a pipeline, as a rule, so that more than a path is wrong."""
    if isinstance(drawn, dict):
        images = drawn.get("images")
        drawn.pop("cluster", None)
        if isinstance(images, dict) and random.random() < 0.95:
            images["path"] = random.choice(SOURCES)
        drawn["store"] = {**(drawn["store"] if isinstance(drawn.get("store"), dict) else {}), "path": "n.zarr"}
    return drawn


def _overridden(data: Any, random: Random) -> str:
    """Replace one number or word of a layer by an odd one, so that the rest stays right."""
    branch = random.choice(list(data["features"].values()))
    layer = random.choice([one for one in branch["layers"] if isinstance(one, dict)] or [{"pool": {"mean": 2}}])
    options = next(iter(layer.values()))
    if isinstance(options, dict) and options:
        options[random.choice(list(options))] = random.choice(NUMBERS) if random.random() < 0.7 else odd_value(random)
    return written(data, random)


def _overrides(random: Random) -> list[str]:
    keys = (
        "store.path",
        "images.path",
        "images.size",
        "store.batch",
        "features.t.scales",
        "features.t.layers",
        "a",
        "",
        "images",
        "..",
        "x.y",
    )
    values = [json.dumps(odd_value(random)), random.choice(TEXTS), random.choice(TRAPS), str(random.choice(NUMBERS))]
    return [
        "--set",
        f"{random.choice(keys)}{random.choice(('=', '=', '=', ''))}{random.choice(values)}".replace("\0", ""),
    ]


def wrong_file(random: Random, folder: Path) -> list[str]:
    """Spoil a file that a pipeline reads, or put a trap in its place."""
    sources = [*SOURCES[:-1], "k.npy", "k.npz:a", "w.safetensors:a", "bank.npz", "import"]
    name = random.choice(sources)
    data = yaml.safe_load(GOOD)
    data["store"]["path"] = "n.zarr"
    spoilt = name.partition(":")[0]
    if name in SOURCES:
        data["images"]["path"] = name
        del data["features"]["e"]
    elif name == "import":
        spoilt = "w.safetensors"
        data["images"]["color"] = "rgb"
        data["features"]["t"]["layers"] = [{"import": {"file": spoilt}}]
    elif name == "bank.npz":
        data["features"]["t"]["layers"] = [{"convolve": {"bank": {"file": name}}}]
    else:
        data["features"]["t"]["layers"] = [{"convolve": {"kernels": name}}]
    if random.random() < 0.2:
        trap = random.choice(TRAPS)
        text = json.dumps(data).replace(json.dumps(name), json.dumps(trap))
        (folder / "p.yaml").write_text(text)
    else:
        files = [file for file in (folder / spoilt).rglob("*") if file.is_file()] or [folder / spoilt]
        spoil(random.choice(files), random)
        (folder / "p.yaml").write_text(json.dumps(data))
    return list(_chosen(random, ON_PIPELINES[:5]))


def wrong_store(random: Random, folder: Path) -> list[str]:
    """Spoil a file of a store, or of the history beside it."""
    files = sorted(
        file for file in [*(folder / "s.zarr").rglob("*"), *(folder / "s.zarr.run").rglob("*")] if file.is_file()
    )
    for _ in range(random.choice((1, 1, 1, 3))):
        spoil(random.choice(files), random)
    return list(_chosen(random, ON_STORES))


def wrong_words(random: Random, folder: Path) -> list[str]:
    """Give a command words that mean nothing, or other files than it is for."""
    del folder
    words = list(_chosen(random, (*ON_PIPELINES, *ON_STORES, *OTHERS)))
    odd = (*TEXTS, *TRAPS, *map(str, NUMBERS), *SOURCES, "s.zarr", "p.yaml", "k.npz", "bank.npz")
    for _ in range(random.choice((1, 1, 2))):
        at = random.randrange(1, len(words) + 1)
        word = random.choice([one for one in odd if "\0" not in one and "\ud800" not in one])
        if random.random() < 0.3:
            words[at:at] = [random.choice(OPTIONS), word]
        elif at < len(words) and word != "-":
            words[at] = word
    return words


OTHERS = (
    (2, ("init", "new")),
    (2, ("banks", "show", "gabor")),
    (2, ("banks", "show", "gabor", "--png", "b.png", "--set", "frequencies=[0.2]")),
    (1, ("schema", "-o", "x.json")),
    (1, ("banks", "--json")),
)
OPTIONS = (
    "--set", "--memory", "--threads", "--max-failures", "--log-format", "--map", "--branch", "--train", "--test", "--strength", "--validation",
    "--seed", "--png", "--classifier", "--recompute", "--split", "--select", "--image", "--row", "--format", "-o", "--values", "--report-to",
    "--overwrite", "--retry-failed", "--fsync", "--json", "--report", "--no-pictures",
)  # fmt: skip


def spoil(file: Path, random: Random) -> None:
    """Damage a file as disks, editors and the ill-disposed do."""
    content = file.read_bytes()
    way = random.randrange(10)
    if way == 0:
        file.write_bytes(b"")
    elif way == 1:
        file.write_bytes(content[: random.randrange(len(content) + 1)])
    elif way == 2:
        file.write_bytes(content + random.randbytes(random.choice((1, 100, 5000))))
    elif way == 3:
        file.write_bytes(random.randbytes(random.choice((1, 30, 3000))))
    elif way == 4:
        file.unlink()
        os.mkfifo(file)
    elif way == 5:
        file.unlink()
        random.choice(
            (
                file.mkdir,
                lambda: file.symlink_to("/dev/zero"),
                lambda: file.symlink_to(file.name),
                lambda: None,
            )
        )()
    else:
        _edit(file, content, random)


def _edit(file: Path, content: bytes, random: Random) -> None:
    """Change some of a file: its JSON where it is some, else some of its bytes."""
    try:
        data = json.loads(content)
    except ValueError:
        changed_bytes = bytearray(content)
        for _ in range(random.choice((1, 1, 4, 40))):
            if changed_bytes:
                changed_bytes[random.randrange(min(len(changed_bytes), random.choice((64, 10**9))))] = random.choice(
                    (0, 255, random.randrange(256))
                )
        file.write_bytes(changed_bytes)
    else:
        file.write_text(json.dumps(changed(data, random, random.choice((1, 2)))), encoding="utf-8")


def _chosen(random: Random, weighted: Any) -> tuple[str, ...]:
    weights = [weight for weight, _ in weighted]
    words: tuple[str, ...] = random.choices([words for _, words in weighted], weights)[0]
    return words


KINDS: tuple[tuple[int, Case], ...] = ((50, wrong_pipeline), (20, wrong_file), (20, wrong_store), (10, wrong_words))
NAMES = {kind.__name__: kind for _, kind in KINDS}


def make_case(number: int, folder: Path, only: str = "") -> list[str]:
    """Fill a folder, which holds the good files, for the input of a number; return the command's words."""
    random = Random(number)
    kind = NAMES[only] if only else random.choices([one for _, one in KINDS], [weight for weight, _ in KINDS])[0]
    return kind(random, folder)
