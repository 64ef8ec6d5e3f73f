"""Documents that run: their commands and their Python are carried out in order, and what they show is compared.

    ```console                    each `$ command` in a shell, in one directory of the document's own; what follows
    $ featpipe run pipeline.yaml  is what it prints, `...` standing for anything. A command that fails is followed
    ...                           by `$ echo $?`.
    ```
    ```python                     run in one namespace; with `>>>`, results are compared as in doctests
    ```yaml
    # textures/pipeline.yaml      a block in any language whose first line is a comment that is a path is that file
    ```

`<!-- not run: why -->` before a block leaves it out. Whitespace does not count, nor do times, rates, memory, sizes on
disk and versions. ``python docs/make_outputs.py`` writes anew what no longer holds.
"""

from __future__ import annotations

import builtins
import contextlib
import doctest
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

RUN = "<!-- run -->"
"""Stands in documents that run."""
NOT_RUN = re.compile(r"<!-- not run: .+ -->")
HOME = "/home/you"
"""What documents call the directory in which they run."""
WIDTH = 100
"""Columns of their terminal."""
SECONDS = 120
"""That a command may take."""
FILE = re.compile(r"# ([\w./-]+\.\w+)\n")
LIKE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
NUMBER = r"\d[\d.]*"
SIZE = rf"{NUMBER} (?:bytes|[KMGT]iB)"
MACHINE = (
    rf"{NUMBER}( [kM])? (images|[KMGT]?i?B|[kKMGT]?pixel)/s",
    r"(?<=time of the tasks: ).*",
    r"(?<=roughly ).*",
    rf"\b{NUMBER} (ms|s|min|h)(?=$|\n| ·)",
    rf"(?<=[\s(]){NUMBER} threads?",
    rf"{SIZE}(?= (at most|that it may use|for the process|for a task))",
    rf"{SIZE}(?= on disk)|(?<=on disk ){SIZE}( \(.*? smaller\))?",
    r"(?<=a task: )(.|\n)*?(?=\n\S|\n\n|\Z)",
    rf"(?<=shards \(){SIZE}",
    rf"(?<=\(){SIZE}(?=\)$)",
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S*",
    r"(?<=featpipe )\d+\.\d+\.\d+",
)
"""What depends on machine, moment and versions."""


@dataclass(frozen=True)
class Step:
    """Something that a document does, and what it says comes of it."""

    kind: str
    """``console``, ``python``, or ``file``."""
    source: str
    want: str
    lines: tuple[int, int]
    """Of the document, from 0: the first of ``want``, and the one after its last."""
    name: str = ""


def read_steps(text: str) -> list[Step]:
    """Return what a document does."""
    found: list[Step] = []
    skipped = False
    for token in MarkdownIt("commonmark").parse(text):
        if token.type == "fence" and not skipped:
            assert token.map is not None
            found += _steps(token.info.strip(), token.content, token.map[0] + 1)
        skipped = token.type == "html_block" and NOT_RUN.search(token.content) is not None
    return found


def _steps(language: str, content: str, line: int) -> Iterator[Step]:
    if (file := FILE.match(content)) is not None:
        yield Step("file", content, "", (line, line), file[1])
    elif language == "console":
        yield from _commands(content, line)
    elif language == "python" and ">>> " in content:
        for example in doctest.DocTestParser().get_examples(content):
            start = line + example.lineno + example.source.count("\n")
            yield Step("python", example.source, example.want, (start, start + example.want.count("\n")))
    elif language == "python":
        yield Step("python", "\n" * line + content, "", (line, line))


def _commands(content: str, line: int) -> Iterator[Step]:
    for found in re.finditer(r"^\$ ((?:.*\\\n)*.*\n)((?:(?!\$ ).*\n)*)", content, re.MULTILINE):
        start = line + content.count("\n", 0, found.start(2))
        yield Step("console", found[1], found[2], (start, start + found[2].count("\n")))


