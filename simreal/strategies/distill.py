"""`distill`: a new network learns what the source agent does, then goes on by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

from simreal.learner import explore_no_more_than_at_the_end
from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.settings import choice, count, number, switch, widths
from simreal.strategies.teaching import home_of, lessons_of, require_teacher, teacher_of
from simreal_envs.errors import UserError


@dataclass(frozen=True)
class Distill(Strategy):
    """Policy distillation (Rusu et al. 2016, arXiv:1511.06295) on recorded states of the source, into a fresh network.

    The observation statistics and the unit of reward are the teacher's. The teacher is the arm's, else the source agent.

    Attributes:
        hidden: widths of the student's layers; None for those of the config.
        then: ``"fine_tune"`` goes on learning on the target, ``"zero_shot"`` does not.
        on_target: whether the teacher goes on teaching on the target, about the student's own states.
        weight: of its lessons there, beside the loss of the algorithm.
        steps: of the source that are recorded in each round; they are no experience of the target.
        rounds: of recording and learning: the teacher acts in the first one, the student in the others, and the teacher
            says what it should have done (DAgger, Ross et al. 2011). Small students need it.
        epochs: passes over all that was recorded, in each round.
        value: weight of the error of the critic, which is cloned as well; 0 leaves it as it was drawn.
        temperature: that softens the values of agents without an actor into a policy, in units of value.
    """

    hidden: tuple[int, ...] | None = widths(None)
    then: str = choice("fine_tune", ("fine_tune", "zero_shot"), "continuation", named=True)
    on_target: bool = switch(False)
    weight: float = number(1.0, 0.0, 100.0)
    steps: int = count(16384, 1, 10_000_000)
    rounds: int = count(1, 1, 100)
    epochs: int = count(10, 1, 1000)
    value: float = number(0.5, 0.0, 100.0)
    temperature: float = number(0.1, 1e-3, 1e3)

    name = "distill"
    says = "teaches a fresh network the source agent's actions, then trains it"
    learns_first = True
    unfit = ("crossq",)
    family = "teachers"
    needs = frozenset({"source domain"})
    takes = frozenset({"teacher"})
    decides = frozenset({"the network", "what is copied"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.on_target and not self.trains:
            raise UserError(
                "distill: with then: zero_shot nothing is learned on the target, so on_target must be false"
            )

    @property
    def trains(self) -> bool:  # type: ignore[override]
        return self.then == "fine_tune"

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        from simreal_agents.additions.cloning import Lessons, Tuition, study

        teacher = teacher_of(agent, target)
        network = {"hidden": list(self.hidden or target.learning.hidden), "activation": target.learning.activation}
        learner = target.learner(teacher, _scalars(teacher), network=network)
        columns = require_teacher(teacher, learner)
        home, order, lessons = home_of(teacher, target), target.stream(self.name), []
        for i in range(self.rounds):
            guide, seed = replace(teacher, policy=learner.policy) if i else teacher, self.rounds * target.seed + i
            lessons.append(lessons_of(teacher, home, self.steps, seed, self.temperature, guide))
            study(
                learner.policy, Lessons.joined(lessons), order,
                epochs=self.epochs, value=self.value, temperature=self.temperature,
            )  # fmt: skip
        explore_no_more_than_at_the_end(learner)
        if self.on_target:
            learner.attach(self.name, Tuition(teacher.policy, self.weight, columns, self.temperature))
        return learner


def _scalars(teacher: Agent) -> tuple[str, ...]:
    """What is copied, since no state decides it: the noise of PPO's actions, the temperature of SAC's."""
    return ("heads.log_std",) if teacher.algorithm == "ppo" else ("heads.temperature",)
