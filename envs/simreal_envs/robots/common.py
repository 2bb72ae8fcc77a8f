"""Parameters that every robot has, so that the same name means the same thing everywhere."""

from __future__ import annotations

from simreal_envs.parameters import APPROXIMATE, Parameter


def mass(name: str, nominal: float, low: float, high: float, bodies: tuple[str, ...]) -> Parameter:
    """Mass of one body, or of each of several equal bodies, in kg; the inertia scales with it."""
    each = f" (each of {len(bodies)})" if len(bodies) > 1 else ""
    return Parameter(
        f"{name}/mass",
        "kg",
        nominal,
        low,
        high,
        f"mass of the {name}{each}; its inertia scales with it",
        "mass",
        bodies,
    )


def joint_parameters(
    name: str,
    damping_unit: str,
    force_unit: str,
    damping: float,
    damping_high: float,
    friction_high: float,
    joints: tuple[str, ...],
) -> tuple[Parameter, Parameter]:
    """Viscous damping and dry friction of one joint or of each of several equal ones."""
    # Bullet has no joint friction; a velocity motor held at zero with this force differs by less than 2 % of the effect.
    return (
        Parameter(f"{name}/damping", damping_unit, damping, 0.0, damping_high, f"viscous damping of the {name}", "damping", joints),
        Parameter(
            f"{name}/frictionloss", force_unit, 0.0, 0.0, friction_high, f"dry friction of the {name}", "frictionloss", joints,
            {"bullet": APPROXIMATE},
        ),
    )  # fmt: skip


def gravity() -> Parameter:
    """Gravitational acceleration in m/s^2, pointing down."""
    return Parameter("gravity", "m/s^2", 9.81, 0.0, 30.0, "gravitational acceleration, pointing down", "gravity")


def actuator_parameters(unit: str, limit: float, kp: float = 0.0, kd: float = 0.0) -> tuple[Parameter, ...]:
    """Strength, sign and limit of the drives, and the gains of position drives."""
    drives = (
        Parameter("actuator/strength", "1", 1.0, 0.05, 3.0, "share of the commanded force that the drives deliver", "strength"),
        Parameter("actuator/sign", "1", 1.0, -1.0, 1.0, "direction of the drives; -1 is reversed", "sign", choices=(-1.0, 1.0)),
        Parameter("actuator/torque_limit", unit, limit, 0.02 * limit, 5 * limit, "largest force or torque of a drive", "torque_limit"),
    )  # fmt: skip
    if not kp:
        return drives
    return (
        *drives,
        Parameter("actuator/kp", "N m/rad", kp, 0.05 * kp, 5 * kp, "proportional gain of the drives", "kp"),
        Parameter("actuator/kd", "N m s/rad", kd, 0.0, 5 * kd, "derivative gain of the drives", "kd"),
    )
