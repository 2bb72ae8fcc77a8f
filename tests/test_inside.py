import json
from dataclasses import replace

import every
import numpy as np
import pytest
import tiny
import torch

import simreal as sr
from simreal.evaluation import Evaluator
from simreal.learner import Target
from simreal.schedule import Schedule
from simreal.signals import Origin, look
from simreal.signals.inside import fingerprint, fingerprint_change, inside, movement, plasticity
from simreal.training import train
from simreal_agents.bundle import Agent, load
from simreal_agents.insides import activations
from simreal_envs.schema import Field, Schema

DEEP = replace(tiny.LEARNING, hidden=(8, 8))
LAYERS = [
    "normalizer", "encoder.actor", "trunk.actor.0", "heads.actor", "encoder.critic", "trunk.critic.0", "heads.critic",
]  # fmt: skip
GAMMA = 0.98


@pytest.fixture(scope="module")
def source():
    """A pretrained agent that carries its experience."""
    return sr.pretrain(tiny.CARTPOLE, 128, learning=DEEP, points=2, episodes=2)


@pytest.fixture(scope="module")
def trace(source):
    """What the source agent does where a pole is heavier."""
    evaluator = Evaluator(sr.Domain("cartpole_swingup", variation=sr.Shift({"pole/mass": 1.8})), 4)
    yield evaluator.trace(source)[1]
    evaluator.close()


def changed(agent, name, by, seed=0):
    """The agent with noise on one tensor, its card and its experience as they were."""
    copy = agent.copy()
    with torch.no_grad():
        tensor = dict(copy.policy.named_parameters())[name]
        tensor.add_(by * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(seed)))
    return copy


def signals(agent, trace, origin, **settings):
    return look(agent, trace, GAMMA, Origin.of(origin), **settings)


def test_an_agent_that_came_just_now_has_not_moved(source, trace):
    found = signals(source, trace, source)
    assert found["cka"] == pytest.approx(dict.fromkeys(found["cka"], 1.0)) and set(found["cka"]) == set(LAYERS)
    for name in ("feature_drift", "drift", "fisher_drift", "fingerprint_change"):
        assert found[name] and set(found[name].values()) == {0.0}, name
    assert list(found["fingerprint_change"]) == LAYERS
    assert set(found["saturated_units"]) == set(found["effective_rank"]) == {*LAYERS[1:3], *LAYERS[4:6]}
    assert "dormant_units" not in found
    assert all(1 <= rank <= 8 for rank in found["effective_rank"].values())
    assert -1 <= found["gradient_conflict"] <= 1 and 0 <= found["gradient_conflict_rate"] <= 1


def test_only_layers_that_look_at_as_many_places_are_compared():
    """Those of 16 x 16 pixels are 14 x 14 with one kind of convolution, 8 x 8 with the other."""
    picture = Field("camera", "1", ("grey",), 0.0, 1.0, grid=(16, 16))
    schema = Schema((picture,), (Field("action", "1", ("left", "right"), 0.0, 1.0, discrete=True),), 0.1)
    rows = np.random.default_rng(0).random((8, 256)).astype(np.float32)
    grid, small = (
        activations(Agent.new(schema, {"hidden": [8], "cnn": cnn}).policy, rows) for cnn in ("grid", "small")
    )
    shared = {name for name in grid if name in small and len(grid[name].values) == len(small[name].values)}
    assert shared < grid.keys() & small.keys()
    assert set(movement(grid, small)["cka"]) == shared


def test_equal_arguments_give_equal_bits(source, trace):
    assert signals(source, trace, source) == signals(source.copy(), trace, source.copy())


def test_what_costs_more_is_left_to_the_handover(source, trace):
    thorough, ordinary = (signals(source, trace, source, thorough=is_first) for is_first in (True, False))
    dear = {"plasticity", "gradient_conflict", "gradient_conflict_rate", "fingerprint_change"}
    assert dear <= set(thorough) and not dear & set(ordinary)
    assert {name: value for name, value in thorough.items() if name in ordinary} == ordinary


def test_without_an_origin_only_what_needs_none(source, trace):
    found = inside(source, trace, GAMMA)
    assert set(found) == {"effective_rank", "saturated_units"}


