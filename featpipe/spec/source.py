"""The pipeline file's text: strict YAML to plain data, and where in the text each part stands.

Scalars follow YAML 1.2's core schema: ``no`` and ``on`` are text, ``1e-3`` is a number, ``012`` is twelve. Tags,
anchors, aliases, duplicate keys and further documents are errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.reader import Reader

from featpipe.errors import Location, Problem, SpecError

DEEPEST = 32
"""Levels of nesting; the deepest a pipeline can use is 11."""

MOST_VALUES = 500_000
"""Values of a pipeline, those of lists and mappings included."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = re.compile(r"null|Null|NULL|~|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NAN = re.compile(r"\.(nan|NaN|NAN)")


@dataclass(slots=True)
class Node:
    """A value of the file and where it begins, counted from 1."""

    line: int
    column: int
    value: Any
    """A scalar, a list of nodes, or a dict of nodes by key."""
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Line and column of each key, for a mapping."""

    def child(self, part: str | int) -> Node | None:
        if isinstance(self.value, dict):
            return self.value.get(part)
        if isinstance(self.value, list) and isinstance(part, int) and 0 <= part < len(self.value):
            return self.value[part]  # type: ignore[no-any-return]
        return None

    def data(self) -> Any:
        """Return the plain dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: node.data() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.data() for node in self.value]
        return self.value


@dataclass(frozen=True)
class Source:
    """Where a pipeline was read from; tells the place in the file of a problem found later."""

    name: str = ""
    """The file, as the user gave it; empty for a pipeline made in Python."""
    root: Node | None = None
    overrides: frozenset[Location] = frozenset()
    """What ``--set`` has put in."""

    def place(self, location: Location, on_key: bool = False) -> str:
        """Return ``file:line:column`` of what stands at ``location``, or of the nearest above it.

        Parameters
        ----------
        location : tuple of str and int
        on_key : bool
            Place the key itself, not its value.

        Returns
        -------
        str
            ``--set`` for what an override put in; empty for a pipeline made in Python.
        """
        if any(location[: len(override)] == override for override in self.overrides):
            return "--set"
        if self.root is None:
            return self.name
        return "{}:{}:{}".format(self.name, *self.position(location, on_key))

    def position(self, location: Location, on_key: bool = False) -> tuple[int, int]:
        """Return line and column as ``place`` does, (0, 0) for a pipeline made in Python."""
        if self.root is None:
            return 0, 0
        node, at = self.root, (self.root.line, self.root.column)
        for i, part in enumerate(location):
            child = node.child(part)
            if child is None:
                break
            is_last = i == len(location) - 1
            at = (child.line, child.column)
            if on_key and is_last and isinstance(part, str):
                at = node.keys[part]
            node = child
        return at

    def locate(self, problem: Problem, on_key: bool = False) -> Problem:
        """Return the problem with its place in the file before its ``where``."""
        place = self.place(problem.location, on_key)
        return problem.at(place) if place else problem


