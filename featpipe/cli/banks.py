"""Commands on filter banks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featpipe.cli import console
from featpipe.cli.completing import complete_banks
from featpipe.cli.options import AsJson
from featpipe.errors import FeatpipeError, Problem


def banks(context: typer.Context, as_json: AsJson = False) -> None:
    """List the filter banks, or show one of them."""
    if context.invoked_subcommand is not None:
        return
    from featpipe.kernels.catalog import list_banks
    from featpipe.report.banks import bank_facts
    from featpipe.report.text import render_banks

    facts = [bank_facts(entry) for entry in list_banks()]
    console.show_json(facts) if as_json else console.show(render_banks(facts))


def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The bank.", autocompletion=complete_banks)],
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the example's kernels.", show_default=False)
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Draw with this parameter, e.g. sigmas=[1,2]. Repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a bank's parameters, an example and its source; or draw its kernels."""
    if png is not None:
        from featpipe.cli.banking import draw_example

        count = len(draw_example(name, overrides or (), png).kernels)
        console.tell(f"wrote {png} ({count} kernel{'s' if count > 1 else ''})")
        return
    if overrides:
        raise FeatpipeError(Problem("--set", "says how to draw.", "Add --png FILE."))
    from featpipe.kernels.catalog import find_bank
    from featpipe.report.banks import bank_facts
    from featpipe.report.text import render_bank

    facts = bank_facts(find_bank(name))
    console.show_json(facts) if as_json else console.show(render_bank(facts))