@pytest.mark.parametrize("layer", ["encoder.actor", "trunk.actor.0", "heads.actor", "encoder.critic"])
def test_a_corrupted_layer_is_the_first_whose_fingerprint_differs(source, tmp_path, layer):
    tensor = {"trunk.actor.0": "trunk.actor.0.weight", "heads.actor": "heads.actor.bias"}.get(
        layer, f"{layer}.0.weight"
    )
    kept = load(source.save(tmp_path / "agent"))
    assert set(fingerprint_change(kept).values()) == {0.0}
    found = fingerprint_change(changed(kept, tensor, 0.1))
    tower = [name for name in LAYERS if layer.split(".")[1] in name]
    first = tower.index(layer)
    assert all(found[name] > 0.001 for name in tower[first:])
    assert all(found[name] == 0.0 for name in LAYERS if name not in tower[first:])
    assert fingerprint_change(changed(kept, tensor, 0.5))[layer] > found[layer]


def test_lost_statistics_show_at_the_normalizer_first(source):
    lost = source.copy()
    lost.policy.encoder.normalizer.mean.zero_()
    lost.policy.encoder.normalizer.var.fill_(1.0)
    found = fingerprint_change(lost)
    assert next(iter(found)) == "normalizer" and found["normalizer"] > 0.05
    assert found["encoder.actor"] > 0.01 and found["encoder.critic"] > 0.01


def test_a_fingerprint_tells_the_size_of_a_change(source):
    agent = Agent.new(source.schema, {"hidden": [64, 64]})
    rows = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
    louder = agent.copy()
    with torch.no_grad():
        louder.policy.heads.critic.weight.mul_(1.25)
    agent, louder = (replace(one, card={"fingerprint": fingerprint(agent, rows)}) for one in (agent, louder))
    found = fingerprint_change(replace(louder, experience={"observations": rows}))
    assert found["heads.critic"] == pytest.approx(0.25, rel=1e-3) and found["heads.actor"] == 0.0
    noisy = changed(replace(agent, experience={"observations": rows}), "trunk.actor.0.weight", 0.1)
    now, was = (activations(one.policy, rows)["trunk.actor.0"].values for one in (noisy, agent))
    expected = np.linalg.norm(now - was) / np.linalg.norm(was)
    assert fingerprint_change(noisy)["trunk.actor.0"] == pytest.approx(expected, rel=0.5)  # 16 projections: 18 %


def test_an_agent_whose_card_has_no_fingerprint_is_not_compared(source):
    card = {key: value for key, value in source.card.items() if key != "fingerprint"}
    assert fingerprint_change(replace(source, card=card)) == {}
    assert fingerprint_change(replace(source, experience=None)) == {}


def test_drift_names_the_group_that_moved_and_fisher_what_it_means(source, trace):
    moved = changed(source, "trunk.actor.0.weight", 0.3)
    found = signals(moved, trace, source)
    assert {group for group, value in found["drift"].items() if value} == {"trunk.actor"}
    assert {group for group, value in found["fisher_drift"].items() if value} == {"trunk.actor"}
    before, after = (torch.cat([p.ravel() for p in agent.policy.trunk.actor.parameters()]) for agent in (source, moved))
    assert found["drift"]["trunk.actor"] == pytest.approx(((after - before).norm() / before.norm()).item(), rel=1e-5)
    same = [name for name, value in found["feature_drift"].items() if value == 0.0]
    assert same == ["normalizer", "encoder.actor", "encoder.critic", "trunk.critic.0", "heads.critic"]
    assert found["cka"]["trunk.actor.0"] < 0.999 and found["cka"]["encoder.actor"] == pytest.approx(1.0)
    further = signals(changed(source, "trunk.actor.0.weight", 0.6), trace, source)
    assert further["fisher_drift"]["trunk.actor"] == pytest.approx(4 * found["fisher_drift"]["trunk.actor"], rel=1e-3)


