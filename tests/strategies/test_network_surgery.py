from dataclasses import replace

import numpy as np
import pytest
import tiny

import simreal as sr
from simreal.learner import Target
from simreal.schedule import Schedule
from simreal.strategies import NetworkSurgery
from simreal.training import train
from simreal_agents.surgery import Surgery
from simreal_envs.errors import UserError

PENDULUM = sr.Domain("pendulum_swingup")
DEEP = sr.Learning((8, 8), num_worlds=8, hyperparameters=tiny.LEARNING.hyperparameters)
SCHEDULE = Schedule(64, points=2, episodes=1)


@pytest.fixture(scope="module")
def pendulum():
    return sr.pretrain(PENDULUM, 64, seed=9, learning=DEEP, points=2, episodes=1)


@pytest.fixture(scope="module")
def cartpole():
    return sr.pretrain(tiny.CARTPOLE, 64, seed=9, learning=DEEP, points=2, episodes=1)


def begun(agent, domain=tiny.CARTPOLE, seed=0, **settings):
    learner = NetworkSurgery(**settings).begin(agent, Target(domain, DEEP, seed))
    learner.env.close()
    return sr.Agent.of(learner)


def test_a_pendulum_swings_up_on_a_cart_as_it_did_without_one(pendulum):
    fitted = begun(pendulum, rename={"force/slider": "torque/hinge"})
    rows = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    names = [field.name for field in fitted.schema.observation for _ in field.labels]
    theirs = [names.index("pole_direction"), names.index("pole_direction") + 1, names.index("pole_velocity")]
    np.testing.assert_allclose(fitted.act(rows), pendulum.act(rows[:, theirs]), atol=1e-5)


def test_what_was_matched_is_on_the_card_of_the_agent_that_learned(pendulum):
    run = train(pendulum, Target(tiny.CARTPOLE, DEEP, 0), NetworkSurgery(rename={"force": "torque"}), SCHEDULE)
    record = Surgery.from_dict(run.agent.card["surgery"])
    fates = {(row.field, row.fate) for row in record.rows}
    assert {("pole_direction", "matched"), ("cart_position", "created")} <= fates
    assert run.agent.card["surgery"]["drawn"] == []
    assert "policy_kl" not in run.evidence["end"]  # both speak of other things


def test_nothing_changes_where_nothing_has_to(cartpole):
    assert not tiny.changed(tiny.tensors(cartpole), tiny.tensors(begun(cartpole)))


def test_a_layer_is_inserted_between_those_that_are_kept(cartpole):
    keep = {"encoder": "encoder", "trunk.2": "trunk.1", "heads": "heads"}
    longer = tiny.tensors(begun(cartpole, hidden=[8, 8, 8], keep=keep))
    fresh = Target(tiny.CARTPOLE, replace(DEEP, hidden=(8, 8, 8)), 0).learner()
    fresh.env.close()
    own, drawn = tiny.tensors(cartpole), tiny.tensors(sr.Agent.of(fresh))
    for tower in ("actor", "critic"):
        for name in (f"encoder.{tower}.0.weight", f"heads.{tower}.weight"):
            np.testing.assert_array_equal(longer[name], own[name])
        np.testing.assert_array_equal(longer[f"trunk.{tower}.2.weight"], own[f"trunk.{tower}.0.weight"])
        np.testing.assert_array_equal(longer[f"trunk.{tower}.0.weight"], drawn[f"trunk.{tower}.0.weight"])


def test_a_layer_is_replaced_by_a_wider_one_and_all_that_fits_is_kept(cartpole):
    agent = begun(cartpole, hidden=[8, 16])
    wider, own = tiny.tensors(agent), tiny.tensors(cartpole)
    assert wider["trunk.actor.0.weight"].shape == (16, 8)
    same = {name for name in own if own[name].shape == wider[name].shape and np.array_equal(own[name], wider[name])}
    assert {"encoder.actor.0.weight", "encoder.normalizer.mean", "heads.log_std"} <= same
    assert set(agent.card["surgery"]["drawn"]) == {
        f"{part}.{tower}.{inner}" for tower in ("actor", "critic")
        for part, inner in (("trunk", "0.weight"), ("trunk", "0.bias"), ("heads", "weight"))
    }  # fmt: skip


def test_named_layers_are_drawn_anew_by_the_seed_of_the_arm(cartpole):
    own = tiny.tensors(cartpole)
    zero, one = (tiny.tensors(begun(cartpole, new=["trunk.1", "heads.critic"], seed=seed)) for seed in (0, 1))
    named = {"trunk.actor.0.weight", "trunk.critic.0.weight", "heads.critic.weight"}
    assert named <= tiny.changed(own, zero) and tiny.changed(zero, one) == named
    kept = tiny.tensors(begun(cartpole, keep=["encoder", "actor"]))
    assert not any("encoder" in name or ".actor" in name for name in tiny.changed(own, kept))


def test_a_network_learns_off_policy_after_surgery():
    import every

    learning = replace(every.learning("td3"), hidden=(8, 8))
    here = Target(PENDULUM, learning, 0)
    agent = train(None, here, sr.Scratch(), Schedule(48, points=2, episodes=1)).agent
    learner = NetworkSurgery(hidden=(8, 8, 8), keep={"trunk.2": "trunk.1"}).begin(agent, here)
    learner.env.close()
    now = tiny.tensors(sr.Agent.of(learner))
    for tower in ("actor", "critic"):
        for prefix in ("", "target."):
            old = tiny.tensors(agent)[f"{prefix}trunk.{tower}.0.weight"]
            np.testing.assert_array_equal(now[f"{prefix}trunk.{tower}.2.weight"], old)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"hidden": [8, 16], "keep": ["heads.actor"]},
            "has the shape [1, 16], but heads.actor.weight of the agent has",
        ),
        ({"hidden": [8, 8, 8], "keep": ["trunk.2"]}, "trunk.actor.2.weight of the agent does not exist"),
        ({"keep": {"trunk.1": "trunk.7"}}, "unknown layer of the agent 'trunk.7'"),
        ({"new": ["trunk.7"]}, "surgery: new: unknown layer 'trunk.7'"),
    ],
)
def test_what_does_not_fit_is_one_sentence(cartpole, settings, says):
    with pytest.raises(UserError) as error:
        begun(cartpole, **settings)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_agents_without_plain_layers_are_refused_before_anything_is_trained():
    with pytest.raises(UserError, match="surgery does not work with crossq"):
        NetworkSurgery().require("crossq")
