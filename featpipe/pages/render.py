"""A report's facts as one page of HTML: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from featpipe.objects import is_url
from featpipe.pages.facts import Facts, ReportFacts
from featpipe.pages.pictures import matrix
from featpipe.pages.runs import latest
from featpipe.pages.statistics import FeatureStatistics, MapStatistics
from featpipe.printable import printable
from featpipe.report.store import label_texts
from featpipe.report.units import bytes_text, count_text, scaled_text, seconds_text, shape_text

MOST_ROWS = 200
"""Features of a map in its table."""
MOST_CLASSES = 40
MOST_CELLS = 30
"""Classes up to which a confusion matrix is a table."""
MOST_PAIRS = 15
MOST_LINES = 300
"""Of the pipeline."""
LONGEST_LINE = 600
_YAML = re.compile(r"^(?P<indent>\s*(?:- )*)(?P<key>[^\s:#'\"\[{][^:]*:)?(?P<rest>.*)$")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.])")


def render_report(facts: ReportFacts) -> str:
    """Return a report as HTML.

    Parameters
    ----------
    facts : ReportFacts
    """
    environment = Environment(
        loader=PackageLoader("featpipe.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters |= {
        "bytes": bytes_text, "scaled": scaled_text, "seconds": seconds_text, "shape": shape_text, "count": count_text,
        "number": number_text, "percent": percent_text, "when": when_text, "labels": label_texts,
        "histogram": histogram_path, "bars": bars_path, "yaml": highlighted, "lines": _lines,
    }  # fmt: skip
    return environment.get_template("report.html").render(
        facts=facts,
        store=facts.store,
        title=_address(facts).rstrip("/\\").replace("\\", "/").rpartition("/")[2],
        status=_status(facts),
        features=sum(one.get("features", 0) for one in facts.store["maps"]),
        raw_bytes=sum(one.get("bytes", 0) for one in facts.store["maps"]),
        last=latest(facts.runs),
        pipeline=pipeline_text(facts.store["pipeline"]),
        shown_features=shown_features,
        short_names=short_names,
        shares=confusion_shares,
        matrix=_matrix,
        pairs=confused_pairs,
        snippets=open_snippets(facts),
        commands=commands(facts),
        most_classes=MOST_CLASSES,
        most_cells=MOST_CELLS,
    )


def _shown(value: Any) -> Any:
    """Return what a template writes of a value: names act on a page as little as on a terminal."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _lines(text: str) -> Markup:
    """Return text of several lines for a template."""
    return escape(printable(text, lines=True))


def _status(facts: ReportFacts) -> str:
    """Return ``complete``, ``running`` or ``partial``."""
    if facts.store["status"] == "complete":
        return "complete"
    return "running" if facts.runs and facts.runs[-1].status == "running" else "partial"


# -- words and numbers -------------------------------------------------------------------------------------------------


def number_text(value: float) -> str:
    """Write a number with four digits.

    Examples
    --------
    >>> number_text(0.0), number_text(-0.000123456), number_text(1234567.0), number_text(2.5)
    ('0', '−0.0001235', '1.235e6', '2.5')
    """
    if not math.isfinite(value):
        return "–"
    return f"{value:.4g}".replace("e+0", "e").replace("e-0", "e−").replace("e+", "e").replace("-", "−")


def percent_text(share: float | None) -> str:
    """Write a share; what is not quite none or all does not read as if it were.

    Examples
    --------
    >>> percent_text(0.5), percent_text(0.00001), percent_text(0.99999), percent_text(1.0)
    ('50 %', '<0.1 %', '>99.9 %', '100 %')
    """
    if share is None:
        return "–"
    if 0 < share < 0.001:
        return "<0.1 %"
    if 0.999 < share < 1:
        return ">99.9 %"
    return f"{100 * share:.3g} %"


def when_text(time: datetime) -> str:
    """Write a time to the second, with its offset from UTC."""
    return f"{time:%Y-%m-%d %H:%M:%S} {time:%z}".strip()


