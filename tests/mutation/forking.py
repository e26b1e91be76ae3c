"""Test mutants in forks of one process in which everything is imported and collected already.

Run by `__main__` as a script, in the folder with the copied tree. mutmut makes the mutants, finds out which tests run
which function, and keeps what became of each; `killers.json` keeps which test killed it, and how. Each mutant is forked
off, and the first test that fails ends it: those are tried first that killed its siblings soonest.

That a machine is busy kills nothing: time is the processor's, and only who sleeps and goes on sleeping waits for ever.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import click
import pytest
from mutmut.__main__ import (
    CatchOutput,
    collect_or_load_stats,
    collect_source_file_mutation_data,
    create_mutants,
)
from mutmut.configuration import config
from mutmut.mutation import trampoline
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.state import state
from mutmut.utils.file_utils import change_cwd, copy_also_copy_files, copy_src_dir, setup_source_paths
from mutmut.utils.format_utils import mangled_name_from_mutant_name as function_of
from mutmut.workers.isolation import get_mutant_runner

SURVIVED, KILLED, NO_TEST, TIMED_OUT, TOO_LONG = 0, 1, 33, 36, -signal.SIGXCPU
"""What became of a mutant, as mutmut writes it."""

CPU_S, CPU_TIMES = 4.0, 20
"""A test that takes so much of the processor, and so many times what it takes by itself, does not end."""

MUTANT_CPU_S = 900
"""What takes so much in all, even within a call that Python cannot interrupt, does not end."""

ASLEEP_S = 60.0
"""Who wants nothing of the processor for so long waits for ever: tests live in virtual time."""

SEED = 4
"""Mutants are tested in a random order, so that those of a run that was interrupted are a fair sample."""

IN_REAL_TIME = ("test_those_who_are_answered_together_ask_together_again",)
"""Tests that are not asked: on a busy machine they fail by themselves, and would kill what makes no difference."""

PR_SET_CHILD_SUBREAPER = 36
"""From linux/prctl.h."""

KILLERS = Path("killers.json").absolute()

Killer = dict[str, str]
"""The test that failed first, and the last line of the error."""

ALONE_S: dict[str, float] = {}
"""How much of the processor each test takes without any mutant."""


@dataclass
class Child:
    """One mutant under test: its process, the pipe on which it names its killer, and when it last did anything."""

    name: str
    pid: int
    said: int
    used: int = 0
    awake: float = field(default_factory=time.monotonic)
    looked: float = field(default_factory=time.monotonic)

    def sleeps_for_ever(self) -> bool:
        """Tell whether it has not wanted the processor for a long time."""
        if time.monotonic() - self.looked < 1.0:
            return False
        self.looked = time.monotonic()
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        used = int(fields[11]) + int(fields[12])
        if used != self.used or fields[0] != "S":
            self.used, self.awake = used, time.monotonic()
        return time.monotonic() - self.awake > ASLEEP_S


class Witness:
    """A pytest plugin that remembers the first failure."""

    def __init__(self) -> None:
        self.killer: Killer = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Look at what became of a test; what fails before or after it may be this process's fault."""
        if report.failed and report.when == "call" and not self.killer:
            lines = [line for line in report.longreprtext.splitlines() if line.strip(" +-")]
            self.killer = {"test": report.nodeid, "error": lines[-1][:300] if lines else ""}


