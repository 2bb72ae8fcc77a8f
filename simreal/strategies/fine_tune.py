"""`fine_tune`: go on learning on the target with everything that the source agent knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from simreal.hyperparameters import PARTS
from simreal.strategies.base import Agent, Strategy, Target, Transferable, require_between
from simreal.strategies.statistics import begin_statistics, normalizing, prior_samples, require_statistics
from simreal_envs.errors import require_known


@dataclass(frozen=True)
class FineTune(Strategy):
    """Copy policy, value function and normalizer, then train all of them with a fresh optimizer.

    Attributes:
        lr_scale: the learning rate on the target as a multiple of the experiment's, 0 to 10; or such multiples by module,
            tower or group, ``{"encoder": 0.1, "heads.critic": 2}``: the longest matching name counts, others stay at 1.
        normalizer: what becomes of the source's observation statistics: ``"keep"``, ``"reestimate"`` or ``"blend"``.
        prior: samples that the source's statistics are worth in a blend; None for as many as they were measured on.
    """

    lr_scale: float | Mapping[str, float] = 1.0
    normalizer: str = normalizing("blend")
    prior: int | None = prior_samples()

    name = "fine_tune"
    says = "copies the whole agent and goes on training all of it"
    family = "fine-tuning"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_statistics(self.normalizer, self.prior, "fine_tune")
        scales = self.lr_scale if isinstance(self.lr_scale, Mapping) else {None: self.lr_scale}
        for part, scale in scales.items():
            if part is not None:
                require_known(part, PARTS, "module", "fine_tune: lr_scale")
            require_between(scale, 0.0, 10.0, f"fine_tune: lr_scale{f'.{part}' if part else ''}")

    @property
    def decides(self) -> frozenset[str]:  # type: ignore[override]
        """The statistics are left to others unless it is told what to do with them."""
        plain = (self.normalizer, self.prior) == ("blend", None)
        return frozenset({"learning rates"} if plain else {"learning rates", "the normalizer"})

    def begin(self, agent: Agent | None, target: Target) -> Transferable:
        learner = target.learner(agent)
        begin_statistics(learner, self.normalizer, self.prior)
        given = self.lr_scale
        scales = given if isinstance(given, Mapping) else dict.fromkeys(("encoder", "trunk", "heads"), given)
        groups = learner.optimizer.param_groups
        before = {group["name"]: group["lr_scale"] for group in groups}  # what the config says counts, too
        learner.set_lr_scale(scales)
        learner.set_lr_scale({group["name"]: before[group["name"]] * group["lr_scale"] for group in groups})
        return learner
