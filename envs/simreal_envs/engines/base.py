"""What an engine is: N worlds of one robot, with one convention for their state and parameters.

State convention, the same in every engine (MuJoCo's): ``qpos`` holds the coordinates in the order of the robot's
compiled model; a floating base comes first as position (m, world) and quaternion (w, x, y, z), and in ``qvel`` as linear
velocity of the body's origin (m/s, world frame) and angular velocity (rad/s, body frame). Joints in rad and m.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Protocol

import mujoco
import numpy as np

from simreal_envs.parameters import Parameter

PRESETS = ("matched", "engine_default")


@dataclass(frozen=True)
class Robot:
    """A machine and the facts about it. The spec is the only source of truth for every engine.

    Attributes:
        name: ``"cartpole"``, ``"a1"``.
        spec: makes the nominal MjSpec: bodies, joints, geoms; no actuators, no options, no floor.
        joints: names of the actuated joints, in the order of the action.
        control: ``"force"`` (the control is a force in N or a torque in N m) or ``"position"`` (the control is a joint
            target in rad; the drive applies ``clip(kp (target - q) - kd qdot, +-torque_limit)`` at every physics step).
        torque_limit: limit of each drive, N or N m.
        kp, kd: gains of a position drive, N m/rad and N m s/rad; 0 for force control.
        floor: whether there is a ground plane at z = 0 (sliding friction is then the robot's own coefficient).
        timestep: physics step in s.
        parameters: what may vary in this robot's worlds, as the engines apply it.
        camera: (distance m, azimuth deg, elevation deg, height m) from which a picture is taken.
    """

    name: str
    spec: Callable[[], mujoco.MjSpec]
    joints: tuple[str, ...]
    control: str
    torque_limit: float
    timestep: float
    parameters: tuple[Parameter, ...]
    kp: float = 0.0
    kd: float = 0.0
    floor: bool = False
    camera: tuple[float, float, float, float] = (3.0, 90.0, -10.0, 0.5)

    @property
    def floating(self) -> bool:
        """Whether the base is free."""
        return self.model("matched").jnt_type[0] == mujoco.mjtJoint.mjJNT_FREE

    def model(self, preset: str) -> mujoco.MjModel:
        """The compiled nominal model under a preset. Cached: do not change it."""
        return _compile(self, preset)

    def joint_addresses(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the actuated joints in ``qpos`` and in ``qvel``, each of shape ``(len(joints),)``."""
        model = self.model("matched")
        ids = [model.joint(name).id for name in self.joints]
        return model.jnt_qposadr[ids].copy(), model.jnt_dofadr[ids].copy()


class Engine(Protocol):
    """N worlds of one robot. Rows of every array are worlds; no call changes a world that it does not name.

    `ids` are always sorted and unique.
    """

    name: ClassVar[str]
    robot: Robot
    num_worlds: int
    qpos: np.ndarray  # (N, nq) float64, current state; read-only for callers, valid until the next call
    qvel: np.ndarray  # (N, nv)

    def apply(self, ids: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """Set parameters of the worlds `ids` to absolute SI values, one array of shape ``(len(ids),)`` per name.

        Every value replaces the nominal one; applying twice is the same as applying once. Takes effect at once.
        """

    def read(self, parameter: str) -> np.ndarray:
        """The value in force in each world, shape ``(N,)``, as the engine itself reports or shows it."""

    def reset(self, ids: np.ndarray, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Put the worlds `ids` into the given states, shapes ``(len(ids), nq)`` and ``(len(ids), nv)``."""

    def step(self, control: np.ndarray, substeps: int) -> None:
        """Advance all worlds by `substeps` physics steps under a constant control of shape ``(N, len(joints))``."""

    def diverged(self) -> np.ndarray:
        """Bool array ``(N,)``: worlds whose state is no longer finite or whose solver gave up since their reset."""

    def snapshot(self) -> dict[str, np.ndarray]:
        """Everything needed to continue to the same bits, as arrays.

        Taking one may drop cached contacts (Bullet); the live worlds and those restored from it then go on alike.
        """

    def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        """Continue from a snapshot of the same robot, preset and number of worlds."""

    def render(self, world: int, width: int, height: int) -> np.ndarray:
        """A picture of one world, uint8 ``(height, width, 3)``."""

    def close(self) -> None:
        """Free what the engine holds (threads, processes, clients)."""


@cache
def _compile(robot: Robot, preset: str) -> mujoco.MjModel:
    spec = robot.spec()
    _decorate(spec)
    if robot.floor:
        # MuJoCo takes the larger friction of two geoms, Bullet the product: with a floor of 0 here and 1 there, the
        # robot's own coefficient means the same number in both.
        floor = spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1], name="floor")
        floor.friction, floor.material = [0, 0, 0], "floor"
    for name in robot.joints:
        actuator = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        actuator.gainprm[0] = robot.kp if robot.control == "position" else 1.0
        actuator.biastype = mujoco.mjtBias.mjBIAS_AFFINE
        actuator.biasprm[:3] = [0, -robot.kp, -robot.kd]
        actuator.forcelimited, actuator.ctrllimited = 1, 0
        actuator.forcerange = [-robot.torque_limit, robot.torque_limit]
    spec.option.timestep = robot.timestep
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_EULER
    # A diverged world must be seen and counted, not silently put back to its start.
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    if preset == "matched":
        spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
        spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_EULERDAMP
    model = spec.compile()
    if preset == "matched":
        # The stiffest contact, limit and joint friction that MuJoCo's reference safety allows: 2 time steps.
        stiff = [2 * robot.timestep, 1.0]
        model.geom_solref[:] = stiff
        model.jnt_solref[:] = stiff
        model.dof_solref[:] = stiff
        # Joint friction as hard as Bullet's motor constraint: differences fall from 5-12 % of the effect to below 2 %.
        model.dof_solimp[:, :2] = 0.999
    return model


def _decorate(spec: mujoco.MjSpec) -> None:
    """A bright sky, a chequered floor and even light: what a picture needs to show where the robot is."""
    spec.visual.headlight.ambient, spec.visual.headlight.diffuse = [0.45] * 3, [0.5] * 3
    texture, builtin = mujoco.mjtTexture, mujoco.mjtBuiltin
    spec.add_texture(
        name="sky", type=texture.mjTEXTURE_SKYBOX, builtin=builtin.mjBUILTIN_GRADIENT, width=256, height=1536,
        rgb1=[0.78, 0.86, 0.94], rgb2=[0.96, 0.97, 0.98],
    )  # fmt: skip
    spec.add_texture(
        name="chequers", type=texture.mjTEXTURE_2D, builtin=builtin.mjBUILTIN_CHECKER, width=256, height=256,
        rgb1=[0.80, 0.82, 0.85], rgb2=[0.70, 0.73, 0.77],
    )  # fmt: skip
    material = spec.add_material(name="floor", texrepeat=[2, 2], texuniform=True)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "chequers"
