"""The parameters that every task has, whatever its engine: what is applied around it."""

from __future__ import annotations

import mujoco

from simreal_envs.engines.base import Robot
from simreal_envs.imperfections.pushes import PUSH_EVERY, PUSH_SECONDS
from simreal_envs.parameters import Parameter
from simreal_envs.schema import Schema

QUANTITIES = {
    "latency", "jitter", "command_loss", "lag", "encoder_bias", "noise", "bias", "quantization", "reading_loss", "reading_delay",
    "push",
}  # fmt: skip


def parameters_of(robot: Robot, schema: Schema) -> tuple[Parameter, ...]:
    """What may vary around the engine, for a robot and what is observed of it."""
    return (*link_parameters(robot.timestep, schema), *machine_parameters(robot))


def link_parameters(timestep: float, schema: Schema) -> tuple[Parameter, ...]:
    """What may happen to commands and readings on their way; asks nothing of the machine.

    Args:
        timestep: physics step in s, to which delays of commands are rounded.
    """
    late, old = max(0.2, timestep), max(0.5, schema.control_period)  # one step at least
    found = [
        Parameter(
            "latency", "s", 0.0, 0.0, late, "delay between a command and its effect, in whole physics steps",
            "latency", resolution=timestep,
        ),
        Parameter(
            "latency/jitter", "s", 0.0, 0.0, late, "largest extra delay, drawn for every command; none overtakes another",
            "jitter", resolution=timestep,
        ),
        Parameter(
            "action/dropout", "1", 0.0, 0.0, 0.95, "probability that a command is lost and the last one stays in force",
            "command_loss",
        ),
        Parameter(
            "observation/delay", "s", 0.0, 0.0, old, "age of the readings, in whole control steps",
            "reading_delay", resolution=schema.control_period,
        ),
        Parameter(
            "observation/dropout", "1", 0.0, 0.0, 0.95, "probability, for every field, that a reading repeats the last one",
            "reading_loss",
        ),
    ]  # fmt: skip
    if not schema.choices:  # there is nothing between two choices
        says = "first-order lag between the command and what the drives follow"
        found.insert(3, Parameter("actuator/time_constant", "s", 0.0, 0.0, 0.5, says, "lag"))
    if schema.noise.any():
        found += [
            Parameter(
                "observation/noise", "1", 0.0, 0.0, 20.0, "sensor noise; 1 is the typical sensor that the schema states per field",
                "noise",
            ),
            Parameter(
                "observation/bias", "1", 0.0, 0.0, 20.0,
                "constant sensor error, drawn for every element; 1 is as large as the typical noise", "bias",
            ),
            Parameter(
                "observation/quantization", "1", 0.0, 0.0, 20.0,
                "step between neighbouring readings; 1 is as large as the typical noise", "quantization",
            ),
        ]  # fmt: skip
    return tuple(found)


def machine_parameters(robot: Robot) -> tuple[Parameter, ...]:
    """What may be wrong with a machine without the engine knowing it, and what may push it."""
    found = []
    joints, unit = encoders(robot)
    if joints:
        says = "largest offset of a joint's encoder, drawn for every joint; position drives are misled by it, too"
        found.append(Parameter("encoder/bias", unit, 0.0, 0.0, 0.3, says, "encoder_bias", joints))
    model = robot.model("matched")
    if model.body(robot.base_body()).id in robot.yielding():
        weight = 9.81 * float(model.body_mass.sum())
        says = (
            f"horizontal force at the base for {PUSH_SECONDS:g} s, once in {PUSH_EVERY:g} s, "
            "at a drawn moment in a drawn direction"
        )
        found.append(Parameter("push", "N", 0.0, 0.0, float(f"{3 * weight:.1g}"), says, "push"))
    return tuple(found)


def encoders(robot: Robot) -> tuple[tuple[str, ...], str]:
    """The joints that have an encoder (those that drives move, and passive ones that users can name), and their unit.

    Not what is the world's: the position of a floating base, the planar joints that stand for one, a pushed object.
    """
    model = robot.model("matched")
    driven = {model.body_rootid[model.jnt_bodyid[model.joint(name).id]] for name in robot.joints}
    names = {*robot.joints, *(name for joints in robot.groups.values() for name in joints)}
    units = {int(mujoco.mjtJoint.mjJNT_HINGE): "rad", int(mujoco.mjtJoint.mjJNT_SLIDE): "m"}
    ids = [
        j for j in range(model.njnt)
        if model.joint(j).name in names and int(model.jnt_type[j]) in units and model.body_rootid[model.jnt_bodyid[j]] in driven
    ]  # fmt: skip
    unit = " or ".join(sorted({units[int(model.jnt_type[j])] for j in ids}, reverse=True))
    return tuple(model.joint(j).name for j in ids), unit
