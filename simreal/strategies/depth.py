"""How deep a strategy reaches into a network: settings by name or number, and what they mean for an agent."""

from __future__ import annotations

from typing import Any

from simreal.strategies.base import Transferable
from simreal.strategies.settings import setting
from simreal_envs.arguments import whole
from simreal_envs.errors import UserError, require_known

NAMES = ("encoder", "trunk")
DEEPEST = 1000


def how_deep(default: str) -> Any:
    """The setting `depth`: ``"encoder"``, ``"trunk"`` or a number of layers."""

    def check(value: Any, strategy: str, name: str) -> int | str:
        if isinstance(value, str):
            return require_known(value, NAMES, name, strategy)
        return whole(f"{strategy}: {name}", value, 1, DEEPEST)

    return setting(default, check)


def features_of(learner: Transferable, depth: int | str, strategy: str) -> list[str]:
    """The names of the parameters of the lowest layers: of the encoder, of all below the heads, or of `depth` layers.

    Raises:
        UserError: the network has fewer layers.
    """
    from simreal_agents.additions.depth import layers_of

    layers = layers_of(learner.policy)
    below = len(layers) - 1
    count = {"encoder": 1, "trunk": below}.get(depth, depth)
    if count > below:
        raise UserError(f"{strategy}: depth is {count}, but this agent has {below} layers below its heads")
    return [name for layer in layers[:count] for name in layer]
