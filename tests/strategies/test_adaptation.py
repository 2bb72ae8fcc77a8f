from dataclasses import replace

import every
import numpy as np
import pytest
import tiny

import simreal as sr
from simreal.learner import Source, Target
from simreal.schedule import Schedule
from simreal.strategies import make_strategy
from simreal.strategies.instances import SourceMix
from simreal.strategies.maps import AdaptiveNormalization
from simreal.training import train
from simreal_agents.bundle import Agent
from simreal_envs.errors import UserError

SCHEDULE = Schedule(192, points=2, episodes=1)
HEAVY = sr.Domain("cartpole_swingup", variation=sr.Shift({"pole/mass": 1.8}))
STATISTICS = {f"encoder.normalizer.{name}" for name in ("mean", "var", "count")}
COUNT = {"encoder.normalizer.count"}
SCALER = {f"reward_scaler.{name}" for name in ("mean", "var", "count")}


@pytest.fixture(scope="module")
def source():
    return sr.pretrain(tiny.CARTPOLE, 256, seed=9, learning=tiny.LEARNING, points=2, episodes=1)


def target(agent, domain=HEAVY, learning=tiny.LEARNING, here=tiny.CARTPOLE):
    return Target(domain, learning, 0, sources=(Source("plain", agent, here),))


def moved(agent, strategy, **more):
    run = train(agent, target(agent, **more), strategy, SCHEDULE)
    return tiny.changed(tiny.tensors(agent), tiny.tensors(run.agent))


@pytest.mark.parametrize("name", ["coral", "mmd", "dann"])
def test_an_alignment_moves_the_actors_encoder(source, name):
    plain, aligned = (
        tiny.tensors(train(source, target(source), strategy, SCHEDULE).agent)
        for strategy in (sr.FineTune(), make_strategy(name, {"states": 64}))
    )
    assert {"encoder.actor.0.weight", "encoder.actor.0.bias"} <= tiny.changed(plain, aligned)


@pytest.mark.parametrize(
    ("name", "further"), [("linear_alignment", {}), ("tca", {}), ("linear_alignment", {"weight_decay": 1.0})]
)
def test_nothing_learns_before_the_map_is_made(source, name, further):
    strategy = make_strategy(name, {"share": 0.5})
    learner = strategy.begin(source, target(source, learning=every.learning("ppo", **further)))
    seen = []
    learner.progress_hooks.append(strategy.on_progress)
    learner.progress_hooks.append(lambda learner, progress: seen.append(tiny.tensors(Agent.of(learner))))
    learner.learn(4 * tiny.ROLLOUT)
    learner.env.close()
    before = tiny.tensors(source)
    assert tiny.changed(before, seen[1]) == SCALER  # at 1/4 of the budget
    mapped = tiny.changed(seen[1], seen[2])
    layers = {f"encoder.{tower}.0.{part}" for tower in ("actor", "critic") for part in ("weight", "bias")}
    assert mapped - SCALER == layers | STATISTICS - COUNT
    assert "heads.actor.weight" in tiny.changed(seen[2], seen[3])  # then all learns


def test_a_mapped_agent_sees_the_targets_sensors_as_the_sources(source):
    """Where only the sensors differ, the actions for what they show are the source agent's for what is there."""
    from simreal.memory import record
    from simreal_agents.additions.maps import Affine, Survey, fold

    rows = record(source, tiny.CARTPOLE, 256, 0).observations
    gain, offset = np.array([2.0, 1.0, 1.0, 0.5, 3.0]), 0.7
    shown = (rows * gain + offset).astype(np.float32)
    learner = target(source).learner(source)
    undo = Affine(np.diag(1 / gain), -offset / gain)
    survey = Survey(learner, lambda policy, seen: fold(policy, undo, rows.astype(float), seen))
    survey.rows = shown
    survey.settle(learner)
    learner.env.close()
    assert survey.done and np.allclose(Agent.of(learner).act(shown), source.act(rows), atol=1e-4)


def test_only_statistics_move_with_adaptive_normalization(source):
    assert moved(source, AdaptiveNormalization()) == STATISTICS - COUNT | SCALER
    assert moved(source, AdaptiveNormalization(train=True)) == set(tiny.tensors(source))


@pytest.mark.parametrize("name", ["adaptive_normalization", "tca"])
def test_nothing_is_changed_much_where_the_target_is_the_source(source, name):
    strategy = make_strategy(name)
    learner = strategy.begin(source, target(source, tiny.CARTPOLE))
    learner.progress_hooks.append(strategy.on_progress)
    learner.learn(tiny.ROLLOUT + 1)
    learner.progress_hooks.clear()
    strategy.on_progress(learner, 0.5)
    now, before = learner.policy.encoder.normalizer, source.policy.encoder.normalizer
    learner.env.close()
    assert learner.additions[name].done
    assert ((now.mean - before.mean).abs() < 0.5 * before.var.sqrt()).all()