class Order:
    """Which tests of a function come first: those likeliest to fail soon, by what is known of its siblings."""

    def __init__(self) -> None:
        self._kills: Counter[tuple[str, str]] = Counter()
        self._took_s: dict[str, float] = {}
        self._breadth = Counter(test for tests in state().tests_by_mangled_function_name.values() for test in tests)

    def learn(self, name: str, test: str, took_s: float) -> None:
        """Remember who killed a mutant."""
        for whose in (function_of(name), name.rpartition(".")[0], ""):
            self._kills[whose, test] += 1
        self._took_s[test] = self._took_s.get(test, 0.0) + took_s

    def of(self, name: str, within_s: float) -> list[str]:
        """Return the tests of a mutant's function, of which together at most so many seconds, but always one."""
        tests = state().tests_by_mangled_function_name.get(function_of(name), set())
        chosen: list[str] = []
        for test in sorted(tests, key=lambda test: (-self._worth(name, test), test)):
            within_s -= _alone_s(test)
            if within_s >= 0 or not chosen:
                chosen.append(test)
        return chosen

    def _worth(self, name: str, test: str) -> float:
        # who runs few functions looks closely at each
        likely = 30.0 / self._breadth[test]
        likely += 10 * self._kills[function_of(name), test] + self._kills[name.rpartition(".")[0], test]
        # who waits for what never comes takes longer to fail than to pass
        failing_s = self._took_s.get(test, 0.0) / (1 + self._kills["", test])
        return likely / (0.03 + max(failing_s, _alone_s(test)))


def _alone_s(test: str) -> float:
    return ALONE_S.get(test, 0.0)


@dataclass
class Forks:
    """A pytest plugin that runs mutants instead of tests, once everything is collected."""

    names: Sequence[str]
    jobs: int
    within_s: float
    data: Mapping[str, SourceFileMutationData]
    killers: dict[str, Killer]
    order: Order = field(default_factory=Order)
    items: dict[str, pytest.Item] = field(default_factory=dict)
    children: list[Child] = field(default_factory=list)
    mine: set[int] = field(default_factory=set)
    """Processes that were started here before any child was."""

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Test each mutant, having seen that without one all tests pass in the same way."""
        self.items = {item.nodeid: item for item in session.items if not item.name.startswith(IN_REAL_TIME)}
        _adopt_orphans()
        self.mine = _children()
        child = self._fork(session, "", list(self.items))
        killer, used_s = _heard(child)
        os.waitpid(child.pid, 0)
        if killer or len(used_s) < len(self.items) or session.testsfailed:
            pytest.exit(f"tests fail without any mutant: {killer or 'some cannot be collected'}", 2)
        ALONE_S.update(used_s)
        for name, known in self.killers.items():
            if name in self.data:
                self.order.learn(name, known["test"], self.data[name].durations_by_key.get(name, 1.0))
        # nothing that is there by now ever has to be looked at again by the children's garbage collection
        gc.freeze()
        began = time.monotonic()
        for number, name in enumerate(self.names, start=1):
            tests = [test for test in self.order.of(name, self.within_s) if test in self.items]
            while len(self.children) >= self.jobs:
                self._wait()
            if tests:
                self.children.append(self._fork(session, name, tests))
            else:
                self._keep(name, NO_TEST, 0.0)
            if number % 50 == 0:
                rate = 60 * number / (time.monotonic() - began)
                click.echo(f"{number} of {len(self.names)}, {rate:.0f} a minute")
        while self.children:
            self._wait()
        return True

    def _fork(self, session: pytest.Session, name: str, tests: Sequence[str]) -> Child:
        said, say = os.pipe()
        pid = os.fork()
        if pid:
            os.close(say)
            return Child(name, pid, said)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        set_mutant_under_test(name)
        # each call of each function asks for it, which else is a quarter of the time
        trampoline.get_mutant_under_test = lambda: name
        killer, used_s = _run(session, [self.items[test] for test in tests], limited=bool(name))
        with os.fdopen(say, "w") as pipe:
            # of no interest from a mutant
            json.dump([killer, used_s if not name else {}], pipe)
        os._exit(KILLED if killer else SURVIVED)

    def _wait(self) -> None:
        """Wait until one has ended, or has to be ended."""
        while True:
            for child in self.children:
                pid, status, used = os.wait4(child.pid, os.WNOHANG)
                if not pid and child.sleeps_for_ever():
                    os.kill(child.pid, signal.SIGKILL)
                    pid, _, used = os.wait4(child.pid, 0)
                    status = TIMED_OUT << 8
                if pid:
                    self._end(child, os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime)
                    return
            time.sleep(0.01)

    def _end(self, child: Child, code: int, used_s: float) -> None:
        self.children.remove(child)
        _end_orphans({*self.mine, *(other.pid for other in self.children)})
        self._keep(child.name, code, used_s)
        killer, _ = _heard(child)
        if killer:
            self.order.learn(child.name, killer["test"], used_s)
            self.killers[child.name] = killer
            KILLERS.write_text(json.dumps(self.killers, indent=1), encoding="utf-8")

    def _keep(self, name: str, code: int, used_s: float) -> None:
        data = self.data[name]
        data.exit_code_by_key[name] = code
        data.durations_by_key[name] = used_s
        with change_cwd(".."):
            data.save()


def _adopt_orphans() -> None:
    """Have servers that a child leaves behind, killed in the middle of a test, become our own children."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot adopt orphans")


