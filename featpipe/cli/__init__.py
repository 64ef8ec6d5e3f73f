"""The command line: words in, words out, exit codes."""

from featpipe.cli.commands import app, main

__all__ = ["app", "main"]
