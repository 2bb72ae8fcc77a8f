"""URDF files of installed packages, repaired in code so that they compile: no model file is copied or edited.

Many published URDFs break the format's own rules, and every simulator forgives other breaches. `repair` changes the text
and says in one sentence per kind of change what it did; `repaired` compiles the result into a spec with fused static
links. What cannot be simulated alike on every engine (meshes, mimic joints) is left out, and said.
"""

from __future__ import annotations

import logging
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import mujoco
import numpy as np

from simreal_envs.engines.bullet_import import INSTALL
from simreal_envs.errors import Unsupported, UserError

TINY_MASS, TINY_INERTIA = 1e-4, 1e-7  # kg, kg m^2: of a moving link that the file gives no mass
_WATER = 1000.0  # kg/m^3; the density of most robots' links, within a factor of two
_MARGIN = 1e-4  # relative; the spec goes through a text of six digits once
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_TRIPLES = {"origin": ("xyz", "rpy"), "axis": ("xyz",), "box": ("size",), "mesh": ("scale",)}
_PARTS = ("link", "joint", "material")
_PRIMITIVES = ("box", "sphere", "cylinder", "capsule")
_MOMENTS = ("ixx", "iyy", "izz", "ixy", "ixz", "iyz")


def pybullet_model(path: str) -> Path:
    """A file of the models that come with PyBullet, as in ``pybullet_model("a1/a1.urdf")``."""
    try:
        import pybullet_data
    except ImportError as error:
        raise Unsupported(f"the model {path!r} comes with pybullet, which is not installed: {INSTALL}") from error
    return Path(pybullet_data.getDataPath()) / path


def repaired(path: Path, *, floating: bool) -> mujoco.MjSpec:
    """The machine of a URDF file, as a spec that a robot's module goes on to furnish.

    Links on fixed joints are fused into their parents. Colliding primitives stay, under no name; meshes are left out.
    Joints keep the file's names, axes, limits, damping and friction, but no effort limit: limits are the drives'.

    Args:
        floating: give the root link a free joint; else it is bolted to the world at the origin.

    Raises:
        UserError: the file is not a URDF, or is broken in a way that `repair` does not know.
    """
    text, notes = _repaired_file(path, floating)
    for note in notes:
        logging.getLogger(__name__).info("%s: %s", path, note)
    try:
        spec = mujoco.MjSpec.from_string(text)
        spec.compiler.fusestatic = True
        root = spec.worldbody.first_body()
        if root is None:
            raise UserError(f"{path}: a URDF without a link")
        if floating and list(root.joints):
            raise UserError(
                f"{path}: a floating robot needs a root link of its own, not one that is jointed to the world"
            )
        if floating:
            root.add_freejoint()
        spec.compile()
    except UserError:
        raise
    except ValueError as error:
        raise UserError(
            f"{path}: not a URDF that MuJoCo compiles, even repaired: {' '.join(str(error).split())}"
        ) from error
    # The fused model as MJCF: a second compilation must not fuse what the robot's module adds.
    spec = mujoco.MjSpec.from_string(spec.to_xml())
    for joint in spec.joints:
        joint.actfrclimited = 0
    return spec


def repairs(path: Path, *, floating: bool) -> list[str]:
    """What `repaired` changes in a file: one sentence per kind of change, none for a sound file of primitives."""
    return _repaired_file(path, floating)[1]


def repair(text: str, *, floating: bool) -> tuple[str, list[str]]:
    """A URDF text that MuJoCo reads, and what was changed, in sentences."""
    # A declared encoding that is not the text's own, or bytes around the document, stop the parser.
    text = re.sub(r"^.*?<\?xml[^>]*\?>", "", text[: text.rfind(">") + 1], count=1, flags=re.DOTALL).strip()
    try:
        robot = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise UserError(f"not well-formed XML: {error}") from error
    if robot.tag != "robot":
        raise UserError(f"not a URDF: the outermost element is <{robot.tag}>, expected <robot>")
    _require_expanded(robot)
    for other in [part for part in robot if part.tag not in _PARTS]:
        robot.remove(other)  # of Gazebo and others, in which links, joints and numbers mean something else
    _require_tree(robot)
    notes = [
        *_drop_meshes(robot),
        *_clean_numbers(robot),
        *_clean_joints(robot),
        *_fill_inertias(robot, floating),
        *_make_inertias_possible(robot),
    ]
    extension = ElementTree.SubElement(robot, "mujoco")
    # A link without <inertial> has no mass in URDF; MuJoCo would take it from the link's shapes.
    ElementTree.SubElement(extension, "compiler", fusestatic="true", inertiafromgeom="false", discardvisual="true")
    return ElementTree.tostring(robot, encoding="unicode"), notes


