"""The tree that mutants are made in: a copy, so that the checkout is never touched.

mutmut leaves decorated functions alone, and some of ours that matter most are context managers and properties. In the
copy their decorators are applied by a line after them, which means the same.
"""

from __future__ import annotations

import ast
from pathlib import Path

from tests.mutation.parts import ROOT, Part

__all__ = ["copy_tree", "undecorated"]

COPIED = ("settlement_core", "tests", "examples", "benchmarks", "README.md", "pyproject.toml")

INSTALLED = "node_modules"
"""What is not ours, and large: the copy only points there."""

_APPLIED_LATER = {"asynccontextmanager", "contextmanager", "property"}


def copy_tree(folder: Path, part: Part) -> None:
    """Make or renew the copy; what has not changed keeps its time, by which mutmut knows what to do again."""
    for name in COPIED:
        source = ROOT / name
        for path in [source] if source.is_file() else sorted(source.rglob("*")):
            if path.name == INSTALLED and not (folder / path.relative_to(ROOT)).exists():
                (folder / path.relative_to(ROOT)).symlink_to(path)
            if path.is_file() and not {"__pycache__", INSTALLED}.intersection(path.parts):
                _write(folder / path.relative_to(ROOT), path, part)
    (folder / "setup.cfg").write_text(part.settings(), encoding="utf-8")


def _write(copy: Path, path: Path, part: Part) -> None:
    content = path.read_bytes()
    if path.suffix == ".py" and part.mutates(path.relative_to(ROOT).as_posix()):
        content = undecorated(content.decode()).encode()
    if not copy.exists() or copy.read_bytes() != content:
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)


def undecorated(source: str) -> str:
    """Return the module with such decorators as lines of their own after what they decorate."""
    lines = source.splitlines(keepends=True)
    functions = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    # from the end, so that the line numbers before it stay as they are
    for function in sorted(functions, key=lambda function: function.lineno, reverse=True):
        match function.decorator_list:
            case [ast.Name(id=name, lineno=line)] if name in _APPLIED_LATER:
                indent = " " * function.col_offset
                assert function.end_lineno is not None
                lines.insert(function.end_lineno, f"{indent}{function.name} = {name}({function.name})\n")
                del lines[line - 1]
    return "".join(lines)
