"""Checking a store, and telling what was found."""

from __future__ import annotations

from featpipe.cli import console
from featpipe.cli.progress import count_progress
from featpipe.report.units import bytes_text, count_text

MOST = 20
"""Problems shown; of more, the rest are counted."""


def verify_and_show(
    store: str,
    recompute: int,
    seed: int | None,
    memory_bytes: int | None,
    threads: int | None,
    *,
    quiet: bool,
    as_json: bool,
) -> bool:
    """Check a store and print what was found; return whether all is well."""
    from featpipe.run import default_resources
    from featpipe.run.verify import verify_store

    with count_progress("verifying", quiet=quiet) as tell:
        report = verify_store(
            store, recompute=recompute, seed=seed, resources=default_resources(memory_bytes, threads), tell=tell
        )
    if as_json:
        console.show_json(
            {
                "store": report.store,
                "ok": not report.problems,
                "shards": report.shards,
                "files": report.files,
                "bytes": report.bytes,
                "recomputed": report.recomputed,
                "problems": [{"where": one.where, "what": one.what, "change": one.change} for one in report.problems],
            }
        )
        return not report.problems
    console.say_problems(report.problems[:MOST])
    if len(report.problems) > MOST:
        console.say(f"… and {len(report.problems) - MOST:,} more (--json tells all)")
    again = f", {report.recomputed:,} of them computed again" if report.recomputed else ""
    verdict = f"{count_text(len(report.problems), 'problem')} in" if report.problems else "all is well with"
    files = f" and {count_text(report.files, 'other file')}" if report.files else ""
    console.show(f"{verdict} {count_text(report.shards, 'shard')} ({bytes_text(report.bytes)}{again}){files}")
    return not report.problems
