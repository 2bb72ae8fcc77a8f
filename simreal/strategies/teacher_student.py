"""`teacher_student`: a student that sees the last steps learns to do what a teacher does that sees the parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from simreal.learner import explore_no_more_than_at_the_end
from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.settings import choice, count, number
from simreal.strategies.teaching import home_of, teacher_of
from simreal_envs.variation import Domain, Observe

if TYPE_CHECKING:
    import numpy as np

    from simreal_envs.worlds import Worlds

WORLDS = 32  # that are recorded in: many different ones, and long enough in each to see it to its end


@dataclass(frozen=True)
class TeacherStudent(Strategy):
    """Learning with a privileged teacher (Lee et al. 2020, arXiv:2010.11251; RMA, Kumar et al. 2021, arXiv:2107.04034).

    The student is a copy of the teacher that has to do without the parameters: it is shown the last steps instead, and with
    PPO a network over them (RMA's adaptation module) gives as many numbers as the teacher knows parameters. It learns
    in the teacher's worlds, by regression on the teacher's actions and on the features of its encoder, in states to which
    the teacher leads in the first round and the student itself in the others (DAgger, Ross et al. 2011). The teacher is the
    arm's, else the source agent; it is best pretrained with ``privileged``.

    Attributes:
        history: steps that the student sees, the present one included.
        memory: how a PPO student reads them: ``"mlp"``, ``"conv"`` (RMA's) or ``"gru"``. Others read them as they are.
        then: ``"fine_tune"`` goes on learning on the target, ``"zero_shot"`` does not.
        rounds: of recording and regression, on all that was recorded so far.
        steps: of the teacher's worlds, in each round; they are no experience of the target.
        epochs: passes in each round.
        latent: weight of the squared error of the encoder's features.
        value: weight of the error of the critic.
        temperature: that softens the values of agents without an actor into a policy, in units of value.
    """

    history: int = count(16, 2, 1000)
    memory: str = choice("mlp", ("mlp", "conv", "gru"), "memory", named=True)
    then: str = choice("fine_tune", ("fine_tune", "zero_shot"), "continuation", named=True)
    rounds: int = count(3, 1, 100)
    steps: int = count(16384, 1, 10_000_000)
    epochs: int = count(2, 1, 1000)
    latent: float = number(1.0, 0.0, 1000.0)
    value: float = number(0.5, 0.0, 100.0)
    temperature: float = number(0.1, 1e-3, 1e3)

    name = "teacher_student"
    says = "a student with a history learns from a privileged teacher (RMA)"
    learns_first = True
    unfit = ("crossq",)
    family = "teachers"
    needs = frozenset({"source domain"})
    takes = frozenset({"teacher"})
    sequential = False
    decides = frozenset({"the worlds", "the network", "what is copied"})

    @property
    def trains(self) -> bool:  # type: ignore[override]
        return self.then == "fine_tune"

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        teacher = teacher_of(agent, target)
        home = home_of(teacher, target).seen_by(teacher.card.get("domain"))
        seen = replace(target.domain, observe=Observe(history=self.history, actions=True))
        learner = _student(teacher, home, target, target.worlds(seen), self.memory)
        self._teach(learner, teacher, _with_history(home, self.history), target)
        explore_no_more_than_at_the_end(learner)
        return learner

    def _teach(self, learner: Transferable, teacher: Agent, home: Domain, target: Target) -> None:
        """Rounds of recording in `home`, whose worlds show what both see, and regression."""
        import torch

        from simreal.memory import record
        from simreal_agents.additions import features
        from simreal_agents.additions.cloning import Lessons, columns_of, measure, study
        from simreal_envs.view import schema_of

        schema, policy, order = schema_of(home), learner.policy, target.stream(self.name)
        known, shown = (_places(columns_of(s, schema)) for s in (teacher.schema, learner.env.worlds.schema))
        parts, wanted = [], []
        for i in range(self.rounds):
            guide = _looking(policy, shown, schema, home) if i else _looking(teacher.policy, known, schema, home)
            recorded = record(guide, home, self.steps, self.rounds * target.seed + i, num_worlds=WORLDS)
            rows, knows = recorded.observations[:, shown], recorded.observations[:, known]
            if i == 0:
                measure(policy, torch.from_numpy(rows), policy.encoder.normalizer.count == 0)
            parts.append(Lessons.of(teacher.policy, rows, recorded.actions, seen=knows, temperature=self.temperature))
            with torch.no_grad():
                wanted.append(features(teacher.policy, torch.from_numpy(knows)))
            lessons, latents = Lessons.joined(parts), torch.cat(wanted)

            def latent(
                places: torch.Tensor, lessons: Lessons = lessons, latents: torch.Tensor = latents
            ) -> torch.Tensor:
                return self.latent * (features(policy, lessons.rows[places]) - latents[places]).square().mean()

            study(
                policy, lessons, order, epochs=self.epochs, value=self.value, temperature=self.temperature, extra=latent,
            )  # fmt: skip


def _with_history(domain: Domain, steps: int) -> Domain:
    """A domain whose worlds show the last steps, too."""
    return replace(domain, observe=replace(domain.observe, history=steps, actions=True))


def _places(columns: np.ndarray | None) -> np.ndarray | slice:
    return slice(None) if columns is None else columns


def _looking(policy, columns, schema, domain: Domain) -> Agent:
    """An agent that acts by a policy which sees only some columns of what the worlds of `domain` show."""
    from simreal_agents.bundle import Agent

    return Agent(_Looking(policy, columns), schema, {"domain": domain.to_dict()})


class _Looking:
    """A policy among worlds that show more than it sees."""

    def __init__(self, policy, columns):
        self.policy, self.columns = policy, columns

    def act(self, rows: np.ndarray, *settings) -> np.ndarray:
        return self.policy.act(rows[:, self.columns], *settings)


def _student(teacher: Agent, home: Domain, target: Target, worlds: Worlds, kind: str) -> Transferable:
    """A learner that does what the teacher does as far as it sees what the teacher sees, and reads the last steps."""
    from simreal_agents.recurrent import memory
    from simreal_agents.surgery import fit

    known = len(home.observe.parameters)
    if teacher.algorithm != "ppo" or not known or home.observe.history > 1:
        return target.learner(fit(teacher, worlds.schema)[0], worlds=worlds)
    setting = memory(worlds.schema, units=known, kind=kind)
    network = {**teacher.policy.network, "memory": setting}
    learner = target.learner(fit(teacher, worlds.schema)[0], worlds=worlds, network=network)
    for tower in ("actor", "critic"):
        # Both read the present first, then the parameters or what stands for them.
        layer, own = getattr(teacher.policy.encoder, tower)[0], getattr(learner.policy.encoder, tower).linear
        own.weight.data.copy_(layer.weight.data)
        own.bias.data.copy_(layer.bias.data)
    return learner
