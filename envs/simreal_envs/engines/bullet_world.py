"""One world of the Bullet engine: a client with the ground, the surroundings and the robot, and the parameters in force."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simreal_envs.engines import bullet_memory
from simreal_envs.engines.bullet_frames import to_centre
from simreal_envs.engines.bullet_import import quiet
from simreal_envs.engines.bullet_in_force import DRIVE_QUANTITIES, GRIPS, InForce
from simreal_envs.engines.bullet_plan import Blueprint, Vector, urdf_folder
from simreal_envs.engines.bullet_probe import measure_dissipation, measure_limits
from simreal_envs.engines.gravity import slopes
from simreal_envs.errors import UserError

MAX_JOINT_VELOCITY = 1e7  # Bullet clips at 100 by default, MuJoCo nowhere
_INFO = {"mass": 0, "friction": 1, "restitution": 5, "rolling": 6, "torsional": 7}  # places in getDynamicsInfo
_CALLED = {"friction": "lateralFriction", "torsional": "spinningFriction", "rolling": "rollingFriction"}

# What belongs to the world and not to the robot, and what sets it.
WORLD_QUANTITIES = {
    "gravity": "_set_gravity",
    "slope": "_set_gravity",
    "slope_side": "_set_gravity",
    "timestep": "_set_timestep",
    "roughness": "_set_roughness",
}


class BulletWorld:
    """A client of this process that holds one world.

    Attributes:
        client, robot: Bullet's ids. joints: Bullet's indices of the moving joints.
        seen: the joints' states as Bullet returned them last.
        in_force: the parameters in force.
        drives, springs: see `InForce`; kept here, where `step` needs them.
        frame: that of a floating base's centre of mass in the body's frame: position, quaternion.
    """

    def __init__(self, pb: Any, plan: Blueprint, folder: str):
        self._pb, self._plan = pb, plan
        self.in_force = InForce(plan)
        self._actions = {name: self._actions_of(*meant) for name, meant in plan.parameters.items()}
        with bullet_memory.trimmed():
            self.client = bullet_memory.connect(pb)
            if self.client < 0:
                raise UserError(
                    "pybullet gave no more clients: one process holds at most 1024; use fewer worlds or more workers"
                )
            try:
                self._build_surroundings(folder)
                self._build_robot(folder)
            except BaseException:
                self.close()
                raise
        self._set_drives()
        self._set_springs()
        self.seen: Sequence[Any] = ()
        self.look()

    def close(self) -> None:
        """Empty the client and keep it for the next engine of this process."""
        bullet_memory.release(self._pb, self.client)

    # -- building -----------------------------------------------------------------------------------------------------

    def _build_surroundings(self, folder: str) -> None:
        """Engine settings, the ground and the obstacles. The same calls in the same order, so the same ids everywhere."""
        pb, plan, client = self._pb, self._plan, self.client
        # Contacts are solved in the order of their bodies, not in that in which they came up: a reset must forget.
        pb.setPhysicsEngineParameter(
            deterministicOverlappingPairs=1, enableConeFriction=int(plan.cone_friction), physicsClientId=client
        )
        pb.setTimeStep(plan.timestep, physicsClientId=client)
        pb.setGravity(0, 0, -plan.gravity, physicsClientId=client)
        self._fixed: dict[str, int] = {}
        if plan.plane:
            plane = pb.createCollisionShape(pb.GEOM_PLANE, physicsClientId=client)
            self._fixed["ground"] = pb.createMultiBody(0, plane, physicsClientId=client)
        elif plan.terrain:
            # Made at the largest amplitude: Bullet keeps the bounds of the first heights that a field has.
            self._field = self._make_field(plan.terrain.amplitudes()[-1])
            self._fixed["ground"] = pb.createMultiBody(0, self._field, physicsClientId=client)
            self._make_field(plan.terrain.roughness, self._field)
        if plan.surroundings:
            path = str(Path(folder) / "surroundings.urdf")
            self._fixed["surroundings"] = pb.loadURDF(path, useFixedBase=True, physicsClientId=client)
        for body in self._fixed.values():
            pb.changeDynamics(
                body,
                -1,
                lateralFriction=1,
                rollingFriction=0,
                spinningFriction=0,
                restitution=1,
                physicsClientId=client,
            )

    def _make_field(self, amplitude: float, replaced: int = -1) -> int:
        pb, plan, spacing = self._pb, self._plan, self._plan.terrain.resolution
        rows, columns = plan.heights.shape
        with quiet():
            return pb.createCollisionShape(
                pb.GEOM_HEIGHTFIELD, heightfieldData=(amplitude * plan.heights).ravel().tolist(),
                numHeightfieldRows=columns, numHeightfieldColumns=rows, meshScale=[spacing, spacing, 1],
                replaceHeightfieldIndex=replaced, physicsClientId=self.client,
            )  # fmt: skip

    def _build_robot(self, folder: str) -> None:
        pb, plan, client = self._pb, self._plan, self.client
        flags = pb.URDF_USE_INERTIA_FROM_FILE | pb.URDF_MAINTAIN_LINK_ORDER | pb.URDF_USE_IMPLICIT_CYLINDER
        if plan.self_collision:
            flags |= pb.URDF_USE_SELF_COLLISION | pb.URDF_USE_SELF_COLLISION_INCLUDE_PARENT
        path = str(Path(folder) / "robot.urdf")
        self.robot = pb.loadURDF(path, useFixedBase=not plan.floating, flags=flags, physicsClientId=client)
        count = pb.getNumJoints(self.robot, physicsClientId=client)
        infos = [pb.getJointInfo(self.robot, index, physicsClientId=client) for index in range(count)]
        self._links = {info[12].decode(): index for index, info in enumerate(infos)}
        self._links[pb.getBodyInfo(self.robot, physicsClientId=client)[0].decode()] = -1
        by_name = {info[1].decode(): index for index, info in enumerate(infos)}
        self.joints = [by_name[name] for name in plan.joints]
        self.actuated = [by_name[name] for name in plan.actuated]
        if plan.floating:
            self.frame = self.in_force.base_frame()

        for link in self._links.values():
            self._change(
                link, linearDamping=plan.link_damping, angularDamping=plan.link_damping, lateralFriction=0, rollingFriction=0,
                spinningFriction=0, restitution=0, maxJointVelocity=MAX_JOINT_VELOCITY,
            )  # fmt: skip
        for name, link in plan.links.items():
            for quantity in _CALLED:
                self._set_contact(name, quantity)
            for what, body in self._fixed.items():
                if link.collides and not getattr(link, what):
                    pb.setCollisionFilterPair(body, self.robot, -1, self._links[name], 0, physicsClientId=client)
        for a, b in plan.apart:
            self._let_touch(a, b, False)
        for joint in plan.joints:
            self._set_frictionloss(joint)
        self._touching = [
            (a, b)
            for i, a in enumerate(plan.links)
            for b in list(plan.links)[i + 1 :]
            if plan.self_collision and plan.links[a].collides and plan.links[b].collides and (a, b) not in plan.apart
        ]

    def _change(self, link: int, **values: float | list[float]) -> None:
        self._pb.changeDynamics(self.robot, link, **values, physicsClientId=self.client)

    def _let_touch(self, a: str, b: str, allowed: bool) -> None:
        self._pb.setCollisionFilterPair(self.robot, self.robot, self._links[a], self._links[b], allowed, self.client)

    def rebuild(self) -> None:
        """Begin again from an empty client, with the same parameters: one that met NaN never recovers."""
        with quiet(), urdf_folder(self._plan, self.in_force.moved()) as folder:
            self._pb.resetSimulation(physicsClientId=self.client)
            self._build_surroundings(folder)
            self._build_robot(folder)
        self._set_again(self.in_force.values)

    def _reload(self) -> None:
        """Load the robot again, the only way in which Bullet moves a centre of mass. The state is lost."""
        with quiet(), urdf_folder(self._plan, self.in_force.moved()) as folder:
            before = self.robot
            self._pb.removeBody(before, physicsClientId=self.client)
            self._build_robot(folder)
        if self.robot != before:
            raise RuntimeError(f"Bullet gave the reloaded robot the id {self.robot} in place of {before}")
        self._set_again(name for name in self.in_force.values if self._plan.parameters[name][0] not in WORLD_QUANTITIES)

    def _set_again(self, names: Iterable[str]) -> None:
        for method, *arguments in dict.fromkeys(action for name in names for action in self._actions[name]):
            getattr(self, method)(*arguments)

    # -- parameters ---------------------------------------------------------------------------------------------------

    def apply(self, values: Mapping[str, float]) -> bool:
        """Set parameters, NaN for nominal. True if that has lost the state of the robot."""
        movable = any(self._plan.parameters[name][0] == "com" for name in values)
        before = self.in_force.moved() if movable else {}
        self.in_force.set(values)
        reload = movable and self.in_force.moved() != before
        if reload:
            self._reload()
        self._set_again(values)
        return reload

    def _actions_of(self, quantity: str, elements: tuple[str, ...]) -> list[tuple[str, ...]]:
        """The methods, with arguments, that give Bullet what is in force of a parameter."""
        if quantity == "com":
            return []  # the URDF has it
        if quantity in (*DRIVE_QUANTITIES, "failure"):
            return [("_set_drives",)]
        if quantity == "stiffness":
            return [("_set_springs",)]
        if quantity in WORLD_QUANTITIES:
            return [(WORLD_QUANTITIES[quantity],)]
        if quantity in ("mass", "inertia"):
            return [("_set_inertial", element) for element in elements]
        if quantity in GRIPS:
            return [("_set_contact", element, "friction") for element in elements]
        if quantity in (*_CALLED, "restitution"):
            return [("_set_contact", element, quantity) for element in elements if element in self._plan.links]
        return [(f"_set_{quantity}", element) for element in elements]

    def _set_inertial(self, name: str) -> None:
        mass, inertia = self.in_force.inertial(name)
        # Mass alone would make Bullet recompute the inertia from the collision shape.
        self._change(self._links[name], mass=mass, localInertiaDiagonal=inertia)

    def _set_contact(self, name: str, quantity: str) -> None:
        if quantity == "restitution":
            called, value = quantity, self.in_force.value(quantity, name, 0.0)
        else:
            called, value = _CALLED[quantity], self.in_force.coefficient(name, quantity)
        self._change(self._links[name], **{called: value})

    def _set_damping(self, joint: str) -> None:
        damping = self.in_force.value("damping", joint, self._plan.joints[joint].damping)
        self._change(self._index(joint), jointDamping=damping)

    def _set_frictionloss(self, joint: str) -> None:
        # Bullet turns on a velocity motor in every joint; with the joint's dry friction as force it is that friction.
        force = self.in_force.value("frictionloss", joint, self._plan.joints[joint].frictionloss)
        self._brake(self._index(joint), force)

    def _brake(self, index: int, force: float) -> None:
        pb, client = self._pb, self.client
        pb.setJointMotorControl2(
            self.robot, index, pb.VELOCITY_CONTROL, targetVelocity=0, force=force, physicsClientId=client
        )

    def _set_range(self, joint: str) -> None:
        low, high = self.in_force.limits(joint)
        self._change(self._index(joint), jointLowerLimit=low, jointUpperLimit=high)

    def _set_gravity(self) -> None:
        self._pb.setGravity(*self.in_force.gravity(), physicsClientId=self.client)

    def _set_timestep(self) -> None:
        self._pb.setTimeStep(self.in_force.timestep(), physicsClientId=self.client)
        for joint in self._plan.joints:  # Bullet has stored the impulse of a step, not the force
            self._set_frictionloss(joint)

    def _set_roughness(self) -> None:
        self._make_field(self.in_force.amplitude(), self._field)

    def _set_drives(self) -> None:
        self.drives = self.in_force.drives()

    def _set_springs(self) -> None:
        self.springs = self.in_force.springs()

    def _index(self, joint: str) -> int:
        return self.joints[self.in_force.order[joint]]

    # -- reading ------------------------------------------------------------------------------------------------------

    def read(self, name: str, broken: bool) -> float:
        """The value in force: asked of Bullet, or measured where it has no answer (NaN in a `broken` world).

        Drives, springs and the amplitude of a terrain are those that are in use: Bullet does not know of them.
        """
        plan = self._plan
        quantity, elements = plan.parameters[name]
        if quantity in DRIVE_QUANTITIES:
            return self._read_drive(quantity, plan.actuated.index(elements[0]))
        if quantity == "failure":
            return float(next((i for i, drive in enumerate(self.drives) if drive[4] == 0), -1))
        if quantity == "stiffness":
            return dict((index, k) for index, k, _ in self.springs).get(self.in_force.order[elements[0]], 0.0)
        if quantity == "roughness":
            return self.in_force.amplitude()
        if quantity in ("gravity", "slope", "slope_side", "timestep"):
            return self._read_world(quantity)
        if quantity in ("damping", "frictionloss", "range"):
            return math.nan if broken else self._measure(quantity, elements[0])
        if quantity == "friction":
            link = max((link for link in elements if link in plan.links), key=self.in_force.share)
            value = self._dynamics(link)[1]
            grip = math.prod(self.in_force.grip(link, each) for each in GRIPS)
            return (value**2 if plan.product else value) / grip if grip else 0.0
        if quantity in GRIPS:
            link = max(elements, key=self.in_force.share)
            value = self._dynamics(link)[1]
            rest = self.in_force.coefficient(link, "friction", [each for each in GRIPS if each != quantity])
            return self.in_force.nominal_grip(name) * value / rest if rest else 0.0
        info = self._dynamics(elements[0])
        link = plan.links[elements[0]]
        if quantity == "com":
            axis = "xyz".index(name[-1])
            return info[3][axis] - link.position[axis]
        if quantity == "inertia":
            axis = int(np.argmax(link.inertia))
            return info[2][axis] / (link.inertia[axis] * info[0] / link.mass)
        return info[_INFO[quantity]]

    def _dynamics(self, link: str) -> tuple[Any, ...]:
        return self._pb.getDynamicsInfo(self.robot, self._links[link], physicsClientId=self.client)

    def _read_drive(self, quantity: str, index: int) -> float:
        if quantity in ("strength", "sign"):  # of a dead drive, too: they are in force again when it works again
            return self.in_force.value(quantity, self._plan.actuated[index], 1.0)
        return self.drives[index][1 + ("kp", "kd", "torque_limit").index(quantity)]

    def _read_world(self, quantity: str) -> float:
        engine = self._pb.getPhysicsEngineParameters(physicsClientId=self.client)
        if quantity == "timestep":
            return engine["fixedTimeStep"]
        gravity = np.array([[engine[f"gravityAcceleration{axis}"] for axis in "XYZ"]])
        if quantity == "gravity":
            return float(np.linalg.norm(gravity))
        return float(slopes(gravity)[quantity == "slope_side"][0])

    def _measure(self, quantity: str, joint: str) -> float:
        """Damping, dry friction or range of a joint by experiment. Puts the state back, but drops cached contacts."""
        pb, client, plan = self._pb, self.client, self._plan
        held, touching = self.raw_state(), pb.getContactPoints(physicsClientId=client)
        saved = pb.saveState(client)
        for a, b in self._touching:
            self._let_touch(a, b, False)
        for link in self._links.values():
            self._change(link, linearDamping=0.0, angularDamping=0.0)
        middles = [j.middle for j in plan.joints.values()]
        arguments = pb, client, self.robot, self.joints, middles, self.in_force.timestep()
        if quantity == "range":
            low, high = plan.joints[joint].limits
            reach = 4 * (high - low)
            for index in self.joints:
                self._brake(index, 0)
            value = np.diff(measure_limits(*arguments, self.in_force.order[joint], reach))[0] / (high - low)
            for each in plan.joints:
                self._set_frictionloss(each)
        else:
            measured = measure_dissipation(*arguments)[quantity == "frictionloss"]
            value = measured[self.in_force.order[joint]]
        for link in self._links.values():
            self._change(link, linearDamping=plan.link_damping, angularDamping=plan.link_damping)
        for a, b in self._touching:
            self._let_touch(a, b, True)
        pb.restoreState(saved, physicsClientId=client)
        pb.removeState(saved, client)
        if touching:
            self.put(*held)  # restoreState mixes contacts up where a link has several shapes; rather none
        return float(value)

    # -- state --------------------------------------------------------------------------------------------------------

    def place(self, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Put the robot into a state of MuJoCo's convention, ``(nq,)`` and ``(nv,)``."""
        joints, first = self._plan.joints.values(), (7, 6) if self._plan.floating else (0, 0)
        pose, velocity = (((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)), ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)))
        if self._plan.floating:
            pose, velocity = to_centre(qpos, qvel, *self.frame)
        angles = [angle - joint.reference for angle, joint in zip(qpos[first[0] :].tolist(), joints, strict=True)]
        self.put(pose, velocity, list(zip(angles, qvel[first[1] :].tolist(), strict=True)))
        self.look()

    def look(self) -> None:
        """Ask Bullet for the joints' states."""
        if self.joints:
            self.seen = self._pb.getJointStates(self.robot, self.joints, self.client)

    def raw_state(self) -> tuple[Any, Any, Any]:
        """Pose and velocity of the base and the joints' positions and velocities, in Bullet's convention."""
        pose = self._pb.getBasePositionAndOrientation(self.robot, self.client)
        states = self._pb.getJointStates(self.robot, self.joints, self.client) if self.joints else ()
        return (pose, self._pb.getBaseVelocity(self.robot, self.client), [state[:2] for state in states])

    def put(self, pose: Any, velocity: Any, joints: Any) -> None:
        """Set a raw state. Contacts of the past are forgotten: what comes next must not depend on what came before."""
        pb, client = self._pb, self.client
        for a, b in self._touching:
            self._let_touch(a, b, False)
            self._let_touch(a, b, True)
        if self._fixed:
            pb.resetBasePositionAndOrientation(self.robot, (0, 0, 1e3), (0, 0, 0, 1), client)
            pb.performCollisionDetection(client)
        pb.resetBasePositionAndOrientation(self.robot, *pose, client)
        pb.resetBaseVelocity(self.robot, *velocity, client)
        for joint, (position, rate) in zip(self.joints, joints, strict=True):
            pb.resetJointState(self.robot, joint, position, rate, client)

    def base_state(self) -> tuple[float, ...]:
        """Position (x, y, z), orientation (x, y, z, w), velocity and spin of the base in Bullet's convention, 13 numbers."""
        position, orientation = self._pb.getBasePositionAndOrientation(self.robot, self.client)
        velocity, spin = self._pb.getBaseVelocity(self.robot, self.client)
        return *position, *orientation, *velocity, *spin

    @contextlib.contextmanager
    def load_shown(self, name: str) -> Iterator[int]:
        """The client, in which there is meanwhile something to see of a load: a box of its mass that touches nothing."""
        from simreal_envs.rendering import LOAD, load_edge

        pb, client = self._pb, self.client
        edge = load_edge(self._dynamics(name)[0]) if name else 0.0
        if not edge:
            yield client
            return
        box = pb.createVisualShape(pb.GEOM_BOX, halfExtents=[edge / 2] * 3, rgbaColor=LOAD, physicsClientId=client)
        place = pb.getLinkState(self.robot, self._links[name], 0, 1, client)[:2]
        body = pb.createMultiBody(0, -1, box, *place, physicsClientId=client)
        try:
            yield client
        finally:
            pb.removeBody(body, client)

    def push(self, force: Vector) -> None:
        """Push the base at its centre of mass, in N and the world's frame, during the next physics step."""
        link, where = self._links[self._plan.base], self.place_of(self._plan.base)
        self._pb.applyExternalForce(self.robot, link, force, where, self._pb.WORLD_FRAME, self.client)

    def place_of(self, name: str) -> Vector:
        """Where the centre of mass of a link is now, m, world."""
        if (link := self._links[name]) < 0:
            return self._pb.getBasePositionAndOrientation(self.robot, self.client)[0]
        return self._pb.getLinkState(self.robot, link, 0, 1, self.client)[0]  # no velocity, kinematics of now
