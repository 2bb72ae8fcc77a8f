"""An agent's experience in a target against what it knew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simreal.memory import Transitions
from simreal_agents.bundle import Agent

if TYPE_CHECKING:
    from simreal.signals import Origin


def outside(agent: Agent, seen: Transitions, origin: Origin) -> dict[str, Any]:
    return {}
