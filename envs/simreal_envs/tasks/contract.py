"""The contract of a task as a function: run it on a task of your own."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mujoco
import numpy as np

from simreal_envs.engines.base import Player, Robot
from simreal_envs.engines.contacts import partners
from simreal_envs.errors import UserError, raised_at, told
from simreal_envs.parameters import Draws
from simreal_envs.tasks.base import Episode, State, Task

_WORLDS = 3  # enough to see whether rows are mixed
_RANDOM = "differs from call to call: every random number must come from"
_DEEP = 0.03  # m; Gymnasium's half-cheetah starts 1.6 cm in the floor


def check_task(task: Task) -> None:
    """Raise a UserError naming the first way in which a task breaks the contract.

    Warns of what is possible and nearly always a mistake: a joint that starts beyond its range, a start inside of the
    floor, a free base that nothing will hold, gains that the physics step cannot bear.
    """
    if not isinstance(task, Task):
        raise UserError(f"check_task takes a task, such as find_task('hopper') or MyTask(), not {task!r}")
    try:
        _check_facts(task)
        state = _start(task)
        _check_calls(task, state)
        names = [p.name for p in task.parameters]
        _require(len(set(names)) == len(names), f"two parameters have the same name in {names}")
    except UserError as error:
        raise UserError(f"task {_name(task)!r}: {error}") from error
    except Exception as error:  # somebody else's task may raise anything
        raise fault(task, "in check_task", error) or UserError(
            f"task {_name(task)!r} breaks off in check_task: {told(error)} ({raised_at(error)})"
        ) from error


def fault(task: Task, when: str, error: Exception) -> UserError | None:
    """What to raise for an error that a task's own code led to: a sentence with the line; None for any other, and for ours.

    Args:
        when: what the task was to do, as in "in check_task".
    """
    own = {kind.__module__.partition(".")[0] for kind in type(task).__mro__} - {"simreal_envs", "abc", "builtins"}
    place = raised_at(error, own)
    if not place or isinstance(error, UserError):
        return None
    return UserError(f"task {_name(task)!r} breaks off {when}: {told(error)} ({place})")


def _name(task: Task) -> str:
    return getattr(task, "name", type(task).__name__)


def _check_facts(task: Task) -> None:
    for name in Task.__annotations__:
        _require(hasattr(task, name), f"it has no `{name}`")
    for name in ("substeps", "episode_steps"):
        value = getattr(task, name)
        _require(isinstance(value, int) and value > 0, f"{name} must be a whole number of at least 1, not {value!r}")
    for field in task.schema.action:
        _require(
            field.discrete or (np.all(field.low == -1) and np.all(field.high == 1)),
            f"the action {field.name!r} goes from {field.low} to {field.high}: an action is in [-1, 1], and control() scales it",
        )
    period, made = task.schema.control_period, task.substeps * task.robot.timestep
    _require(
        np.isclose(period, made, rtol=1e-6, atol=0.0),
        f"the schema's control_period is {period:g} s, but {task.substeps} substeps of {task.robot.timestep:g} s are {made:g} s",
    )


def _start(task: Task) -> State:
    """The state in which some episodes start."""
    qpos, qvel = _drawn("initial_state", lambda draws: _initial_state(task, draws))
    if not isinstance(task.robot, Player):
        joints = np.flatnonzero(task.robot.model("matched").jnt_type >= int(mujoco.mjtJoint.mjJNT_SLIDE))  # or a hinge
        _warn_of_ranges(task.name, task.robot, joints, qpos)
        _warn_of_surroundings(task.name, task.robot, qpos)
        _warn_of_gains(task.name, task.robot, joints, qpos)
    action = np.zeros((_WORLDS, task.schema.action_size))
    (command,) = _drawn("command", lambda draws: [_command(task, draws)])
    return State(qpos, qvel, action, action, command, _readings(task, qpos, qvel))


def _drawn(what: str, made: Callable[[Draws], Sequence[np.ndarray]]) -> Sequence[np.ndarray]:
    """What a task makes of draws, once it is the same at every call, and every row what it is in any other place."""
    draws, order = Draws(0, np.arange(_WORLDS), np.zeros(_WORLDS, dtype=int)), np.arange(_WORLDS)[::-1]
    found, again, flipped = made(draws), made(draws), made(draws.take(order))
    for one, same, other in zip(found, again, flipped, strict=True):
        _require(np.array_equal(one, same), f"{what}() {_RANDOM} its draws")
        _require(
            _alike(one, other[order]),
            f"{what}() mixes worlds: a row must follow from its own draws, whatever its place, and these do not move with "
            "them; random numbers of another generator are the same for every seed and episode",
        )
    return found


def _alike(rows: np.ndarray, moved: np.ndarray) -> bool:
    """Whether rows are the same but for rounding: a product of matrices ends in other digits in another place."""
    return np.allclose(rows, moved, rtol=1e-9, atol=1e-9)


def _command(task: Task, draws: Draws) -> np.ndarray:
    command = task.command(draws, _WORLDS)
    _require(
        np.ndim(command) == 2 and len(command) == _WORLDS,
        f"command() has shape {np.shape(command)}, expected ({_WORLDS}, c)",
    )
    return command


def _initial_state(task: Task, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    start = task.initial_state(draws, _WORLDS)
    pair = isinstance(start, tuple | list) and len(start) == 2
    _require(pair, f"initial_state() must return qpos and qvel, not one {type(start).__name__}")
    qpos, qvel = start
    for name, given, rest in zip(("qpos", "qvel"), (qpos, qvel), task.robot.rest, strict=True):
        _require_numbers(f"initial_state {name}", given, (_WORLDS, len(rest)))
    return qpos, qvel


def _warn_of_ranges(task: str, robot: Robot, joints: np.ndarray, qpos: np.ndarray) -> None:
    model = robot.model("matched")
    for joint in joints[model.jnt_limited[joints] != 0]:
        (low, high), at = model.jnt_range[joint], qpos[:, model.jnt_qposadr[joint]]
        slack = 0.01 * (high - low)  # Gymnasium's noise around the end of a range is no mistake
        beyond = at[(at < low - slack) | (at > high + slack)]
        if len(beyond):
            warnings.warn(
                f"task {task!r}: initial_state() puts the joint {model.joint(joint).name!r} at {beyond[0]:.3g}, outside "
                f"of its range of {low:.3g} to {high:.3g} (m or rad; MJCF is read in degrees unless its compiler says "
                "radian), from where the engine pushes it back",
                stacklevel=4,
            )


def _warn_of_surroundings(task: str, robot: Robot, qpos: np.ndarray) -> None:
    model = robot.model("matched")
    data, fixed = mujoco.MjData(model), model.body_weldid[model.geom_bodyid] == 0
    touchable = fixed & ((model.geom_contype | model.geom_conaffinity) != 0)
    if robot.floating and model.opt.gravity.any() and not (model.npair or partners(model)[fixed].any()):
        nothing, remedy = (
            ("nothing of it that touches the ground", "give it shapes that collide (`repaired` leaves out meshes)")
            if touchable.any()
            else ("nothing to stand on", "floor=True of the Robot adds a ground")
        )
        warnings.warn(
            f"task {task!r}: the base of the robot {robot.name!r} is free and there is {nothing}: it will fall without end; "
            f"{remedy}",
            stacklevel=4,
        )
    for start in qpos:
        data.qpos[:] = start
        mujoco.mj_forward(model, data)
        deepest = min(data.contact, key=lambda contact: contact.dist, default=None)
        if deepest is not None and deepest.dist < -_DEEP:
            one, other = (model.body(model.geom_bodyid[geom]).name for geom in deepest.geom)
            warnings.warn(
                f"task {task!r}: initial_state() puts {other!r} {-deepest.dist:.2g} m into {one!r}, from where the engine "
                "throws it out",
                stacklevel=4,
            )
            return


def _warn_of_gains(task: str, robot: Robot, joints: np.ndarray, qpos: np.ndarray) -> None:
    """Warn of the joint that is furthest beyond what explicit steps bear, if there is one.

    A step v += dt / I (-k q - d v), q += dt v multiplies the motion of a joint by less than -1 if d + k dt / 2 > 2 I / dt.
    I is what it moves while all other joints are free, 1 / (M^-1)_jj. Their own drives only make it worse: whoever is
    warned is wrong, not everybody who is wrong is warned.
    """
    model = robot.model("matched")
    dt, dofs = model.opt.timestep, model.jnt_dofadr[joints]
    if model.opt.integrator != mujoco.mjtIntegrator.mjINT_EULER:
        return  # a Gymnasium environment's own
    stiffness, damping = np.zeros(model.nv), np.zeros(model.nv)
    stiffness[dofs] = model.jnt_stiffness[joints]
    if model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_EULERDAMP:
        damping[dofs] = model.dof_damping[dofs]
    if robot.control == "position":
        driven = robot.joint_addresses()[1]
        stiffness[driven] += robot.per_joint("kp")
        damping[driven] += robot.per_joint("kd")
    data, full = mujoco.MjData(model), np.empty((model.nv, model.nv))
    inertia = np.full(model.nv, np.inf)
    for start in qpos:
        data.qpos[:] = start
        mujoco.mj_forward(model, data)
        mujoco.mj_fullM(model, data, full)
        inertia = np.minimum(inertia, 1 / np.diag(np.linalg.inv(full)))
    asked, borne = (damping + stiffness * dt / 2)[dofs], 2 * inertia[dofs] / dt
    if len(joints) and (asked > borne).any():
        worst = int(np.argmax(asked / borne))
        joint, dof = joints[worst], dofs[worst]
        unit = "kg" if model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_SLIDE else "kg m^2"
        warnings.warn(
            f"task {task!r}: the joint {model.joint(joint).name!r} will shake, since its drive and damping (kp "
            f"{stiffness[dof]:.3g}, kd {damping[dof]:.3g}) are too much for physics steps of {dt:g} s: it moves "
            f"{inertia[dof]:.3g} {unit} at the start, armature included, which bears kd + kp timestep / 2 up to "
            f"{borne[worst]:.3g}, not {asked[worst]:.3g}; lower the gains, shorten the timestep, or give the joint the "
            "armature of its rotor",
            stacklevel=4,
        )


def _check_calls(task: Task, state: State) -> None:
    n = _WORLDS
    # Of rows that are taken all arrays lie in one order in memory, so that sums over them end in the same digits.
    state, again = (state.take(np.arange(n)) for _ in range(2))  # each without the other's `State.once`
    _require_numbers("control", task.control(state.action), (n, len(task.robot.joints)))
    observation = task.observe(state)
    _require_numbers("observe", observation, (n, task.schema.observation_size))
    terms = task.reward(state)
    _require(isinstance(terms, Mapping) and terms, "reward() must return a dict of terms by name, and at least one")
    for name, term in terms.items():
        _require_numbers(f"reward[{name!r}]", term, (n,))
    markers = task.markers(state)
    _require(isinstance(markers, Mapping), "markers() must return a dict of points by name")
    for name, points in markers.items():
        _require_numbers(f"markers[{name!r}]", points, (n, 3))
    _require(np.array_equal(observation, task.observe(again)), f"observe() {_RANDOM} the draws of an episode")
    repeated = task.reward(again)
    for name, term in terms.items():
        _require(np.array_equal(term, repeated.get(name)), f"reward[{name!r}] {_RANDOM} the draws of an episode")
    for name in ("terminated", "on_goal"):
        bools = getattr(task, name)(state)
        _require_bools(name, bools, (n,))
        _require(np.array_equal(bools, getattr(task, name)(again)), f"{name}() {_RANDOM} the draws of an episode")
    zeros = np.zeros(n)
    episode = Episode(np.full(n, task.episode_steps), zeros, zeros.astype(int), zeros.astype(bool), zeros)
    _require_bools("success", task.success(episode), (n,))
    flipped = task.observe(state.take(np.arange(n)[::-1]))
    _require(
        _alike(flipped, observation[::-1]),
        "observe() mixes worlds: reordering the worlds changes their observations",
    )


def _readings(task: Task, qpos: np.ndarray, qvel: np.ndarray) -> Mapping[str, np.ndarray]:
    """What the task's own engine, if it has one, measures in some states."""
    if type(task).make_engine is Task.make_engine:
        return {}
    n, engine = len(qpos), task.make_engine(task.engines[0], task.presets[0], len(qpos), 1, 0)
    try:
        engine.reset(np.arange(n), qpos, qvel)
        return getattr(engine, "readings", {})
    finally:
        engine.close()


def _require(holds: Any, sentence: str) -> None:
    if not holds:
        raise UserError(sentence)


def _require_array(what: str, array: Any, shape: tuple[int, ...], kinds: str, wanted: str) -> None:
    _require(np.shape(array) == shape, f"{what} has shape {np.shape(array)}, expected {shape}")
    kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
    _require(
        isinstance(array, np.ndarray) and array.dtype.kind in kinds, f"{what} must be an array of {wanted}, not {kind}"
    )


def _require_numbers(what: str, array: Any, shape: tuple[int, ...]) -> None:
    _require_array(what, array, shape, "biuf", "numbers")
    _require(np.isfinite(array).all(), f"{what} is not finite in a start state")


def _require_bools(what: str, array: Any, shape: tuple[int, ...]) -> None:
    _require_array(what, array, shape, "b", "bools")
