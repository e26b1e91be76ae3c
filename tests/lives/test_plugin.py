"""The pytest plugin, as an engine's author uses it: a conftest and a test of their own, run by another pytest."""

from __future__ import annotations

import re

import pytest

pytest_plugins = ["pytester"]

CONFTEST = """
import pytest
pytest_plugins = ["settlement_core.testing.plugin"]

@pytest.fixture
def anyio_backend(virtual_loop):
    return virtual_loop
"""

ORDER = """
import random
import anyio, anyio.lowlevel, pytest

@pytest.mark.anyio
async def test_an_hour(scheduler_seed):
    began, order = anyio.current_time(), []
    await anyio.sleep(3600)
    assert anyio.current_time() - began == 3600

    async def task(number):
        await anyio.lowlevel.checkpoint()
        order.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(task, number)
    print("ORDER", scheduler_seed, order, random.random())
"""


@pytest.fixture
def author(pytester: pytest.Pytester) -> pytest.Pytester:
    """Return an author's directory."""
    pytester.makeconftest(CONFTEST)
    return pytester


def run(author: pytest.Pytester, *options: str) -> pytest.RunResult:
    """Run the author's tests."""
    return author.runpytest_subprocess("-p", "no:cacheprovider", *options)


def orders(result: pytest.RunResult) -> list[str]:
    """Return what the tests have printed."""
    return re.findall(r"ORDER .*", result.stdout.str())


def test_tests_run_on_both_loops_in_an_order_of_the_seed(author: pytest.Pytester) -> None:
    """Hours take no time; the same seed gives the same order, and the same random numbers; 0 unless said otherwise."""
    author.makepyfile(ORDER)
    first, again = run(author, "-s"), run(author, "-s", "--scheduler-seed=0")
    first.assert_outcomes(passed=2)
    first.stdout.fnmatch_lines(["scheduler seed: 0"])
    assert len(orders(first)) == 2
    assert orders(first) == orders(again)
    other = run(author, "-s", "--scheduler-seed", "4")
    assert all(line.startswith("ORDER 4 ") for line in orders(other))
    assert [line.split(" ", 2)[2] for line in orders(other)] != [line.split(" ", 2)[2] for line in orders(first)]


def test_a_failing_test_tells_its_seed_and_how_to_run_it_again(author: pytest.Pytester) -> None:
    """Also one that was drawn at random; a test that is not scheduled by it says nothing."""
    author.makepyfile(
        """
        import pytest

        @pytest.mark.anyio
        async def test_wrong():
            assert False

        def test_plain():
            assert False
        """
    )
    result = run(author, "--scheduler-seed=random")
    result.assert_outcomes(failed=3)
    told = re.findall(r"scheduler seed (\d+); to run it again: (.*)", result.stdout.str())
    assert len(told) == 2
    seed = told[0][0]
    assert [words for _, words in told] == [
        f"pytest 'test_a_failing_test_tells_its_seed_and_how_to_run_it_again.py::test_wrong[{loop}]' "
        f"--scheduler-seed={seed}"
        for loop in ("trio", "asyncio")
    ]


def test_a_seed_that_is_no_number_is_refused(author: pytest.Pytester) -> None:
    """Before any test runs."""
    author.makepyfile(ORDER)
    result = run(author, "--scheduler-seed=soon")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "argument --scheduler-seed: invalid" in result.stderr.str()
