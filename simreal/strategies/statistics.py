"""What becomes of the observation statistics that an agent brings along: kept, measured anew, or a prior of some weight."""

from __future__ import annotations

from typing import Any

from simreal.strategies.base import Transferable
from simreal.strategies.settings import choice, count
from simreal_envs.errors import UserError


def normalizing(default: str) -> Any:
    """The setting `normalizer` of `begin_statistics`."""
    return choice(default, ("keep", "reestimate", "blend"), "normalizer setting")


def prior_samples() -> Any:
    """The setting `prior` of `begin_statistics`."""
    return count(None, 1, 10**12)


def require_statistics(normalizer: str, prior: int | None, strategy: str) -> None:
    """Raise a UserError unless these settings of `begin_statistics` belong together."""
    if prior is not None and normalizer != "blend":
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
