"""Tasks: the contract, and what each one measures. Numbers of rewards are tuned, so none is pinned here."""

import pickle

import mujoco
import numpy as np
import pytest

from simreal_envs.parameters import Draws
from simreal_envs.robots.a1 import STANCE_HEIGHT
from simreal_envs.tasks import TASKS
from simreal_envs.tasks.base import Episode, State, to_body
from simreal_envs.tasks.quadruped import COMMAND
from simreal_envs.variation import Domain
from simreal_envs.worlds import make

each_task = pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
CARTPOLE, QUADRUPED = TASKS["cartpole_swingup"], TASKS["quadruped"]


def start(task, n=100, seed=0):
    draws = Draws(seed, np.arange(n), np.zeros(n, int))
    qpos, qvel = task.initial_state(draws, n)
    action = np.zeros((n, task.schema.action_size))
    return State(qpos, qvel, action, action, task.command(draws, n))


def finished(n=1, **values):
    rows = {"length": 250, "goal_share": 0.0, "goal_streak": 0, "terminated": False, **values}
    return Episode(**{name: np.full(n, value) for name, value in rows.items()})


@each_task
def test_a_robot_can_be_sent_to_a_process(task):
    """By engines that somebody else brings."""
    assert pickle.loads(pickle.dumps(task.robot)) == task.robot


@each_task
def test_no_episode_starts_failed_or_out_of_the_observations_bounds(task):
    state = start(task)
    assert not task.terminated(state).any()
    observation = task.observe(state)
    space = task.schema.observation_space
    assert (observation >= space.low).all() and (observation <= space.high).all()
    assert len(np.unique(state.qpos, axis=0)) == 100


@each_task
def test_every_element_that_a_sensor_measures_has_a_stated_noise(task):
    asked = {"velocity_command", "previous_action"}  # known, not measured
    assert all((field.noise > 0) != (field.name in asked) for field in task.schema.observation)


@each_task
def test_nothing_changes_the_state_it_is_given(task):
    state = start(task, 5)
    for array in (state.qpos, state.qvel, state.action, state.previous_action, state.command):
        array.flags.writeable = False
    task.observe(state), task.reward(state), task.terminated(state), task.on_goal(state), task.control(state.action)


STILL = [TASKS[name] for name in ("halfcheetah", "walker", "hopper")]  # which might be paid for standing there


@pytest.mark.parametrize(
    ("task", "share"),
    [*((task, 1.0) for task in TASKS.values()), *((task, 0.0) for task in STILL)],
    ids=[*TASKS, *(f"{task.name}-still" for task in STILL)],
)
def test_random_actions_and_standing_still_fail(task, share):
    worlds, rng, returns, successes = make(Domain(task.name), 8, seed=3), np.random.default_rng(0), [], []
    worlds.reset()
    for _ in range(task.episode_steps):
        infos = worlds.step(share * rng.uniform(-1, 1, (8, task.schema.action_size)))[4]
        if infos:
            returns += infos["outcome"]["r"][infos["_outcome"]].tolist()
            successes += infos["outcome"]["s"][infos["_outcome"]].tolist()
    assert len(returns) >= 8 and not any(successes)
    low = share * task.random_return
    assert np.mean(returns) < low + 0.2 * (task.reference_return - low)


# -- cart-pole ---------------------------------------------------------------------------------------------------------


def cartpole(x=0.0, angle=0.0, speed=0.0, spin=0.0, action=0.0):
    row = np.array([[action]])
    return State(np.array([[x, angle]]), np.array([[speed, spin]]), row, row, np.zeros((1, 0)))


def reward(task, state):
    return sum(task.reward(state).values())[0]


def test_cart_pole_observes_what_its_fields_say():
    assert np.allclose(CARTPOLE.observe(cartpole(0.3, np.pi / 2, -1.0, 2.0)), [[0.3, 0.0, 1.0, -1.0, 2.0]])


def test_cart_pole_starts_hanging_and_full_turns_make_no_difference():
    assert (np.cos(start(CARTPOLE).qpos[:, 1]) < -0.9).all()
    a, b = cartpole(angle=0.2), cartpole(angle=0.2 + 2 * np.pi)
    assert np.allclose(CARTPOLE.observe(a), CARTPOLE.observe(b)) and reward(CARTPOLE, a) == pytest.approx(
        reward(CARTPOLE, b)
    )


def test_cart_pole_prefers_upright_centred_and_calm():
    best = reward(CARTPOLE, cartpole())
    for worse in ({"angle": 0.5}, {"angle": np.pi}, {"x": 1.0}, {"action": 1.0}, {"spin": 5.0}):
        assert reward(CARTPOLE, cartpole(**worse)) < best


def test_cart_pole_fails_at_the_end_of_the_rail_and_is_on_goal_within_15_degrees():
    assert [bool(CARTPOLE.terminated(cartpole(x))[0]) for x in (0.0, 2.39, 2.41, -2.41)] == [False, False, True, True]
    assert [bool(CARTPOLE.on_goal(cartpole(angle=np.deg2rad(d)))[0]) for d in (14, -14, 16, 180)] == [
        True,
        True,
        False,
        False,
    ]


def test_cart_pole_succeeds_with_fifty_steps_on_goal_at_the_end_and_no_failure():
    outcomes = [finished(goal_streak=s, terminated=t) for s, t in [(50, False), (49, False), (250, True)]]
    assert [bool(CARTPOLE.success(e)[0]) for e in outcomes] == [True, False, False]


# -- quadruped ---------------------------------------------------------------------------------------------------------


