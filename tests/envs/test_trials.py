"""Trials: several episodes in one world, of which a learner sees the last end alone."""

import numpy as np

from simreal_agents.vecenv import SB3Worlds
from simreal_envs.trials import Trials
from simreal_envs.variation import Domain, Observe
from simreal_envs.worlds import make

DOMAIN = Domain(
    "cartpole_swingup", variation={"pole/mass": {"uniform": [0.5, 1.5]}},
    observe=Observe(history=3, actions=True, rewards=True, trial=3),
)  # fmt: skip


def test_only_the_last_episode_of_a_trial_ends_and_all_else_is_as_without_trials():
    trials, plain = Trials(DOMAIN, 2), make(DOMAIN, 2)
    trials.reset(), plain.reset()
    masses, ends, failed = [], [], []
    for episode in range(7):
        masses.append(trials.read("pole/mass").copy())
        for worlds in (trials, plain):
            worlds._steps[:] = 249
            worlds.engine.qpos[0, 0] = 9.0 * (episode == 5)  # beyond the end of the rail: it fails
        step, expected = trials.step(np.ones((2, 1))), plain.step(np.ones((2, 1)))
        assert np.array_equal(step[0], expected[0]) and np.array_equal(step[1], expected[1])
        assert (expected[2] | expected[3]).all() and step[4]["_outcome"].all()
        failed.append(step[2].tolist())
        ends.append((step[2] | step[3]).tolist())
    assert ends == [[False] * 2, [False] * 2, [True] * 2] * 2 + [[False] * 2]
    assert failed[5] == [True, False] and not np.any(failed[:5])
    assert np.array_equal(masses[0], masses[2]) and np.array_equal(masses[3], masses[5])
    assert not np.isclose(masses[2], masses[3]).any() and not np.isclose(masses[5], masses[6]).any()


def test_a_trial_that_goes_on_shows_its_next_episode_where_a_final_observation_would_stand():
    env = SB3Worlds(Trials(DOMAIN, 2))
    env.reset()
    env.worlds._steps[0] = 249
    step = env.step_arrays(np.ones((2, 1), np.float32))
    assert step.final_observations is None and np.array_equal(step.following, step.observations)


def test_a_restored_trial_ends_when_it_would_have():
    trials = Trials(DOMAIN, 2)
    trials.reset(), trials.reset()  # in the second of three episodes
    trials._steps[:] = 249
    trials.step(np.ones((2, 1)))
    fresh = Trials(DOMAIN, 2, seed=5)
    fresh.restore(trials.snapshot())
    fresh._steps[:] = 249
    assert fresh.step(np.ones((2, 1)))[3].all()