@pytest.mark.parametrize("name", ["darc", "importance_weighting", "source_mix"])
def test_source_worlds_stand_beside_the_targets_and_do_not_count(source, name):
    strategy = make_strategy(name, {"worlds": 4})
    learner = strategy.begin(source, target(source))
    learner.progress_hooks.append(strategy.on_progress)
    assert learner.n_envs == 12 and learner.which.tolist() == [0] * 8 + [1] * 4
    assert [member.domain for member in learner.env.worlds.members] == [HEAVY, tiny.CARTPOLE]
    learner.learn(tiny.ROLLOUT)
    learner.env.close()
    assert learner.num_timesteps == tiny.ROLLOUT == learner.rollout_size


def test_source_mix_is_fine_tuning_once_the_source_counts_no_more(source):
    strategy = SourceMix(until=0.5)
    learner = strategy.begin(source, target(source))
    learner.progress_hooks.append(strategy.on_progress)
    weights = []
    learner.progress_hooks.append(lambda *_: weights.append(learner._weights))
    learner.learn(4 * tiny.ROLLOUT)
    learner.env.close()
    shares = [float(w[:, 8:].mean()) for w in [*weights[1:], learner._weights]]
    assert shares == [1.0, 0.5, 0.0, 0.0] and all((w[:, :8] == 1).all() for w in weights[1:])


EVERY = {"ppo": sr.Domain("cartpole_swingup"), "sac": sr.Domain("pendulum_swingup"), "dqn": every.CHOICES}


@pytest.mark.parametrize("algorithm", EVERY)
@pytest.mark.parametrize("name", ["coral", "dann", "linear_alignment", "darc", "importance_weighting", "source_mix"])
def test_every_kind_of_algorithm_learns_so(algorithm, name):
    domain, learning = EVERY[algorithm], every.learning(algorithm)
    agent = Agent.of(replace(target(None, domain, learning), sources=()).learner())
    settings = {"states": 64} if name in ("coral", "dann") else {}
    run = train(agent, target(agent, domain, learning, domain), make_strategy(name, settings), Schedule(128, 2, 1))
    assert "heads.critic.weight" in tiny.changed(tiny.tensors(agent), tiny.tensors(run.agent))


def test_more_components_than_there_are_elements_are_refused(source):
    with pytest.raises(UserError, match="tca: components must be at most 5, the elements of an observation, not 6"):
        make_strategy("tca", {"components": 6}).begin(source, target(source))


def test_pictures_are_refused_where_vectors_are_needed():
    learning = every.learning("ppo")
    agent = Agent.of(Target(every.LAMP, learning, 0).learner())
    for name in ("darc", "linear_alignment"):
        with pytest.raises(UserError, match="vectors"):
            make_strategy(name).begin(agent, target(agent, every.LAMP, learning, every.LAMP))


@pytest.mark.parametrize("name", ["coral", "dann", "source_mix"])
def test_pictures_are_seen_where_only_features_count(name):
    learning = every.learning("ppo")
    agent = Agent.of(Target(every.LAMP, learning, 0).learner())
    settings = {} if name == "source_mix" else {"states": 64}
    here = target(agent, every.LAMP, learning, every.LAMP)
    run = train(agent, here, make_strategy(name, settings), Schedule(128, 2, 1))
    assert "encoder.shared.linear.weight" in tiny.changed(tiny.tensors(agent), tiny.tensors(run.agent))


@pytest.mark.parametrize("parts", [["darc", "source_mix"], ["tca", "adaptive_normalization"]])
def test_contradictions_are_refused(parts):
    with pytest.raises(UserError, match=r"contradict each other|tca does not combine"):
        make_strategy(parts)


@pytest.mark.parametrize("name", ["coral", "mmd", "dann"])
def test_nothing_is_aligned_with_a_target_that_is_not_learned_from(source, name):
    with pytest.raises(UserError, match=f"{name} aligns the target's states that are learned from, and darc with"):
        moved(source, make_strategy([name, {"darc": {"learn_target": False}}]))


def test_they_combine_with_others(source):
    for parts in (["darc", {"coral": {"states": 64}}], ["source_mix", {"adaptive_normalization": {"train": True}}]):
        names = moved(source, make_strategy(parts))
        assert {"encoder.critic.0.weight", "heads.critic.weight"} <= names
