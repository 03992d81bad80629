"""The house rules a linter cannot check: sizes, names, imports and documents."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src" / "stemma").rglob("*.py"))
CATCH_ALL_NAMES = {"utils", "helpers", "common", "misc", "manager"}
OPTIONAL_LIBRARIES = {"sklearn", "skops", "torch", "safetensors", "onnx", "onnxruntime"}


def _functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_small_enough_to_read(path: Path) -> None:
    """A reader would lose the thread in a longer file, function or class."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert text.count("\n") <= 500
    too_long = [
        f"{node.name}: {node.end_lineno - node.lineno}"
        for node in _functions(tree)
        if node.end_lineno is not None and node.end_lineno - node.lineno > 50
    ]
    assert too_long == []
    crowded = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and sum(isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) for item in node.body) > 20
    ]
    assert crowded == []


def test_no_module_has_a_catch_all_name() -> None:
    """A newcomer could not find a behaviour in a room called utils."""
    assert [path for path in SOURCES if path.stem in CATCH_ALL_NAMES] == []


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if path.name == "__init__.py"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_package_init_is_light(path: Path) -> None:
    """``import stemma`` would cost every command what one of them needs."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = [
        node.module or ""
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("__future__")
    ]
    assert [name for name in imported if name.partition(".")[0] in {"sqlalchemy", "numpy"}] == []


def test_ml_libraries_are_imported_only_by_their_adapters() -> None:
    """Stemma would not start without a library the user does not have."""
    offenders = []
    for path in SOURCES:
        if "adapters" in path.parts:
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            offenders += [
                f"{path}: {name}" for name in names if name.partition(".")[0] in OPTIONAL_LIBRARIES
            ]
    assert offenders == []


def test_the_base_package_stays_small() -> None:
    """``pip install stemma-ml`` would bring more than 25 distributions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert len(project["dependencies"]) <= 16


def test_architecture_page_has_a_line_for_every_package() -> None:
    """A newcomer would not find a folder explained."""
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    packages = {
        path.parent.relative_to(ROOT / "src" / "stemma").parts[0]
        for path in SOURCES
        if path.parent != ROOT / "src" / "stemma"
    }
    assert [name for name in sorted(packages) if f"`{name}/`" not in page] == []
