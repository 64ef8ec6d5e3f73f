"""The reference is what the code says, and its examples are pipelines."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from featpipe.schema.build import pipeline_schema
from featpipe.spec.layers import OPS
from featpipe.spec.source import read_yaml
from tests.test_docs import blocks
from tests.unit.test_schema import taken

FOLDER = Path(__file__).resolve().parent.parent / "docs"
PAGES: dict[str, str] = runpy.run_path(str(FOLDER / "make_reference.py"))["pages"]()
EXAMPLES = blocks(PAGES["pipeline.md"], "yaml")


@pytest.mark.parametrize("name", PAGES)
def test_the_reference_is_what_the_code_says(name: str) -> None:
    written = (FOLDER / "reference" / name).read_text(encoding="utf-8")
    assert written == PAGES[name], "python docs/make_reference.py writes it anew"


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_examples_of_the_reference_are_right(text: str) -> None:
    root, problems = read_yaml(text, "pipeline.md")
    assert not problems
    data: Any = root.data()
    whole = {"images": {"path": "a"}, "features": {"t": {"layers": ["modulus"]}}}
    if isinstance(data, list):
        whole["features"] = {f"t{i}": {"layers": [layer, {"activate": "abs"}]} for i, layer in enumerate(data)}
    else:
        whole |= data
    Draft7Validator(pipeline_schema()).validate(whole)
    assert taken(whole)


@pytest.mark.parametrize("name", ["pipeline.md", "commands.md"])
def test_links_within_a_page_lead_to_headings(name: str) -> None:
    headings = re.findall(r"^#+ (.*)$", PAGES[name], re.MULTILINE)
    anchors = {re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) for heading in headings}
    assert len(headings) == len(set(headings)), "headings are names to link to"
    assert set(re.findall(r"\]\(#([^)]*)\)", PAGES[name])) <= anchors
    assert name != "pipeline.md" or set(OPS) <= anchors
