"""When an agent is evaluated and its run written down, in environment steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Real

from simreal_envs.errors import UserError

# Checkpoints besides those at evaluations: what is lost when a run is killed is an eighth of it at most, of a long one a
# twentieth. Small robots take the steps between two of these in half a second.
FEWEST, CHECKPOINTS, APART = 8, 20, 20_000


@dataclass(frozen=True)
class Schedule:
    """How long an agent learns and how it is evaluated on the way.

    Attributes:
        steps: environment steps in the domain, rounded up to whole rollouts.
        points: evaluations, the one before any update included; at least 2. There are fewer where the agent collects
            less often than that: an evaluation is always between two rollouts.
        episodes: episodes per evaluation, each for the deterministic and for the stochastic policy.
        marks: percentages of the budget at which there is an evaluation, too.
    """

    steps: int
    points: int = 9
    episodes: int = 20
    marks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("points", 2), ("episodes", 1)):
            count = getattr(self, name)
            if not isinstance(count, Real) or isinstance(count, bool) or count % 1 or count < least:
                raise UserError(f"{name} must be a whole number of at least {least}, not {count!r}")
        object.__setattr__(self, "marks", tuple(self.marks))

    def grid(self, rollout: int) -> list[int]:
        """Environment steps of every evaluation, from 0, for a learner that collects `rollout` steps at a time."""
        gaps = (self.points - 1) * rollout
        return sorted({-(-i * self.steps // gaps) * rollout for i in range(self.points)} | self.marked(rollout).keys())

    def marked(self, rollout: int) -> dict[int, int]:
        """Environment steps of the marks and which mark each is, in percent; the later one where two fall together."""
        return {-(-mark * self.steps // (100 * rollout)) * rollout: mark for mark in self.marks}

    def checkpoints(self, rollout: int) -> set[int]:
        """Environment steps at which the run can be continued: evenly spread, and at evaluations unless they are many."""
        evenly = replace(self, points=max(FEWEST, min(CHECKPOINTS, self.steps // APART)) + 1).grid(rollout)
        return {*evenly, *(self.grid(rollout) if self.points <= 1.5 * CHECKPOINTS else ())}
