"""An agent's network, layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from simreal.memory import Transitions
from simreal_agents.bundle import Agent

if TYPE_CHECKING:
    from simreal.signals import Origin


def fingerprint(agent: Agent, observations: np.ndarray) -> dict[str, list[float]]:
    return {}


def inside(agent: Agent, seen: Transitions, origin: Origin | None, thorough: bool) -> dict[str, Any]:
    return {}
