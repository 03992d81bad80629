"""Classes from the code that was recorded with a version, once the caller trusts it.

Invariants:
    * Nothing is added to the folder of the code, and no module of the caller's is replaced.
    * Of the script that trained only definitions are executed: to load a model must not train
      the next one.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Final

from stemma.domain.errors import InvalidInputError

_HINT: Final = "stemma.load(ref, into=module) puts the state into a module of yours"
_DEFINITIONS: Final = (
    *(ast.Import, ast.ImportFrom, ast.ClassDef),
    *(ast.FunctionDef, ast.AsyncFunctionDef),
)


def make_object(path: str, folder: Path, entry_point: str) -> object:
    """Make an object of the class ``module.Class`` without arguments.

    Args:
        path: Dotted path of the class; of the entry script's by the script's name.
        folder: Folder with the captured code, verified.
        entry_point: Path of the entry script in it; may be empty.

    Raises:
        InvalidInputError: If the class is not there, or needs arguments.
    """
    name, _, class_name = path.rpartition(".")
    script = Path(entry_point)
    with _importing_from(folder):
        try:
            if entry_point and name == script.stem:
                module = _define(folder / script, name)
            else:
                module = importlib.import_module(name)
            kind = getattr(module, class_name)
        except (ImportError, NameError, AttributeError, SyntaxError, OSError) as error:
            raise InvalidInputError(
                f"{path} cannot be imported from the captured code: {error}",
                code="class-missing",
                hint=_HINT,
            ) from error
        try:
            made: object = kind()
        except TypeError as error:
            raise InvalidInputError(
                f"{path} needs arguments: {error}", code="class-needs-arguments", hint=_HINT
            ) from error
        return made


def _define(script: Path, name: str) -> ModuleType:
    """Execute a script's imports, constants, functions and classes only."""
    tree = ast.parse(script.read_bytes())
    tree.body = [node for node in tree.body if _is_definition(node)]
    module = ModuleType(name)
    module.__file__ = str(script)
    # The caller said trust_code=True.
    exec(compile(tree, str(script), "exec"), module.__dict__)  # noqa: S102 - as import would
    return module


def _is_definition(node: ast.stmt) -> bool:
    match node:
        case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
            return _is_constant(value)
        case ast.Try(body=body):
            return all(_is_definition(inner) for inner in body)
        case _:
            return isinstance(node, _DEFINITIONS)


def _is_constant(value: ast.expr) -> bool:
    try:
        ast.literal_eval(value)
    except ValueError:
        return False
    return True


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Look for modules in ``folder`` first, even for names that are imported already."""
    tops = {path.stem for path in folder.iterdir()}
    shadowed = {
        known: module for known, module in sys.modules.items() if known.partition(".")[0] in tops
    }
    for known in shadowed:
        del sys.modules[known]
    writes_no_bytecode = sys.dont_write_bytecode
    # The folder is a verified copy: nothing may be added to it.
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = writes_no_bytecode
        sys.modules.update(shadowed)
