"""Values of options that need reading."""

from __future__ import annotations

import math
import re

import typer

_AMOUNT = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?(?:e[0-9]+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)
_ADDRESS = re.compile(r"(tcp|tls|ws|wss|ucx)://\S+:[0-9]+/?")


def parse_memory(text: str) -> int:
    """Read an amount of memory, in bytes.

    Examples
    --------
    >>> parse_memory("512MB"), parse_memory("1.5 GiB"), parse_memory("2e9"), parse_memory("1G")
    (512000000, 1610612736, 2000000000, 1000000000)
    """
    found = _AMOUNT.fullmatch(text)
    if found is None or (found[3] and not found[2]):
        raise typer.BadParameter(f"{text!r} is not an amount of memory. Write 800MB, 1.5GiB or 2e9.")
    power = " kmgt".index(found[2].lower() or " ")
    amount = float(found[1]) * float(1024 if found[3] else 1000) ** power
    if not 1 <= amount < 2**60 or math.isnan(amount):
        raise typer.BadParameter(f"{text!r} is not a usable amount of memory. Write 800MB, 1.5GiB or 2e9.")
    return int(amount)


def parse_address(text: str) -> str:
    """Read the address of a Dask scheduler."""
    if not _ADDRESS.fullmatch(text):
        raise typer.BadParameter(f"{text!r} is not an address. Write tcp://HOST:PORT, as the scheduler prints it.")
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
