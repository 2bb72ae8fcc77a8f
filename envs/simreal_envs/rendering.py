"""Pictures of a world without a display. Software rendering is slow with shadows and reflections, so there are none."""

from __future__ import annotations

from functools import lru_cache

import mujoco
import numpy as np

from simreal_envs.engines.base import Robot
from simreal_envs.errors import Unsupported


def render_mujoco(robot: Robot, model: mujoco.MjModel, qpos: np.ndarray, width: int, height: int) -> np.ndarray:
    """A picture of one state, uint8 ``(height, width, 3)``, from the robot's camera.

    Raises:
        Unsupported: no OpenGL on this machine.
    """
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    renderer = _renderer(robot, width, height)
    camera = mujoco.MjvCamera()
    camera.distance, camera.azimuth, camera.elevation, height_above = robot.camera
    base = qpos[:2] if robot.floating else np.zeros(2)
    camera.lookat[:] = [*base, height_above]
    renderer._model = model
    renderer.update_scene(data, camera)
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
    return renderer.render()


@lru_cache(maxsize=4)
def _renderer(robot: Robot, width: int, height: int) -> mujoco.Renderer:
    model = robot.model("matched")
    model.vis.global_.offwidth, model.vis.global_.offheight = max(width, 640), max(height, 480)
    model.vis.quality.offsamples = 0
    try:
        return mujoco.Renderer(model, height, width)
    except Exception as error:
        raise Unsupported(
            f"no OpenGL to draw with ({error}); on Debian or Ubuntu: apt-get install libegl1, and set MUJOCO_GL=egl"
        ) from error
