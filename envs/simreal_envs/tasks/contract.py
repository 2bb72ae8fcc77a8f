"""The contract of a task as a function: run it on a task of your own."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np

from simreal_envs.engines.base import Player
from simreal_envs.errors import UserError
from simreal_envs.parameters import Draws
from simreal_envs.tasks.base import Episode, State, Task

_WORLDS = 3  # enough to see whether rows are mixed


def check_task(task: Task) -> None:
    """Raise a UserError naming the first way in which a task breaks the contract.

    Warns of a joint that starts beyond its range: possible, and nearly always a mistake.
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
        raise UserError(f"task {getattr(task, 'name', type(task).__name__)!r}: {error}") from error


def _check_facts(task: Task) -> None:
    for name in Task.__annotations__:
        _require(hasattr(task, name), f"it has no `{name}`")
    for name in ("substeps", "episode_steps"):
        value = getattr(task, name)
        _require(isinstance(value, int) and value > 0, f"{name} must be a whole number of at least 1, not {value!r}")
    period, made = task.schema.control_period, task.substeps * task.robot.timestep
    _require(
        np.isclose(period, made, rtol=1e-6, atol=0.0),
        f"the schema's control_period is {period:g} s, but {task.substeps} substeps of {task.robot.timestep:g} s are {made:g} s",
    )


def _start(task: Task) -> State:
    """The state in which some episodes start."""
    qpos, qvel = _initial_state(task)
    again = _initial_state(task)
    _require(
        np.array_equal(qpos, again[0]) and np.array_equal(qvel, again[1]),
        "initial_state() differs from call to call: every random number must come from its draws",
    )
    _warn_of_ranges(task, qpos)
    action = np.zeros((_WORLDS, task.schema.action_size))
    return State(qpos, qvel, action, action, task.command(_draws(), _WORLDS), _readings(task, qpos, qvel))


def _draws() -> Draws:
    return Draws(0, np.arange(_WORLDS), np.zeros(_WORLDS, dtype=int))


def _initial_state(task: Task) -> tuple[np.ndarray, np.ndarray]:
    qpos, qvel = task.initial_state(_draws(), _WORLDS)
    for name, given, rest in zip(("qpos", "qvel"), (qpos, qvel), task.robot.rest, strict=True):
        _require_numbers(f"initial_state {name}", given, (_WORLDS, len(rest)))
    return qpos, qvel


def _warn_of_ranges(task: Task, qpos: np.ndarray) -> None:
    if isinstance(task.robot, Player):
        return
    model = task.robot.model("matched")
    for joint in np.flatnonzero(model.jnt_limited & (model.jnt_type >= int(mujoco.mjtJoint.mjJNT_SLIDE))):  # or a hinge
        (low, high), at = model.jnt_range[joint], qpos[:, model.jnt_qposadr[joint]]
        slack = 0.01 * (high - low)  # Gymnasium's noise around the end of a range is no mistake
        beyond = at[(at < low - slack) | (at > high + slack)]
        if len(beyond):
            warnings.warn(
                f"task {task.name!r}: initial_state() puts the joint {model.joint(joint).name!r} at {beyond[0]:.3g}, outside "
                f"of its range of {low:.3g} to {high:.3g} (m or rad; MJCF is read in degrees unless its compiler says "
                "radian), from where the engine pushes it back",
                stacklevel=4,
            )


def _check_calls(task: Task, state: State) -> None:
    n = _WORLDS
    _require_numbers("control", task.control(state.action), (n, len(task.robot.joints)))
    observation = task.observe(state)
    _require_numbers("observe", observation, (n, task.schema.observation_size))
    terms = task.reward(state)
    _require(isinstance(terms, Mapping) and terms, "reward() must return a dict of terms by name, and at least one")
    for name, term in terms.items():
        _require_numbers(f"reward[{name!r}]", term, (n,))
    for name in ("terminated", "on_goal"):
        _require_bools(name, getattr(task, name)(state), (n,))
    zeros = np.zeros(n)
    episode = Episode(np.full(n, task.episode_steps), zeros, zeros.astype(int), zeros.astype(bool), zeros)
    _require_bools("success", task.success(episode), (n,))
    flipped = task.observe(state.take(np.arange(n)[::-1]))
    _require(
        np.array_equal(flipped, observation[::-1]),
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
