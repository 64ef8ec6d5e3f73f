"""The filter banks there are, as plain data for JSON and for text."""

from __future__ import annotations

from typing import Any

from featpipe.kernels.catalog import BankEntry


def bank_facts(entry: BankEntry) -> dict[str, Any]:
    """Return what there is to know about a bank, as JSON-able data."""
    return {
        "name": entry.name,
        "summary": entry.summary,
        "parameters": [
            {"name": one.name, "type": one.type, "default": one.default, "description": one.description}
            for one in entry.parameters
        ],
        "example": entry.example,
        "source": entry.source,
    }
