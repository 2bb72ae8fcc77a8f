"""Looking at running worlds: pictures in which all engines look alike, and MuJoCo's interactive viewer."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import mujoco
import numpy as np

from simreal_envs.engines.base import Player, Robot, follows
from simreal_envs.engines.mujoco import MujocoEngine
from simreal_envs.errors import Unsupported
from simreal_envs.parameters import UNSUPPORTED
from simreal_envs.rendering import add_shapes, place_camera, render_mujoco
from simreal_envs.tasks.contract import fault
from simreal_envs.worlds import Worlds


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
    twin = _Twin(worlds, engine.robot)
    return lambda: render_mujoco(engine.robot, twin.model(), engine.qpos[0], *size, markers=_markers(worlds))


def _markers(worlds: Worlds) -> dict[str, np.ndarray]:
    """The markers of the first world; where the code of somebody else's task fails, a sentence says so."""
    try:
        return worlds.markers(0)
    except Exception as error:
        if wrong := fault(worlds.task, f"when a picture is drawn, with seed {worlds.seed}", error):
            raise wrong from error
        raise


class _Twin:
    """A MuJoCo world with the parameters of the first of some worlds, in which their states are only looked at."""

    def __init__(self, worlds: Worlds, robot: Robot):
        known = {p.name for p in robot.parameters if p.supported("mujoco") != UNSUPPORTED}
        self._names = [v.parameter.name for v in worlds.varied if v.parameter.name in known]
        self._worlds, self._engine = worlds, MujocoEngine(robot, worlds.domain.preset, 1)
        self._values: dict[str, float] = {}
        self._model = self._engine.model_of(0)

    def model(self) -> mujoco.MjModel:
        """The model with what is in force in the first world: another object whenever that has changed."""
        values = {name: float(self._worlds.read(name)[0]) for name in self._names}
        if values != self._values:
            self._engine.apply(np.zeros(1, dtype=int), {name: np.array([value]) for name, value in values.items()})
            self._values, self._model = values, self._engine.model_of(0)
        return self._model


def watch(worlds: Worlds, act: Callable[[np.ndarray], np.ndarray]) -> None:
    """Show the first world in MuJoCo's viewer, in real time and episode after episode, until the window is closed.

    With its parameters, load, terrain and goals. On a slope gravity is tilted, and the ground stays level here.

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

    robot = worlds.task.robot
    twin = _Twin(worlds, robot)
    observation, _ = worlds.reset()
    model = shown = twin.model()
    data = mujoco.MjData(model)
    data.qpos[:] = worlds.engine.qpos[0]
    mujoco.mj_forward(model, data)
    with viewer.launch_passive(model, data, show_left_ui=False, show_right_ui=False) as window:
        place_camera(window.cam, robot, model, data)
        if follows(model):  # let the viewer keep up with a robot that walks
            window.cam.type, window.cam.trackbodyid = mujoco.mjtCamera.mjCAMERA_TRACKING, model.jnt_bodyid[0]
        while window.is_running():
            began = time.monotonic()
            observation = worlds.step(act(observation))[0]
            now = twin.model()
            with window.lock():
                if now is not shown:
                    _overwrite(model, now)
                    shown = now
                data.qpos[:] = worlds.engine.qpos[0]
                mujoco.mj_forward(model, data)
                window.user_scn.ngeom = 0
                add_shapes(window.user_scn, robot, model, data, _markers(worlds))
            window.sync()
            time.sleep(max(0.0, worlds.schema.control_period - (time.monotonic() - began)))


def _overwrite(model: mujoco.MjModel, other: mujoco.MjModel) -> None:
    """Give a model, which the viewer holds, the numbers of another one of the same robot."""
    model.opt.gravity[:] = other.opt.gravity
    for name in dir(model):
        if not name.startswith("_") and isinstance(values := getattr(model, name), np.ndarray):
            values[...] = getattr(other, name)
