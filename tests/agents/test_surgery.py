import json
import math
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from kinds import CAMERA, GRID, KINDS, OBSERVATIONS, observed, outputs, schema_of
from kinds import agent_of as agent_of_kind

from simreal_agents.bundle import Agent, load, load_into
from simreal_agents.surgery import Surgery, fit
from simreal_envs.errors import Unsupported, UserError
from simreal_envs.schema import Field, Schema

ANGLE = Field("angle", "rad", ("hip", "knee", "ankle"), -3.0, 3.0)
SPEED = Field("speed", "m/s", ("x", "z"))
HEIGHT = Field("height", "m", ("z",))
TORQUE = Field("torque", "N m", ("hip", "knee"), -5.0, 5.0)
GRIP = Field("grip", "1", ("hand",), -1.0, 1.0)
SCHEMA = Schema((ANGLE, SPEED, HEIGHT), (TORQUE, GRIP), 0.02)
N = 200
# Sums of 50 terms of about 1 in float32; the outputs here are about 1 as well.
ROUNDING = {"rtol": 0, "atol": 2e-5}


def agent_of(schema=SCHEMA, seed=0, **network):
    """An agent with heads that matter and statistics that differ from element to element."""
    agent = Agent.new(schema, {"hidden": [32, 16], **network}, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in agent.policy.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
        normalizer = agent.policy.encoder.normalizer
        if normalizer.enabled:
            normalizer.update(torch.randn((500, schema.observation_size), generator=generator) * 0.5 + 0.3)
        agent.policy.reward_scaler.update(3 * torch.randn((100, 1), generator=generator))
    return agent


@pytest.fixture
def agent():
    return agent_of()


def names(fields):
    return [(field.name, label) for field in fields for label in field.labels]


def readings(schema=SCHEMA, seed=1):
    """Observations {(field, label): (N,)} in the units of the schema, two standard deviations about 0.3."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0.3, 1.0, N) for name in names(schema.observation)}


def rows(schema, read):
    return np.stack([read[name] for name in names(schema.observation)], axis=1).astype(np.float32)


def columns(schema, array):
    return dict(zip(names(schema.action), array.T, strict=True))


def permuted(schema):
    """Fields in reverse order, and the labels within each."""
    turn = lambda fields: tuple(replace(f, labels=f.labels[::-1]) for f in fields[::-1])  # noqa: E731
    return replace(schema, observation=turn(schema.observation), action=turn(schema.action))


def tensors(agent):
    return {name: tensor.clone() for name, tensor in agent.policy.state_dict().items()}


def assert_same_behaviour(old, new, read, new_read=None, gain=1.0, **tolerance):
    """Mean and noise of every shared action, and the value, agree on corresponding readings."""
    tolerance = tolerance or ROUNDING
    before, after = rows(old.schema, read), rows(new.schema, new_read or read)
    (m1, s1, _), (m2, s2, _) = old.distribution(before), new.distribution(after)
    old_mean, new_mean = columns(old.schema, m1), columns(new.schema, m2)
    old_std, new_std = columns(old.schema, s1[None]), columns(new.schema, s2[None])
    shared = old_mean.keys() & new_mean.keys()
    assert shared
    for name in shared:
        np.testing.assert_allclose(new_mean[name], old_mean[name] * gain, **tolerance)
        np.testing.assert_allclose(new_std[name], old_std[name] * gain, rtol=1e-6)
    np.testing.assert_allclose(new.value(after), old.value(before), **tolerance)
    assert np.ptp(m1, axis=0).min() > 0.1  # the observations matter


# ---- what is shared ---------------------------------------------------------------------------------------------------


def test_the_same_schema_gives_an_equal_agent_with_tensors_of_its_own(agent):
    before = tensors(agent)
    new, surgery = fit(agent, SCHEMA)
    assert all(torch.equal(before[name], tensor) for name, tensor in new.policy.state_dict().items())
    np.testing.assert_array_equal(new.act(rows(SCHEMA, readings())), agent.act(rows(SCHEMA, readings())))
    assert {row.fate for row in surgery.rows} == {"matched"} and "equal to the bit" in surgery.says
    with torch.no_grad():
        for tensor in new.policy.state_dict().values():
            tensor.add_(1)
    assert all(torch.equal(before[name], tensor) for name, tensor in agent.policy.state_dict().items())


def products(agent, observations, tower):
    """The terms that the first layer sums, (N, units, inputs), exact in float64; those that are 0 are left out."""
    normalized = agent.policy.encoder.normalizer(torch.from_numpy(observations)).double()
    terms = normalized[:, None, :] * agent.policy.linears(tower)[0].weight.double()
    return [sorted(row[row != 0].tolist()) for row in terms[:20].reshape(-1, terms.shape[-1])]


def test_a_permutation_sums_the_same_terms_in_another_order(agent):
    target = permuted(SCHEMA)
    new, surgery = fit(agent, target)
    read = readings()
    for tower in ("actor", "critic"):
        assert products(agent, rows(SCHEMA, read), tower) == products(new, rows(target, read), tower)  # to the bit
    assert_same_behaviour(agent, new, read)
    assert new.schema == target and agent.schema == SCHEMA
    assert {row.says for row in surgery.rows} == {"moved"}
    order = [names(SCHEMA.action).index(name) for name in names(target.action)]
    for name in ("weight", "bias"):  # rows of the head are copied as they are
        assert torch.equal(getattr(new.policy.heads.actor, name), getattr(agent.policy.heads.actor, name)[order])
    assert torch.equal(new.policy.log_std, agent.policy.log_std[order])


def test_permuting_back_restores_every_bit(agent):
    back, _ = fit(fit(agent, permuted(SCHEMA))[0], SCHEMA)
    for name, tensor in agent.policy.state_dict().items():
        assert torch.equal(tensor, back.policy.state_dict()[name]), name


# ---- what only the target has -----------------------------------------------------------------------------------------


def test_new_readings_change_no_bit_of_any_action_or_value_whatever_they_are(agent):
    force = Field("contact_force", "N", ("left", "right"))
    target = replace(SCHEMA, observation=(ANGLE, force, SPEED, HEIGHT))
    new, surgery = fit(agent, observation=target.observation)
    assert new.schema == target
    read, outputs = readings(), []
    for scale in (0.0, 1.0, -1e6):
        more = read | {("contact_force", label): scale * np.random.default_rng(2).random(N) for label in force.labels}
        outputs.append((new.act(rows(target, more)), new.value(rows(target, more))))
        assert products(agent, rows(SCHEMA, read), "actor") == products(new, rows(target, more), "actor")
        assert_same_behaviour(agent, new, read, more)
    for actions, values in outputs[1:]:
        np.testing.assert_array_equal(actions, outputs[0][0])
        np.testing.assert_array_equal(values, outputs[0][1])
    (row,) = (row for row in surgery.rows if row.fate == "created")
    assert (row.field, row.labels, row.unit, row.says) == ("contact_force", ("left", "right"), "N", "weights 0")


def test_new_readings_are_measured_from_their_first_rows_and_old_ones_go_on(agent):
    target = replace(SCHEMA, observation=(*SCHEMA.observation, Field("contact_force", "N", ("left",))))
    normalizer = fit(agent, target)[0].policy.encoder.normalizer
    assert (normalizer.mean[-1], normalizer.var[-1], normalizer.count[-1]) == (0, 1, 0)
    more = torch.from_numpy(np.random.default_rng(3).normal(80.0, 20.0, (50, 7)))
    old = agent.copy().policy.encoder.normalizer
    normalizer.update(more)
    old.update(more[:, :6])
    torch.testing.assert_close(normalizer.mean[-1], more[:, -1].mean())  # not diluted by 500 rows without it
    torch.testing.assert_close(normalizer.var[-1], more[:, -1].var(unbiased=False))
    for moment in ("mean", "var", "count"):
        assert torch.equal(getattr(normalizer, moment)[:-1], getattr(old, moment))


def test_new_actions_start_at_zero_or_the_bound_next_to_it_with_fresh_noise():
    agent = agent_of(log_std_init=-0.5)
    valve = Field("valve", "Pa", ("main",), 2.0, 9.0)
    target = replace(SCHEMA, action=(replace(TORQUE, labels=("ankle", "hip")), valve, GRIP))
    new, surgery = fit(agent, target)
    actions, noise, _ = new.distribution(rows(target, readings()))
    mean, std = columns(target, actions), columns(target, noise)
    np.testing.assert_array_equal(mean["torque", "ankle"], 0.0)
    np.testing.assert_array_equal(mean["valve", "main"], 2.0)
    assert std["torque", "ankle"] == std["valve", "main"] == pytest.approx(math.exp(-0.5))
    assert_same_behaviour(agent, new, readings())
    fates = {(row.field, row.labels): (row.fate, row.says) for row in surgery.rows if row.kind == "action"}
    assert fates == {
        ("torque", ("ankle",)): ("created", "starts at 0"),
        ("torque", ("hip",)): ("matched", "moved"),
        ("valve", ("main",)): ("created", "starts at 2"),
        ("grip", ("hand",)): ("matched", "moved"),
        ("torque", ("knee",)): ("dropped", "row removed"),
    }


# ---- what only the agent has ------------------------------------------------------------------------------------------


def test_a_missing_reading_is_taken_as_its_mean(agent):
    target = replace(SCHEMA, observation=(replace(ANGLE, labels=("hip", "ankle")), HEIGHT))
    new, surgery = fit(agent, target)
    mean = dict(zip(names(SCHEMA.observation), agent.policy.encoder.normalizer.mean.tolist(), strict=True))
    gone = [("angle", "knee"), ("speed", "x"), ("speed", "z")]
    told = readings() | {name: np.full(N, mean[name]) for name in gone}
    assert_same_behaviour(agent, new, told)
    for tower in ("actor", "critic"):  # the mean is 0 after normalization, so nothing is left to correct
        assert torch.equal(new.policy.linears(tower)[0].bias, agent.policy.linears(tower)[0].bias)
    dropped = {
        (row.field, label): value
        for row in surgery.rows
        if row.values
        for label, value in zip(row.labels, row.values, strict=True)
    }
    assert dropped == {name: mean[name] for name in gone}


@pytest.mark.parametrize(("normalize", "far"), [(True, -40.0), (False, -1.5)])  # -40 is where the normalizer clips
def test_a_missing_reading_can_be_told(normalize, far):
    agent = agent_of(normalize_observations=normalize)
    target = replace(SCHEMA, observation=(replace(ANGLE, labels=("knee",)), HEIGHT))
    new, surgery = fit(agent, target, fill={"speed": [0.5, far], "angle": 1.25})
    told = {("speed", "x"): 0.5, ("speed", "z"): far, ("angle", "hip"): 1.25, ("angle", "ankle"): 1.25}
    assert_same_behaviour(
        agent, new, readings() | {name: np.full(N, value) for name, value in told.items()}, rtol=0, atol=5e-5
    )
    assert {(row.field, row.values) for row in surgery.rows if row.values} == {
        ("angle", (1.25, 1.25)),
        ("speed", (0.5, far)),
    }


# ---- units ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalize", [True, False])
def test_units_of_the_same_quantity_are_converted(normalize):
    agent = agent_of(normalize_observations=normalize)
    target = Schema(
        (replace(HEIGHT, unit="mm"), replace(ANGLE, unit="deg"), replace(SPEED, unit="km/h")),
        (replace(TORQUE, unit="mN m", low=-5000.0, high=5000.0), GRIP), 0.02,
    )  # fmt: skip
    new, surgery = fit(agent, target)
    read = readings()
    factors = {"height": 1e3, "angle": 180 / math.pi, "speed": 3.6}
    converted = {name: values * factors[name[0]] for name, values in read.items()}
    (m1, s1, _), (m2, s2, _) = agent.distribution(rows(SCHEMA, read)), new.distribution(rows(target, converted))
    scale = np.array([1e3, 1e3, 1.0])
    np.testing.assert_allclose(m2 / scale, m1, **ROUNDING)
    np.testing.assert_allclose(s2 / scale, s1, rtol=1e-6)
    np.testing.assert_allclose(new.value(rows(target, converted)), agent.value(rows(SCHEMA, read)), **ROUNDING)
    shown = {row.field: row.unit for row in surgery.rows if row.fate == "rescaled"}
    assert shown == {"height": "m -> mm", "angle": "rad -> deg", "speed": "m/s -> km/h", "torque": "N m -> mN m"}
    for tower in (
        "actor",
        "critic",
    ):  # with a normalizer the statistics carry the unit, so that its clipping stays the same
        order = [5, 0, 1, 2, 3, 4]
        same = torch.equal(new.policy.linears(tower)[0].weight, agent.policy.linears(tower)[0].weight[:, order])
        assert same is normalize


def test_readings_far_out_are_clipped_where_the_old_agent_clips_them(agent):
    target = replace(SCHEMA, observation=(replace(ANGLE, unit="deg"), SPEED, HEIGHT))
    read = readings() | {("angle", "hip"): np.linspace(-50, 50, N)}
    converted = {name: values * (180 / math.pi if name[0] == "angle" else 1) for name, values in read.items()}
    assert_same_behaviour(agent, fit(agent, target)[0], read, converted)


def test_a_reading_that_hardly_varied_keeps_its_weight_in_a_coarser_unit():
    agent = agent_of(replace(SCHEMA, observation=(ANGLE, SPEED, replace(HEIGHT, unit="um"))))
    normalizer = agent.policy.encoder.normalizer
    normalizer.mean[5], normalizer.var[5] = 4.0, 1e-4  # um; in m the variance would be below the normalizer's epsilon
    new, _ = fit(agent, SCHEMA)
    assert new.policy.encoder.normalizer.var.min() == 0
    read = readings() | {("height", "z"): 4.0 + 0.01 * np.random.default_rng(4).uniform(-3, 3, N)}
    metres = read | {("height", "z"): read["height", "z"] * 1e-6}
    # float32 rounds the mean of 4 um to 2e-7 of itself, which is 1e-4 of these small deviations
    assert_same_behaviour(agent, new, read, metres, rtol=0, atol=2e-3)


def test_a_dimensionless_action_is_a_share_of_its_range(agent):
    target = replace(SCHEMA, action=(TORQUE, replace(GRIP, low=0.0, high=10.0)))
    new, surgery = fit(agent, target)
    observations = rows(SCHEMA, readings())
    old, fitted = agent.act(observations)[:, 2], new.act(observations)[:, 2]
    np.testing.assert_allclose(fitted, 5 + 5 * old, atol=1e-4)
    assert (
        old.min() == -1 and old.max() == 1 and fitted.min() == 0 and fitted.max() == 10
    )  # saturated at the same readings
    np.testing.assert_allclose(
        new.distribution(observations)[1], agent.distribution(observations)[1] * [1, 1, 5], rtol=1e-6
    )
    assert surgery.rows[-1].says == "target = 5 x agent +5"


@pytest.mark.parametrize("place", [-1.0, 0.0, 2.0])
def test_a_dimensionless_action_may_have_no_reach_in_the_target(agent, place):
    new, _ = fit(agent, action=(TORQUE, replace(GRIP, low=place, high=place)))  # a gripper that is locked
    observations = rows(SCHEMA, readings())
    drawn = new.act(observations, False, torch.Generator().manual_seed(0))
    assert (new.act(observations)[:, 2] == place).all() and (drawn[:, 2] == place).all()
    assert all(tensor.isfinite().all() for tensor in tensors(new).values())


def test_a_physical_action_keeps_its_value_and_the_record_shows_the_bounds(agent):
    new, surgery = fit(agent, action=(replace(TORQUE, low=-1.0, high=1.0), GRIP))
    assert_same_behaviour(agent, new, readings())
    assert "bounds -5 to 5 -> -1 to 1" in str(surgery)


# ---- other names ------------------------------------------------------------------------------------------------------


def test_other_names_are_matched_when_told_and_hinted_at_when_not(agent):
    renamed = Schema(
        (replace(ANGLE, name="angles"), SPEED, replace(HEIGHT, labels=("up",))),
        (replace(TORQUE, labels=("hip", "knie")), GRIP),
        0.02,
    )
    _, surgery = fit(agent, renamed)
    fates = {(row.field, row.fate): row.says for row in surgery.rows}
    assert fates["angles", "created"] == "weights 0; the agent has angle/hip, knee, ankle"
    assert (
        "the target has angles/hip" in fates["angle", "dropped"]
        and "the target has height/up" in fates["height", "dropped"]
    )
    told = {"angles": "angle", "height/up": "height/z", "torque/knie": "torque/knee"}
    new, surgery = fit(agent, renamed, rename=told)
    assert {row.fate for row in surgery.rows} == {"matched"} and "the agent's torque/knee" in str(surgery)
    observations = rows(SCHEMA, readings())
    np.testing.assert_array_equal(new.act(observations), agent.act(observations))


# ---- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"observation": (replace(ANGLE, unit="m"), SPEED)}, r"'angle' is in \[rad\] for the agent and in \[m\] for the target"),
        ({"observation": (replace(ANGLE, unit="1"), SPEED)}, r"not known as units of one quantity"),
        ({"action": (replace(TORQUE, unit="1"),)}, r"action field 'torque' is in \[N m\]"),
        ({"observation": (Field("image_mean", "1", ("grey",)),)}, "share no observation: angle, speed, height against image_mean"),
        ({"action": ()}, "the target's schema has no action"),
        ({"observation": (replace(ANGLE, labels=()),)}, "the target's schema has no observation"),
        ({"observation": (ANGLE, ANGLE)}, "two elements called 'angle/hip'"),
        ({"target": replace(SCHEMA, control_period=1 / 15)}, "every 0.02 s, the target every 0.06667 s; surgery"),
        ({"target": gymnasium.spaces.Box(0, 255, (64, 64, 3), np.uint8)}, r"image of shape \(64, 64, 3\).* needs a new encoder"),
        ({"target": gymnasium.spaces.Dict(camera=gymnasium.spaces.Box(0, 1, (8, 8)))}, "needs a new encoder"),
        ({"target": SCHEMA.observation_space}, "without names"),
        ({"target": "hopper"}, "needs the schema of the target, not a str"),
        ({"target": SCHEMA, "action": (GRIP,)}, "not both"),
        ({"fill": {"height": 1.0}}, "unknown field that the target lacks 'height'; did you mean|valid: none"),
        ({"observation": (ANGLE, SPEED), "fill": {"heigt": 1.0}}, "did you mean 'height'"),
        ({"observation": (ANGLE, SPEED), "fill": {"height": math.nan}}, "needs a finite number"),
        ({"observation": (ANGLE, HEIGHT), "fill": {"speed": [1.0]}}, "one for each of 2 elements"),
        ({"observation": (ANGLE, HEIGHT), "fill": {"speed": "fast"}}, "needs a finite number"),
        ({"observation": ANGLE}, r"the observation of a schema is a tuple of simreal_envs.schema.Field, not Field\(name='angle'"),
        ({"action": ["torque"]}, r"the action of a schema is a tuple of simreal_envs.schema.Field, not \['torque'\]"),
        ({"fill": 0.0}, r"fit: fill must be a mapping from names, as \{'speed': 0.0\}, not 0.0"),
        ({"rename": "angle"}, "fit: rename must be a mapping from names, .* not 'angle'"),
        ({"rename": {1: 2}}, "fit: rename must be a mapping from names, .* not {1: 2}"),
        ({"rename": {"angel": "angle"}}, "field of the target 'angel'; did you mean 'angle'"),
        ({"rename": {"angle/hip": "angle/hop"}}, "element of the agent 'angle/hop'; did you mean 'angle/hip'"),
        ({"rename": {"angle/hip": "angle/knee"}}, "two elements of the target's observation are to be the agent's angle/knee"),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_is_refused_in_one_sentence(agent, change, says):
    before = tensors(agent)
    with pytest.raises(UserError, match=says) as refusal:
        fit(agent, **change)
    assert "\n" not in str(refusal.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in agent.policy.state_dict().items())


def test_an_image_is_unsupported_and_not_a_mistake(agent):
    with pytest.raises(Unsupported):
        fit(agent, gymnasium.spaces.Box(0, 255, (3, 64, 64), np.uint8))


# ---- the record, the card, and what follows ---------------------------------------------------------------------------


def test_the_record_is_plain_data_that_prints_as_a_table(agent):
    target = Schema((replace(ANGLE, unit="deg"), HEIGHT, Field("contact", "1", ("foot",))), (GRIP,), 0.02)
    _, surgery = fit(agent, target)
    assert Surgery.from_dict(json.loads(json.dumps(surgery.to_dict()))) == surgery
    lines = str(surgery).splitlines()
    assert [line.split()[1:3] for line in lines if line.startswith(("observation", "action"))] == [
        ["angle", "hip,"],
        ["grip", "hand"],
    ]
    assert len({line.index("[") for line in lines if "[" in line}) == 1  # aligned
    assert lines[-1] == surgery.says and "for the dropped readings at the values above" in surgery.says
    nothing, record = fit(agent, action=(Field("push", "N", ("base",)),))
    assert "no action is shared" in record.says
    np.testing.assert_array_equal(nothing.act(rows(SCHEMA, readings())), 0.0)


def test_the_card_carries_the_record_and_the_chain_of_agents_through_the_disk(agent, tmp_path):
    card = {
        "algorithm": "ppo",
        "domain": {"task": "walk"},
        "seed": 3,
        "steps": 64,
        "returns": [{"return_mean": 1.0}, {"return_mean": 2.5}],
    }
    first = load(agent.save(tmp_path / "first", card))
    second = load(fit(first, permuted(SCHEMA))[0].save(tmp_path / "second"))
    third = load(fit(second, observation=(HEIGHT,))[0].save(tmp_path / "third"))
    assert second.schema == permuted(SCHEMA) and second.card["seed"] == 3 and "returns" not in second.card
    assert Surgery.from_dict(second.card["surgery"]) == fit(first, permuted(SCHEMA))[1]
    one, two = third.card["ancestors"]
    facts = {key: card[key] for key in ("algorithm", "domain", "seed", "steps")}
    assert one == {**facts, "return_mean": 2.5, "sha256": first.card["sha256"]}
    assert two["surgery"] == second.card["surgery"] and two["sha256"] == second.card["sha256"]
    observations, again = rows(second.schema, readings()), fit(first, permuted(SCHEMA))[0]
    np.testing.assert_array_equal(second.act(observations), again.act(observations))


def test_a_fitted_agent_goes_on_learning_where_the_old_one_is_refused(make_ppo, schema):
    seen = (schema.observation[2], replace(schema.observation[0], unit="mm"))
    elsewhere = Schema(seen, (replace(schema.action[0], low=-2.0, high=2.0),), 0.1)
    agent = agent_of(elsewhere, hidden=[16, 16])
    ppo = make_ppo()
    with pytest.raises(UserError, match="observation fields"):
        load_into(ppo, agent)
    fitted, _ = fit(agent, schema)
    load_into(ppo, fitted)
    ppo.learn(512)
    learned = Agent.of(ppo)
    assert learned.policy.encoder.normalizer.count.tolist() == [1012, 512, 1012]  # position, velocity, goal
    weight = learned.policy.linears("actor")[0].weight
    assert weight[:, 1].abs().max() > 0  # zero weights learn


def test_an_agent_from_before_counts_were_per_element_loads(agent):
    state = agent.policy.state_dict()
    state["encoder.normalizer.count"] = torch.tensor(500.0, dtype=torch.float64)
    other = agent_of(seed=5)
    other.policy.load_state_dict(state)
    assert other.policy.encoder.normalizer.count.tolist() == [500.0] * 6
    assert state["encoder.normalizer.count"].shape == ()


# ---- tasks that are there ---------------------------------------------------------------------------------------------


def test_a_quadruped_with_other_joints_and_sensors():
    from simreal_envs.tasks import find_task

    a1 = find_task("quadruped").schema
    agent = agent_of(a1, hidden=[128, 64], activation="elu")
    order = np.random.default_rng(0).permutation(12)
    turn = lambda f: replace(f, labels=tuple(f.labels[i] for i in order)) if f.size == 12 else f  # noqa: E731
    fields = [turn(f) for f in a1.observation if f.name != "linear_velocity"]
    fields.insert(2, Field("foot_contact", "1", ("FR", "FL", "RR", "RL"), 0.0, 1.0))
    fields = [replace(f, unit="deg/s") if f.name == "angular_velocity" else f for f in fields]
    target = Schema(tuple(fields), tuple(map(turn, a1.action)), a1.control_period)
    new, surgery = fit(agent, target)
    mean = dict(zip(names(a1.observation), agent.policy.encoder.normalizer.mean.tolist(), strict=True))
    read = readings(a1) | {name: np.full(N, value) for name, value in mean.items() if name[0] == "linear_velocity"}
    theirs = {name: values * 180 / np.pi if name[0] == "angular_velocity" else values for name, values in read.items()}
    theirs |= {("foot_contact", foot): np.ones(N) for foot in ("FR", "FL", "RR", "RL")}
    assert_same_behaviour(agent, new, read, theirs, rtol=0, atol=1e-4)
    assert {row.fate for row in surgery.rows} == {"matched", "rescaled", "created", "dropped"}


def test_of_cart_pole_and_pendulum_the_pole_is_shared_and_no_action():
    from simreal_envs.tasks import find_task

    agent = agent_of(find_task("cartpole_swingup").schema)
    _, surgery = fit(agent, find_task("pendulum_swingup").schema)
    assert {(row.field, row.fate) for row in surgery.rows} == {
        ("pole_direction", "matched"), ("pole_velocity", "matched"), ("cart_position", "dropped"), ("cart_velocity", "dropped"),
        ("torque", "created"), ("force", "dropped"),
    }  # fmt: skip
    assert "no action is shared" in surgery.says


# ---- every algorithm, and every kind of observation and action --------------------------------------------------------

LIDAR = Field("lidar", "1", ("depth",), 0.0, 1.0, grid=(8, 8))
PRESSURE = Field("pressure", "Pa", ("tank",))
BRAKE = Field("brake", "1", ("foot",), 0.0, 1.0)


def turned(field):
    return replace(field, labels=field.labels[::-1])


def grown(schema):
    """All turned round, with something new in every place where surgery can put it."""
    seen = [turned(f) for f in schema.observation[::-1]]
    seen = [replace(f, labels=("new", *f.labels)) if f.grid else f for f in seen]
    seen[1:1] = [PRESSURE] if any(not f.grid for f in seen) else []
    seen += [LIDAR] if any(f.grid for f in seen) else []
    if schema.choices:
        done = [replace(schema.action[0], labels=("jump", *schema.action[0].labels[::-1]), high=3.0)]
    else:
        done = [turned(schema.action[0]), BRAKE, *schema.action[1:]]
    return replace(schema, observation=tuple(seen), action=tuple(done))


def elements(schema, observations):
    """``{(field, label): (n, ..)}`` of a batch as the worlds show it."""
    flat, start, found = schema.unpack(observations), 0, {}
    for field in schema.observation:
        block = flat[:, start : start + field.size].reshape(len(flat), *field.grid, len(field.labels))
        found |= {(field.name, label): block[..., k] for k, label in enumerate(field.labels)}
        start += field.size
    return found


def shown(schema, values, seed, new=1e3):
    """A batch of `values` as worlds of `schema` show it; what has none is drawn."""
    rng, count, columns = np.random.default_rng(seed), len(next(iter(values.values()))), []
    for field in schema.observation:
        high = field.high if field.grid else new
        drawn = [
            values[field.name, label] if (field.name, label) in values else rng.uniform(0, high, (count, *field.grid))
            for label in field.labels
        ]
        columns.append(np.stack(drawn, axis=-1).reshape(count, -1))
    return schema.pack(np.concatenate(columns, axis=1).astype(schema.dtype))


def labels_of(schema):
    return [label for field in schema.action for label in field.labels]


def decided(agent, observations):
    """What decides its actions, by label; of probabilities their logarithm, relative to the first choice of `MOVE`."""
    found = dict(zip(labels_of(agent.schema), outputs(agent, observations).T, strict=True))
    if agent.algorithm == "ppo" and agent.schema.choices:
        return {label: np.log(p) - np.log(found["stay"]) for label, p in found.items()}
    return found


@pytest.mark.parametrize(("algorithm", "observation", "action"), KINDS, ids=["-".join(kind) for kind in KINDS])
def test_surgery_keeps_what_every_kind_of_agent_does(algorithm, observation, action):
    agent = agent_of_kind(algorithm, observation, action)
    before, target = tensors(agent), grown(agent.schema)
    new, surgery = fit(agent, target)
    assert all(torch.equal(before[name], tensor) for name, tensor in agent.policy.state_dict().items())
    old_shown = observed(agent.schema)
    values = elements(agent.schema, old_shown)
    one, other = shown(target, values, 0), shown(target, values, 1)
    np.testing.assert_array_equal(outputs(new, one), outputs(new, other))  # whatever the new ones are, to the bit
    np.testing.assert_array_equal(new.value(one), new.value(other))
    mine, theirs = decided(agent, old_shown), decided(new, one)
    for label, column in mine.items():
        np.testing.assert_allclose(theirs[label], column, rtol=0, atol=3e-5)
        assert column.std() > 1e-3 or label == "stay"
    if not agent.schema.choices:
        np.testing.assert_array_equal(theirs["foot"], 0.0)
    np.testing.assert_allclose(new.value(one), agent.value(old_shown), rtol=0, atol=3e-5)
    fates = {(row.kind, row.field, row.fate) for row in surgery.rows}
    created = {("observation", f.name, "created") for f in target.observation if f.name not in ("angle", "speed")}
    assert created <= fates and all(("observation", f.name, "matched") in fates for f in agent.schema.observation)
    back, _ = fit(new, agent.schema)
    for name, tensor in before.items():
        assert torch.equal(tensor, back.policy.state_dict()[name]), name


@pytest.mark.parametrize("algorithm", ["ppo", "dqn", "qrdqn"])
def test_a_new_choice_starts_as_the_mean_of_the_others_and_is_never_the_best(algorithm):
    agent = agent_of_kind(algorithm, "vector", "choice")
    move = agent.schema.action[0]
    more, surgery = fit(agent, action=(replace(move, labels=("jump", "right", "stay", "left"), high=3.0),))
    seen = observed(agent.schema)
    chosen = np.array(labels_of(agent.schema))[agent.act(seen)]
    np.testing.assert_array_equal(np.array(labels_of(more.schema))[more.act(seen)], chosen)
    assert len(set(chosen)) == 3
    before, after = decided(agent, seen), decided(more, seen)
    np.testing.assert_allclose(after["jump"], np.mean([before[label] for label in before], axis=0), atol=1e-5)
    assert {row.says for row in surgery.rows if row.fate == "created"} == {"starts as the mean of the others"}
    fewer, surgery = fit(agent, action=(replace(move, labels=("right", "stay"), high=1.0),))
    best = ["right" if r > s else "stay" for r, s in zip(before["right"], before["stay"], strict=True)]
    assert [("right", "stay")[i] for i in fewer.act(seen)] == best
    assert ("move", "dropped") in {(row.field, row.fate) for row in surgery.rows}


@pytest.mark.parametrize("algorithm", ["sac", "td3", "tqc"])
def test_critics_judge_shared_actions_alike_and_follow_their_targets(algorithm):
    agent = agent_of_kind(algorithm)
    target = grown(agent.schema)
    new, _ = fit(agent, target)
    seen = torch.from_numpy(observed(agent.schema, 20))
    theirs = torch.from_numpy(shown(target, elements(agent.schema, seen.numpy()), 0))
    done = torch.rand((20, 3), generator=torch.Generator().manual_seed(0)) * 2 - 1
    order = [labels_of(agent.schema).index(label) if label != "foot" else 0 for label in labels_of(target)]
    with torch.no_grad():
        before, after = agent.policy.q_values(seen, done), new.policy.q_values(theirs, done[:, order])
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-5)
    for name, copy, online in new.policy.followed:
        assert torch.equal(copy, online), name
    assert torch.equal(new.policy.encoder.critic[0].weight[..., -2], torch.zeros(2, 32))  # the brake's column


@pytest.mark.parametrize("algorithm", ["sac", "td3", "tqc"])
def test_squashed_actions_are_shares_of_a_range_that_must_stay(algorithm):
    agent = agent_of_kind(algorithm)
    torque, grip = agent.schema.action
    milli = replace(torque, unit="mN m", low=-5000.0, high=5000.0)
    new, surgery = fit(agent, action=(replace(grip, low=0.0, high=10.0), milli))
    seen = observed(agent.schema)
    before, after = columns(agent.schema, agent.act(seen)), columns(new.schema, new.act(seen))
    for (name, label), action in before.items():
        expected = {"torque": 1000 * action, "grip": 5 + 5 * action}[name]
        np.testing.assert_allclose(after[name, label], expected, rtol=2e-6, atol=1e-3)  # of 5000 mN m
    assert {row.field for row in surgery.rows if row.fate == "rescaled"} == {"torque", "grip"}
    with pytest.raises(Unsupported, match=r"torque/hip reaches from -5 to 5 \[N m\] for the agent and from -1 to 1"):
        fit(agent, action=(replace(torque, low=-1.0, high=1.0), grip))


@pytest.mark.parametrize(("algorithm", "action"), [("ppo", "box"), ("dqn", "choice"), ("qrdqn", "choice")])
def test_a_missing_picture_is_taken_as_black_and_missing_channels_as_zero(algorithm, action):
    agent = agent_of_kind(algorithm, "mixed", action)
    speed, camera, angle, grid = agent.schema.observation
    new, surgery = fit(agent, observation=(speed, replace(camera, labels=("green",)), angle))
    seen = elements(agent.schema, observed(agent.schema))
    black = {name: np.zeros_like(v) if name[0] == "grid" or name[1] == "red" else v for name, v in seen.items()}
    expected, found = outputs(agent, shown(agent.schema, black, 0)), outputs(new, shown(new.schema, seen, 0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-5)
    assert {(r.field, r.labels, r.says) for r in surgery.rows if r.fate == "dropped"} == {
        ("camera", ("red",), "taken as black"), ("grid", grid.labels, "taken as black"),
    }  # fmt: skip
    alone, _ = fit(new, observation=(new.schema.observation[1],))  # a picture that is all there is
    assert alone.act(observed(alone.schema)).shape[0] == 100
    again, _ = fit(alone, observation=(speed, replace(camera, labels=("green", "red"))))
    assert again.act(observed(again.schema)).shape[0] == 100


@pytest.mark.parametrize("labels", [("lava",), ("lava", "key", "door")])
@pytest.mark.parametrize(("algorithm", "action"), [("ppo", "choice"), ("sac", "box"), ("dqn", "choice")])
def test_a_picture_without_a_channel_in_common_is_a_new_one(algorithm, action, labels):
    agent = agent_of_kind(algorithm, "mixed", action)
    speed, camera, angle, grid = agent.schema.observation
    new, surgery = fit(agent, observation=(speed, camera, angle, replace(grid, labels=labels)))
    seen, other = elements(agent.schema, observed(agent.schema)), elements(new.schema, observed(new.schema))
    black = {name: np.zeros_like(values) if name[0] == "grid" else values for name, values in seen.items()}
    expected = outputs(agent, shown(agent.schema, black, 0))
    np.testing.assert_allclose(outputs(new, shown(new.schema, other | seen, 0)), expected, rtol=0, atol=3e-5)
    assert {(r.labels, r.fate) for r in surgery.rows if r.field == "grid"} == {
        (labels, "created"), (grid.labels, "dropped"),
    }  # fmt: skip


def test_other_pixels_need_a_new_encoder_and_get_one_when_told():
    agent = agent_of_kind("ppo", "camera", "choice")
    camera = agent.schema.observation[0]
    finer = (replace(camera, grid=(80, 72)),)
    for change in ((replace(camera, dtype="float32"),), (replace(camera, high=1.0),), finer):
        with pytest.raises(
            Unsupported, match=r"picture 'camera' has 40 x 36 pixels of uint8 from 0 to 255 .*encoder='new'"
        ):
            fit(agent, observation=change)
    before = tensors(agent)
    new, surgery = fit(agent, observation=finer, encoder="new")
    after = new.policy.state_dict()
    for name in before:
        if not name.startswith("encoder."):
            assert torch.equal(before[name], after[name]), name
    assert "encoder is new" in surgery.says and {row.says for row in surgery.rows} == {
        "new encoder", "old encoder", "in place",
    }  # fmt: skip
    assert new.act(observed(new.schema)).dtype == np.int64


@pytest.mark.parametrize("algorithm", ["ppo", "dqn", "qrdqn"])
def test_between_vectors_and_pictures_trunk_and_heads_are_carried_over(algorithm):
    seer, feeler = agent_of_kind(algorithm, "mixed", "choice"), agent_of_kind(algorithm, "vector", "choice")
    for agent, other in ((seer, feeler), (feeler, seer)):
        with pytest.raises(Unsupported, match=r"needs a new encoder.*encoder='new'"):
            fit(agent, other.schema)
        new, _ = fit(agent, other.schema, encoder="new")
        assert torch.equal(new.policy.trunk.critic[0].weight, agent.policy.trunk.critic[0].weight)
        assert torch.equal(new.policy.heads.critic.bias, agent.policy.heads.critic.bias)
        assert new.act(observed(new.schema)).shape == (100,)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"target": schema_of("vector", "box")}, r"takes a vector of numbers as action, but .* a choice between 3"),
        ({"observation": (replace(CAMERA, labels=("green",)), replace(GRID, name="maze")), "rename": {"maze/ball": "camera/red"}},
         "channels of a picture stay together: camera.green of the target"),
        ({"encoder": "fresh"}, "unknown encoder setting 'fresh'; valid: keep, new"),
        ({"observation": OBSERVATIONS["camera"], "fill": {"grid": 1.0}}, "unknown field that the target lacks 'grid'"),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_to_pictures_and_choices_is_refused(change, says):
    with pytest.raises(UserError, match=says) as refusal:
        fit(agent_of_kind("dqn", "mixed", "choice"), **change)
    assert "\n" not in str(refusal.value)
