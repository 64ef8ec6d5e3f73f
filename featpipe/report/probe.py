"""What a probe found, as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType

from featpipe.printable import printable_facts
from featpipe.report.sections import make_table, section, spaced, titled
from featpipe.report.units import count_text, seconds_text

Facts = Mapping[str, Any]
MOST_CLASSES = 30
"""Classes up to which all are listed; of more, those that do worst."""
LISTED = 12


def render_probe(facts: Facts) -> RenderableType:
    """Return for people what `ProbeResult.facts` tells."""
    facts = printable_facts(facts)
    parts: list[RenderableType] = [section("Accuracy", _accuracy(facts)), section("Training", _training(facts))]
    if facts["validation"]:
        parts.append(_validation(facts))
    parts.append(_classes(facts["per_class"]))
    if facts.get("picture"):
        parts.append(section("Picture", [facts["picture"]]))
    if facts["notes"]:
        parts.append(section("Notes", facts["notes"]))
    return spaced(parts)


def render_probes(many: Iterable[Facts]) -> RenderableType:
    """Return several, one after another."""
    return Group(*[part for facts in many for part in (render_probe(facts), "")][:-1])


def percent(share: float | None) -> str:
    """Write a share in percent; nothing for none."""
    return "" if share is None else f"{100 * share:.1f} %"


def _accuracy(facts: Facts) -> Iterator[str]:
    low, high = facts["interval"]
    test = count_text(facts["counts"]["test"], "test image")
    yield f"{percent(facts['accuracy'])} on {test} (95 % interval {percent(low)} to {percent(high)})"
    yield f"{percent(facts['baseline'])} if every answer were the commonest class"


def _training(facts: Facts) -> Iterator[str]:
    counts = facts["counts"]
    inverse = f" (C = {1 / facts['strength']:g})" if facts["classifier"] == "logistic" else ""
    yield f"{facts['classifier']}, strength {facts['strength']:g}{inverse}, {seconds_text(facts['seconds'])}"
    chosen = f"; {counts['validation']:,} of them chose the strength" if counts["validation"] else ""
    yield f"{count_text(counts['train'], 'image')}{chosen}"
    same = f"; {counts['constant']:,} of them the same in all images" if counts["constant"] else ""
    yield f"{count_text(counts['features'], 'feature')} of {', '.join(facts['maps'])}{same}"
    out = [f"{counts[key]:,} {key}" for key in ("unreadable", "unlabelled") if counts[key]]
    if out:
        yield f"left out: {', '.join(out)}"


def _validation(facts: Facts) -> RenderableType:
    rows = make_table("strength", "accuracy", "", right=("strength", "accuracy"))
    for one in facts["validation"]:
        chosen = "chosen" if one["strength"] == facts["strength"] else ""
        rows.add_row(f"{one['strength']:g}", percent(one["accuracy"]), chosen)
    return titled("Validation", f"{facts['counts']['validation']:,} of the training images", rows)


def _classes(classes: list[Facts]) -> RenderableType:
    rows = make_table(
        "class", "test images", "recall", "precision", "most often taken for",
        right=("test images", "recall", "precision"),
    )  # fmt: skip
    shown, more = classes, ""
    if len(classes) > MOST_CLASSES:
        tested = [one for one in classes if one["n"]]
        shown = sorted(tested, key=lambda one: (one["recall"], -one["n"]))[:LISTED]
        more = f"the {len(shown)} of {len(classes):,} with the least recall; --json tells all"
    for one in shown:
        other = f"{one['confused_with']} ({one['confused']:,})" if one["confused"] else ""
        rows.add_row(one["class"], f"{one['n']:,}", percent(one["recall"]), percent(one["precision"]), other)
    return titled("Classes", more, rows)