def _children() -> set[int]:
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()}


def _end_orphans(others: set[int]) -> None:
    """Kill what a child that has ended left behind."""
    for pid in _children() - others:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _heard(child: Child) -> tuple[Killer, dict[str, float]]:
    with os.fdopen(child.said) as pipe:
        killer, used_s = json.loads(pipe.read() or "[{}, {}]")
    return killer, used_s


def _run(session: pytest.Session, items: Sequence[pytest.Item], *, limited: bool) -> tuple[Killer, dict[str, float]]:
    """Run tests until one fails, or takes too much of the processor: then the process ends."""
    witness = Witness()
    used_s: dict[str, float] = {}
    session.config.pluginmanager.register(witness)
    signal.signal(signal.SIGPROF, lambda *_: os._exit(TIMED_OUT))
    if limited:
        resource.setrlimit(resource.RLIMIT_CPU, (MUTANT_CPU_S, MUTANT_CPU_S))
    for item, following in zip(items, [*items[1:], None], strict=True):
        began = time.process_time()
        if limited:
            signal.setitimer(signal.ITIMER_PROF, max(CPU_S, CPU_TIMES * _alone_s(item.nodeid)))
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        signal.setitimer(signal.ITIMER_PROF, 0)
        used_s[item.nodeid] = time.process_time() - began
        if witness.killer:
            # or servers that tests share would outlive this process
            session._setupstate.teardown_exact(None)
            break
    return witness.killer, used_s


@click.command()
@click.argument("modules", nargs=-1)
@click.option("--jobs", type=int, required=True)
@click.option("--within-s", type=float, required=True)
@click.option("--survivors", is_flag=True)
def main(modules: tuple[str, ...], jobs: int, within_s: float, *, survivors: bool) -> None:
    """Make mutants, find out which tests run which function, and test those not tested yet, or that survived."""
    set_mutant_under_test("mutant_generation")
    Path("mutants").mkdir(exist_ok=True)
    with CatchOutput(spinner_title="Making mutants"):
        copy_src_dir()
        copy_also_copy_files()
        setup_source_paths()
        create_mutants(jobs)
    collect_or_load_stats(get_mutant_runner(jobs), apply_config_invalidation=True)
    found, _ = collect_source_file_mutation_data(mutant_names=[])
    unnoticed = {SURVIVED, NO_TEST}
    known = {KILLED, TIMED_OUT, TOO_LONG, *unnoticed}
    prefixes = tuple(f"settlement_core.{module.strip('/').replace('/', '.')}" for module in modules or ("",))
    wanted = sorted(
        name
        for _, name, code in found
        if name.startswith(prefixes) and (code in unnoticed if survivors else code not in known)
    )
    random.Random(SEED).shuffle(wanted)
    if not wanted:
        return
    killers = json.loads(KILLERS.read_text(encoding="utf-8")) if KILLERS.exists() else {}
    set_mutant_under_test("")
    with change_cwd("mutants"):
        forks = Forks(wanted, jobs, within_s, {name: data for data, name, _ in found}, killers)
        # a test that waits for ever is found out by its sleep, not by the clock
        options = ["--rootdir=.", "--tb=native", "-q", "-s", "-o", "timeout=0", *config().pytest_add_cli_args]
        code = pytest.main([*options, *config().pytest_add_cli_args_test_selection], plugins=[forks])
    sys.exit(int(code))


if __name__ == "__main__":
    main()
