from dataclasses import replace

import every
import numpy as np
import pytest
import tiny

import simreal as sr
from simreal.learner import Source, Target
from simreal.schedule import Schedule
from simreal.strategies import STRATEGIES, make_strategy
from simreal.training import train
from simreal_envs.errors import UserError

SCHEDULE = Schedule(256, points=2, episodes=1)
STATISTICS = {f"encoder.normalizer.{name}" for name in ("mean", "var", "count")}


@pytest.fixture(scope="module")
def source():
    """An agent that has seen and learned something, the observation and reward statistics included."""
    return sr.pretrain(tiny.CARTPOLE, 128, seed=9, learning=tiny.LEARNING, points=2, episodes=1)


def moved(source, strategy, seed=0):
    """Names of the tensors that a run of the strategy changed."""
    run = train(source, tiny.target(seed), strategy, SCHEDULE)
    return tiny.changed(tiny.tensors(source), tiny.tensors(run.agent))


def inside(names, module):
    return {name for name in names if name.startswith(f"{module}.")}


def test_zero_shot_changes_nothing_bit_for_bit(source):
    assert moved(source, sr.ZeroShot()) == set()


def test_fine_tune_starts_from_the_whole_agent_and_trains_all_of_it(source):
    learner = sr.FineTune().begin(source, tiny.target())
    assert tiny.changed(tiny.tensors(source), tiny.tensors(sr.Agent.of(learner))) == set()
    learner.env.close()
    assert moved(source, sr.FineTune()) == set(tiny.tensors(source))


def test_frozen_encoder_keeps_encoder_and_statistics_bit_for_bit(source):
    names = moved(source, sr.FrozenEncoder())
    assert inside(names, "encoder") == set()
    assert {"heads.actor.weight", "heads.critic.weight", "heads.log_std"} <= names


def test_after_thaw_at_the_encoder_and_its_statistics_move(source):
    names = moved(source, sr.FrozenEncoder(thaw_at=0.5))
    assert inside(names, "encoder") == inside(tiny.tensors(source), "encoder")
    assert {name.split(".")[1] for name in inside(names, "encoder")} == {"normalizer", "actor", "critic"}


def test_thaw_at_is_a_share_of_the_budget(source):
    assert inside(moved(source, sr.FrozenEncoder(thaw_at=1.0)), "encoder") == set()
    learner = sr.FrozenEncoder(thaw_at=0.5).begin(source, tiny.target())
    frozen = []
    for progress in (0.0, 0.49, 0.5, 0.9):
        sr.FrozenEncoder(thaw_at=0.5).on_progress(learner, progress)
        frozen.append(learner.optimizer.group("encoder.actor")["frozen"])
    learner.env.close()
    assert frozen == [True, True, False, False]


def test_new_heads_start_from_random_weights(source):
    learner = sr.FrozenEncoder(new_heads=True).begin(source, tiny.target())
    names = tiny.changed(tiny.tensors(source), tiny.tensors(sr.Agent.of(learner)))
    learner.env.close()
    assert {"heads.actor.weight", "heads.critic.weight"} <= names and names == inside(names, "heads")


@pytest.mark.parametrize("scale", [0.0, 0.25, 1.0])
def test_lr_scale_reaches_every_group_and_survives_learning(source, scale):
    learner = sr.FineTune(lr_scale=scale).begin(source, tiny.target())
    learner.learn(2 * tiny.ROLLOUT)
    learner.env.close()
    rates = {group["name"]: group["lr"] for group in learner.optimizer.param_groups}
    assert set(rates.values()) == {scale * learner.lr_schedule(1)}
    assert {name.partition(".")[0] for name in rates} == {"encoder", "heads"}  # one hidden layer has no trunk


def test_lr_scale_by_part_multiplies_what_the_config_says(source):
    own = replace(tiny.LEARNING, hyperparameters={**tiny.LEARNING.hyperparameters, "lr_scale": {"encoder": 0.5}})
    strategy = sr.FineTune(lr_scale={"encoder": 0.1, "heads.critic": 2})
    learner = strategy.begin(source, Target(tiny.CARTPOLE, own, 0))
    learner.learn(tiny.ROLLOUT)
    learner.env.close()
    scales = {group["name"]: group["lr"] / learner.lr_schedule(1) for group in learner.optimizer.param_groups}
    assert scales == pytest.approx(
        {"encoder.actor": 0.05, "encoder.critic": 0.05, "heads.actor": 1, "heads.critic": 2, "heads.log_std": 1}
    )


ACTOR = ("encoder.actor", "heads.actor", "heads.log_std")


def test_critic_warmup_keeps_the_actor_and_what_it_sees_bit_for_bit(source):
    names = moved(source, sr.CriticWarmup(until=1.0))
    assert not [name for name in names if name.startswith((*ACTOR, "encoder.normalizer"))]
    assert {"encoder.critic.0.weight", "heads.critic.weight"} <= names
    run = train(source, tiny.target(), sr.CriticWarmup(until=1.0), SCHEDULE)
    assert run.curve[0].return_mean == run.curve[-1].return_mean and run.evidence["end"]["policy_kl"] == 0.0


def test_after_the_warmup_all_of_the_agent_learns(source):
    assert moved(source, sr.CriticWarmup(until=0.5)) == set(tiny.tensors(source))
    learner = sr.CriticWarmup(until=0.5).begin(source, tiny.target())
    frozen = []
    for progress in (0.0, 0.49, 0.5, 0.9):
        sr.CriticWarmup(until=0.5).on_progress(learner, progress)
        frozen.append([group["name"] for group in learner.optimizer.param_groups if group["frozen"]])
    learner.env.close()
    assert frozen == [list(ACTOR), list(ACTOR), [], []]