def _repaired_file(path: Path, floating: bool) -> tuple[str, list[str]]:
    try:
        return repair(Path(path).read_text(encoding="utf-8", errors="replace"), floating=floating)
    except OSError as error:
        raise UserError(f"cannot read the robot's URDF: {error}") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _require_expanded(robot: ElementTree.Element) -> None:
    """Raise a UserError for macros, of which nothing would be read but the numbers that stand in them."""
    macros = [part.tag.rpartition("}")[2] for part in robot.iter() if "xacro" in part.tag]
    parts = [part for kind in _PARTS for top in robot.findall(kind) for part in top.iter()]
    macros += [value for part in parts for value in part.attrib.values() if "${" in value]
    if macros:
        raise UserError(f"it has macros ({_listed(macros)}): expand them first, xacro FILE > robot.urdf")


def _require_tree(robot: ElementTree.Element) -> None:
    """Raise a UserError unless joints hang all links on a single one, and none of them on itself in the end."""
    names, above = [link.get("name", "") for link in robot.findall("link")], {}
    links = {*names, "world"}
    if "" in links:
        raise UserError("a link without a name")
    for kind, all_names in (("link", names), ("joint", [joint.get("name") for joint in robot.findall("joint")])):
        if twice := next((name for name in all_names if all_names.count(name) > 1), None):
            raise UserError(f"two {kind}s have the name {twice!r}")
    for joint in robot.findall("joint"):
        parts = {kind: joint.find(kind) for kind in ("parent", "child")}
        ends = {kind: None if part is None else part.get("link") for kind, part in parts.items()}
        for kind, name in ends.items():
            if name not in links:
                raise UserError(
                    f"the {kind} of the joint {joint.get('name')!r} must be a link of the file, not {name!r}"
                )
        above[ends["child"]] = ends["parent"]
    for link in above:
        upwards, seen = link, set()
        while upwards in above:
            if upwards in seen:
                raise UserError(f"the joints lead from the link {upwards!r} back to itself")
            seen.add(upwards)
            upwards = above[upwards]
    if len(roots := [name for name in names if name not in above and name != "world"]) > 1:
        raise UserError(f"no joint connects the links {_listed(roots)}: a URDF has one root")


def _drop_meshes(robot: ElementTree.Element) -> list[str]:
    links = []
    for link in robot.iter("link"):
        for shape in (*link.findall("visual"), *link.findall("collision")):
            if shape.tag == "visual" or not any(shape.find(f"geometry/{kind}") is not None for kind in _PRIMITIVES):
                link.remove(shape)
                links += [link.get("name")] if shape.tag == "collision" else []
    return (
        [f"left out the colliding meshes of {_listed(links)}: only primitive shapes touch alike on every engine"]
        if links
        else []
    )


def _clean_numbers(robot: ElementTree.Element) -> list[str]:
    """Three numbers where three belong, and limits that are numbers."""
    notes = []
    for element in robot.iter():
        for key in _TRIPLES.get(element.tag, ()):
            value = element.get(key, "0 0 0")
            three = " ".join(_NUMBER.findall(value)[:3])
            if three.split() != value.split():
                notes.append(f"read {element.tag} {key}={value!r} as {three!r}")
                element.set(key, three)
        if element.tag == "limit":
            for key, value in list(element.attrib.items()):
                if not _NUMBER.fullmatch(value.strip()):
                    notes.append(f"left out the limit {key}={value!r}, which is no number")
                    del element.attrib[key]
    return notes


def _clean_joints(robot: ElementTree.Element) -> list[str]:
    notes = []
    for joint in robot.iter("joint"):
        for mimic in joint.findall("mimic"):
            joint.remove(mimic)
            notes.append(f"made joint {joint.get('name')} independent of {mimic.get('joint')}, which it mimicked")
        if joint.get("type") in ("revolute", "prismatic"):
            notes += _clean_limits(joint)
        for axis in joint.findall("axis")[1:]:
            joint.remove(axis)
            notes.append(f"kept the first of the axes of joint {joint.get('name')}")
    return notes


def _clean_limits(joint: ElementTree.Element) -> list[str]:
    """The format's 0 for the end of a range that is left out, and no range where there is nothing between its ends."""
    limit = joint.find("limit")
    notes, span = [], {} if limit is None else limit.attrib
    if ("lower" in span) != ("upper" in span):
        missing = "upper" if "lower" in span else "lower"
        span[missing] = "0"
        notes.append(f"read the {missing} limit of joint {joint.get('name')}, which is left out, as the format's 0")
    if float(span.get("lower", 0)) >= float(span.get("upper", 0)):
        for end in ("lower", "upper"):
            span.pop(end, None)
        notes.append(f"left joint {joint.get('name')} without limits: its range has nothing in it")
    return notes


