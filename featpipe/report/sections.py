"""Titles, lines and tables, of which the texts are made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console, ConsoleOptions, Group, JustifyMethod, RenderableType, RenderResult
from rich.measure import Measurement
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


class Fitting:
    """A table that goes without some columns where the terminal is too narrow for all of them.

    Parameters
    ----------
    columns : sequence of str
    rows : iterable of sequence of cells
    spare : sequence of str
        Columns that may go, the least needed first.
    right, wrap
        As of `make_table`.
    """

    def __init__(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[RenderableType]],
        spare: Sequence[str],
        right: Sequence[str] = (),
        wrap: str = "",
    ) -> None:
        self.columns, self.rows, self.spare, self.right, self.wrap = columns, list(rows), spare, right, wrap

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unbound = options.update(width=10_000)
        for left_out in range(len(self.spare) + 1):
            table = self._table(self.spare[:left_out])
            if Measurement.get(console, unbound, table).maximum <= options.max_width:
                break
        yield table

    def _table(self, without: Sequence[str]) -> Table:
        kept = [i for i, name in enumerate(self.columns) if name not in without]
        table = make_table(*(self.columns[i] for i in kept), right=self.right, wrap=self.wrap)
        for row in self.rows:
            table.add_row(*(row[i] for i in kept))
        return table


def titled(title: str, more: str, table: RenderableType) -> RenderableType:
    """Return a table under a title, with more words, such as a path, beside it in the same line."""
    head = Text.assemble((title, "bold"), f"  {more}" if more else "", no_wrap=True, overflow="ignore")
    return Group(head, Padding(table, (0, 0, 0, 2)))
