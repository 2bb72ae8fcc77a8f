"""What becomes of the observation statistics that an agent brings along: kept, measured anew, or a prior of some weight."""

from __future__ import annotations

from simreal.strategies.base import Transferable
from simreal_envs.arguments import whole
from simreal_envs.errors import UserError, require_known

STATISTICS = ("keep", "reestimate", "blend")


def require_statistics(normalizer: str, prior: int | None, strategy: str) -> None:
    """Raise a UserError unless these are settings of `begin_statistics`."""
    require_known(normalizer, STATISTICS, "normalizer setting", strategy)
    if prior is not None:
        whole(f"{strategy}: prior", prior, 1, 10**12)
        if normalizer != "blend":
            raise UserError(f"{strategy}: prior belongs to normalizer: blend, not to {normalizer}")


def begin_statistics(learner: Transferable, normalizer: str, prior: int | None) -> None:
    """Set what the target's data do to the statistics of the source.

    Args:
        normalizer: ``"keep"``: nothing. ``"reestimate"``: the first rollout replaces them, those after it refine them.
            ``"blend"``: both are merged, as if the source's had been measured on at most `prior` samples.
        prior: None for all that they were measured on.
    """
    moments = learner.policy.encoder.normalizer
    if normalizer == "keep":
        learner.freeze([], normalizer="keep")
    elif normalizer == "reestimate":
        moments.count.zero_()
    elif prior is not None:
        moments.count.clamp_(max=prior)


def measure_only(learner: Transferable) -> None:
    """Let nothing but the observation statistics follow the data: no weight, no target copy, no reward scale."""
    learner.freeze(["encoder", "trunk", "heads"], normalizer="update")
    if hasattr(learner, "replay_buffer"):
        learner.gradient_steps = 0
        learner.tau = 0.0  # target copies of some algorithms follow between updates
    else:
        learner.n_epochs, learner.scale_rewards = 1, False
