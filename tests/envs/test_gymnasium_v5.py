"""Agreement with what we did not write: Gymnasium's MuJoCo environments on our engine, step by step, bit by bit."""

import re
from pathlib import Path

import gymnasium
import gymnasium.envs.mujoco.ant_v5
import mujoco
import numpy as np
import pytest
from gymnasium.wrappers import TimeAwareObservation, TransformReward

from simreal_envs.adapters.batched import BatchedTask
from simreal_envs.errors import UserError
from simreal_envs.tasks import check_task, find_task
from simreal_envs.tasks.base import State
from simreal_envs.variation import Domain
from simreal_envs.worlds import make

ACCURACY = 1e-9
IDS = ["HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5"]
OTHERS = ["Swimmer-v5", "InvertedPendulum-v5", "InvertedDoublePendulum-v5", "Reacher-v5"]
STEPS, EPISODE, WORLDS = 1000, 200, 2
each_id = pytest.mark.parametrize("name", IDS + OTHERS)


def theirs(name):
    return gymnasium.make(name, disable_env_checker=True).unwrapped


class Pair:
    """Our engine and Gymnasium's environment in the same state; ours holds a second world that does something else."""

    def __init__(self, name):
        self.task, self.env = find_task(f"gymnasium:{name}"), theirs(name)
        self.engine = self.task.make_engine("mujoco", "matched", WORLDS, 1, 0)
        self.rng, self.size = np.random.default_rng(0), self.task.schema.action_size

    def reset(self, seed):
        """Our and their observation of the start that they drew."""
        observation, _ = self.env.reset(seed=seed)
        ids = np.arange(WORLDS)
        self.engine.reset(ids, np.tile(self.env.data.qpos, (WORLDS, 1)), np.tile(self.env.data.qvel, (WORLDS, 1)))
        return self.task.observe(self.state(np.zeros((WORLDS, self.size))))[0], observation

    def state(self, action):
        return State(self.engine.qpos, self.engine.qvel, action, action, np.zeros((WORLDS, 0)), self.engine.readings)

    def step(self):
        """(observation, reward, terminated) of both after a random action."""
        action = self.rng.uniform(-1, 1, (WORLDS, self.size))
        control = self.task.control(action)
        self.engine.step(control, self.task.substeps)
        observation, reward, terminated, _, _ = self.env.step(control[0])
        state = self.state(action)
        own = self.task.observe(state)[0], sum(self.task.reward(state).values())[0], self.task.terminated(state)[0]
        return own, (observation, reward, terminated)


@each_id
def test_observations_rewards_and_terminations_are_gymnasiums(name):
    pair = Pair(name)
    start, expected = pair.reset(0)
    assert np.abs(start - expected).max() <= ACCURACY
    length, episodes = 0, 0
    for step in range(STEPS if name in IDS else 300):
        (observation, reward, terminated), (their_observation, their_reward, their_end) = pair.step()
        assert np.abs(observation - their_observation).max() <= ACCURACY, f"step {step}"
        assert abs(reward - their_reward) <= ACCURACY, f"step {step}"
        assert terminated == their_end, f"step {step}"
        length += 1
        if their_end or length == EPISODE:
            start, expected = pair.reset(step)
            assert np.abs(start - expected).max() <= ACCURACY
            length, episodes = 0, episodes + 1
    assert episodes >= 1


def test_the_comparison_would_see_a_difference():
    pair = Pair("Hopper-v5")
    pair.reset(0)
    pair.engine.apply(np.arange(WORLDS), {"torso/mass": np.full(WORLDS, 3.67)})  # 3.665 kg nominal
    (observation, *_), (expected, *_) = [pair.step() for _ in range(5)][-1]
    assert np.abs(observation - expected).max() > 1e-5


def test_contact_forces_of_the_ant_are_seen_when_it_is_on_the_ground():
    pair = Pair("Ant-v5")
    pair.reset(0)
    forces = [pair.step()[0][0][27:] for _ in range(50)]
    assert np.abs(forces).max() == 1.0  # clipped to contact_force_range


@pytest.mark.parametrize(
    ("name", "parameter", "value"),
    [
        ("HalfCheetah-v5", "torso/mass", 9.0), ("Hopper-v5", "foot/mass", 3.0), ("Walker2d-v5", "leg_joint/damping", 0.5),
        ("Hopper-v5", "gravity", 5.0), ("HalfCheetah-v5", "bthigh/armature", 0.3), ("HalfCheetah-v5", "friction", 0.9),
        ("HalfCheetah-v5", "actuator/strength", 0.6), ("Ant-v5", "hip_4/stiffness", 2.0),
        # Gymnasium's hopper asks for no friction of its own, the floor does: then MuJoCo takes the foot's, which is 2.
        ("Hopper-v5", "friction", 2.0), ("Hopper-v5", "friction", 0.3),
    ],
)  # fmt: skip
def test_a_parameter_does_what_it_does_in_gymnasiums_own_model(name, parameter, value):
    pair = Pair(name)
    pair.engine.apply(np.arange(WORLDS), {parameter: np.full(WORLDS, value)})
    assert pair.engine.read(parameter) == pytest.approx(value)
    change(pair.env.model, pair.env.data, parameter, value)
    pair.reset(1)
    for _ in range(100):
        (observation, reward, _), (their_observation, their_reward, _) = pair.step()
        assert np.abs(observation - their_observation).max() <= ACCURACY and abs(reward - their_reward) <= ACCURACY


def test_nominal_friction_is_the_friction_that_there_is():
    friction = next(p for p in find_task("gymnasium:Hopper-v5").parameters if p.name == "friction")
    assert friction.nominal == 2.0
    pair = Pair("Hopper-v5")
    pair.engine.apply(np.arange(WORLDS), {"friction": np.full(WORLDS, 2.0), "friction/torsional": np.zeros(WORLDS)})
    pair.reset(1)
    for _ in range(100):
        (observation, *_), (their_observation, *_) = pair.step()
        assert np.abs(observation - their_observation).max() <= ACCURACY


def change(model, data, parameter, value):
    """The same change as somebody would make it by hand."""
    name, _, quantity = parameter.partition("/")
    if quantity == "mass":
        body = model.body(name).id
        model.body_inertia[body] *= value / model.body_mass[body]
        model.body_mass[body] = value
    elif quantity in ("damping", "armature"):
        getattr(model, f"dof_{quantity}")[model.joint(name).dofadr[0]] = value
    elif quantity == "stiffness":
        model.jnt_stiffness[model.joint(name).id] = value
    elif parameter == "gravity":
        model.opt.gravity[2] = -value
    elif parameter == "friction":
        model.geom_friction[:, 0] *= value / model.geom_friction[:, 0].max()
    else:
        model.actuator_gear[:, 0] *= value
    mujoco.mj_setConst(model, data)


@each_id
def test_the_contract_of_a_task_is_kept(name):
    task = find_task(f"gymnasium:{name}")
    check_task(task)
    assert task.schema.observation_size == theirs(name).observation_space.shape[0]
    assert task.schema.control_period == pytest.approx(theirs(name).dt)


def test_worlds_earn_what_gymnasium_pays():
    worlds, env = make(Domain("gymnasium:HalfCheetah-v5"), 3, seed=4), theirs("HalfCheetah-v5")
    worlds.reset()
    env.reset(seed=0)
    env.set_state(worlds.engine.qpos[1].copy(), worlds.engine.qvel[1].copy())
    rng, total = np.random.default_rng(0), 0.0
    for step in range(1000):
        actions = rng.uniform(-1.2, 1.2, (3, 6))  # beyond the bounds, where ours are clipped
        observations, rewards, _, truncated, infos = worlds.step(actions)
        observation, reward, *_ = env.step(np.clip(actions[1], -1, 1))
        total += reward
        assert abs(rewards[1] - reward) <= ACCURACY
        if step < 999:
            assert np.array_equal(observations[1], observation.astype(np.float32))
    assert truncated.all() and np.array_equal(infos["final_obs"][1], observation.astype(np.float32))
    assert infos["outcome"]["r"][1] == pytest.approx(total)
    assert not infos["outcome"]["s"][1]  # below the environment's own threshold of 4800


def test_starts_are_drawn_as_gymnasium_draws_them():
    for name in ("HalfCheetah-v5", "Hopper-v5"):
        worlds, env = make(Domain(f"gymnasium:{name}"), 400), theirs(name)
        worlds.reset()
        own = np.concatenate([worlds.engine.qpos, worlds.engine.qvel], axis=1)
        drawn = np.array([(env.reset(seed=s), env.state_vector())[1] for s in range(400)])
        assert np.allclose(own.mean(axis=0), drawn.mean(axis=0), atol=0.25 * drawn.std(axis=0).max())
        assert np.allclose(own.std(axis=0), drawn.std(axis=0), rtol=0.2)


def test_a_batched_world_continues_from_a_snapshot_to_the_same_bits():
    worlds = make(Domain("gymnasium:Ant-v5", variation={"torso/mass": {"uniform": [0.2, 0.5]}, "latency": 0.02}), 2)
    worlds.reset()
    actions = np.random.default_rng(0).uniform(-1, 1, (40, 2, 8))
    for action in actions[:20]:
        worlds.step(action)
    saved = worlds.snapshot()
    first = [worlds.step(action)[:2] for action in actions[20:]]
    worlds.restore(saved)
    again = [worlds.step(action)[:2] for action in actions[20:]]
    assert all(np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) for a, b in zip(first, again, strict=True))


@each_id
def test_a_push_moves_the_robot_that_it_is_meant_for(name):
    worlds = make(Domain(f"gymnasium:{name}"), 3)
    worlds.reset()
    worlds.engine.reset(np.arange(3), *(np.tile(part, (3, 1)) for part in worlds.task.robot.rest))
    worlds.disturb(np.array([[0.0, 0.0, 0.0], [20.0, 20.0, 0.0], [0.0, 0.0, 0.0]]))
    worlds.step(np.zeros((3, worlds.schema.action_size)))
    assert np.array_equal(worlds.engine.qvel[0], worlds.engine.qvel[2])
    assert np.abs(worlds.engine.qvel[1] - worlds.engine.qvel[0]).max() > 1e-3


def test_what_nothing_acts_on_is_no_parameter():
    names = {p.name for p in find_task("gymnasium:Reacher-v5").parameters}
    assert "fingertip/mass" in names
    assert "target/mass" not in names  # the mark of the goal, which nothing drives and nothing touches
    assert not names & {"friction", "friction/rolling", "contact/time_constant"}
    assert "friction" not in {p.name for p in find_task("gymnasium:InvertedPendulum-v5").parameters}


class Crouch(gymnasium.ActionWrapper):
    """A wrapper of somebody's own, which takes a third of every action."""

    def action(self, action):
        return action / 3


def twice_paid(**kwargs):
    return TransformReward(gymnasium.make("Hopper-v5", **kwargs), lambda reward: 2 * reward)


def crouching(**kwargs):
    return Crouch(gymnasium.make("Hopper-v5", **kwargs))


def cut_off_early(**kwargs):
    return gymnasium.make("Hopper-v5", max_episode_steps=4, **kwargs)


@pytest.fixture
def wrapped():
    """Ids of robots that are batched where nothing stands around them, each with something around it."""
    hopper = "gymnasium.envs.mujoco.hopper_v5:HopperEnv"
    ids = {
        "test/Paid-v0": (twice_paid, ()), "test/Crouch-v0": (crouching, ()), "test/Early-v0": (cut_off_early, ()),
        "test/Timed-v0": (hopper, (TimeAwareObservation.wrapper_spec(),)), "test/Plain-v0": (hopper, ()),
    }  # fmt: skip
    for name, (entry, wrappers) in ids.items():
        gymnasium.register(name, entry, max_episode_steps=6, additional_wrappers=wrappers)
    yield
    for name in ids:
        gymnasium.registry.pop(name)


@pytest.mark.parametrize("name", ["Paid", "Crouch", "Early", "Timed"])
def test_what_stands_around_a_robot_stays_around_it(wrapped, name):
    worlds, env = make(Domain(f"gymnasium:test/{name}-v0"), 2, seed=3), gymnasium.make(f"test/{name}-v0")
    worlds.reset()
    observation, _ = env.reset(seed=int(worlds.engine.qpos[1, 0]))
    truncated, rng = False, np.random.default_rng(0)
    while not truncated:
        actions = rng.uniform(-1, 1, (2, 3)).astype(np.float32)
        observations, rewards, _, ends, infos = worlds.step(actions)
        observation, reward, terminated, truncated, _ = env.step(actions[1])
        assert rewards[1] == pytest.approx(reward) and ends[1] == truncated and not terminated
        assert np.array_equal(infos["final_obs"][1] if truncated else observations[1], observation.astype(np.float32))
    assert {"torso/mass", "gravity"} <= {p.name for p in worlds.task.parameters}  # it is a robot all the same


def test_an_id_of_ones_own_of_a_robot_that_nothing_stands_around_is_batched(wrapped):
    assert isinstance(find_task("gymnasium:test/Plain-v0"), BatchedTask)
    assert find_task("gymnasium:test/Plain-v0").episode_steps == 6


SERVO = '<position ctrllimited="true" ctrlrange="-1.0 0.5" joint="{}" kp="40" forcelimited="true" forcerange="-10 10"/>'
LIMITED = (
    '<motor ctrllimited="true" ctrlrange="-1.0 1.0" joint="{}" gear="150" forcelimited="true" forcerange="-.2 .2"/>'
)
UNBOUNDED = '<motor joint="{}" gear="150"/>'


@pytest.fixture
def other_drives(tmp_path):
    """Registers Gymnasium's ant with other actuators than its own, as its tutorial on custom robots does."""
    names = []

    def register(actuator):
        names.append(f"test/Drives{len(names)}-v0")
        xml = tmp_path / f"{len(names)}.xml"
        source = Path(gymnasium.envs.mujoco.ant_v5.__file__).with_name("assets") / "ant.xml"
        motor = re.compile(r'<motor [^>]*joint="(\w+)"[^>]*/>')
        xml.write_text(motor.sub(lambda found: actuator.format(found[1]), source.read_text()))
        gymnasium.register(
            names[-1], gymnasium.envs.mujoco.ant_v5.AntEnv, max_episode_steps=100, kwargs={"xml_file": str(xml)}
        )
        return names[-1]

    yield register
    for name in names:
        gymnasium.registry.pop(name)


@pytest.mark.parametrize("actuator", [SERVO, LIMITED])
def test_a_robot_with_other_drives_keeps_their_limits(actuator, other_drives):
    pair = Pair(other_drives(actuator))
    pair.reset(0)
    for _ in range(20):
        (observation, reward, _), (expected, their_reward, _) = pair.step()
        assert np.abs(observation - expected).max() <= ACCURACY
        assert abs(reward - their_reward) <= ACCURACY


def test_drives_without_bounds_are_refused(other_drives):
    with pytest.raises(UserError, match="finite bounds"):
        find_task(f"gymnasium:{other_drives(UNBOUNDED)}")
