"""Names that act on a terminal are written out; what is data stays what it was."""

from __future__ import annotations

import json
import unicodedata

import pytest

from featpipe.errors import FeatpipeError, Problem
from featpipe.printable import json_text, printable, printable_facts

VISIBLE_FORMATS = {*range(0x600, 0x606), 0x6DD, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD, *range(0x13430, 0x13440)}
"""Format characters that draw a sign of their own."""


def test_no_character_that_acts_reorders_or_breaks_lines_stays() -> None:
    acting = [
        character
        for code in range(0x110000)
        if unicodedata.category(character := chr(code)) in ("Cc", "Cf", "Zl", "Zp", "Cs")
        and code not in VISIBLE_FORMATS
    ]
    assert len(acting) > 2000
    for character in acting:
        shown = printable(f"a{character}b")
        assert character not in shown
        assert len(shown) > 3


@pytest.mark.parametrize("name", ["Zürich", "東京 1", "مثال", "نمی‌دانم", "क्‍ष", "👨‍👩‍👧.png", "naïve–“x”.jpg"])
def test_names_in_any_script_stay_as_they_are(name: str) -> None:
    assert printable(name) == name


@pytest.mark.parametrize("hidden", ["a\u200db", "é\u200d\u200dé", "\u200c", "x\u3164", "a\U000e0041\U000e007f"])
def test_joiners_and_fillers_that_only_hide_are_written_out(hidden: str) -> None:
    assert printable(hidden).isprintable()
    assert len(printable(hidden)) > len(hidden)


def test_what_is_shown_reads_back_as_what_it_was() -> None:
    name = "a\x1b]0;x\x07\x9b2J\u202egnp\n\t\r\u2028\udcff\U000e0041"
    assert printable(name).isprintable()
    assert printable(name).encode("ascii").decode("unicode_escape") == name


def test_lines_stay_lines_where_they_are_structure() -> None:
    assert printable("a\tb\nc\rd", lines=True) == "a\tb\nc\\rd"
    assert printable("a\tb\nc") == r"a\tb\nc"


def test_facts_are_printable_through_and_through_and_none_is_lost() -> None:
    facts = {"a\x1b": [("b\x9b", 1.5, None)], r"a\x1b": {"c\n": True}}
    shown = printable_facts(facts)
    assert str(shown).isprintable()
    assert len(shown) == 2
    assert facts["a\x1b"] == [("b\x9b", 1.5, None)]


@pytest.mark.parametrize("indent", [None, 2])
def test_json_is_safe_to_show_and_parses_to_the_real_names(indent: int | None) -> None:
    facts = {"a\x1b\x9b\u202e\u2028": ["\udcff", "\U000e0041", "é", "tab\tline\n"]}
    text = json_text(facts, indent=indent)
    assert text.replace("\n", "").isprintable()
    assert "é" in text
    assert json.loads(text) == facts


def test_an_error_shows_printable_text_and_keeps_the_real_one() -> None:
    error = FeatpipeError([Problem("a\x1b[2J", "is\nfeatpipe: all is well", "b\u202e"), Problem("c", "d")])
    assert str(error).splitlines() == [r"a\x1b[2J: is\nfeatpipe: all is well b\u202e", "c: d"]
    assert error.problems[0].where == "a\x1b[2J"
