"""simreal's worlds: tasks on MuJoCo and PyBullet, varied by named physical parameters. Imports no torch."""

import os
import sys

# Without a display MuJoCo needs to be told how to draw, before it is imported for the first time.
if sys.platform == "linux" and not os.environ.get("DISPLAY"):
    os.environ.setdefault("MUJOCO_GL", "egl")

from simreal_envs.registration import register_envs

register_envs()