class _UnreadableError(Exception):
    """A fault behind which nothing can be read."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem


def read_yaml(text: str, name: str) -> tuple[Node, list[Problem]]:
    """Read one YAML document.

    Parameters
    ----------
    text : str
    name : str
        What problems call the text: ``name:line:column``.

    Returns
    -------
    root : Node
    problems : list of Problem
        What is wrong, but leaves the rest readable: duplicate keys, tags, anchors.

    Raises
    ------
    SpecError
        If it cannot be read, with every problem up to there.
    """
    if bad := Reader.NON_PRINTABLE.search(text):
        place = _place_of(text, bad.start(), name)
        what = f"holds the character U+{ord(bad.group()):04X}, which YAML does not allow."
        raise SpecError(Problem(place, what, "Remove it."))
    problems: list[Problem] = []
    try:
        root = _Builder(name, problems).build(yaml.parse(text, Loader=_LOADER))
    except _UnreadableError as unreadable:
        raise SpecError([*problems, unreadable.problem]) from None
    except yaml.MarkedYAMLError as error:
        _refuse_what_stands_before(error, text, name)
        raise SpecError([*problems, _syntax_problem(error, text, name)]) from None
    except (yaml.YAMLError, ValueError) as error:
        what = f"is not valid YAML: {str(error).splitlines()[0]}."
        raise SpecError([*problems, Problem(f"{name}:1:1", what)]) from None
    if root is None:
        raise SpecError(Problem(name, "is empty."))
    return root, problems


@dataclass
class _Frame:
    """A list or mapping that is being read."""

    node: Node
    key: tuple[str, int, int] | None = None


class _Builder:
    """Builds nodes from YAML's events, without recursion."""

    def __init__(self, name: str, problems: list[Problem]) -> None:
        self.name = name
        self.problems = problems
        self.stack: list[_Frame] = []
        self.root: Node | None = None
        self.values = 0

    def build(self, events: Iterator[yaml.Event]) -> Node | None:
        for event in events:
            match event:
                case yaml.DocumentStartEvent():
                    if self.root is not None:
                        raise _UnreadableError(
                            self.problem(event, "a second document begins.", "Give one pipeline per file.")
                        )
                case yaml.AliasEvent():
                    what = f"*{event.anchor} refers to an anchor, which pipelines do not have."
                    raise _UnreadableError(
                        self.problem(event, what, "Write it out, or put text that begins with * in quotes.")
                    )
                case yaml.ScalarEvent():
                    self.check(event)
                    self.add_scalar(event)
                case yaml.SequenceStartEvent():
                    self.check(event)
                    self.open(event, [])
                case yaml.MappingStartEvent():
                    self.check(event)
                    self.open(event, {})
                case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                    self.stack.pop()
        return self.root

    def problem(self, event: Any, what: str, change: str = "") -> Problem:
        mark = event.start_mark
        return Problem(f"{self.name}:{mark.line + 1}:{mark.column + 1}", what, change)

    def check(self, event: Any) -> None:
        if event.anchor is not None:
            change = "Write it out, or put text that begins with & in quotes."
            self.problems.append(
                self.problem(event, f"&{event.anchor} is an anchor, which pipelines do not have.", change)
            )
        if event.tag is not None:
            change = "Remove it, or put text that begins with ! in quotes."
            self.problems.append(self.problem(event, f"{event.tag} is a tag, which pipelines do not have.", change))

    def open(self, event: Any, value: Any) -> None:
        if len(self.stack) == DEEPEST:
            raise _UnreadableError(self.problem(event, f"is nested deeper than {DEEPEST} levels."))
        node = Node(event.start_mark.line + 1, event.start_mark.column + 1, value)
        self.add(node, event)
        self.stack.append(_Frame(node))

    def add_scalar(self, event: Any) -> None:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        frame = self.stack[-1] if self.stack else None
        if frame is not None and isinstance(frame.node.value, dict) and frame.key is None:
            self.start_key(frame, event, line, column)
            return
        plain = event.style in (None, "")
        if plain and not event.value and frame is not None and frame.key is not None:
            _, line, column = frame.key
        self.add(Node(line, column, read_scalar(event.value) if plain else event.value), event)

    def start_key(self, frame: _Frame, event: Any, line: int, column: int) -> None:
        key = event.value
        frame.key = (key, line, column)
        if key in frame.node.keys:
            first = "{}:{}".format(*frame.node.keys[key])
            what = f"the key {key[:60]!r} stands here again; it is first at {first}."
            self.problems.append(self.problem(event, what, "Keep one of them."))
        else:
            frame.node.keys[key] = (line, column)

    def add(self, node: Node, event: yaml.Event) -> None:
        self.values += 1
        if self.values > MOST_VALUES:
            what = f"holds more than {MOST_VALUES:,} values."
            raise _UnreadableError(
                self.problem(event, what, "Put kernels into a .npy file and name it under kernels:.")
            )
        if not self.stack:
            self.root = node
            return
        frame = self.stack[-1]
        if isinstance(frame.node.value, list):
            frame.node.value.append(node)
        elif frame.key is None:
            raise _UnreadableError(self.problem(event, "a key must be plain text, not a list or a mapping."))
        else:
            frame.node.value.setdefault(frame.key[0], node)
            frame.key = None


def _refuse_what_stands_before(error: yaml.MarkedYAMLError, text: str, name: str) -> None:
    """Raise what is unreadable before a parser's error.

    Parsers look some thousand characters ahead, and differ in the limits that they meet there: one stops at 1,000 open
    brackets, another at none. What stands before the error has no such limit, and tells of the 33rd bracket.
    """
    mark = error.problem_mark or error.context_mark
    if mark is None or mark.index <= 0:
        return
    problems: list[Problem] = []
    try:
        _Builder(name, problems).build(yaml.parse(text[: mark.index], Loader=_LOADER))
    except _UnreadableError as unreadable:
        raise SpecError([*problems, unreadable.problem]) from None
    except yaml.YAMLError:
        return


def read_scalar(text: str) -> str | int | float | bool | None:
    """Read a plain scalar by YAML 1.2's core schema.

    Examples
    --------
    >>> [read_scalar(text) for text in ("1e-3", "no", "012", "true", "~", "1_000")]
    [0.001, 'no', 12, True, None, '1_000']
    """
    if _INTEGER.fullmatch(text):
        return int(text) if len(text) < 300 else float(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
        return text[0] in "tT"
    if _OCTAL.fullmatch(text) or _HEXADECIMAL.fullmatch(text):
        return int(text, 0)
    if _INFINITE.fullmatch(text) or _NAN.fullmatch(text):
        return float(text.replace(".", ""))
    return text


def _place_of(text: str, position: int, name: str) -> str:
    line = text.count("\n", 0, position)
    return f"{name}:{line + 1}:{position - (text.rfind(chr(10), 0, position) + 1) + 1}"


def _syntax_problem(error: yaml.MarkedYAMLError, text: str, name: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark else (0, 0)
    lines = text.splitlines()
    around = lines[line] if line < len(lines) else ""
    said, change = _explained(around, column)
    said = said or error.problem or "it cannot be read"
    return Problem(f"{name}:{line + 1}:{column + 1}", f"is not valid YAML: {said}.", change)


def _explained(line: str, column: int) -> tuple[str, str]:
    """Return what is wrong at a place, if its characters tell, and what to change; parsers word it differently."""
    at, before = line[column : column + 1], line[max(0, column - 1) : column]
    if "\t" in line[: column + 1]:
        return "a tab character stands where only spaces may", "Indent with spaces."
    if before in ("*", "&"):
        return "text cannot begin with * or &", "Put it in quotes."
    if at == ":":
        change = "Check the indentation; text that holds ': ' needs quotes."
        return "a key stands where only a value may", change
    if at in ("@", "`", "%"):
        return f"text cannot begin with {at}", "Put it in quotes."
    return "", "Check brackets, quotes and indentation here and in the lines above."
