"""The repository's own files, for tests that read them."""

from __future__ import annotations

import ast
import gc
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRODUCT = ("schemas", "models", "streams", "infra")
"""Folders that ship."""
CODE = (*PRODUCT, "benchmarks", "examples")
"""Folders with programs that are not tests."""


@cache
def files() -> tuple[Path, ...]:
    """Every file that is tracked, or would be: what git ignores is left out."""
    command = [
        "git",
        "-c",
        "safe.directory=*",
        "-C",
        str(ROOT),
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    listed = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
    return tuple(path for name in listed if name and (path := ROOT / name).is_file())


def python(*folders: str) -> list[Path]:
    """Python files below the folders."""
    return [path for path in files() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in folders]


def name(path: Path) -> str:
    """As it stands in messages and lists: from the top of the repository."""
    return path.relative_to(ROOT).as_posix()


@cache
def text(path: Path) -> str:
    """A file's content."""
    return path.read_text(encoding="utf-8")


@cache
def tree(path: Path) -> ast.Module:
    """A Python file, parsed."""
    # A collection in the middle may end a failed task of another test, whose traceback is parsed for its log line;
    # CPython 3.11 then takes the outer parser's depth for wrong (SystemError, gh-106905).
    gc.disable()
    try:
        return ast.parse(text(path))
    finally:
        gc.enable()


def functions(module: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function, methods and nested ones too."""
    for node in ast.walk(module):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def imported(module: ast.Module) -> Iterator[str]:
    """Every module that is imported anywhere in it, by its full name (`from a import b` gives a and a.b)."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)
