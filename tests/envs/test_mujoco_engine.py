"""The MuJoCo engine. That parameters read back, act, do not compound and equal a rebuilt model: test_engine_parity.py."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest

from simreal_envs.engines.mujoco import MujocoEngine
from simreal_envs.engines.terrain import Terrain
from simreal_envs.parameters import UNSUPPORTED, Draws
from simreal_envs.tasks import TASKS as ALL_TASKS

TASKS = {
    name: ALL_TASKS[name] for name in ("cartpole_swingup", "ant")
}  # without and with contacts, forces and positions
QUADRUPED = ALL_TASKS["quadruped"]
each_task = pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
ONE = np.array([0])


def other_value(parameter, share=0.5):
    """A value that is not nominal: between nominal and the further bound, or the other choice."""
    if parameter.choices:
        return next(c for c in parameter.choices if c != parameter.nominal)
    if parameter.quantity == "torque_limit":  # a higher limit than the largest command is never felt
        return parameter.nominal * (0.05 + 0.2 * share)
    if parameter.quantity == "range":  # so narrow that the limits are met
        return 0.4 - 0.2 * share
    further = max((parameter.low, parameter.high), key=lambda bound: abs(bound - parameter.nominal))
    # Gains stay in the range that the explicit drives of a matched world can hold.
    share *= 0.25 if parameter.quantity in ("kp", "kd", "damping") else 1.0
    return parameter.nominal + share * (further - parameter.nominal)


def roll(engine, task, steps=50, seed=0):
    """Act at random from the task's initial states: qpos and qvel after each step, (steps, N, nq + nv)."""
    n = engine.num_worlds
    engine.reset(np.arange(n), *task.initial_state(Draws(seed, np.arange(n), np.zeros(n, int)), n))
    rng = np.random.default_rng(seed)
    out = []
    for action in rng.uniform(-1, 1, (steps, 1, task.schema.action_size)):
        engine.step(task.control(np.broadcast_to(action, (n, action.shape[1]))), task.substeps)
        out.append(np.concatenate([engine.qpos, engine.qvel], axis=1))
    return np.array(out)


def engine_of(task, num_worlds=1, num_threads=1, preset="matched"):
    return MujocoEngine(task.robot, preset, num_worlds, num_threads)


def parameters(task):
    return [p for p in task.robot.parameters if p.supported("mujoco") != UNSUPPORTED]


def other_values(task):
    return {p.name: np.array([other_value(p)]) for p in parameters(task)}


# -- parameters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["matched", "engine_default"])
@pytest.mark.parametrize("task", [*TASKS.values(), QUADRUPED], ids=lambda task: task.name)
def test_the_untouched_model_reads_the_nominal_values(task, preset):
    engine = engine_of(task, 2, preset=preset)
    for parameter in parameters(task):
        if (preset, parameter.quantity) == ("engine_default", "time_constant"):
            continue  # softer contacts are what this preset is about
        # The A1's masses come from the URDF to four digits; everything else is exactly what the robot's table says.
        accuracy = {"rel": 5e-4 if parameter.quantity == "mass" else 1e-12, "abs": 1e-12}
        assert engine.read(parameter.name) == pytest.approx([parameter.nominal] * 2, **accuracy), parameter.name


@pytest.mark.parametrize("task", [*TASKS.values(), QUADRUPED], ids=lambda task: task.name)
def test_every_element_of_a_parameter_is_nominally_alike(task):
    model = task.robot.model("matched")
    for parameter in parameters(task):
        if parameter.quantity == "mass":
            found, accuracy = [model.body(b).mass[0] for b in parameter.elements], 5e-4
        elif parameter.quantity in ("damping", "frictionloss"):
            dofs = [model.joint(j).dofadr[0] for j in parameter.elements]
            found, accuracy = getattr(model, f"dof_{parameter.quantity}")[dofs], 1e-12
        elif parameter.quantity in ("friction", "body_friction", "one_friction"):
            bodies = [model.body(b).id for b in parameter.elements]
            geoms = np.isin(model.geom_bodyid, bodies) & (model.geom_conaffinity > 0)
            found, accuracy = model.geom_friction[geoms, 0], 1e-12
        else:
            continue
        assert len(found) and np.allclose(found, parameter.nominal, rtol=accuracy), parameter.name


@each_task
def test_the_order_in_which_parameters_are_given_does_not_matter(task):
    values = other_values(task)
    forwards, backwards = engine_of(task), engine_of(task)
    forwards.apply(ONE, values)
    for name in reversed(list(values)):
        backwards.apply(ONE, {name: values[name]})
    for name in values:
        assert forwards.read(name) == pytest.approx(backwards.read(name), rel=1e-12)
    assert np.allclose(roll(forwards, task, 5), roll(backwards, task, 5), rtol=0, atol=1e-7)


