"""Parameters that are prepared ahead end up as the same bits as parameters that are applied."""

import numpy as np
import pytest
from mujoco.batch import MODEL_FIELDS

from simreal_envs.engines.mujoco import MujocoEngine
from simreal_envs.parameters import UNSUPPORTED
from simreal_envs.tasks import find_task
from simreal_envs.variation import Curriculum, Domain, Interval, Randomization, Scale, Uniform
from simreal_envs.worlds import make

ROBOTS = {name: find_task(name).robot for name in ("cartpole_swingup", "quadruped", "quadruped_rough")}
each_robot = pytest.mark.parametrize("robot", ROBOTS.values(), ids=list(ROBOTS))


def supported(robot):
    return [p for p in robot.parameters if p.supported("mujoco") != UNSUPPORTED]


def drawn(parameter, n, rng):
    if parameter.choices:
        return rng.choice(parameter.choices, n)
    share = 0.1 if parameter.quantity in ("kp", "kd", "timestep", "damping") else 0.5
    low, high = (parameter.nominal + share * (bound - parameter.nominal) for bound in (parameter.low, parameter.high))
    return rng.uniform(low, high, n)


def everything(engine):
    """The whole model of every world, and what the engine keeps besides."""
    models = [engine.model_of(world) for world in range(engine.num_worlds)]
    fields = {
        name: np.array([getattr(model.opt, name[4:]) if name.startswith("opt.") else getattr(model, name) for model in models])
        for name in MODEL_FIELDS
    }  # fmt: skip
    return fields | engine._parameters.own


def assert_same(engine, other):
    mine, theirs = everything(engine), everything(other)
    assert [name for name in mine if mine[name].tobytes() != theirs[name].tobytes()] == []


def engines(robot, n=6):
    return MujocoEngine(robot, "matched", n), MujocoEngine(robot, "matched", n)


@each_robot
@pytest.mark.parametrize("chosen", ["all", "one by one", "some"])
def test_prepared_values_are_the_same_bits_as_applied_ones(robot, chosen):
    parameters, rng = supported(robot), np.random.default_rng(0)
    groups = {"all": [parameters], "one by one": [[p] for p in parameters], "some": [parameters[::2], parameters[1::3]]}
    for group in groups[chosen]:
        prepared, applied = engines(robot, 6 if len(group) > 1 else 2)
        # More than are prepared at a time, taken in any order, a few worlds or many at once, again and again.
        values = {p.name: drawn(p, 150, rng) for p in group}
        rows = prepared.prepare(values)
        everyone = np.arange(prepared.num_worlds)
        for ids in (everyone, everyone[1:2], everyone[[0, -1]], everyone[1:]):
            taken = rng.integers(0, 150, len(ids))
            assert prepared.apply_prepared(ids, rows[taken])
            applied.apply(ids, {name: value[taken] for name, value in values.items()})
        assert_same(prepared, applied)
        # A choice alone may have fallen alike in all worlds.
        assert len(group) == 1 or any((field != field[:1]).any() for field in everything(applied).values())


@each_robot
def test_rows_prepared_later_are_as_good(robot):
    """The rows before them have left their traces in the worlds that parameters are prepared in."""
    parameters, rng = supported(robot), np.random.default_rng(1)
    prepared, applied = engines(robot)
    for _ in range(4):
        values = {p.name: drawn(p, 6, rng) for p in parameters}
        assert prepared.apply_prepared(np.arange(6), prepared.prepare(values))
    applied.apply(np.arange(6), values)
    assert_same(prepared, applied)


def test_rows_are_refused_once_other_parameters_were_applied():
    engine = MujocoEngine(ROBOTS["quadruped"], "matched", 2)
    rows = engine.prepare({"trunk/mass": np.array([5.0, 6.0])})
    engine.apply(np.array([1]), {"trunk/mass": np.array([4.0])})
    assert engine.apply_prepared(np.arange(2), rows) and engine.read("trunk/mass").tolist() == [5.0, 6.0]
    engine.apply(np.array([0]), {"trunk/inertia": np.array([1.3])})  # shares a field with the mass
    before = everything(engine)
    assert not engine.apply_prepared(np.arange(2), rows)
    assert all(np.array_equal(before[name], now) for name, now in everything(engine).items())


def test_an_engine_that_applies_parameters_its_own_way_prepares_none():
    class Loud(MujocoEngine):
        def apply(self, ids, values):
            super().apply(ids, {name: 2 * value for name, value in values.items()})

    assert Loud(ROBOTS["cartpole_swingup"], "matched", 1).prepare({"pole/mass": np.ones(1)}) is None


VARIED = {"*/mass": Scale(Uniform(0.5, 2.0)), "actuator/strength": Uniform(0.6, 1.0), "gravity": Uniform(9.0, 10.5)}


@pytest.mark.parametrize(
    "variation",
    [
        Randomization(VARIED),
        Curriculum(Randomization(VARIED), start=0.2, until=0.5),
        Randomization({**VARIED, "hinge/damping": Interval(Uniform(0.0, 0.1), every=0.2)}),
    ],
    ids=["randomization", "curriculum", "interval"],
)
def test_worlds_are_the_same_with_and_without_preparation(variation, monkeypatch):
    runs, worlds_used = [], []
    for prepare in (True, False):
        if not prepare:
            monkeypatch.setattr(MujocoEngine, "prepare", lambda self, values: None)
        worlds = make(Domain("cartpole_swingup", variation=variation), 3, seed=2)
        run, rng = [worlds.reset()[0]], np.random.default_rng(0)
        for t in range(60):
            worlds.progress = t / 60
            run.append(np.concatenate([*map(np.ravel, worlds.step(rng.uniform(-1, 1, (3, 1)))[:2])]))
            if t % 4 == 0:
                run.append(worlds.reset(options={"reset_mask": rng.random(3) < 0.5})[0])
            if t == 30:
                worlds.restore(worlds.snapshot())
        runs.append(run)
        worlds_used.append(worlds)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(*runs, strict=True))
    assert_same(worlds_used[0].engine, worlds_used[1].engine)
    assert worlds_used[0].engine._prepared is not None and worlds_used[1].engine._prepared is None
