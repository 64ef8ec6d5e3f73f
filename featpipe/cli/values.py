"""Values of options that need reading."""

from __future__ import annotations

import re

import typer

from featpipe.spec.amounts import memory_bytes

_ADDRESS = re.compile(r"(tcp|tls)://\S+:[0-9]+/?")


def parse_memory(text: str) -> int:
    """Read an amount of memory, in bytes."""
    try:
        return memory_bytes(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}.") from None


def parse_scheduler(text: str) -> str:
    """Read the address of a Dask scheduler, or the name of the file that it wrote."""
    if not _ADDRESS.fullmatch(text) and not text.endswith(".json"):
        what = "is neither an address nor a scheduler's file. Write tcp://HOST:PORT, as it prints it, or FILE.json."
        raise typer.BadParameter(f"{text!r} {what}")
    return text


def parse_share(text: str) -> int | float:
    """Read a number of images, or their share.

    Examples
    --------
    >>> parse_share("100"), parse_share("2.5%")
    (100, 0.025)
    """
    text = text.strip()
    if text.isdecimal():
        return int(text)
    try:
        share = float(text.removesuffix("%")) / 100
    except ValueError:
        share = -1.0
    if not text.endswith("%") or not 0 <= share <= 1:
        raise typer.BadParameter(f"{text!r} is neither a number of images nor a share of them. Write 100 or 1%.")
    return share


def parse_log_format(text: str) -> str:
    """Read how progress is told."""
    if text not in ("text", "json"):
        raise typer.BadParameter(f"{text!r} is neither text nor json.")
    return text
