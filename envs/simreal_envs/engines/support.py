"""What our engines do of the quantities that parameters change: what is not listed they do exactly.

Told here and not in the engines, so that lists need no simulator. Engines of other packages have an attribute `support`.
"""

from __future__ import annotations

from collections.abc import Mapping

from simreal_envs.parameters import APPROXIMATE, EXACT, UNSUPPORTED

BETWEEN_LINKS = " between links"  # ends a quantity of robots whose links touch nothing but each other


def level_of(support: Mapping[str, str], quantity: str, between_links: bool) -> str:
    """What an engine with this `Engine.support` does of a quantity."""
    own = support.get(quantity + BETWEEN_LINKS) if between_links else None
    return own or support.get(quantity, EXACT)


# MuJoCo has no restitution.
MUJOCO = {"restitution": UNSUPPORTED}
# Bullet has no joint friction (a velocity motor held at zero differs by less than 2 % of the effect); its joint limits
# and contacts are harder than MuJoCo's; it takes sliding, spinning and rolling friction one by one where MuJoCo shares
# one cone among them, and none of spinning without the cone, which is off where links touch nothing but each other
# (`Blueprint.cone_friction`); its bounce depends on when within a step the impact falls. It has no armature.
BULLET = {
    "frictionloss": APPROXIMATE,
    "range": APPROXIMATE,
    "torsional": APPROXIMATE,
    f"torsional{BETWEEN_LINKS}": UNSUPPORTED,
    "rolling": APPROXIMATE,
    "roughness": APPROXIMATE,
    "armature": UNSUPPORTED,
    "time_constant": UNSUPPORTED,
    "restitution": APPROXIMATE,
}