def _fill_inertias(robot: ElementTree.Element, floating: bool) -> list[str]:
    """Mass and inertia for the moving links that have none, with all that is fixed to them."""
    joints = [j for j in robot.iter("joint") if j.find("child") is not None]  # not those inside a <transmission>
    parent = {j.find("child").get("link"): j.find("parent").get("link") for j in joints}
    welded = {j.find("child").get("link") for j in joints if j.get("type") == "fixed"}
    links = {link.get("name"): link for link in robot.iter("link")}

    def carrier(name: str) -> str:
        while name in welded:
            name = parent[name]
        return name

    mass = dict.fromkeys([*links, "world"], 0.0)
    for name, link in links.items():
        mass[carrier(name)] += _inertial(link)[0]
    notes, massless, points = [], [], []
    for name, link in links.items():
        own, tensor = _inertial(link)
        if name not in welded and (name in parent or floating) and mass[name] == 0:
            massless.append(name)
            _set_inertial(link, TINY_MASS, TINY_INERTIA * np.eye(3))
        elif own > 0 and not tensor.any():
            points.append(name)
            radius = (3 * own / (4 * np.pi * _WATER)) ** (1 / 3)
            _set_inertial(link, own, 0.4 * own * radius**2 * np.eye(3))
    if massless:
        notes.append(f"gave the massless moving links {_listed(massless)} {TINY_MASS:g} kg and {TINY_INERTIA:g} kg m^2")
    if points:
        notes.append(
            f"gave {_listed(points)}, of mass but no inertia, the inertia of a ball of that mass and the density of water"
        )
    return notes


def _make_inertias_possible(robot: ElementTree.Element) -> list[str]:
    """No body has a principal moment larger than the sum of the two others: move such tensors to the nearest possible."""
    changed = []
    for link in robot.iter("link"):
        mass, tensor = _inertial(link)
        moments, axes = np.linalg.eigh(tensor)
        excess = moments[2] - (moments[0] + moments[1]) * (1 - _MARGIN)
        if excess <= 0:
            continue
        nearest = moments + np.array([1, 1, -1]) * excess / 3  # least squares
        nearest = np.maximum(
            nearest, max(TINY_INERTIA, 4 * _MARGIN * moments[2])
        )  # a rod's third moment is not nothing
        nearest[1] = min(nearest[1], nearest[2])
        nearest[2] = min(nearest[2], (nearest[0] + nearest[1]) * (1 - 2 * _MARGIN))
        worst = np.abs(nearest - moments).max() / moments[2]
        _set_inertial(link, mass, axes @ np.diag(nearest) @ axes.T)
        changed.append(f"{link.get('name')} ({worst:.1%})")
    if not changed:
        return []
    return [
        f"moved impossible inertias (a principal moment above the sum of the others) to the nearest possible ones: {_listed(changed)}"
    ]


def _inertial(link: ElementTree.Element) -> tuple[float, np.ndarray]:
    """Mass, and the inertia tensor (3, 3) in the frame of the file; zeros where it says nothing."""
    mass, inertia = link.find("inertial/mass"), link.find("inertial/inertia")
    xx, yy, zz, xy, xz, yz = (_number(link, inertia, key) for key in _MOMENTS)
    return _number(link, mass, "value"), np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def _number(link: ElementTree.Element, element: ElementTree.Element | None, key: str) -> float:
    value = "0" if element is None else element.get(key, "0")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"link {link.get('name')!r}: {element.tag} {key}={value!r} is no number")
    return number


def _set_inertial(link: ElementTree.Element, mass: float, tensor: np.ndarray) -> None:
    inertial = link.find("inertial")
    if inertial is None:
        inertial = ElementTree.SubElement(link, "inertial")
    for tag in ("mass", "inertia"):
        for old in inertial.findall(tag):
            inertial.remove(old)
    ElementTree.SubElement(inertial, "mass", value=f"{mass:.17g}")
    upper = (tensor[0, 0], tensor[1, 1], tensor[2, 2], tensor[0, 1], tensor[0, 2], tensor[1, 2])
    ElementTree.SubElement(inertial, "inertia", {k: f"{x:.17g}" for k, x in zip(_MOMENTS, upper, strict=True)})


def _listed(names: list[str]) -> str:
    unique = list(dict.fromkeys(names))
    return ", ".join(unique[:6]) + (f" and {len(unique) - 6} more" if len(unique) > 6 else "")
