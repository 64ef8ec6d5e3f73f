"""Descriptions of models and functions, read from their source when somebody asks: at start-up it would cost time."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from pydantic import BaseModel


def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """Return the text below each field of a model, also of those it inherits.

    Parameters
    ----------
    model : type of Spec

    Returns
    -------
    dict of str to str
        By the field's name in Python; a field without words is not in it.

    Examples
    --------
    >>> from featpipe.spec.banks import DogBank
    >>> field_docs(DogBank)["sigmas"]
    'Standard deviations of the narrower Gaussian, in samples.'
    """
    docs: dict[str, str] = {}
    for one in reversed(model.__mro__):
        if one.__module__.startswith("featpipe."):
            docs |= _class_docs(one.__module__).get(one.__name__, {})
    return docs


def text_of(documented: type | Callable[..., Any]) -> str:
    """Return a docstring, also where Python was told to strip docstrings (``-OO``).

    Parameters
    ----------
    documented : type or function
        Defined at the top of a module.

    Returns
    -------
    str
        Without indentation; empty if there is none.

    Examples
    --------
    >>> text_of(text_of).splitlines()[0]
    'Return a docstring, also where Python was told to strip docstrings (``-OO``).'
    """
    text = inspect.getdoc(documented)
    if text is None and sys.flags.optimize > 1:
        text = _own_docs(documented.__module__).get(documented.__name__)
    return text or ""


@cache
def _own_docs(module: str) -> dict[str, str | None]:
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {
        node.name: ast.get_docstring(node) for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)
    }


@cache
def _class_docs(module: str) -> dict[str, dict[str, str]]:
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: _texts_below(node) for node in tree.body if isinstance(node, ast.ClassDef)}


def _texts_below(node: ast.ClassDef) -> dict[str, str]:
    docs = {}
    for field, text in zip(node.body, node.body[1:], strict=False):
        match field, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(words))),
            ):
                docs[name] = inspect.cleandoc(words)
    return docs