def pipeline_text(pipeline: Mapping[str, Any]) -> str:
    """Return a pipeline as YAML."""
    text: str = yaml.dump(_abridged(dict(pipeline)), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text


def _abridged(value: Any) -> Any:
    """Return plain data with long tables of numbers, as of kernels, told by their shapes."""
    if isinstance(value, dict):
        return {key: _abridged(one) for key, one in value.items()}
    if not isinstance(value, list):
        return value
    if _is_numbers(value) and len(json.dumps(value)) > LONGEST_LINE:
        shape, inner = [], value
        while isinstance(inner, list) and inner:
            shape.append(len(inner))
            inner = inner[0]
        return f"({shape_text(shape)} numbers)"
    return [_abridged(one) for one in value]


class _Dumper(yaml.SafeDumper):
    """Writes lists of plain values and of numbers in one line, all else line by line."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> Any:
        plain = all(not isinstance(one, (dict, list)) or _is_numbers(one) for one in sequence)
        return super().represent_sequence(tag, sequence, flow_style=plain if flow_style is None else flow_style)


def _is_numbers(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, (int, float)) or _is_numbers(one) for one in value)


def highlighted(text: str) -> Markup:
    """Return YAML with its keys and numbers marked up; very long ones cut."""
    lines = printable(text, lines=True).rstrip("\n").split("\n")
    shown = [line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} …" for line in lines[:MOST_LINES]]
    marked = [_highlight(line) for line in shown]
    if len(lines) > MOST_LINES:
        marked.append(Markup('<span class="cut">… and {} more lines</span>').format(f"{len(lines) - MOST_LINES:,}"))
    return Markup("\n").join(marked)


def _highlight(line: str) -> Markup:
    found = _YAML.match(line)
    assert found is not None
    key, rest = found["key"] or "", found["rest"]
    parts, at = [escape(found["indent"])], 0
    if key:
        parts.append(Markup('<span class="key">{}</span>').format(key))
    for number in _NUMBER.finditer(rest):
        parts += [escape(rest[at : number.start()]), Markup('<span class="number">{}</span>').format(number[0])]
        at = number.end()
    return Markup("").join([*parts, escape(rest[at:])])


# -- drawings ----------------------------------------------------------------------------------------------------------


def histogram_path(counts: Sequence[int]) -> str:
    """Return the outline of a histogram as an SVG path, a unit a bin wide and 20 high; heights are square roots."""
    most = max(counts, default=0)
    if not most:
        return ""
    return "".join(f"M{i} 20V{20 - 20 * math.sqrt(n / most):.3g}h1V20z" for i, n in enumerate(counts) if n)


def bars_path(values: Sequence[float], low: float, high: float) -> str:
    """Return bars from 0 as an SVG path, a unit a value wide and 100 high."""
    if high <= low:
        return ""
    zero = 100 * high / (high - low)
    ends = (100 * (high - value) / (high - low) for value in values)
    return "".join(f"M{i + 0.1:g} {zero:.4g}V{end:.4g}h0.8V{zero:.4g}z" for i, end in enumerate(ends))


def _matrix(shares: Sequence[Sequence[float]]) -> str:
    return matrix(np.sqrt(np.asarray(shares, np.float64)))


# -- what is shown of many ---------------------------------------------------------------------------------------------


def shown_features(one: MapStatistics) -> list[tuple[int, FeatureStatistics]]:
    """Return the features of a map's table with their numbers: all of some, or those that are flagged and the first."""
    chosen = dict.fromkeys(i for i, _ in one.flagged[: MOST_ROWS // 2])
    for i in range(len(one.features)):
        if len(chosen) >= MOST_ROWS:
            break
        chosen.setdefault(i)
    return [(i, one.features[i]) for i in sorted(chosen)]


def short_names(names: Sequence[str]) -> tuple[str, list[str]]:
    """Return the words that all of a map's features have in their names, and what is left of each.

    Examples
    --------
    >>> short_names(["gabor frequency=0.1 scale=1", "gabor frequency=0.2 scale=1"])
    ('gabor scale=1', ['frequency=0.1', 'frequency=0.2'])
    >>> short_names(["sobel"])
    ('', ['sobel'])
    """
    rows = [name.split(" ") for name in names]
    if len(rows) < 2 or len({len(row) for row in rows}) > 1:
        return "", list(names)
    shared = [len(set(column)) == 1 for column in zip(*rows, strict=True)]
    left = [" ".join(word for word, same in zip(row, shared, strict=True) if not same) for row in rows]
    if not all(left):
        return "", list(names)
    return " ".join(word for word, same in zip(rows[0], shared, strict=True) if same), left


def confusion_shares(confusion: Sequence[Sequence[int]]) -> list[list[float]]:
    """Return each count of a confusion matrix as a share of its row."""
    return [[count / max(1, sum(row)) for count in row] for row in confusion]


def confused_pairs(found: Facts) -> list[tuple[str, str, int, float]]:
    """Return which classes were most often taken for which, how often, and in what share of the class's images."""
    names, rows = found["classes"], found["confusion"]
    pairs = [
        (names[i], names[j], count, count / max(1, sum(row)))
        for i, row in enumerate(rows)
        for j, count in enumerate(row)
        if count and i != j
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:MOST_PAIRS]


# -- how to open it ----------------------------------------------------------------------------------------------------


def _address(facts: ReportFacts) -> str:
    """Return where the store lies, such that it is found from anywhere on this machine."""
    path = str(facts.store["path"])
    return path if is_url(path) else str(Path(path).absolute())


def open_snippets(facts: ReportFacts) -> list[tuple[str, str]]:
    """Return names of readers and the lines by which each opens the store."""
    path = _address(facts)
    quoted, name = json.dumps(path, ensure_ascii=False), facts.opened
    if is_url(path):
        lines = ["import obstore, zarr", f"store = zarr.storage.ObjectStore(obstore.store.from_url({quoted}))"]
        first, place = "\n".join(lines), "store"
    else:
        first, place = "import zarr", quoted
    tree = f'tree = xarray.open_datatree({place}, engine="zarr")'
    before = f"{first}, xarray" if not is_url(path) else f"{first}\nimport xarray"
    values = f"values = tree[{json.dumps(name, ensure_ascii=False)}].features"
    return [
        ("featpipe", "\n".join(["import featpipe", f"stack = featpipe.open({quoted})", *_featpipe_lines(facts)])),
        ("xarray", "\n".join([before.replace("import zarr, xarray", "import xarray"), tree, values])),
        ("zarr", "\n".join([first, f'group = zarr.open_group({place}, mode="r")', _zarr_line(name)])),
    ]


def _featpipe_lines(facts: ReportFacts) -> Iterator[str]:
    partial = "allow_partial=True" if facts.store["status"] != "complete" else ""
    if facts.stacked:
        splits = [split for split, count in facts.store["splits"].items() if count]
        split = f"split={json.dumps('train' if 'train' in splits else splits[0])}" if splits else ""
        yield f"X, y = stack.xy({', '.join(word for word in (split, partial) if word)})   # what scikit-learn takes"
    yield f"values = stack[{json.dumps(facts.opened, ensure_ascii=False)}]   # a map, read as it is indexed"


def _zarr_line(name: str) -> str:
    return f"features = group[{json.dumps(f'{name}/features', ensure_ascii=False)}]"


def commands(facts: ReportFacts) -> list[tuple[str, str]]:
    """Return what to do next, and the command for it."""
    path = shlex.quote(_address(facts))
    info = ("Tell what the store holds", f"featpipe info {path}")
    if facts.store["status"] != "complete":
        return [("Go on with it: only what is missing is computed", "featpipe run PIPELINE.yaml"), info]
    found = [("Check every byte, and compute some shards again", f"featpipe verify {path} --recompute 20"), info]
    if facts.store["classes"] and facts.store["splits"] and facts.stacked and not facts.probes:
        found.append(("See what a linear classifier reads from it", f"featpipe probe {path}"))
    if facts.failures.count:
        found.append(("Try the images again that failed", "featpipe run PIPELINE.yaml --retry-failed"))
    return found
