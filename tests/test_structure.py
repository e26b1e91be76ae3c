"""The shape of the package, held by tests that explain it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import settlement_core

ROOT = Path(settlement_core.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

# Lowest first; a module may import its own floor's package and anything on a lower floor.
FLOORS = [
    ("values",),
    ("abc",),
    ("core",),
    ("outbound",),
    ("stores", "connector", "engines", "observers", "archive"),
    ("auditing", "store_urls", "targets", "migration_rows"),
    ("http", "migration", "restoring", "conformance"),
    ("server",),
    ("cli",),
    ("__main__",),
]
BESIDE = {"testing", "demo"}
SCREEN = 70
MODULE = 400


def name_of(path: Path) -> str:
    """Return a module's dotted name."""
    return ".".join(["settlement_core", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")


def part_of(module: str) -> str:
    """Return the part of the package a module belongs to; "" is the package itself."""
    return [*module.split("."), ""][1]


def floor_of(part: str) -> int:
    """Return a part's floor."""
    return next(number for number, parts in enumerate(FLOORS) if part in parts)


def imports_of(path: Path) -> Iterator[tuple[str, int]]:
    """Yield every module imported anywhere in a file, with its line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, f"{path}:{node.lineno}: write imports from the top, settlement_core.…"
            yield node.module, node.lineno


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_downward_only(path: Path) -> None:
    """A change on one floor can then only be felt above it, and each floor can be read without those above."""
    part = part_of(name_of(path))
    for module, line in imports_of(path):
        if not module.startswith("settlement_core"):
            continue
        other = part_of(module)
        where = f"{path.relative_to(ROOT.parent)}:{line} imports {module}"
        if part in BESIDE or path == ROOT / "__init__.py" or other == part:
            continue
        if part == "cli" and other == "demo":
            continue  # the command line shows the demonstration
        assert other not in BESIDE, f"{where}: what ships must not need the {other} tools"
        assert other, f"{where}: import from where a thing lives; the package itself is for users"
        assert floor_of(other) < floor_of(part), (
            f"{where}: {part} is on floor {floor_of(part)} and {other} on floor {floor_of(other)}; imports go "
            "downward only. Pass the thing in as a parameter, or move what both need further down."
        )


@pytest.mark.parametrize("path", [p for p in MODULES if part_of(name_of(p)) in {"values", "abc", "core"}], ids=name_of)
def test_the_core_needs_anyio_and_nothing_else(path: Path) -> None:
    """Floors 0 and 1 need the standard library only, the core also anyio; so it runs on trio and asyncio alike."""
    allowed = {"settlement_core"} | ({"anyio"} if part_of(name_of(path)) == "core" else set())
    stdlib = inspect.getattr_static(__import__("sys"), "stdlib_module_names")
    loops = {"asyncio", "threading", "concurrent", "multiprocessing", "socket", "os", "datetime"}
    for module, line in imports_of(path):
        top = module.split(".", maxsplit=1)[0]
        assert top in allowed | set(stdlib), f"{path}:{line}: the core may not need {top}"
        assert top not in loops, f"{path}:{line}: {top} belongs on a higher floor; the core is neutral and clockless"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_fit_one_screen_and_modules_a_few(path: Path) -> None:
    """What does not fit one screen cannot be seen at once, and what cannot be seen hides mistakes."""
    text = path.read_text()
    limit = MODULE if path.name != "reference.py" else 500  # one meaning for every command, seen together
    assert len(text.splitlines()) <= limit, f"{path}: over {limit} lines; which part is a thing of its own?"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            assert length <= SCREEN, f"{path}:{node.lineno}: {node.name} has {length} lines, a screen {SCREEN}"


def test_every_public_name_is_exported_once_sorted_and_documented() -> None:
    """`from settlement_core import X` works for each, and each says what it is."""
    assert settlement_core.__all__ == sorted(set(settlement_core.__all__))
    tree = ast.parse((ROOT / "__init__.py").read_text())
    typed = sorted(
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("settlement_core")
        for alias in node.names
    )
    assert typed == settlement_core.__all__, "the names for type checkers and those at run time differ"
    for name in settlement_core.__all__:
        thing = getattr(settlement_core, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), f"{name} has no docstring"
    assert set(dir(settlement_core)) == set(settlement_core.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = settlement_core.nothing


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_opens_with_a_promise(path: Path) -> None:
    """And lists its public names, all of which exist."""
    tree = ast.parse(path.read_text())
    docstring = ast.get_docstring(tree)
    assert docstring, f"{path}: what does this module promise?"
    assert docstring.splitlines()[0].endswith((".", ":")), f"{path}: the promise is a sentence"
