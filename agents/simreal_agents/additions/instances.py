"""Source experience beside target experience: classifiers that tell them apart, and what their odds are good for.

Worlds of the source stand beside those of the target in one batch (`simreal_envs.together`); the target is domain 0. What
is learned here decides how the source's transitions are rewarded and weighted before the agent learns from them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from simreal_agents.additions import Addition, Experience
from simreal_agents.additions.small import Mlp
from simreal_agents.normalizer import RunningMoments
from simreal_agents.replay import Batch, Replay
from simreal_envs.errors import UserError

ROWS_PER_STEP = 64  # of the target, for every step of the classifiers


class Classifiers:
    """How much likelier than in the source is a transition in the target? Two classifiers tell (Eysenbach et al. 2021).

    ``odds(s, a)`` are the log-odds of the target given state and action, ``dynamics(s, a, s')`` what the next state adds to
    them, so that the log-odds given all three are their sum. What they read is scaled to unit variance, with s' - s in the
    place of s'. The second one says 0 until it has learned something else.

    Args:
        size, actions: elements of a state and of an action (one-hot where it is a choice).
        units: in each of two hidden layers.
        noise: standard deviation of what is added to scaled inputs in training, which keeps the odds moderate where the
            data cannot tell (the paper's remedy for classifiers that overfit).
        generator: of weights, noise and minibatches.
        memory: transitions that are kept of each domain.
        batch: rows of each domain in a minibatch.
    """

    def __init__(
        self, size: int, actions: int, units: int, noise: float, generator: torch.Generator, memory: int = 20_000,
        batch: int = 128,
    ):  # fmt: skip
        self.noise, self.generator, self.batch = noise, generator, batch
        self.ruler = RunningMoments(2 * size + actions)
        self.given = size + actions  # columns that are no next state
        self.odds = Mlp((self.given, units, units, 1), generator)
        self.dynamics = Mlp((2 * size + actions, units, units, 1), generator)
        nn.init.zeros_(self.dynamics.layers[-1].weight)
        self.memories = [Replay(memory, size, np.float32, (actions,)) for _ in range(2)]
        self.due = 0  # target rows since the last step

    def learn(self, domain: int, rows: Batch) -> None:
        """Remember transitions of the target (0) or the source (1), and learn in step with those of the target."""
        self.memories[domain].add(
            rows.observations, rows.next_observations, rows.actions, rows.rewards, rows.terminated
        )
        self.ruler.update(self._inputs(rows))
        self.due += len(rows.rewards) if domain == 0 else 0
        while self.due >= ROWS_PER_STEP and len(self.memories[1]):
            self.due -= ROWS_PER_STEP
            self._step()

    def _step(self) -> None:
        drawn = [self._scaled(memory.sample(self.generator, self.batch)) for memory in self.memories]
        seen = torch.cat(drawn)
        seen = seen + self.noise * torch.randn(seen.shape, generator=self.generator)
        truth = torch.cat([torch.ones(self.batch), torch.zeros(self.batch)])  # 1: the target
        with torch.enable_grad():
            odds = self.odds(seen[:, : self.given])[:, 0]
            both = odds.detach() + self.dynamics(seen)[:, 0]
            self.odds.step(nn.functional.binary_cross_entropy_with_logits(odds, truth))
            self.dynamics.step(nn.functional.binary_cross_entropy_with_logits(both, truth))

    @torch.no_grad()
    def correction(self, rows: Batch) -> np.ndarray:
        """``log p(s' | s, a)`` in the target minus that in the source, ``(n,)`` (DARC's change of reward)."""
        return self.dynamics(self._scaled(rows))[:, 0].numpy()

    @torch.no_grad()
    def log_ratio(self, rows: Batch) -> np.ndarray:
        """``log p(s, a, s')`` in the target minus that in the source, ``(n,)``."""
        seen = self._scaled(rows)
        return (self.odds(seen[:, : self.given]) + self.dynamics(seen))[:, 0].numpy()

    def _inputs(self, rows: Batch) -> Tensor:
        parts = (rows.observations, rows.actions, rows.next_observations - rows.observations)
        return torch.from_numpy(np.concatenate(parts, axis=1, dtype=np.float32))

    def _scaled(self, rows: Batch) -> Tensor:
        scaled = (self._inputs(rows) - self.ruler.mean.float()) * (self.ruler.var + 1e-8).rsqrt().float()
        return scaled.clamp(-10.0, 10.0)

    def training_state(self) -> dict[str, Any]:
        return {
            "generator": self.generator.get_state(),
            "ruler": {name: tensor.clone() for name, tensor in self.ruler.state_dict().items()},
            "networks": [self.odds.training_state(), self.dynamics.training_state()],
            "memories": [memory.state() for memory in self.memories],
            "due": self.due,
        }

    def restore_training_state(self, state: Mapping[str, Any]) -> None:
        self.generator.set_state(state["generator"])
        self.ruler.load_state_dict(state["ruler"])
        for network, saved in zip((self.odds, self.dynamics), state["networks"], strict=True):
            network.restore_training_state(saved)
        for memory, rows in zip(self.memories, state["memories"], strict=True):
            memory.restore(rows)
        self.due = state["due"]


def classifiers_for(learner: Any, units: int, noise: float, generator: torch.Generator) -> Classifiers:
    """Classifiers of a learner's transitions.

    Raises:
        UserError: where observations have pictures.
    """
    if learner.policy.layout.images:
        raise UserError("telling source from target transitions needs an agent that sees vectors, not pictures")
    space = learner.action_space
    actions = int(space.n) if isinstance(space, spaces.Discrete) else space.shape[0]
    return Classifiers(learner.policy.layout.size, actions, units, noise, generator)


def transitions(learner: Any, experience: Experience, domain: int) -> Batch:
    """The transitions of one domain, step by step, with the actions that the worlds took, one-hot where they are choices."""
    mine = experience.which == domain
    before, after = (rows[:, mine] for rows in (experience.observations, experience.next_observations))
    size, space = before.shape[-1], learner.action_space
    actions = experience.actions[:, mine]
    if isinstance(space, spaces.Discrete):
        actions = np.eye(int(space.n), dtype=np.float32)[actions.astype(np.int64).ravel()]
    else:
        actions = learner.policy.kernel.applied(actions.reshape(-1, *space.shape))
    both = np.concatenate([before.reshape(-1, size), after.reshape(-1, size)])
    return Batch(both, actions, experience.rewards[:, mine].ravel(), experience.terminated[:, mine].ravel())


def weigh(learner: Any, experience: Experience, domain: int, weights: Any, generator: torch.Generator) -> None:
    """Multiply the weights of one domain's transitions, ``(T, worlds of it)`` or a number.

    A learner that remembers keeps a transition or does not: with a probability equal to the weight, which counts as 1 where
    it is larger.
    """
    if experience.weights is None:
        experience.weights = np.ones(experience.rewards.shape, np.float32)
    mine = experience.which == domain
    shape = experience.rewards[:, mine].shape
    weights = np.broadcast_to(np.float32(weights), shape)
    if hasattr(learner, "replay_buffer"):
        weights = torch.rand(shape, generator=generator).numpy() < weights
    experience.weights[:, mine] *= weights


class Judged(Addition):
    """Abstract: classifiers learn from every rollout before it is decided what the source's transitions are worth.

    Args:
        wait: share of the budget in which the classifiers learn and are not trusted.
    """

    def __init__(self, classifiers: Classifiers, wait: float):
        self.classifiers, self.wait, self.progress = classifiers, wait, 0.0

    def collected(self, learner: Any, experience: Experience) -> None:
        source = transitions(learner, experience, 1)
        self.classifiers.learn(1, source)
        self.classifiers.learn(0, transitions(learner, experience, 0))
        self.judge(learner, experience, source if self.progress >= self.wait else None)

    @abstractmethod
    def judge(self, learner: Any, experience: Experience, source: Batch | None) -> None:
        """Change rewards or weights; `source` has the source's transitions, None before the classifiers are trusted."""

    def training_state(self) -> dict[str, Any]:
        return {"classifiers": self.classifiers.training_state(), "progress": self.progress}

    def restore_training_state(self, state: Mapping[str, Any]) -> None:
        self.classifiers.restore_training_state(state["classifiers"])
        self.progress = state["progress"]


class Correction(Judged):
    """DARC: rewards of source transitions are changed so that what pays in the source pays in the target.

    ``r + scale * clip(log p_target(s' | s, a) - log p_source(s' | s, a))``: Eysenbach et al. (2021, arXiv:2006.13916); in
    the paper scale is 1, which is the temperature of its maximum-entropy objective in units of the reward.

    Args:
        scale: of the correction.
        clip: bound of its magnitude, before it is scaled.
        wait: share of the budget in which source rewards stay as they are.
        learn_target: whether the agent learns from target transitions, too; in the paper it does not.
    """

    def __init__(self, classifiers: Classifiers, scale: float, clip: float, wait: float, learn_target: bool):
        super().__init__(classifiers, wait)
        self.scale, self.clip, self.learn_target = scale, clip, learn_target

    def judge(self, learner: Any, experience: Experience, source: Batch | None) -> None:
        if source is not None:
            mine = experience.which == 1
            change = self.scale * self.classifiers.correction(source).clip(-self.clip, self.clip)
            experience.rewards[:, mine] += change.reshape(len(experience.rewards), -1)
        if not self.learn_target:
            weigh(learner, experience, 0, 0.0, self.classifiers.generator)


class Importance(Judged):
    """Source transitions count as much as they are likelier in the target: ``p_target(s, a, s') / p_source(s, a, s')``.

    The ratio is the odds of a classifier that saw both domains equally often (Sugiyama, Suzuki & Kanamori 2012, Density
    Ratio Estimation in Machine Learning, ch. 4). PPO multiplies its loss; others keep a transition with that probability.

    Args:
        clip: bound of the ratio.
        wait: share of the budget in which source transitions are left out.
    """

    def __init__(self, classifiers: Classifiers, clip: float, wait: float):
        super().__init__(classifiers, wait)
        self.clip = clip

    def judge(self, learner: Any, experience: Experience, source: Batch | None) -> None:
        ratio: Any = 0.0
        if source is not None:
            ratio = np.exp(np.minimum(self.classifiers.log_ratio(source), np.log(self.clip)))
            ratio = ratio.reshape(len(experience.rewards), -1)
        weigh(learner, experience, 1, ratio, self.classifiers.generator)


class Mixing(Addition):
    """Source transitions count less and less: their weight falls linearly from 1 to 0.

    Args:
        until: share of the budget from which on none is taken in; a learner that remembers keeps those that it has.
        generator: draws what a learner that remembers keeps.
    """

    keeps = ("generator", "progress")

    def __init__(self, until: float, generator: torch.Generator):
        self.until, self.generator, self.progress = until, generator, 0.0

    def collected(self, learner: Any, experience: Experience) -> None:
        weigh(learner, experience, 1, max(1 - self.progress / self.until, 0.0), self.generator)