def test_small_fisher_drift_is_the_kl_divergence_on_the_source(source, trace):
    moved = changed(source, "heads.actor.bias", 0.02)
    rows = source.experience["observations"]
    divergence = moved.policy.distribution(rows).kl(source.policy.distribution(rows)).mean()
    assert signals(moved, trace, source)["fisher_drift"]["heads.actor"] == pytest.approx(divergence, rel=1e-3)


@pytest.mark.parametrize(("activation", "signal"), [("relu", "dormant_units"), ("tanh", "saturated_units")])
def test_dead_and_saturated_units_show_by_the_right_signal(source, trace, activation, signal):
    agent = Agent.new(source.schema, {"hidden": [16, 16], "activation": activation})
    before = inside(agent, trace, GAMMA)
    assert signal in before and len({"dormant_units", "saturated_units"} & set(before)) == 1
    with torch.no_grad():
        layer = agent.policy.trunk.actor[0]
        layer.weight[:4] *= 1.0 if activation == "relu" else 100.0
        layer.bias[:4] += -100.0 if activation == "relu" else 100.0
    after = inside(agent, trace, GAMMA)
    assert after[signal]["trunk.actor.0"] >= 0.25 > before[signal]["trunk.actor.0"]
    assert after[signal]["encoder.actor"] == before[signal]["encoder.actor"]
    assert after["effective_rank"]["trunk.actor.0"] < before["effective_rank"]["trunk.actor.0"]


def test_a_saturated_network_learns_worse_than_a_fresh_one_and_a_young_one_as_well(source):
    rows = source.experience["observations"]
    spoiled = source.copy()
    with torch.no_grad():
        for linear in spoiled.policy.linears("actor")[:-1]:
            linear.weight.mul_(100.0)
    assert plasticity(source, rows) == pytest.approx(1.0, abs=0.2)
    assert plasticity(spoiled, rows) > 1.4


def test_gradients_of_one_and_the_same_experience_do_not_conflict_and_reversed_rewards_do(source):
    # Advantages are standardized: with all rewards and the critic turned round they turn round.
    evaluator = Evaluator(tiny.CARTPOLE, 4)
    kept = source.copy()
    with torch.no_grad():
        kept.policy.heads.critic.weight.zero_()
        kept.policy.heads.critic.bias.zero_()
    trace = evaluator.trace(kept)[1]
    evaluator.close()
    own = replace(kept, experience=vars(sr.memory.Transitions.of(trace)))
    agreed = signals(kept, trace, own)
    opposed = signals(kept, replace(trace, rewards=-trace.rewards), own)
    assert agreed["gradient_conflict"] == pytest.approx(1.0) and agreed["gradient_conflict_rate"] == 0.0
    assert opposed["gradient_conflict"] == pytest.approx(-1.0) and opposed["gradient_conflict_rate"] == 1.0


CASES = [
    ("ppo", tiny.CARTPOLE),
    ("sac", tiny.CARTPOLE),
    ("td3", tiny.CARTPOLE),
    ("tqc", tiny.CARTPOLE),
    ("dqn", every.CHOICES),
    ("qrdqn", every.CHOICES),
    ("ppo", every.LAMP),
]


@pytest.mark.parametrize(("algorithm", "domain"), CASES, ids=[f"{a}-{d.task.rpartition(':')[2]}" for a, d in CASES])
def test_every_algorithm_is_looked_at_while_it_learns(algorithm, domain):
    learning = every.learning(algorithm)
    agent = sr.pretrain(domain, 64, learning=learning, points=2, episodes=2)
    run = train(agent, Target(domain, learning, 0), sr.FineTune(), Schedule(128, points=3, episodes=2))
    evidence = json.loads(json.dumps(run.evidence, allow_nan=False))
    assert len(evidence["points"]) == 3
    assert min(evidence["end"]["drift"].values()) > 0
    for point in evidence["points"]:
        assert {"cka", "feature_drift", "effective_rank", "policy_entropy"} <= set(point)
        assert set(point["cka"]) <= set(point["feature_drift"])
        assert {"dormant_units", "saturated_units"} & set(point)
    pictures = domain is every.LAMP
    for name in ("fingerprint_change", "gradient_conflict", "plasticity", "fisher_drift"):
        assert (name in evidence) != pictures, name
