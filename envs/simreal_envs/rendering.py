"""Pictures of a world without a display. Software rendering is slow with shadows and reflections, so there are none."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from simreal_envs.engines.base import Robot, follows
from simreal_envs.errors import Unsupported

LOAD_DENSITY = 1500.0  # kg/m^3: how large a payload is drawn
MARKER_RADIUS = 0.025  # m
LOAD = (0.80, 0.52, 0.25, 1.0)
_MARKER, _ROD = (0.93, 0.16, 0.22, 0.9), (0.45, 0.48, 0.53, 1.0)


def load_edge(mass: float) -> float:
    """Edge in m of the box that a load of some kg is drawn as; 0 where there is next to none."""
    return (mass / LOAD_DENSITY) ** (1 / 3) if mass > 0.1 else 0.0


def render_mujoco(
    robot: Robot,
    model: mujoco.MjModel,
    qpos: np.ndarray,
    width: int,
    height: int,
    markers: Mapping[str, np.ndarray] | None = None,
) -> np.ndarray:
    """A picture of one state, uint8 ``(height, width, 3)``, from the robot's camera.

    Args:
        qpos: ``(nq,)``.
        markers: points to show, each ``(3,)`` m in the world frame, as `Task.markers` names them.

    Raises:
        Unsupported: no OpenGL on this machine.
    """
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    renderer = _renderer(robot, width, height)
    camera = mujoco.MjvCamera()
    place_camera(camera, robot, model, data)
    renderer._model = model
    renderer.update_scene(data, camera)
    if model.opt.gravity[:2].any():
        _tilt(renderer.scene, camera.lookat, model.opt.gravity)
    add_shapes(renderer.scene, robot, model, data, markers or {})
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
    return renderer.render()


def add_shapes(
    scene: mujoco.MjvScene, robot: Robot, model: mujoco.MjModel, data: mujoco.MjData, markers: Mapping[str, np.ndarray]
) -> None:
    """Put what is not in the model into a scene: markers, each ``(3,)`` m, the load as a box of its mass, and rods for
    bodies without a shape, such as those of a URDF whose meshes `repaired` left out: else there would be nothing to see."""
    for point in markers.values():
        _add(scene, mujoco.mjtGeom.mjGEOM_SPHERE, point, MARKER_RADIUS, _MARKER)
    if robot.payload and (edge := load_edge((load := model.body(robot.payload)).mass[0])):
        _add(scene, mujoco.mjtGeom.mjGEOM_BOX, data.xpos[load.id], edge / 2, LOAD, data.xmat[load.id])
    thickness = 0.01 * robot.viewpoint()[0]
    for body in range(1, model.nbody):
        if model.body_geomnum[body] == 0 and model.body(body).name != robot.payload:
            joint, parent = data.xpos[body], model.body_parentid[body]
            for end in (data.xipos[body], *([data.xpos[parent]] if parent > 0 else [])):
                _add(scene, mujoco.mjtGeom.mjGEOM_CAPSULE, joint, thickness, _ROD, end=end)


def place_camera(camera: mujoco.MjvCamera, robot: Robot, model: mujoco.MjModel, data: mujoco.MjData) -> None:
    """Put a free camera where the robot's pictures are taken from: it looks at a robot that moves, else at the origin."""
    camera.distance, camera.azimuth, camera.elevation, height = robot.viewpoint()
    camera.lookat[:] = [*(data.xpos[model.jnt_bodyid[0], :2] if follows(model) else (0.0, 0.0)), height]


def _tilt(scene: mujoco.MjvScene, around: np.ndarray, gravity: np.ndarray) -> None:
    """Turn a scene's cameras around a point until gravity points down in the picture: a slope is then seen as one."""
    down = gravity / np.linalg.norm(gravity)
    axis = np.cross([0.0, 0.0, -1.0], down)
    turn = Rotation.from_rotvec(axis * (np.arccos(-down[2]) / np.linalg.norm(axis)))
    for camera in scene.camera:
        camera.pos = around + turn.apply(camera.pos - around)
        camera.forward, camera.up = turn.apply(camera.forward), turn.apply(camera.up)


def _add(scene, kind, position, size: float, rgba, turn=None, end=None) -> None:
    """Put one more shape into a scene, beside the model's own; with an end, it reaches there from its position."""
    if scene.ngeom >= scene.maxgeom:
        return
    scene.ngeom += 1
    frame = np.eye(3).ravel() if turn is None else turn
    mujoco.mjv_initGeom(
        scene.geoms[scene.ngeom - 1], kind, np.full(3, size), np.asarray(position, dtype=float), frame,
        np.array(rgba, dtype=np.float32),
    )  # fmt: skip
    if end is not None:
        mujoco.mjv_connector(scene.geoms[scene.ngeom - 1], kind, size, position, end)


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
