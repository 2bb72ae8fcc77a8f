import math
from dataclasses import replace

import every
import numpy as np
import pytest
import tiny
import torch

import simreal as sr
from simreal.learner import Source, Target
from simreal.memory import record
from simreal.schedule import Schedule
from simreal.strategies import make_strategy
from simreal.strategies.self_supervised import OBJECTIVES, SelfSupervised, SelfSupervisedTarget
from simreal.training import train
from simreal_agents.additions import self_supervision
from simreal_agents.additions.self_supervision import Objective, info_nce, pretrain_encoder

SHORT = {"steps": 512, "epochs": 2}


@pytest.fixture(scope="module")
def data():
    return record(None, tiny.CARTPOLE, 2048, 0)


@pytest.fixture(scope="module")
def source():
    return sr.pretrain(tiny.CARTPOLE, 128, seed=9, learning=tiny.LEARNING, points=2, episodes=1)


def tensors(learner):
    learner.env.close()
    return tiny.tensors(sr.Agent.of(learner))


def test_the_names_of_the_objectives_are_those_that_exist():
    assert OBJECTIVES == self_supervision.OBJECTIVES


def test_the_contrastive_loss_by_hand():
    # Row 0: -log(e^2 / (e^2 + e^0)), row 1: -log(e^1 / (e^3 + e^1)).
    wanted = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(2))) / 2
    assert float(info_nce(torch.tensor([[2.0, 0.0], [3.0, 1.0]]))) == pytest.approx(wanted)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_the_encoder_learns_what_constant_features_could_not_know(kind, data):
    learner = tiny.target().learner()
    before = tiny.tensors(sr.Agent.of(learner))
    objective = Objective(learner.policy, kind, torch.Generator().manual_seed(0))
    losses = pretrain_encoder(learner, objective, data, epochs=12, batch=64, lr=3e-3)
    after = tensors(learner)
    # Constant features: the variance of the actions; that of the standardized change; the logarithm of the batch.
    ignorant = {"inverse": data.actions.var(), "forward": 1.0, "contrastive": math.log(64)}[kind]
    assert losses[-1] < 0.7 * ignorant and losses[-1] < losses[0]
    moved = tiny.changed(before, after)
    assert {"encoder.actor.0.weight", "encoder.critic.0.weight", "encoder.normalizer.mean"} <= moved
    assert all(name.startswith("encoder.") for name in moved)
    assert np.array_equal(after["encoder.actor.0.weight"], after["encoder.critic.0.weight"])


def test_pictures_and_choices_are_learned_from_too():
    learner = Target(every.LAMP, every.learning("dqn"), 0).learner()
    objective = Objective(learner.policy, "inverse", torch.Generator().manual_seed(0))
    assert objective.groups == ["encoder.shared"]
    losses = pretrain_encoder(learner, objective, record(None, every.LAMP, 256, 0), epochs=2, batch=64, lr=1e-3)
    assert losses[0] == pytest.approx(math.log(3), rel=0.2)  # three actions, and nothing known of them yet
    policy = learner.policy
    learner.env.close()
    assert torch.equal(policy.encoder.shared.linear.weight, policy.target.encoder.shared.linear.weight)


def test_training_goes_on_with_the_usual_rates_and_fresh_moments():
    learner = SelfSupervised(**SHORT, learning_rate=0.01).begin(None, tiny.target())
    learner.env.close()
    group = learner.optimizer.group("encoder.actor")
    assert group["step"] == 0 and group["lr"] == learner.lr_schedule(1)


def test_without_the_reward_the_agent_has_features_and_fresh_heads():
    strategy = SelfSupervised(**SHORT, reward=False)
    run = train(None, tiny.target(), strategy, Schedule(256, points=3, episodes=1))
    fresh = tensors(tiny.target().learner())
    moved = tiny.changed(fresh, tiny.tensors(run.agent))
    assert "encoder.actor.0.weight" in moved and all(name.startswith("encoder.") for name in moved)
    assert len({row.return_mean for row in run.curve}) == 1


@pytest.mark.parametrize("further", [{}, {"weight_decay": 1.0}])
def test_as_long_as_the_reward_is_not_looked_at_only_the_encoder_moves(source, further):
    target = replace(tiny.target(), learning=every.learning("ppo", **further))
    run = train(source, target, SelfSupervisedTarget(until=1.0), Schedule(192, points=2, episodes=1))
    moved = {
        name for name in tiny.changed(tiny.tensors(source), tiny.tensors(run.agent)) if "reward_scaler" not in name
    }
    assert "encoder.actor.0.weight" in moved
    assert all(name.startswith(("encoder.actor", "encoder.normalizer")) for name in moved)


def test_then_all_of_it_learns_with_the_objective_beside_the_reward(source):
    schedule = Schedule(192, points=2, episodes=1)
    run = train(source, tiny.target(), SelfSupervisedTarget(until=0.5), schedule)
    assert {"heads.actor.weight", "heads.critic.weight"} <= tiny.changed(tiny.tensors(source), tiny.tensors(run.agent))


def test_what_begins_to_learn_then_has_no_memory_of_gradients_that_were_none(source):
    # A mean of many zeros and of squares of zeros, and then a gradient: Adam's steps would be too long.
    strategy = make_strategy([{"self_supervised_target": {"until": 0.5}}, "low_rank"])
    learner = strategy.begin(source, tiny.target())
    factors = learner.additions["low_rank"].optimizer
    steps = []

    def note(one, progress):
        optimizers = (learner.optimizer, factors)
        steps.append([opt.group(name)["step"] for opt in optimizers for name in ("heads.critic", "encoder.actor")])

    learner.progress_hooks[:] = [strategy.on_progress, note]
    learner.learn(4 * tiny.ROLLOUT)
    note(learner, 1.0)
    learner.env.close()
    updates = 4  # of a rollout
    assert steps[1] == [updates] * 4
    assert steps[2] == [0, 2 * updates, 2 * updates, 2 * updates]  # the factors forget with their next step
    assert steps[-1] == [2 * updates, 4 * updates] * 2


@pytest.mark.parametrize(
    "other", [{"l2sp": {"alpha": 10.0}}, {"adaptive_normalization": {"share": 0.3, "train": True}}]
)
def test_it_does_not_matter_which_of_those_that_change_the_gradient_is_given_first(source, other):
    own = {"self_supervised_target": {"until": 0.5}}
    target = replace(tiny.target(), sources=(Source("plain", source, tiny.CARTPOLE),))
    schedule = Schedule(256, points=2, episodes=1)
    one, two = (train(source, target, make_strategy(parts), schedule) for parts in ([own, other], [other, own]))
    assert tiny.changed(tiny.tensors(one.agent), tiny.tensors(two.agent)) == set()