class Session:
    """Where a document runs.

    Parameters
    ----------
    home : Path
        An empty directory.
    """

    def __init__(self, home: Path) -> None:
        self.home = home.resolve()
        self.directory = self.home
        self.status = 0
        self.names: dict[str, Any] = {"__name__": "__main__"}

    def carry_out(self, step: Step) -> str:
        """Do what a step says; return what it prints."""
        if self.status and "$?" not in step.source:
            raise AssertionError(f"line {step.lines[0]}: the command before this one failed with {self.status}")
        if step.kind == "file":
            path = self.directory / step.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(step.source, encoding="utf-8")
            return ""
        printed = self._shell(step.source) if step.kind == "console" else self._python(step)
        return printed.replace(str(self.home), HOME)

    def _shell(self, command: str) -> str:
        told = self.home.with_name(self.home.name + ".pwd")
        script = f"trap 'pwd > \"{told}\"' EXIT\n(exit {self.status})\n{command}"
        scripts = str(Path(sys.executable).parent)
        tree = str(Path(__file__).resolve().parent.parent)
        environment = {
            **os.environ,
            "PATH": os.pathsep.join([scripts, os.environ.get("PATH", "")]),
            "PYTHONPATH": os.pathsep.join([tree, os.environ.get("PYTHONPATH", "")]),
            "COLUMNS": str(WIDTH),
            "MPLBACKEND": "Agg",
            "PYTHONUTF8": "1",
        }
        done = subprocess.run(
            ["sh", "-c", script], cwd=self.directory, env=environment, encoding="utf-8", timeout=SECONDS, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.status = done.returncode
        self.directory = Path(told.read_text().strip())
        told.unlink()
        # Progress goes line by line where there is no terminal; how many lines is the clock's affair
        return "".join(line for line in done.stdout.splitlines(True) if not line.startswith("featpipe: "))

    def _python(self, step: Step) -> str:
        printed = io.StringIO()
        mode = "single" if not step.source.startswith("\n") else "exec"
        with contextlib.chdir(self.directory), contextlib.redirect_stdout(printed):
            hook, sys.displayhook = sys.displayhook, sys.__displayhook__
            sys.path.insert(0, str(self.directory))
            try:
                exec(compile(step.source, "<document>", mode), self.names)
            finally:
                sys.displayhook = hook
                sys.path.remove(str(self.directory))
                for name in [name for name, one in sys.modules.items() if self._is_own(one)]:
                    del sys.modules[name]
                vars(builtins).pop("_", None)
        return printed.getvalue()

    def _is_own(self, module: object) -> bool:
        return str(getattr(module, "__file__", None) or "").startswith(f"{self.home}{os.sep}")


def holds(want: str, got: str) -> bool:
    """Return whether a document's words fit what was printed."""
    want, got = (f"{_less_machine(text).strip()}\n" for text in (want, got))
    return doctest.OutputChecker().check_output(want, got, LIKE)


def _less_machine(text: str) -> str:
    for pattern in MACHINE:
        text = re.sub(pattern, "#", text, flags=re.MULTILINE)
    return text


def run_document(text: str, home: Path) -> Iterator[tuple[Step, str]]:
    """Run a document; yield every step with what it printed.

    Parameters
    ----------
    text : str
    home : Path
        An empty directory.
    """
    session = Session(home)
    for step in read_steps(text):
        yield step, session.carry_out(step)
    assert not session.status, f"the last command failed with {session.status}"


def rewritten(text: str, home: Path) -> str:
    """Return a document with what it shows put right where it no longer holds; the rest stays as it is."""
    lines = text.splitlines(keepends=True)
    for step, got in reversed(list(run_document(text, home))):
        if not holds(step.want, got):
            shown = [f"{line.rstrip()}\n" for line in got.strip("\n").splitlines()]
            lines[slice(*step.lines)] = shown
    return "".join(lines)
