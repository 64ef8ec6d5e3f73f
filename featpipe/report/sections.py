"""Titles, lines and tables, of which the texts are made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, JustifyMethod, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text


def spaced(parts: Iterable[RenderableType]) -> Group:
    """Return parts with an empty line between any two."""
    lines: list[RenderableType] = []
    for part in parts:
        lines += [part, ""]
    return Group(*lines[:-1])


def section(title: str, lines: Iterable[str]) -> RenderableType:
    """Return lines beside a title."""
    rows: list[RenderableType] = []
    indent = max(7, len(title)) + 2
    for i, line in enumerate(lines):
        head = Text((title if i == 0 else "").ljust(indent), style="bold")
        if " " not in line:  # a path stays in one piece, however long: it will be copied
            rows.append(Text.assemble(head, line, no_wrap=True, overflow="ignore"))
            continue
        grid = Table.grid()
        grid.add_column(width=indent)
        grid.add_column()
        grid.add_row(head, Text(line))
        rows.append(grid)
    return Group(*rows)


def code(title: str, lines: Iterable[str]) -> RenderableType:
    """Return lines to be copied, under a title."""
    # One line of code must stay one line, however long: it will be copied.
    code = (Text(f"    {line}", style="cyan", no_wrap=True, overflow="ignore") for line in lines)
    return Group(Text(title), *code)


def make_table(*columns: str, right: Sequence[str] = (), wrap: str = "") -> Table:
    """Return an empty table; ``wrap`` names the one column that gives way on a narrow terminal, if not all do."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name in columns:
        justify: JustifyMethod = "right" if name in right else "left"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=wrap not in ("", name))
    return table


def titled(title: str, more: str, table: RenderableType) -> RenderableType:
    """Return a table under a title, with more words, such as a path, beside it in the same line."""
    head = Text.assemble((title, "bold"), f"  {more}" if more else "", no_wrap=True, overflow="ignore")
    return Group(head, Padding(table, (0, 0, 0, 2)))
