"""The learning algorithms by name. Each is a learner with named modules whose agents go into the same bundle."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from simreal_envs.errors import require_known

if TYPE_CHECKING:
    from simreal_agents.transferable import Transferable

ALGORITHMS = {
    "ppo": "simreal_agents.ppo:PPO",
    "sac": "simreal_agents.sac:SAC",
    "td3": "simreal_agents.td3:TD3",
    "tqc": "simreal_agents.tqc:TQC",
    "crossq": "simreal_agents.crossq:CrossQ",
    "dqn": "simreal_agents.dqn:DQN",
    "qrdqn": "simreal_agents.qrdqn:QRDQN",
}


def find_algorithm(name: str, where: str = "") -> type[Transferable]:
    """The learner of an algorithm.

    Raises:
        UserError: for an unknown name; says the nearest one.
    """
    require_known(name, ALGORITHMS, "algorithm", where)
    module, _, attribute = ALGORITHMS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