def walking(n=1, seed=0):
    """States in the air with random orientation, velocity and joints."""
    rng = np.random.default_rng(seed)
    qpos, qvel = np.zeros((n, 19)), rng.normal(size=(n, 18))
    quat = rng.normal(size=(n, 4))
    qpos[:, 2], qpos[:, 3:7] = 1.0, quat / np.linalg.norm(quat, axis=1, keepdims=True)
    qpos[:, 7:] = rng.uniform(-1, 1, (n, 12))
    action = rng.uniform(-1, 1, (2, n, 12))
    return State(qpos, qvel, action[0], action[1], rng.uniform(*COMMAND, (n, 1)))


def test_rotations_into_the_body_frame_are_mujocos():
    state = walking(20)
    for quat, vector, body, down in zip(
        state.qpos[:, 3:7],
        state.qvel[:, :3],
        to_body(state.qpos[:, 3:7], state.qvel[:, :3]),
        state.gravity_direction,
        strict=True,
    ):
        matrix = np.zeros(9)
        mujoco.mju_quat2Mat(matrix, quat)
        assert np.allclose(body, matrix.reshape(3, 3).T @ vector, atol=1e-12)
        assert np.allclose(down, matrix.reshape(3, 3).T @ [0, 0, -1], atol=1e-12)


def test_quadruped_observes_what_its_fields_say():
    state = walking(3)
    parts = np.split(QUADRUPED.observe(state), np.cumsum([f.size for f in QUADRUPED.schema.observation])[:-1], axis=1)
    seen = {f.name: part for f, part in zip(QUADRUPED.schema.observation, parts, strict=True)}
    stance = QUADRUPED.control(np.zeros((1, 12)))
    assert np.allclose(seen["linear_velocity"], to_body(state.qpos[:, 3:7], state.qvel[:, :3]))
    assert np.allclose(seen["angular_velocity"], state.qvel[:, 3:6])
    assert np.allclose(seen["gravity_direction"], state.gravity_direction)
    assert np.allclose(seen["velocity_command"], state.command)
    assert np.allclose(seen["joint_position"], state.qpos[:, 7:] - stance)
    assert np.allclose(seen["joint_velocity"], state.qvel[:, 6:])
    assert np.allclose(seen["previous_action"], state.action)


def test_the_velocity_sensor_is_what_mujoco_measures_at_the_trunk():
    model = QUADRUPED.robot.model("matched")
    state, data, velocity = walking(1), mujoco.MjData(model), np.zeros(6)
    data.qpos[:], data.qvel[:] = state.qpos[0], state.qvel[0]
    mujoco.mj_forward(model, data)
    mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, model.body("trunk").id, velocity, 1)
    assert np.allclose(QUADRUPED.observe(state)[0, :6], [*velocity[3:], *velocity[:3]], atol=1e-10)


def test_quadruped_does_not_care_where_it_is_or_which_way_it_faces():
    state, turned = walking(4), walking(4)
    yaw = np.array([np.cos(0.6), 0, 0, np.sin(0.6)])
    for row in range(4):
        quat, velocity = np.zeros(4), np.zeros(3)
        mujoco.mju_mulQuat(quat, yaw, state.qpos[row, 3:7])
        mujoco.mju_rotVecQuat(velocity, state.qvel[row, :3].copy(), yaw)
        turned.qpos[row, :2], turned.qpos[row, 3:7], turned.qvel[row, :3] = [5.0, -3.0], quat, velocity
    assert np.allclose(QUADRUPED.observe(turned), QUADRUPED.observe(state), atol=1e-12)
    assert np.allclose(sum(QUADRUPED.reward(turned).values()), sum(QUADRUPED.reward(state).values()), atol=1e-9)


def test_commands_are_drawn_from_their_range():
    commands = QUADRUPED.command(Draws(0, np.arange(1000), np.zeros(1000, int)), 1000)
    low, high = COMMAND
    assert commands.shape == (1000, 1) and low < commands.min() < low + 0.01 and high - 0.01 < commands.max() < high


def standing(**values):
    """Level, in the stance, commanded to walk at 0.6 m/s; ``set={(array, index): value}`` changes single numbers."""
    qpos, qvel = np.zeros((1, 19)), np.zeros((1, 18))
    qpos[:, 2], qpos[:, 3], qpos[:, 7:] = STANCE_HEIGHT, 1.0, QUADRUPED.control(np.zeros((1, 12)))
    state = State(qpos, qvel, np.zeros((1, 12)), np.zeros((1, 12)), np.full((1, 1), 0.6))
    for (name, index), value in values.get("set", {}).items():
        getattr(state, name)[0, index] = value
    return state


def test_quadruped_prefers_the_commanded_velocity_and_calm():
    walking_well = reward(QUADRUPED, standing(set={("qvel", 0): 0.6}))
    for worse in (
        {("qvel", 0): 0.0},
        {("qvel", 0): 1.2},
        {("qvel", 0): 0.6, ("qvel", 1): 0.5},
        {("qvel", 0): 0.6, ("qvel", 5): 1.0},
        {("qvel", 0): 0.6, ("action", 3): 1.0},
    ):
        assert reward(QUADRUPED, standing(set=worse)) < walking_well


def test_quadruped_is_on_goal_within_two_decimetres_per_second_and_succeeds_at_seventy_percent():
    speeds = {0.6: True, 0.45: True, 0.75: True, 0.35: False, 0.85: False}
    for speed, on in speeds.items():
        assert bool(QUADRUPED.on_goal(standing(set={("qvel", 0): speed}))[0]) is on
    outcomes = [finished(goal_share=s, terminated=t) for s, t in [(0.7, False), (0.69, False), (1.0, True)]]
    assert [bool(QUADRUPED.success(e)[0]) for e in outcomes] == [True, False, False]
