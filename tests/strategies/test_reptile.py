from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

import simreal as sr
from simreal.check import check_strategy
from simreal.learner import Target
from simreal.schedule import Schedule
from simreal.strategies import make_strategy
from simreal.strategies.reptile import Reptile
from simreal.training import train
from simreal_envs.around import OneDraw
from simreal_envs.errors import UserError
from simreal_envs.worlds import make

VARIED = sr.Domain(
    "cartpole_swingup", variation=sr.Randomization({"pole/mass": sr.Uniform(0.5, 1.5), "gravity": sr.Uniform(8, 11)})
)
HERE = Target(VARIED, tiny.LEARNING, 0)


def masses(worlds):
    return worlds.read("pole/mass"), worlds.read("gravity")


def test_all_worlds_share_one_draw_until_the_period_is_over():
    worlds = OneDraw(make(VARIED, 4, 3), period=5)
    first, _ = worlds.reset()
    seen, ends = [masses(worlds)], []
    for _ in range(10):
        _observation, _, terminated, truncated, _ = worlds.step(np.zeros((4, 1)))
        seen.append(masses(worlds))
        ends.append(truncated.tolist())
        assert not terminated.any()
    worlds.close()
    for values in seen:
        assert all(len(set(value.round(9))) == 1 for value in values)  # one draw for all worlds
    draws = [tuple(float(value[0]) for value in values) for values in seen]
    assert draws == [draws[0]] * 5 + [draws[5]] * 5 + [draws[10]] and len(set(draws)) == 3
    assert ends == [[False] * 4] * 4 + [[True] * 4] + [[False] * 4] * 4 + [[True] * 4]
    assert len(np.unique(first, axis=0)) == 4  # initial states are drawn for every world


def test_the_observation_at_the_cut_is_the_last_of_the_old_world():
    worlds, plain = OneDraw(make(VARIED, 2, 3), period=2), make(VARIED, 2, 3)
    worlds.reset()
    plain.varied = worlds.env.varied
    plain.reset(seed=worlds.env.seed)
    for _ in range(2):
        seen, *_ = worlds.step(np.ones((2, 1)))
        alone, *_ = plain.step(np.ones((2, 1)))
    worlds.close()
    plain.close()
    assert np.array_equal(worlds.final_observation, alone) and not np.array_equal(seen, alone)


def test_draws_depend_on_the_seed_and_come_again():
    def draws(seed):
        worlds = OneDraw(make(VARIED, 2, seed), period=1)
        worlds.reset()
        found = [float(worlds.read("pole/mass")[0])]
        for _ in range(3):
            worlds.step(np.zeros((2, 1)))
            found.append(float(worlds.read("pole/mass")[0]))
        worlds.close()
        return found

    assert draws(1) == draws(1) and not set(draws(1)) & set(draws(2))


def test_a_curriculum_widens_in_worlds_that_share_a_draw():
    widens = replace(VARIED, variation=sr.Curriculum(VARIED.variation, until=1.0))
    worlds, masses = OneDraw(make(widens, 2)), []
    for progress in (0.0, 0.25, 1.0):
        worlds.progress = progress
        worlds.reset()
        masses.append(worlds.read("pole/mass").tolist())
    worlds.close()
    nominal, quarter, full = masses
    assert nominal == [1.0, 1.0] and full[0] == full[1] != 1.0
    assert quarter == pytest.approx([1 + (mass - 1) / 4 for mass in full])


def test_worlds_that_share_a_draw_begin_together():
    worlds = OneDraw(make(VARIED, 2))
    worlds.reset()
    with pytest.raises(UserError, match="worlds that share one draw begin together"):
        worlds.reset(options={"reset_mask": np.array([True, False])})
    worlds.close()


def test_the_outer_step_goes_part_of_the_way():
    strategy = Reptile(inner=2, step_size=0.25)
    learner = strategy.begin(None, HERE)
    addition, before, seen = learner.additions["reptile"], learner.optimizer.parameters.clone(), []
    learner.progress_hooks.append(lambda one, progress: seen.append(one.optimizer.parameters.clone()))
    outer = addition.updated
    addition.updated = lambda one: (seen.append(one.optimizer.parameters.clone()), outer(one))
    learner.learn(3 * tiny.ROLLOUT)
    learner.env.close()
    # Before a rollout, after its update, three times; the second update ends a round, the end of training the next one.
    start, first, second, led, third, last = seen
    assert torch.equal(start, before) and torch.equal(second, first)
    torch.testing.assert_close(third, before + 0.25 * (led - before))
    torch.testing.assert_close(learner.optimizer.parameters, third + 0.25 * (last - third))
    assert learner.optimizer.group("encoder.actor")["step"] == 0


def test_a_whole_step_is_learning_in_one_world_after_the_other():
    learner = Reptile(inner=1, step_size=1.0).begin(None, HERE)
    addition, outer = learner.additions["reptile"], learner.additions["reptile"].updated
    after = []
    addition.updated = lambda one: (after.append(one.optimizer.parameters.clone()), outer(one))
    learner.learn(2 * tiny.ROLLOUT)
    learner.env.close()
    torch.testing.assert_close(learner.optimizer.parameters, after[-1])


def test_the_agent_is_evaluated_in_the_whole_randomization():
    run = train(None, HERE, Reptile(), Schedule(128, points=2, episodes=1))
    assert run.agent.card["domain"] == VARIED.to_dict()


def test_a_run_that_is_interrupted_between_two_rounds_gives_the_same_bits():
    check_strategy(Reptile(inner=1), source=VARIED)


def test_what_was_pretrained_without_a_reward_is_where_it_begins():
    features = {"self_supervised": {"steps": 256, "epochs": 1}}
    learner = make_strategy([{"reptile": {"inner": 1, "step_size": 0.001}}, features]).begin(None, HERE)
    fresh, weight = HERE.learner(), learner.policy.encoder.actor[0].weight
    pretrained = weight.detach().clone()
    learner.learn(tiny.ROLLOUT)
    learner.env.close()
    fresh.env.close()
    far = (fresh.policy.encoder.actor[0].weight - pretrained).norm()
    assert (weight - pretrained).norm() < 0.1 * far


def test_one_world_is_not_enough():
    with pytest.raises(UserError, match="reptile needs a source whose variation is drawn at resets"):
        Reptile().begin(None, replace(HERE, domain=tiny.CARTPOLE))
    with pytest.raises(UserError, match="reptile works with ppo, not with sac"):
        Reptile().require("sac")
