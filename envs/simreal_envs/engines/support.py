"""What our engines do of the quantities that parameters change: what is not listed they do exactly.

Told here and not in the engines, so that lists need no simulator. Engines of other packages have an attribute `support`.
"""

from __future__ import annotations

from simreal_envs.parameters import APPROXIMATE, UNSUPPORTED

# MuJoCo has no restitution.
MUJOCO = {"restitution": UNSUPPORTED}
# Bullet has no joint friction (a velocity motor held at zero differs by less than 2 % of the effect); its joint limits
# and contacts are harder than MuJoCo's; it takes sliding, spinning and rolling friction one by one where MuJoCo shares
# one cone among them; its bounce depends on when within a step the impact falls. It has no armature.
BULLET = {
    "frictionloss": APPROXIMATE,
    "range": APPROXIMATE,
    "torsional": APPROXIMATE,
    "rolling": APPROXIMATE,
    "roughness": APPROXIMATE,
    "armature": UNSUPPORTED,
    "time_constant": UNSUPPORTED,
    "restitution": APPROXIMATE,
}