@each_task
def test_many_changes_of_the_drives_leave_no_trace(task):
    """Bit-equal: a trajectory must not depend on what earlier episodes of the same world had drawn."""
    drives = [p for p in parameters(task) if p.quantity in ("strength", "sign", "kp", "kd", "torque_limit")]
    fresh, used = engine_of(task), engine_of(task)
    rng = np.random.default_rng(0)
    last = {p.name: np.array([other_value(p)]) for p in drives if p.quantity in ("strength", "torque_limit")}
    for _ in range(300):
        used.apply(ONE, {name: value * rng.uniform(0.4, 1.0, 1) for name, value in last.items()})
    fresh.apply(ONE, last)
    used.apply(ONE, last)
    for field in ("actuator_gear", "actuator_gainprm", "actuator_biasprm", "actuator_forcerange"):
        assert np.array_equal(used._batch.expand(field), fresh._batch.expand(field)), field


@each_task
def test_drive_strength_and_sign_scale_the_torque_that_the_drive_delivers(task):
    engine = engine_of(task)
    qpos, qvel = task.initial_state(Draws(0, ONE, ONE), 1)
    dofs = task.robot.joint_addresses()[1]

    def torque(**values):
        engine.apply(ONE, {f"actuator/{name}": np.array([value]) for name, value in values.items()})
        model, data = engine._batch.get_model(0), mujoco.MjData(engine.model)
        data.qpos[:], data.qvel[:] = qpos[0], qvel[0] + 0.3
        data.ctrl[:] = task.control(np.full((1, task.schema.action_size), 0.7))[0]
        mujoco.mj_forward(model, data)
        return data.qfrc_actuator[dofs].copy()

    nominal = torque()
    assert np.abs(nominal).min() > 0
    assert np.allclose(torque(strength=0.5), 0.5 * nominal)
    assert np.allclose(torque(sign=-1.0), -0.5 * nominal)
    assert np.allclose(torque(strength=1.0, sign=1.0), nominal)
    limit = 0.5 * np.abs(nominal).min()
    assert np.allclose(torque(torque_limit=limit), limit * np.sign(nominal))
    assert np.allclose(torque(strength=2.0), 2 * limit * np.sign(nominal))


def test_position_drives_follow_their_gains():
    task = QUADRUPED
    kp, kd, limit, strength = 40.0, 0.7, 20.0, 0.8
    engine = engine_of(task)
    values = {"kd": kd, "strength": strength, "kp": kp, "torque_limit": limit}
    engine.apply(ONE, {f"actuator/{name}": np.array([value]) for name, value in values.items()})
    qpos_ids, dofs = task.robot.joint_addresses()
    rng = np.random.default_rng(0)
    data = mujoco.MjData(engine.model)
    data.qpos[2], data.qpos[3] = 1.0, 1.0
    q, speed, target = rng.uniform(-1, 1, (3, 12))
    data.qpos[qpos_ids], data.qvel[dofs], data.ctrl[:] = q, speed, target
    mujoco.mj_forward(engine._batch.get_model(0), data)
    expected = strength * np.clip(kp * (target - q) - kd * speed, -limit, limit)
    assert np.allclose(data.qfrc_actuator[dofs], expected, rtol=1e-12)


def test_gravity_is_what_a_body_in_the_air_falls_with():
    task = QUADRUPED
    engine = engine_of(task, 2)
    engine.apply(np.array([1]), {"gravity": np.array([3.7])})
    qpos, qvel = task.initial_state(Draws(0, np.arange(2), np.zeros(2, int)), 2)
    qpos[:, 2], qvel[:] = 5.0, 0.0
    engine.reset(np.arange(2), qpos, qvel)
    engine.step(qpos[:, 7:], 1)
    masses = engine.model.body_mass
    data = mujoco.MjData(engine.model)
    falls = []
    for world in range(2):
        data.qpos[:], data.qvel[:] = qpos[world], engine.qvel[world]
        mujoco.mj_forward(engine.model, data)
        mujoco.mj_subtreeVel(engine.model, data)
        falls.append(-data.subtree_linvel[0, 2] / task.robot.timestep)
    assert masses.sum() > 10 and np.allclose(falls, [9.81, 3.7], rtol=1e-3)


