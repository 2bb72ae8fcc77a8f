import pytest
import tiny
import torch

import simreal as sr
from simreal.learner import Source, Target
from simreal.strategies import make_strategy
from simreal.strategies.pcgrad import PCGrad
from simreal_agents.additions.projection import without_conflicts
from simreal_envs.errors import UserError

HEAVY = sr.Domain("cartpole_swingup", variation=sr.Shift({"pole/mass": 1.5}))


@pytest.fixture(scope="module")
def source():
    return sr.pretrain(tiny.CARTPOLE, 64, seed=9, learning=tiny.LEARNING, points=2, episodes=1)


def here(source):
    return Target(HEAVY, tiny.LEARNING, 0, (Source("plain", source, tiny.CARTPOLE),))


def projected(*gradients, seed=0):
    return without_conflicts(torch.tensor(gradients), torch.Generator().manual_seed(seed)).tolist()


def test_what_points_against_another_gradient_is_taken_out():
    # (1, 0) . (-1, 1) = -1: the first gets + 1/2 (-1, 1), the second + 1/1 (1, 0).
    assert projected([1.0, 0.0], [-1.0, 1.0]) == [[0.5, 0.5], [0.0, 1.0]]


def test_gradients_without_a_conflict_stay_as_they_are():
    assert projected([1.0, 0.0], [0.0, 1.0], [2.0, 3.0]) == [[1.0, 0.0], [0.0, 1.0], [2.0, 3.0]]


def test_the_others_are_those_that_were_given_and_come_in_a_drawn_order():
    three = [[1.0, 0.0, 0.0], [-1.0, 1.0, 0.0], [-1.0, 0.0, 2.0]]
    # Second then third: (1, 0, 0) -> (.5, .5, 0) -> + .5/5 (-1, 0, 2) = (.4, .5, .2); third then second: + 1/5 of the
    # third = (.8, 0, .4) -> + .8/2 of the second = (.4, .4, .4).
    found = {tuple(round(x, 6) for x in projected(*three, seed=seed)[0]) for seed in range(20)}
    assert found == {(0.4, 0.5, 0.2), (0.4, 0.4, 0.4)}


def test_an_opposite_gradient_leaves_nothing():
    assert projected([2.0, 0.0], [-1.0, 0.0]) == [[0.0, 0.0], [0.0, 0.0]]


def test_an_update_takes_the_mean_of_what_is_left_of_the_gradients_of_both_domains(source):
    learner = PCGrad().begin(source, here(source))
    addition, seen = learner.additions["pcgrad"], []
    merge, addition.merge = addition.merge, lambda gradients: seen.append((gradients, merge(gradients))) or seen[-1][1]
    learner.learn(tiny.ROLLOUT)
    learner.env.close()
    given, merged = seen[0]
    assert given.shape == (2, learner.optimizer.parameters.numel())
    a, b = given.double()
    dot = a @ b
    wanted = (a + b) / 2 if dot >= 0 else (a - dot / (b @ b) * b + b - dot / (a @ a) * a) / 2
    torch.testing.assert_close(merged.double(), wanted, rtol=1e-4, atol=1e-6)


def test_source_worlds_run_beside_but_only_the_targets_steps_count(source):
    learner = PCGrad(share=0.5).begin(source, here(source))
    learner.learn(tiny.ROLLOUT)
    learner.env.close()
    assert learner.which.tolist() == [0] * 8 + [1] * 4
    assert learner.num_timesteps == tiny.ROLLOUT and learner.env.worlds.domain == HEAVY


def test_it_makes_its_worlds_however_it_is_combined(source):
    learner = make_strategy([{"fine_tune": {"lr_scale": 0.5}}, "pcgrad"]).begin(source, here(source))
    learner.env.close()
    assert learner.which.any() and {group["lr_scale"] for group in learner.optimizer.param_groups} == {0.5}


def test_pcgrad_is_for_ppo():
    with pytest.raises(UserError, match=r"^here: pcgrad works with ppo, not with sac$"):
        PCGrad().require("sac", "here")
    with pytest.raises(UserError, match=r"pcgrad: share must be a number from 0.01 to 10, not 0"):
        PCGrad(share=0)
