"""Engines by name: a shipped one, `module:factory`, or `path/to/file.py:factory`."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from settlement_core.abc import ConnectEngine
from settlement_core.values.errors import LocalError

__all__ = ["SHIPPED", "load_target"]

DEFAULT_FACTORY = "connect_engine"


def _simulated() -> Callable[..., ConnectEngine]:
    from settlement_core.engines.simulated import simulated_engine  # noqa: PLC0415 - only what is used

    def make(*, ledger: str, address: str, poll_interval_s: str = "0.1", asset: str = "") -> ConnectEngine:
        return simulated_engine(ledger, address, poll_interval_s=float(poll_interval_s), asset=asset)

    return make


def _ethereum() -> Callable[..., ConnectEngine]:
    from settlement_core.engines.ethereum.options import ethereum_from_options  # noqa: PLC0415 - only what is used

    return ethereum_from_options


SHIPPED: dict[str, Callable[[], Callable[..., ConnectEngine]]] = {"simulated": _simulated, "ethereum": _ethereum}
"""Engines that come with this package, by name: each imports what makes the engine.

The keyword arguments of that are the options it takes, as text.
"""


def load_target(target: str, options: Mapping[str, str]) -> ConnectEngine:
    """Return what makes the engine a target names; raises `LocalError` with one sentence if there is none."""
    if target in SHIPPED:
        return _make_shipped(target, options)
    if options:
        raise LocalError(f"engine options are for shipped engines ({', '.join(SHIPPED)}), not for {target!r}")
    where, _, name = target.partition(":")
    name = name or DEFAULT_FACTORY
    module = _load_file(Path(where)) if where.endswith(".py") else _load_module(where)
    factory = getattr(module, name, None)
    if factory is None:
        raise LocalError(f"{where!r} has no {name!r}; name the function that makes the engine, as in {where}:NAME")
    if not callable(factory):
        raise LocalError(f"{name!r} in {where!r} is {type(factory).__name__}, not a function that makes an engine")
    return cast("ConnectEngine", factory)


def _make_shipped(target: str, options: Mapping[str, str]) -> ConnectEngine:
    make = SHIPPED[target]()
    parameters = inspect.signature(make).parameters
    missing = [name for name, p in parameters.items() if p.default is p.empty and name not in options]
    unknown = [name for name in options if name not in parameters]
    if missing or unknown:
        known = ", ".join(f"{n}=…" if p.default is p.empty else f"[{n}={p.default}]" for n, p in parameters.items())
        wrong = f"does not know {', '.join(unknown)}" if unknown else f"needs {', '.join(missing)}"
        raise LocalError(f"engine {target!r} {wrong}; its options are {known}")
    try:
        return make(**options)
    except ValueError as problem:
        raise LocalError(f"engine {target!r}: {problem}") from None


def _load_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as problem:
        if problem.name is None or (name != problem.name and not name.startswith(f"{problem.name}.")):
            raise LocalError(f"module {name!r} cannot be imported: {problem}") from problem
        shipped = ", ".join(SHIPPED)
        raise LocalError(f"no engine {name!r}: expected {shipped}, module:factory or path/to/file.py:factory") from None
    except Exception as problem:
        raise LocalError(f"module {name!r} cannot be imported: {type(problem).__name__}: {problem}") from problem


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise LocalError(f"no engine: there is no file {str(path)!r}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    sys.path.insert(0, str(path.parent.resolve()))  # so that it can import its neighbours
    try:
        spec.loader.exec_module(cast("Any", module))
    except Exception as problem:
        raise LocalError(f"{str(path)!r} cannot be loaded: {type(problem).__name__}: {problem}") from problem
    return module
