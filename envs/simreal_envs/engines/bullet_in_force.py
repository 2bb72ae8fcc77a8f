"""The parameters in force in one Bullet world, and what they mean for each of its links, joints and drives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from simreal_envs.engines.bullet_plan import Blueprint, Quaternion, Vector
from simreal_envs.engines.gravity import gravity_vector

DRIVE_QUANTITIES = ("strength", "sign", "kp", "kd", "torque_limit")
CONTACT_QUANTITIES = ("friction", "torsional", "rolling")  # in the order of `Link.contact`
GRIPS = ("body_friction", "one_friction")  # sliding friction of a kind of body and of a body alone


class InForce:
    """Parameters of one world. Asks no simulator.

    Attributes:
        values: those that are not nominal.
        order: joint -> its place in the state.
    """

    def __init__(self, plan: Blueprint):
        self._plan = plan
        self.values: dict[str, float] = {}
        self.order = {name: index for index, name in enumerate(plan.joints)}
        self._names = {
            (quantity if quantity != "com" else name[-5:], element): name
            for name, (quantity, elements) in plan.parameters.items()
            for element in elements or ("",)
        }
        self._largest = max((link.contact[0] for link in plan.links.values()), default=0.0)

    def set(self, values: Mapping[str, float]) -> None:
        """Replace some, NaN by nominal."""
        for name, value in values.items():
            if math.isnan(value):
                self.values.pop(name, None)
            else:
                self.values[name] = value

    def value(self, quantity: str, element: str, nominal: float) -> float:
        """What is in force for one link, joint or (`element` empty) the world."""
        return self.values.get(self._names.get((quantity, element), ""), nominal)

    # -- links --------------------------------------------------------------------------------------------------------

    def inertial(self, link: str) -> tuple[float, list[float]]:
        """Mass in kg and principal moments of inertia in kg m^2."""
        nominal = self._plan.links[link]
        mass = self.value("mass", link, nominal.mass)
        scale = mass / nominal.mass * self.value("inertia", link, 1.0)
        return mass, [moment * scale for moment in nominal.inertia]

    def moved(self) -> dict[str, Vector]:
        """Link -> offset of its centre of mass in m, where there is one."""
        offsets = {link: self._offset(link) for link in self._plan.links}
        return {link: offset for link, offset in offsets.items() if any(offset)}

    def _offset(self, link: str) -> Vector:
        x, y, z = (self.value(f"com_{axis}", link, 0.0) for axis in "xyz")
        return x, y, z

    def base_frame(self) -> tuple[Vector, Quaternion]:
        """Frame of a floating base's centre of mass in the body's frame."""
        name, base = next(iter(self._plan.links.items()))
        x, y, z = self._offset(name)
        return (base.position[0] + x, base.position[1] + y, base.position[2] + z), base.quaternion

    def coefficient(self, link: str, quantity: str, grips: Iterable[str] = GRIPS) -> float:
        """What Bullet gets for the friction of a link; of sliding friction, some of what goes into it may be left out."""
        nominal = self._plan.links[link].contact[CONTACT_QUANTITIES.index(quantity)]
        value = self.value(quantity, link, math.nan)
        if math.isnan(value):
            value = nominal
        elif quantity == "friction":
            value *= self.share(link)
        if quantity == "friction":
            for grip in grips:
                value *= self.grip(link, grip)
        return math.sqrt(value) if quantity == "friction" and self._plan.product else value

    def share(self, link: str) -> float:
        """Sliding friction of a link as a share of the largest one."""
        return self._plan.links[link].contact[0] / self._largest if self._largest else 1.0

    def grip(self, link: str, quantity: str) -> float:
        """Factor of one of `GRIPS` on the sliding friction of a link."""
        parameter = self._names.get((quantity, link), "")
        return self.values[parameter] / self.nominal_grip(parameter) if parameter in self.values else 1.0

    def nominal_grip(self, parameter: str) -> float:
        """Nominal value of a parameter for one of `GRIPS`."""
        return max(self._plan.links[link].contact[0] for link in self._plan.parameters[parameter][1])

    # -- joints and drives --------------------------------------------------------------------------------------------

    def limits(self, joint: str) -> tuple[float, float]:
        """Of a joint that has limits, in Bullet's coordinates."""
        low, high = self._plan.joints[joint].limits
        middle, half = (low + high) / 2, (high - low) / 2 * self.value("range", joint, 1.0)
        return middle - half, middle + half

    def springs(self) -> list[tuple[int, float, float]]:
        """Place in the state, stiffness and rest position of every joint that has a spring."""
        stiffness = {name: self.value("stiffness", name, joint.stiffness) for name, joint in self._plan.joints.items()}
        return [(self.order[name], k, self._plan.joints[name].rest) for name, k in stiffness.items() if k]

    def drives(self) -> list[tuple[int, float, float, float, float]]:
        """Of every driven joint its place in the state, kp, kd, torque limit and signed strength."""
        plan, dead = self._plan, self._failed()
        drives = []
        for index, joint in enumerate(plan.actuated):
            strength, sign, kp, kd, limit = (
                self.value(quantity, joint, plan.drives[quantity][index]) for quantity in DRIVE_QUANTITIES
            )
            drives.append((self.order[joint], kp, kd, limit, 0.0 if index == dead else sign * strength))
        return drives

    def _failed(self) -> int:
        return int(self.value("failure", self._plan.actuated[0], -1)) if self._plan.actuated else -1

    # -- the world ----------------------------------------------------------------------------------------------------

    def gravity(self) -> list[float]:
        """As a vector in m/s^2, ``(3,)``."""
        nominal = {"gravity": self._plan.gravity, "slope": 0.0, "slope_side": 0.0}
        parts = (np.array([self.value(quantity, "", value)]) for quantity, value in nominal.items())
        return gravity_vector(*parts)[0].tolist()

    def timestep(self) -> float:
        """Physics step in s."""
        return self.value("timestep", "", self._plan.timestep)

    def amplitude(self) -> float:
        """Of the terrain in m."""
        terrain = self._plan.terrain
        return float(terrain.amplitudes()[terrain.level(self.value("roughness", "", terrain.roughness))])