def test_friction_decides_how_far_a_robot_slides():
    """Sliding decelerates at mu g; legs bend, so the two are compared with each other instead of with the formula."""
    task = QUADRUPED
    engine = engine_of(task, 2)
    engine.apply(np.arange(2), {"friction": np.array([0.2, 0.4])})
    qpos, qvel = task.initial_state(Draws(0, np.zeros(2, int), np.zeros(2, int)), 2)
    qpos[:, 7:], qvel[:] = task.control(np.zeros((2, 12))), 0.0
    engine.reset(np.arange(2), qpos, qvel)
    stand = task.control(np.zeros((2, 12)))
    engine.step(stand, 250)
    start = engine.qpos[:, 0].copy()
    engine.qvel[:, 0] = 0.6
    engine.step(stand, 250)
    slid = engine.qpos[:, 0] - start
    assert slid[0] > 1.5 * slid[1] > 0


# -- motion ------------------------------------------------------------------------------------------------------------


@each_task
def test_physics_is_bit_equal_for_any_number_of_threads(task):
    values = {p.name: other_value(p) * np.linspace(0.9, 1.0, 6) for p in parameters(task) if not p.choices}
    runs = []
    for threads in (1, 3):
        engine = engine_of(task, 6, threads)
        engine.apply(np.arange(6), values)
        runs.append(roll(engine, task, 20))
    assert np.array_equal(*runs)


@each_task
def test_physics_is_bit_equal_for_any_number_of_worlds(task):
    few, many = engine_of(task, 2), engine_of(task, 9)
    mass = next(name for name in other_values(task) if name.endswith("/mass"))
    few.apply(np.array([1]), {mass: other_values(task)[mass]})
    many.apply(np.array([1, 4]), {mass: np.repeat(other_values(task)[mass], 2)})
    assert np.array_equal(roll(few, task, 20), roll(many, task, 20)[:, :2])


@each_task
def test_substeps_in_one_call_equal_as_many_calls(task):
    one, many = engine_of(task), engine_of(task)
    qpos, qvel = task.initial_state(Draws(0, ONE, ONE), 1)
    control = task.control(np.full((1, task.schema.action_size), 0.3))
    for engine in (one, many):
        engine.reset(ONE, qpos, qvel)
    one.step(control, 12)
    for _ in range(12):
        many.step(control, 1)
    assert np.array_equal(one.qpos, many.qpos) and np.array_equal(one.qvel, many.qvel)


@each_task
def test_a_reset_puts_the_named_worlds_into_their_states_and_leaves_the_others(task):
    engine = engine_of(task, 3)
    roll(engine, task, 5)
    before = engine.qpos.copy()
    qpos, qvel = task.initial_state(Draws(7, np.array([0, 2]), np.zeros(2, int)), 2)
    engine.reset(np.array([0, 2]), qpos, qvel)
    assert np.array_equal(engine.qpos, np.stack([qpos[0], before[1], qpos[1]]))
    assert np.array_equal(engine.qvel[[0, 2]], qvel)


@each_task
def test_a_reset_world_moves_as_a_new_one(task):
    used, new = engine_of(task, 2), engine_of(task, 2)
    roll(used, task, 30, seed=5)
    assert np.array_equal(roll(used, task, 20), roll(new, task, 20))


@each_task
def test_a_snapshot_continues_to_the_same_bits_in_another_engine(task):
    engine = engine_of(task, 3)
    engine.apply(
        np.array([0, 2]),
        {name: np.repeat(value, 2) for name, value in other_values(task).items() if name != "actuator/sign"},
    )
    roll(engine, task, 5)
    snapshot, control = engine.snapshot(), task.control(np.full((3, task.schema.action_size), 0.3))
    engine.step(control, 40)
    expected = engine.qpos.copy()
    fresh = engine_of(task, 3)
    for again in (engine, fresh):
        again.restore(snapshot)
        again.step(control, 40)
        assert np.array_equal(again.qpos, expected)


def test_a_snapshot_has_pushes_and_takes_back_parameters_that_came_later():
    robot = replace(QUADRUPED.robot, floor=False, terrain=Terrain())
    engine = MujocoEngine(robot, "matched", 2)
    qpos, qvel = QUADRUPED.initial_state(Draws(0, np.arange(2), np.zeros(2, int)), 2)
    engine.apply(ONE, {"terrain/roughness": np.array([0.1]), "slope": np.array([0.1])})
    engine.reset(np.arange(2), qpos, qvel)
    engine.push(np.array([[10.0, 0.0, 0.0], [0.0, 20.0, 0.0]]))
    snapshot = engine.snapshot()

    def go_on():
        engine.step(qpos[:, 7:], 50)
        return engine.qpos.copy()

    expected = go_on()
    others = {p.name: p for p in robot.parameters if p.supported("mujoco") != UNSUPPORTED}
    engine.apply(np.arange(2), {name: np.repeat(other_value(p), 2) for name, p in others.items()})
    engine.push(np.zeros((2, 3)))
    go_on()
    engine.restore(snapshot)
    assert np.array_equal(go_on(), expected)
    for name, p in others.items():
        given = {"terrain/roughness": 0.1, "slope": 0.1}.get(name, p.nominal)
        assert engine.read(name) == pytest.approx([given, p.nominal], rel=1e-12, abs=1e-15), name


