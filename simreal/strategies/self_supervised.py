"""Features from experience without a reward: `self_supervised` in the source, `self_supervised_target` in the target."""

from __future__ import annotations

from dataclasses import dataclass

from simreal.strategies.base import Agent, Strategy, Target, Transferable
from simreal.strategies.settings import choice, count, number, switch

OBJECTIVES = ("forward", "inverse", "contrastive")


@dataclass(frozen=True)
class SelfSupervised(Strategy):
    """Before it learns from the reward, the encoder learns from what random actions do in the source domain.

    Random experience is taken in worlds of its own and does not count as steps of the source.

    Attributes:
        objective: ``"forward"``, ``"inverse"`` or ``"contrastive"``; see `simreal_agents.additions.self_supervision`.
        steps: of random experience.
        epochs: passes over it.
        learning_rate: of the encoder and of the model behind it, in this phase.
        reward: whether the agent then goes on with the reward for the steps of the source; if not, it has features, and
            heads that know nothing.
    """

    objective: str = choice("inverse", OBJECTIVES, "objective")
    steps: int = count(8192, 256, 10**8)
    epochs: int = count(5, 1, 10_000)
    learning_rate: float = number(1e-3, 0.0, 1.0)
    reward: bool = switch(True)

    name = "self_supervised"
    says = "pretrains the encoder without reward, then, or not, as usual"
    learns_first = True
    unfit = ("crossq",)
    family = "self-supervised"
    stage = "pretrain"
    needs_source = False

    @property
    def trains(self) -> bool:  # type: ignore[override]
        return self.reward

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        from simreal.memory import record
        from simreal_agents.additions.self_supervision import Objective, pretrain_encoder

        learner = target.learner(agent)
        data = record(None, learner.env.worlds.domain, self.steps, target.seed, num_worlds=target.learning.num_worlds)
        objective = Objective(learner.policy, self.objective, target.stream(self.name), self.learning_rate)
        pretrain_encoder(learner, objective, data, epochs=self.epochs, batch=256, lr=self.learning_rate)
        return learner


@dataclass(frozen=True)
class SelfSupervisedTarget(Strategy):
    """Fine-tune; the encoder also follows an objective without reward on the target's transitions, at first only that.

    All transitions are those that the budget counts: what the agent meets while it acts.

    Attributes:
        objective: as of `SelfSupervised`.
        weight: of its loss beside the algorithm's.
        until: share of the budget in which the reward is not looked at: the source's policy acts, only the encoder learns.
    """

    objective: str = choice("inverse", OBJECTIVES, "objective")
    weight: float = number(0.1, 0.0, 1e6)
    until: float = number(0.1, 0.0, 1.0)

    name = "self_supervised_target"
    says = "fine-tunes with an objective without reward for the encoder"
    family = "self-supervised"
    algorithms = ("ppo",)

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        from simreal_agents.additions.self_supervision import Objective, SelfSupervision

        learner = target.learner(agent)
        objective = Objective(learner.policy, self.objective, target.stream(self.name))
        learner.attach(self.name, SelfSupervision(objective, self.weight, learner.batch_size))
        return learner

    def on_progress(self, learner: Transferable, progress: float) -> None:
        learner.additions[self.name].look(learner.optimizer, progress < self.until)
