"""Python source compared by meaning: comments, layout and docstrings do not count.

Invariants:
    * Everything here is pure: text in, answer out; nothing is ever executed.
    * The normal form is our own walk over the tree, not ``ast.dump``: that one changed
      its text between Python minors, and an identity must not.
    * Source that does not parse is compared as text with trailing white space dropped.

Example:
    >>> normal_form("x = 1  # why") == normal_form("x=1")
    True
"""

from __future__ import annotations

import ast
import json
import textwrap
from collections.abc import Set as AbstractSet
from typing import Final

from typing_extensions import override

_UNSTABLE_FIELDS: Final = frozenset({"kind", "type_comment", "ctx", "type_ignores"})
_DOCUMENTED: Final = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def normal_form(source: str) -> str:
    """Return text that is equal for two sources exactly when they mean the same code."""
    tree = _parse(textwrap.dedent(source))
    if tree is None:
        return "text:" + "\n".join(line.rstrip() for line in source.splitlines())
    return json.dumps(_plain(_without_docstrings(tree)), ensure_ascii=True, separators=(",", ":"))


def is_equal_but_for_hyperparameters(
    before_source: str, after_source: str, changed_names: AbstractSet[str]
) -> bool:
    """Say whether two sources differ only in values of the named hyperparameters.

    Keyword arguments whose name is in ``changed_names`` are dropped from both; plain
    assignments, parameter defaults and string-keyed dictionary entries of such a name are
    blanked.  The rest must be equal.
    A dotted name (``svc__C``, ``optimizer.lr``) also stands for its last part.

    Args:
        before_source: Source of A.
        after_source: Source of B.
        changed_names: Names of hyperparameters whose recorded values differ.
    """
    before, after = _parse(before_source), _parse(after_source)
    if before is None or after is None:
        return before_source == after_source
    names = {part for name in changed_names for part in (name, _last_part(name))}
    blanked = [_plain(_Blank(names).visit(_without_docstrings(tree))) for tree in (before, after)]
    return bool(blanked[0] == blanked[1])


def _last_part(name: str) -> str:
    return name.rpartition(".")[2].rpartition("__")[2]


def _parse(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and _has_docstring(node.body):
            node.body = node.body[1:]
    return tree


def _has_docstring(body: list[ast.stmt]) -> bool:
    first = body[0] if body else None
    return (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )


def _plain(value: object) -> object:
    """Reduce a tree to lists and strings; empty fields are left out (new minors add some)."""
    if isinstance(value, ast.AST):
        fields = [
            [name, _plain(item)]
            for name, item in ast.iter_fields(value)
            if name not in _UNSTABLE_FIELDS and not (item is None and _is_optional(value, name))
            if item != []
        ]
        return [type(value).__name__, *fields]
    if isinstance(value, list):
        return [_plain(item) for item in value if not _is_empty_text(item, value)]
    return f"{type(value).__name__}:{value!r}"


def _is_empty_text(item: object, siblings: list[object]) -> bool:
    """3.12 writes an empty text into the format of ``f"{x:<{n}}"``; others do not."""
    return (
        isinstance(item, ast.Constant)
        and item.value == ""
        and any(isinstance(sibling, ast.FormattedValue) for sibling in siblings)
    )


def _is_optional(node: ast.AST, name: str) -> bool:
    """``None`` is a missing field everywhere but as the value of a constant."""
    return not (isinstance(node, ast.Constant) and name == "value")


class _Blank(ast.NodeTransformer):
    """Replaces the values of the named hyperparameters by ``...``."""

    def __init__(self, names: AbstractSet[str]) -> None:
        self._names = names

    @override
    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        match node:
            case ast.Call():
                # Dropped, not blanked: a value that defaulted before is no keyword there.
                node.keywords = [item for item in node.keywords if item.arg not in self._names]
            case ast.Assign(targets=[ast.Name(id=name)]) if name in self._names:
                node.value = _blank()
            case ast.AnnAssign(target=ast.Name(id=name)) if name in self._names and node.value:
                node.value = _blank()
            case ast.Dict():
                node.values = [
                    _blank() if _is_named(key, self._names) else value
                    for key, value in zip(node.keys, node.values, strict=True)
                ]
            case ast.arguments():
                self._blank_defaults(node)
            case _:
                pass
        return node

    def _blank_defaults(self, node: ast.arguments) -> None:
        positional = [*node.posonlyargs, *node.args][-len(node.defaults) or None :]
        if node.defaults:
            node.defaults = [
                _blank() if argument.arg in self._names else default
                for argument, default in zip(positional, node.defaults, strict=True)
            ]
        node.kw_defaults = [
            _blank() if default is not None and argument.arg in self._names else default
            for argument, default in zip(node.kwonlyargs, node.kw_defaults, strict=True)
        ]


def _is_named(key: ast.expr | None, names: AbstractSet[str]) -> bool:
    return isinstance(key, ast.Constant) and isinstance(key.value, str) and key.value in names


def _blank() -> ast.expr:
    return ast.Constant(value=...)