@pytest.mark.parametrize(
    ("algorithm", "domain", "more"),
    [
        ("sac", every.DIAL, {"encoder.shared", "heads.log_std", "heads.temperature"}),
        ("sac", sr.Domain("pendulum_swingup"), {"encoder.actor", "heads.log_std", "heads.temperature"}),
        ("td3", sr.Domain("pendulum_swingup"), {"encoder.actor"}),
    ],
)
def test_the_warmup_stops_all_that_decides_the_actions(algorithm, domain, more):
    learning = replace(every.learning(algorithm), hidden=(8, 8))
    learner = sr.CriticWarmup().begin(None, Target(domain, learning, 0))
    learner.env.close()
    frozen = {group["name"] for group in learner.optimizer.param_groups if group["frozen"]}
    assert frozen == {"trunk.actor", "heads.actor"} | more


def test_a_new_critic_starts_from_random_weights_beside_the_old_actor(source):
    learner = sr.CriticWarmup(new_critic=True).begin(source, tiny.target())
    fresh = tiny.target().learner()
    names = tiny.changed(tiny.tensors(source), tiny.tensors(sr.Agent.of(learner)))
    as_new = tiny.changed(tiny.tensors(sr.Agent.of(fresh)), tiny.tensors(sr.Agent.of(learner)))
    learner.env.close()
    fresh.env.close()
    assert {"encoder.critic.0.weight", "heads.critic.weight"} <= names
    assert all(".critic." in name for name in names) and not any(".critic." in name for name in as_new)


def test_critic_warmup_of_an_off_policy_agent_keeps_its_temperature_too():
    here = Target(sr.Domain("pendulum_swingup"), every.learning("sac"), 0)
    agent = train(None, here, sr.Scratch(), Schedule(64, points=2, episodes=1)).agent
    run = train(agent, here, sr.CriticWarmup(until=1.0, new_critic=True), Schedule(64, points=2, episodes=1))
    names = tiny.changed(tiny.tensors(agent), tiny.tensors(run.agent))
    assert {"heads.critic.weight", "target.heads.critic.weight"} <= names
    assert not [n for n in names if ".critic." not in n]


def test_critic_warmup_needs_an_actor():
    here = Target(every.CHOICES, every.learning("dqn"), 0)
    with pytest.raises(UserError, match="critic_warmup needs an agent with an actor, and dqn has only a critic"):
        train(None, here, sr.CriticWarmup(), Schedule(64))


def test_lr_scale_0_moves_statistics_only(source):
    names = moved(source, sr.FineTune(lr_scale=0.0))
    assert names == STATISTICS | inside(tiny.tensors(source), "reward_scaler")


def test_scratch_ignores_the_source(source):
    with_source, without = (train(agent, tiny.target(), sr.Scratch(), SCHEDULE) for agent in (source, None))
    assert tiny.changed(tiny.tensors(with_source.agent), tiny.tensors(without.agent)) == set()
    assert with_source.curve[0].return_mean == without.curve[0].return_mean
    assert "policy_kl" not in with_source.evidence["end"]


def test_the_agents_own_network_moves_in_whatever_the_settings_say(source):
    wide = sr.Learning((16, 16), num_worlds=8, hyperparameters=tiny.LEARNING.hyperparameters)
    for strategy in (sr.FineTune(), sr.FrozenEncoder(), sr.ZeroShot()):
        learner = strategy.begin(source, type(tiny.target())(tiny.CARTPOLE, wide, 0))
        learner.env.close()
        assert learner.policy.network["hidden"] == [8]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("augmentation", {"weight": 0.0}), ("dropout", {"share": 0.0}), ("epopt", {"fraction": 1.0, "warmup": 0.0}),
        ("rarl", {"strength": 0.0}), ("source_replay", {"weight": 0.0, "steps": 64}), ("coral", {"weight": 0.0, "states": 64}),
        ("mmd", {"weight": 0.0, "states": 64}), ("dann", {"weight": 0.0, "states": 64}), ("l2sp", {"alpha": 0.0, "beta": 0.0}),
        ("self_supervised_target", {"weight": 0.0, "until": 0.0}),
    ],
)  # fmt: skip
def test_a_strategy_of_no_weight_is_plain_training(source, name, settings):
    strategy = make_strategy(name, settings)
    here = replace(tiny.target(), sources=(Source("plain", source, tiny.CARTPOLE),))
    given, plain = (source, sr.FineTune()) if strategy.needs_source else (None, sr.Scratch())
    one, other = (tiny.tensors(train(given, here, way, SCHEDULE).agent) for way in (strategy, plain))
    if name == "epopt":  # which weighs all steps by 1, and so rounds otherwise
        assert all(np.allclose(one[n], other[n], rtol=0, atol=1e-6) for n in one)
    else:
        assert tiny.changed(one, other) == set()


def test_strategies_are_plain_data():
    assert make_strategy("fine_tune", {"lr_scale": 0.5}) == sr.FineTune(0.5)
    assert repr(sr.FrozenEncoder(thaw_at=0.5)) == "FrozenEncoder(thaw_at=0.5, new_heads=False, depth='encoder')"
    assert all(cls().name == name and cls.says for name, cls in STRATEGIES.items())
