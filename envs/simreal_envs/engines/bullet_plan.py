"""What a Bullet world is built from: plain data and URDF text, cheap to send to a worker. Needs no simulator."""

from __future__ import annotations

import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]


@dataclass(frozen=True)
class Link:
    """A body as Bullet gets it: nominal mass (kg), principal inertia (kg m^2) and its frame in the link's (m; w, x, y, z).

    `contact` is (sliding, torsional, rolling) friction; `ground` and `surroundings` say whether it touches them.
    """

    mass: float
    inertia: Vector
    position: Vector
    quaternion: Quaternion
    contact: Vector
    collides: bool
    ground: bool
    surroundings: bool


@dataclass(frozen=True)
class Joint:
    """A moving joint: reference position, nominal damping, dry friction, spring (stiffness, rest position) and limits.

    Positions are Bullet's: without the reference. `limits` is None where there are none.
    """

    reference: float
    damping: float
    frictionloss: float
    stiffness: float
    rest: float
    limits: tuple[float, float] | None

    @property
    def middle(self) -> float:
        """A position away from the limits."""
        return 0.0 if self.limits is None else (self.limits[0] + self.limits[1]) / 2


@dataclass(frozen=True)
class Blueprint:
    """What a Bullet world is built from: plain data out of the compiled model, cheap to send to a worker.

    Attributes:
        urdf, surroundings: the robot and what it may run into, as URDF text; surroundings may be empty.
        meshes: file name -> text of the meshes that the two name.
        links, joints: by name, as in the URDF; joints in the order of the state.
        actuated: names of the driven joints, in the order of the control.
        apart: pairs of colliding links that pass through each other, where the robot can touch itself at all.
        product: whether a contact's friction is the product of two links' (no ground, no surroundings), so that each
            gets its square root.
        ground: ``""``, ``"plane"`` or ``"terrain"``.
        heights: of a terrain, at amplitude 1, rows along y, `resolution` m apart; `amplitudes` are those that it has,
            `roughness` is nominal.
        cone_friction: whether friction is limited by a cone, as by default. It is right on the ground, but leaves next to
            no friction where two links of one robot touch.
        link_damping: linear and angular damping of every link in 1/s; Bullet's own default is 0.04.
        drives: nominal values of each of `DRIVE_QUANTITIES`, one per actuated joint.
        parameters: parameter name -> (quantity, links or joints).
        base: the link on which pushes act.
        camera: `Robot.viewpoint`, over the link `followed`; over the origin where that is empty.
    """

    urdf: str
    surroundings: str
    meshes: Mapping[str, str]
    links: Mapping[str, Link]
    joints: Mapping[str, Joint]
    actuated: tuple[str, ...]
    position_control: bool
    floating: bool
    self_collision: bool
    apart: tuple[tuple[str, str], ...]
    product: bool
    ground: str
    heights: np.ndarray | None
    resolution: float
    amplitudes: tuple[float, ...]
    roughness: float
    timestep: float
    gravity: float
    cone_friction: bool
    link_damping: float
    drives: Mapping[str, tuple[float, ...]]
    parameters: Mapping[str, tuple[str, tuple[str, ...]]]
    base: str
    camera: tuple[float, float, float, float]
    followed: str


@contextmanager
def urdf_folder(plan: Blueprint, moved: Mapping[str, Vector] | None = None) -> Iterator[str]:
    """A folder with the files of a plan; `moved` links have their centre of mass elsewhere, by m in the link's frame."""
    text = plan.urdf
    if moved:
        root = ET.fromstring(text)
        for link in root.iter("link"):
            if link.get("name") in moved:
                origin = link.find("inertial/origin")
                numbers = zip(map(float, origin.get("xyz").split()), moved[link.get("name")], strict=True)
                origin.set("xyz", " ".join(f"{x + offset:.17g}" for x, offset in numbers))
        text = ET.tostring(root, encoding="unicode")
    with tempfile.TemporaryDirectory() as folder:
        for name, content in {"robot.urdf": text, "surroundings.urdf": plan.surroundings, **plan.meshes}.items():
            (Path(folder) / name).write_text(content, encoding="utf-8")
        yield folder
