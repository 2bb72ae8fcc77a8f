"""Looking at running worlds: pictures in which all engines look alike, and MuJoCo's interactive viewer."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import mujoco
import numpy as np

from simreal_envs.engines.base import Player
from simreal_envs.engines.mujoco import MujocoEngine
from simreal_envs.errors import Unsupported
from simreal_envs.parameters import UNSUPPORTED
from simreal_envs.rendering import follows, place_camera, render_mujoco
from simreal_envs.worlds import Worlds

RENDERERS = ("mujoco", "engine")


def drawing(worlds: Worlds, size: tuple[int, int], renderer: str = "mujoco") -> Callable[[], np.ndarray]:
    """A function that draws the first world as it is now, uint8 ``(height, width, 3)``.

    Args:
        size: width and height in pixels.
        renderer: ``"mujoco"`` draws the states of every engine alike, with payload, terrain and goals; ``"engine"`` lets
            the engine draw its own world, as worlds without a robot always do.

    Raises:
        Unsupported: these worlds have no engine of ours whose state could be drawn.
    """
    engine = getattr(worlds, "engine", None)
    if engine is None:
        raise Unsupported(f"the worlds of {worlds.domain.task!r} cannot be drawn from the outside")
    if renderer == "engine" or isinstance(engine.robot, Player):
        return lambda: engine.render(0, *size)
    # A MuJoCo world with the same parameters, in which the state is only looked at.
    twin = MujocoEngine(engine.robot, worlds.domain.preset, 1)
    known = {p.name for p in engine.robot.parameters if p.supported("mujoco") != UNSUPPORTED}
    physics = [v.parameter.name for v in worlds.varied if v.parameter.name in known]

    def draw() -> np.ndarray:
        if physics:
            twin.apply(np.zeros(1, dtype=int), {name: worlds.read(name)[:1] for name in physics})
        return render_mujoco(engine.robot, twin.model_of(0), engine.qpos[0], *size, markers=worlds.markers(0))

    return draw


def watch(worlds: Worlds, act: Callable[[np.ndarray], np.ndarray]) -> None:
    """Show the first world in MuJoCo's viewer, in real time and episode after episode, until the window is closed.

    Args:
        act: observations ``(N, d)`` -> actions ``(N, a)``.

    Raises:
        Unsupported: there is no display, or no robot to show.
    """
    if isinstance(worlds.task.robot, Player):
        raise Unsupported(f"{worlds.task.name} has no robot for MuJoCo's viewer; `simreal video` writes an mp4")
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise Unsupported("there is no display here (DISPLAY is not set); `simreal video` writes an mp4 without one")
    import mujoco.viewer as viewer

    model = worlds.task.robot.model(worlds.domain.preset)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    observation, _ = worlds.reset()
    with viewer.launch_passive(model, data, show_left_ui=False, show_right_ui=False) as window:
        place_camera(window.cam, worlds.task.robot, model, data)
        if follows(model):  # let the viewer keep up with a robot that walks
            window.cam.type, window.cam.trackbodyid = mujoco.mjtCamera.mjCAMERA_TRACKING, model.jnt_bodyid[0]
        while window.is_running():
            began = time.monotonic()
            observation = worlds.step(act(observation))[0]
            with window.lock():
                data.qpos[:] = worlds.engine.qpos[0]
                mujoco.mj_forward(model, data)
            window.sync()
            time.sleep(max(0.0, worlds.schema.control_period - (time.monotonic() - began)))
