"""What is mutated, and which tests are asked: parts, each with a run of its own.

A part's tests are all collected, and run once to find out which of them run which function; each mutant is then asked
only those of its function. So a part holds the tests that look closely at its modules, and no others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

__all__ = ["PARTS", "ROOT", "Part", "parts_of"]

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Modules under settlement_core, as patterns, and the tests that are asked about them.

    Attributes:
        keywords: which of the tests, as pytest's `-k` takes it. One loop does where both run the same code.
    """

    name: str
    modules: tuple[str, ...]
    tests: tuple[str, ...]
    keywords: str = "not asyncio"

    def mutates(self, path: str) -> bool:
        """Tell whether a file, named from the tree's root, is mutated."""
        return any(fnmatch(path, f"settlement_core/{pattern}") for pattern in self.modules)

    def settings(self) -> str:
        """Return what mutmut reads."""
        options = ["-k", self.keywords, "-m", "not slow", "-p", "tests.mutation.budget"]
        options += ["-p", "no:schemathesis", "-p", "no:xdist", "-p", "no:pytest_cov"]
        facts = {
            "source_paths": ["settlement_core"],
            "only_mutate": [f"settlement_core/{pattern}" for pattern in self.modules],
            "also_copy": ["examples", "benchmarks", "README.md"],
            "pytest_add_cli_args": options,
            "pytest_add_cli_args_test_selection": [f"tests/{test}" for test in self.tests],
        }
        lines = [f"{name}=\n" + "".join(f"    {value}\n" for value in values) for name, values in facts.items()]
        return "[mutmut]\n" + "".join(lines)


_STORE_TESTS = (
    "stores/test_contract.py",
    "stores/test_pruning.py",
    "stores/test_payloads.py",
    "stores/test_migration.py",
    "stores/test_deleted.py",
)

PARTS = (
    Part(
        name="floors",
        modules=("abc.py", "core/*", "values/*"),
        tests=("values", "core", "stores/test_contract.py", "stores/test_pruning.py"),
        keywords="not redis and not test_memory_store and (not asyncio or test_effects)",
    ),
    Part(
        name="stores",
        modules=("stores/[!r]*.py",),
        tests=(
            *_STORE_TESTS,
            "stores/test_audit.py",
            "stores/test_sqlite_failures.py",
            "stores/test_sqlite_opening.py",
            "stores/test_sqlite_plans.py",
        ),
        keywords="not redis",
    ),
    Part(
        name="redis",
        modules=("stores/redis/*",),
        tests=(
            *_STORE_TESTS,
            "redis/test_answers.py",
            "redis/test_books.py",
            "redis/test_contract.py",
            "redis/test_leases.py",
            "redis/test_settings.py",
        ),
        keywords="redis and not asyncio",
    ),
    Part(
        name="connector",
        modules=("connector.py",),
        tests=(
            "connector/test_http_connector.py",
            "connector/test_http_messages.py",
            "connector/test_mode_calls.py",
            "connector/test_modes.py",
            "connector/test_open_connector.py",
        ),
    ),
    Part(
        name="simulated",
        modules=("engines/simulated/*",),
        tests=("engines/simulated", "engines/test_engine_check.py"),
        keywords="simulated and not asyncio and not processes",
    ),
    Part(
        name="ethereum",
        modules=("engines/ethereum/*",),
        tests=tuple(
            f"engines/ethereum/test_{name}.py"
            for name in (
                "transactions",
                "handshake",
                "peers",
                "nonces",
                "outgoing",
                "incoming",
                "reorganisations",
                "node_failures",
                "starting",
            )
        ),
    ),
)
"""All that is mutated."""


def parts_of(names: Sequence[str]) -> list[tuple[Part, tuple[str, ...]]]:
    """Return the parts that hold some modules, such as core/outgoing or stores, each with those; or every part."""
    if not names:
        return [(part, ()) for part in PARTS]
    paths = [path.relative_to(ROOT).as_posix() for path in (ROOT / "settlement_core").rglob("*.py")]

    def holds(part: Part, name: str) -> bool:
        return any(path.startswith(f"settlement_core/{name.strip('/')}") and part.mutates(path) for path in paths)

    chosen = [(part, tuple(name for name in names if holds(part, name))) for part in PARTS]
    return [(part, found) for part, found in chosen if found]