@each_task
def test_a_snapshot_does_not_change_when_the_engine_goes_on(task):
    engine = engine_of(task)
    engine.apply(ONE, other_values(task))
    snapshot = engine.snapshot()
    copies = {name: np.copy(value) for name, value in snapshot.items()}
    engine.apply(ONE, {p.name: np.array([p.nominal]) for p in parameters(task)})
    roll(engine, task, 3)
    assert all(np.array_equal(snapshot[name], copies[name]) for name in copies)


@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e200])
@each_task
def test_a_world_whose_state_breaks_down_is_seen_alone_and_until_its_reset(task, poison, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo logs such warnings into the working directory
    engine, healthy = engine_of(task, 3), engine_of(task, 3)
    for e in (engine, healthy):
        roll(e, task, 2)
    assert not engine.diverged().any()
    engine.qvel[1, 0] = poison
    control = task.control(np.zeros((3, task.schema.action_size)))
    for _ in range(2):
        engine.step(control, task.substeps)
        healthy.step(control, task.substeps)
        assert engine.diverged().tolist() == [False, True, False]
        assert np.array_equal(engine.qpos[[0, 2]], healthy.qpos[[0, 2]])
    qpos, qvel = task.initial_state(Draws(0, ONE, ONE), 1)
    engine.reset(np.array([1]), qpos, qvel)
    engine.step(control, task.substeps)
    assert not engine.diverged().any() and np.isfinite(engine.qpos).all()


@pytest.mark.parametrize("played", [False, True])
def test_a_world_that_mujoco_refuses_to_simulate_is_seen_alone_until_its_reset_and_in_snapshots(played):
    task = TASKS["cartpole_swingup"]
    engine, healthy = engine_of(task, 3), engine_of(task, 3)
    integrator = engine._batch.expand("opt.integrator")
    integrator[1], sane = 77, integrator[0]  # one of no name, at which mj_step raises an error
    for e in (engine, healthy):
        if played:
            e.play(np.zeros((3, 4, 1)))
        else:
            e.step(np.zeros((3, 1)), 4)
    assert engine.diverged().tolist() == [False, True, False] and not healthy.diverged().any()
    assert np.array_equal(engine.qpos[[0, 2]], healthy.qpos[[0, 2]])
    integrator[1] = sane
    snapshot = engine.snapshot()
    engine.step(np.zeros((3, 1)), 1)
    assert engine.diverged().tolist() == [False, True, False]  # until its reset
    engine.reset(np.array([1]), *task.initial_state(Draws(0, ONE, ONE), 1))
    engine.step(np.zeros((3, 1)), 1)
    assert not engine.diverged().any()
    engine.restore(snapshot)
    assert engine.diverged().tolist() == [False, True, False]


def test_restoring_a_sane_snapshot_forgets_a_divergence_that_came_later(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = TASKS["cartpole_swingup"]
    engine = engine_of(task, 2)
    roll(engine, task, 2)
    snapshot = engine.snapshot()
    engine.qvel[1, 0] = np.nan
    engine.step(np.zeros((2, 1)), 1)
    engine.restore(snapshot)
    assert not engine.diverged().any()


def test_the_presets_differ_in_their_solver_settings():
    task = QUADRUPED
    matched, default = (task.robot.model(preset) for preset in ("matched", "engine_default"))
    assert matched.opt.cone != default.opt.cone
    assert not np.array_equal(matched.geom_solref, default.geom_solref)
    assert not np.array_equal(roll(engine_of(task), task, 5), roll(engine_of(task, preset="engine_default"), task, 5))


@each_task
def test_engines_never_change_the_robots_cached_model(task):
    model = task.robot.model("matched")
    before = [model.body_mass.copy(), model.geom_friction.copy(), model.actuator_gear.copy(), model.opt.gravity.copy()]
    engine = engine_of(task)
    engine.apply(ONE, other_values(task))
    after = [model.body_mass, model.geom_friction, model.actuator_gear, model.opt.gravity]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
