"""The machine that draws system after system: each rule is one whole life, and the last life is a peaceful one."""

from __future__ import annotations

from typing import ClassVar

try:
    from hypothesis import HealthCheck, Phase, seed, settings
    from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
except ModuleNotFoundError as problem:
    raise ImportError(f"many lives need {problem.name}: pip install settlement-core[testing]") from problem

from settlement_core.testing.lives.diary import Tally
from settlement_core.testing.lives.script import Life, Setting
from settlement_core.testing.lives.strategies import lives, settings_of_systems
from settlement_core.testing.lives.system import System

__all__ = ["TOGETHER", "Lives", "live_many"]

TOGETHER = 10
"""Systems drawn with one seed."""


class Lives(RuleBasedStateMachine):
    """One system after another. Subclasses say on which loop."""

    backend: ClassVar[str] = "trio"
    tally: ClassVar[Tally] = Tally()

    def __init__(self) -> None:
        super().__init__()
        self._system: System | None = None
        self._harmed = False

    @initialize(setting=settings_of_systems())
    def begin(self, setting: Setting) -> None:
        """Make the system."""
        self._system = System(setting, backend=self.backend, tally=self.tally)

    @rule(life=lives())
    def live(self, life: Life) -> None:
        """Live once more."""
        assert self._system is not None
        self._harmed = True
        self._system.live(life)
        self._harmed = False

    def teardown(self) -> None:
        """Everything is settled and credited, once nothing goes wrong any more."""
        if self._system is not None and not self._harmed:
            self._system.end_in_peace()


def live_many(
    *,
    backend: str,
    examples: int,
    seed_: int = 0,
    lives_each: int = 5,
    tally: Tally | None = None,
    shrink: bool = True,
    machine: type[Lives] = Lives,
) -> None:
    """Draw `examples` systems of up to `lives_each` lives each, the same for the same seed. Raises `Violated`.

    Every ten systems have a seed of their own, counted from the first: Hypothesis likes to vary what it drew before.

    Args:
        backend: "trio" or "asyncio".
        examples: how many systems.
        seed_: of the first ten systems.
        lives_each: how many lives a system has at most, before its peaceful one.
        tally: counts lives and faults.
        shrink: whether a failure is made small before it is raised, which may take Hypothesis five minutes.
        machine: a machine with other strategies.
    """
    for number in range(0, examples, TOGETHER):
        _live_some(
            backend=backend,
            examples=min(TOGETHER, examples - number),
            seed_=seed_ + number // TOGETHER,
            lives_each=lives_each,
            tally=tally or Tally(),
            shrink=shrink,
            machine=machine,
        )


def _live_some(
    *, backend: str, examples: int, seed_: int, lives_each: int, tally: Tally, shrink: bool, machine: type[Lives]
) -> None:
    on = type(f"{machine.__name__}On{backend.title()}", (machine,), {"backend": backend, "tally": tally})
    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)
    run_state_machine_as_test(
        seed(seed_)(on),
        settings=settings(
            max_examples=examples,
            stateful_step_count=lives_each,
            deadline=None,
            database=None,
            phases=phases,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )
