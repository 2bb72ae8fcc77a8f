"""Every parameter acts, reads back, does not compound and leaves nothing behind; and one that does not is flagged."""

import json
from dataclasses import replace

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium import spaces

from simreal_envs.adapters import fleet
from simreal_envs.audit import Audited, audit, audit_engine, audit_worlds, changed, difference, excitations
from simreal_envs.engines.registry import start_engine
from simreal_envs.errors import Unsupported, UserError
from simreal_envs.parameters import Parameter
from simreal_envs.parity.bench import Machine
from simreal_envs.tasks import find_task
from simreal_envs.variation import Domain
from simreal_envs.worlds import Worlds

CART = find_task("cartpole_swingup")
CHEETAH, PENDULUM = "gymnasium:HalfCheetah-v5", "gymnasium:Pendulum-v1"  # batched; as it is, in processes


class Drift(gymnasium.Env):
    """A number that moves by its actions; one argument of its constructor is forgotten, others are refused."""

    metadata = {"render_modes": []}

    def __init__(self, render_mode=None, gain=1.0, ignored=1.0, wide=False, only=3.0, price=0.5):
        if only != 3.0:
            raise ValueError("it must be 3")
        self.observation_space = spaces.Box(-np.inf, np.inf, (2 if wide else 1,))
        self.action_space, self.gain, self.price = spaces.Box(-1.0, 1.0, (1,)), gain, price

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-1, 1, self.observation_space.shape)
        return self.place.astype(np.float32), {}

    def step(self, action):
        self.place = self.place + self.gain * action
        return self.place.astype(np.float32), -self.price * float(action[0] ** 2), False, False, {}


class Unseeded(Drift):
    """Draws from nobody's generator."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=None, options=options)


@pytest.fixture(scope="module", autouse=True)
def registered():
    for kind in (Drift, Unseeded):
        gymnasium.register(f"test/{kind.__name__}-v0", kind, max_episode_steps=1000)
    yield
    for kind in (Drift, Unseeded):
        gymnasium.registry.pop(f"test/{kind.__name__}-v0")


class Faulty:
    """An engine in which applying one parameter goes wrong."""

    def __init__(self, engine, parameter, fault):
        self._engine, self._name, self._fault, self._given = engine, parameter.name, fault, None
        self.robot, self.num_worlds = engine.robot, engine.num_worlds
        self._nominal = parameter.nominal

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def apply(self, ids, values):
        values = dict(values)
        if self._name in values:
            given = self._given = values[self._name]
            if self._fault == "no-op":
                del values[self._name]
            elif self._fault == "compounding":  # scales what is there instead of what is nominal
                values[self._name] = self._engine.read(self._name)[ids] * given / self._nominal
            elif self._fault == "read-back":
                values[self._name] = 0.9 * given
            elif self._fault == "residue":  # never goes back
                values[self._name] = given if (given != self._nominal).all() else 1.3 * given
        self._engine.apply(ids, values)

    def read(self, name):
        if name == self._name and self._fault in ("no-op", "residue"):
            return np.full(self.num_worlds, self._given)  # what it remembers, not what is in force
        return self._engine.read(name)


def audited(fault, name="pole/mass", engine="mujoco", task=CART):
    parameter = next(p for p in task.parameters if p.name == name)
    inner = task.make_engine(engine, "matched", 6, 1, 0)
    (row,) = audit_engine(task, Faulty(inner, parameter, fault), engine, parameters=[parameter])
    inner.close()
    return row


FAULTS = pytest.mark.parametrize(
    ("fault", "flags"),
    [
        ("no-op", {"no-op"}),
        ("compounding", {"compounding", "residue", "read-back"}),
        ("read-back", {"read-back", "residue"}),
        ("residue", {"residue"}),
        ("nothing", set()),
    ],
)


@pytest.mark.parametrize("engine", ["mujoco", "bullet"])
@FAULTS
def test_a_planted_fault_is_flagged(engine, fault, flags):
    row = audited(fault, engine=engine)
    assert set(row.flags) == flags
    assert (row.effect > 0.1) == (fault != "no-op")


@pytest.mark.parametrize("engine", ["mujoco", "bullet"])
def test_every_parameter_of_the_cart_pole_passes(engine):
    rows = audit("cartpole_swingup", engine)
    assert {row.name: row.flags for row in rows if row.flags} == {}
    assert [row.name for row in rows] == [p.name for p in CART.parameters if p.supported(engine) != "unsupported"]
    assert {row.through for row in rows} == {"engine", "worlds"}
    json.dumps([row.to_dict() for row in rows], allow_nan=False)


@pytest.mark.parametrize("engine", ["mujoco", "bullet"])
def test_a_bolted_arm_meets_what_lies_before_it(engine):
    push = find_task("arm_push")
    contacts = [p for p in push.parameters if p.name in ("friction", "friction/rolling")]
    running = start_engine(engine, push.robot, "matched", 12)  # six poses of the machine, six starts of the task
    rows = audit_engine(push, running, engine, parameters=contacts)
    running.close()
    assert len(rows) == 2
    assert {row.name: row.flags for row in rows if row.flags} == {}


def test_another_preset_goes_back_to_its_own_nominal_values():
    push = find_task("arm_push")
    parameters = [p for p in push.parameters if p.name in ("contact/time_constant", "gravity")]
    running = start_engine("mujoco", push.robot, "engine_default", 12)  # its contacts are softer than matched ones
    rows = audit_engine(push, running, "mujoco", "engine_default", parameters)
    running.close()
    assert {row.name: (row.nominal, row.flags) for row in rows} == {
        "contact/time_constant": (0.02, ()),
        "gravity": (9.81, ()),
    }


class Table(type(CART)):
    """A cart-pole beside whose rail a cube lies on a table, where no start and no action of the task ever moves it."""

    def __init__(self):
        self.robot = replace(
            CART.robot, name="table", spec=_table, self_collision=True, bodies={**CART.robot.bodies, "cube": ("cube",)}
        )

    def initial_state(self, draws, n):
        qpos, qvel = super().initial_state(draws, n)
        return np.hstack([qpos, np.tile([0.0, 2.0, 0.55, 1.0, 0, 0, 0], (n, 1))]), np.hstack([qvel, np.zeros((n, 6))])


def _table():
    spec = CART.robot.spec()
    box = mujoco.mjtGeom.mjGEOM_BOX
    spec.worldbody.add_geom(type=box, size=[0.5, 0.5, 0.25], pos=[0, 2, 0.25])
    cube = spec.worldbody.add_body(name="cube", pos=[0, 2, 0.55])
    cube.add_freejoint()
    cube.add_geom(type=box, size=[0.05, 0.05, 0.05], mass=0.2)
    for geom in spec.geoms:
        geom.contype = geom.conaffinity = 1
    return spec


def test_an_object_that_lies_beside_a_machine_is_pushed_and_falls_onto_it():
    table = Table()
    assert [name for name, *_ in Machine(table.robot, "matched").objects] == ["cube"]
    chosen = [
        p for p in table.robot.parameters if p.name in ("cube/mass", "cube/inertia", "cube/friction", "cube/com_z")
    ]
    running = start_engine("mujoco", table.robot, "matched", 14)  # six of the machine, six of the task, two of the cube
    rows = audit_engine(table, running, parameters=chosen)
    running.close()
    assert len(rows) >= 3 and {row.name: row.flags for row in rows if row.flags} == {}


def test_what_bullet_does_not_solve_between_links_is_not_offered_there():
    push = find_task("arm_push")
    torsional, rolling = (
        next(p for p in push.parameters if p.name == f"friction/{of}") for of in ("torsional", "rolling")
    )
    assert {engine: torsional.supported(engine) for engine in ("mujoco", "bullet", "another")} == {
        "mujoco": "exact", "bullet": "unsupported", "another": "exact",
    }  # fmt: skip
    assert rolling.supported("bullet") == "approximate"
    on_ground = next(p for p in find_task("quadruped").parameters if p.name == "friction/torsional")
    assert on_ground.supported("bullet") == "approximate"
    with pytest.raises(UserError, match="friction/torsional is not supported by the engine 'bullet'"):
        Domain("arm_push", "bullet", {"friction/torsional": 0.03})
    running = start_engine("bullet", push.robot, "matched", 1)
    with pytest.raises(Unsupported, match="friction/torsional is not supported by the engine 'bullet'"):
        running.apply(np.arange(1), {"friction/torsional": np.array([0.03])})
    running.close()
    # The audit is right that it does nothing there; that is why it is not offered.
    assert not audit_engine(push, start_engine("mujoco", push.robot, "matched", 12), "mujoco", parameters=[torsional])[
        0
    ].flags


@pytest.mark.parametrize("engine", ["mujoco", "bullet"])
def test_legs_whose_links_touch_in_one_place_bear_load_on_both_engines(engine):
    """Halfcheetah's thigh and shin touch the ground in one point, of which Bullet lets the thigh bear all."""
    cheetah = find_task("halfcheetah")
    grips = [p for p in cheetah.parameters if p.quantity in ("body_friction", "one_friction")]
    worlds = len(excitations(cheetah, Machine(cheetah.robot, "matched"))[0])
    running = start_engine(engine, cheetah.robot, "matched", worlds)
    rows = audit_engine(cheetah, running, engine, parameters=grips)
    running.close()
    assert "shin/friction/fshin" in {row.name for row in rows}
    assert {row.name: row.flags for row in rows if row.flags} == {}


@pytest.mark.parametrize("engine", ["mujoco", "bullet"])
def test_every_parameter_of_the_quadruped_passes(engine):
    quadruped = find_task("quadruped")
    worlds = len(excitations(quadruped, Machine(quadruped.robot, "matched"))[0])
    running = start_engine(engine, quadruped.robot, "matched", worlds)
    rows = audit_engine(quadruped, running, engine)
    running.close()
    assert len(rows) > 30
    assert {row.name: row.flags for row in rows if row.flags} == {}


@pytest.mark.parametrize(
    ("task", "name", "engine"),
    [(CHEETAH, "torso/mass", "mujoco"), (PENDULUM, "kwargs/g", "gymnasium"), ("gymnasium:Hopper-v4", "torso/mass", "gymnasium")],
)  # fmt: skip
@FAULTS
def test_a_planted_fault_in_somebody_elses_environment_is_flagged(task, name, engine, fault, flags):
    row = audited(fault, name, engine, find_task(task))
    assert set(row.flags) == flags and row.through == ("engine" if task == CHEETAH else "chance")


@pytest.mark.parametrize("task", [CHEETAH, "gymnasium:Reacher-v5", PENDULUM, "gymnasium:CartPole-v1"])
def test_every_parameter_of_an_environment_of_gymnasium_passes(task):
    rows = audit(task)
    assert {row.name: row.flags for row in rows if row.flags} == {}
    assert [row.name for row in rows] == [p.name for p in find_task(task).parameters]


@pytest.mark.parametrize("name", ["Hopper-v5", "Swimmer-v5", "InvertedPendulum-v5"])
def test_every_parameter_of_a_machine_of_gymnasium_passes(name):
    task = find_task(f"gymnasium:{name}")
    running = task.make_engine("mujoco", "matched", 6, 1, 0)
    rows = audit_engine(task, running)
    running.close()
    assert len(rows) > 20 and {row.name: row.flags for row in rows if row.flags} == {}


def test_arguments_of_a_constructor_are_audited_by_what_the_environment_shows_and_pays():
    found = {row.name: row for row in audit("gymnasium:test/Drift-v0") if row.name.startswith("kwargs/")}
    assert {name[7:]: row.flags for name, row in found.items()} == {
        "gain": (), "ignored": ("no-op",), "wide": ("refused",), "only": ("refused",), "price": (),
    }  # fmt: skip
    assert found["kwargs/gain"].applied == 2.0 and found["kwargs/gain"].read == 2.0
    json.dumps([row.to_dict() for row in found.values()], allow_nan=False)


def test_a_machine_whose_parameters_never_reach_its_environment_is_flagged(monkeypatch):
    monkeypatch.setattr(fleet, "write_parameters", lambda *arguments: None)
    assert audited("nothing", "torso/mass", "gymnasium", find_task("gymnasium:Hopper-v4")).flags == ("no-op",)


AROUND = pytest.mark.parametrize(
    ("task", "engine"), [("cartpole_swingup", "mujoco"), (CHEETAH, "mujoco"), (PENDULUM, "gymnasium")]
)


@AROUND
def test_worlds_that_ignore_a_parameter_around_the_engine_are_flagged(task, engine):
    def deaf(domain, num_worlds, seed):
        worlds = Worlds(domain, num_worlds, seed, autoreset="Disabled")
        worlds._imperfections.set = lambda *arguments: None
        return worlds

    task = find_task(task)
    latency = next(p for p in task.parameters if p.name == "latency")
    (row,) = audit_worlds(task, engine, "matched", [latency], deaf)
    assert set(row.flags) == {"no-op", "read-back"} and row.effect == 0


@AROUND
def test_worlds_that_add_a_latency_to_the_last_one_are_flagged(task, engine):
    def adding(domain, num_worlds, seed):
        worlds = Worlds(domain, num_worlds, seed, autoreset="Disabled")
        apply, so_far = worlds._imperfections.set, np.zeros(num_worlds)

        def add(quantity, ids, values):
            so_far[ids] += values
            apply(quantity, ids, so_far[ids])

        worlds._imperfections.set = add
        return worlds

    task = find_task(task)
    latency = next(p for p in task.parameters if p.name == "latency")
    (row,) = audit_worlds(task, engine, "matched", [latency], adding)
    assert {"compounding", "residue"} <= set(row.flags) and row.twice > 0.01


def test_changed_values_lie_within_the_bounds_and_away_from_nominal():
    for task in (CART, find_task("quadruped")):
        for parameter in task.parameters:
            for value in changed(parameter):
                parameter.require_valid(value, value)
                assert value != parameter.nominal
    limit = Parameter("limit", "N", 10.0, 1.0, 50.0, "", "torque_limit")
    assert changed(limit) == [20.0, 5.5]  # twice, and half of the way down
    assert changed(Parameter("sign", "1", 1.0, -1.0, 1.0, "", "sign", choices=(-1.0, 1.0))) == [-1.0]
    assert changed(Parameter("latency", "s", 0.0, 0.0, 0.2, "", "latency", resolution=0.004)) == [pytest.approx(0.06)]
    assert changed(Parameter("delay", "s", 0.0, 0.0, 1.0, "", "latency", resolution=1.0)) == [1.0]  # one step at least
    # Bounds that tell nothing: twice and half of what it is.
    assert changed(Parameter("kwargs/g", "1", 10.0, -1e9, 1e9, "", "constructor")) == [20.0, 5.0]
    assert changed(Parameter("kwargs/wind", "1", 0.0, -1e9, 1e9, "", "constructor")) == [1.0, -1.0]


def test_a_robot_on_rough_ground_is_excited_on_the_ground_and_not_below_it():
    rough = find_task("quadruped_rough")
    qpos, _, _ = excitations(rough, Machine(rough.robot, "matched"))
    assert (qpos[:6, 2] > 0.2).all() and (qpos[6:, 2] > 0.1).all() and len(qpos) > 6  # standing, and lying


def test_a_difference_is_a_share_of_the_motion():
    t = np.linspace(0, 1, 50)
    motion = np.stack([t, np.zeros(50)], axis=1)[:, None]
    assert difference(motion, 1.1 * motion) == pytest.approx(0.1)
    assert difference(motion, motion) == 0
    assert difference(motion, np.where(t[:, None, None] > 0.5, np.nan, motion)) == np.inf
    broken = np.where(t[:, None, None] > 0.5, np.nan, motion)
    assert difference(broken, broken) == 0


def test_a_row_is_plain_data_also_when_something_broke_down():
    row = Audited("a", "kg", "exact", "engine", 1.0, 2.0, 2.0, float("inf"), 0.0, 0.0, 0.0, ("no-op",))
    assert row.to_dict()["effect"] is None and row.to_dict()["flags"] == ["no-op"]


def test_what_does_not_repeat_itself_is_not_audited():
    with pytest.raises(UserError, match="gymnasium:test/Unseeded-v0 does not repeat itself from a seed"):
        audit("gymnasium:test/Unseeded-v0")


def test_a_mistake_is_one_sentence():
    with pytest.raises(UserError, match="--engine: unknown engine 'mujco'; did you mean 'mujoco'"):
        audit("cartpole_swingup", "mujco")
    with pytest.raises(UserError, match="--engine: unknown engine of gymnasium:Pendulum-v1 'mujoco'; valid: gymnasium"):
        audit(PENDULUM, "mujoco")
    with pytest.raises(
        UserError, match="--preset: unknown preset of cartpole_swingup 'matchd'; did you mean 'matched'"
    ):
        audit("cartpole_swingup", preset="matchd")
    with pytest.raises(UserError, match=r"unknown preset of gymnasium:HalfCheetah-v5 .engine_default."):
        audit(CHEETAH, preset="engine_default")
    with pytest.raises(UserError, match="needs an engine of 6 worlds, not 2"):
        audit_engine(CART, start_engine("mujoco", CART.robot, "matched", 2))
