import numpy as np
import pytest
import tiny

import simreal as sr
from simreal.memory import record
from simreal_envs.errors import UserError


@pytest.fixture(scope="module")
def agent():
    return sr.pretrain(tiny.CARTPOLE, 128, learning=tiny.LEARNING, points=2, episodes=1)


@pytest.mark.parametrize("who", ["agent", "nobody"])
def test_transitions_of_a_world_follow_each_other(agent, who):
    steps = 8 * 600  # beyond the end of an episode
    memory = record(agent if who == "agent" else None, tiny.CARTPOLE, steps, 0, num_worlds=8)
    assert len(memory) == steps and memory.observations.shape == memory.next_observations.shape == (steps, 5)
    inside = memory.episode[1:] == memory.episode[:-1]
    np.testing.assert_array_equal(memory.observations[1:][inside], memory.next_observations[:-1][inside])
    ended = memory.terminated | memory.truncated
    last = np.arange(steps) % 600 == 599  # of every world
    assert ended.sum() >= 8 and len(np.unique(memory.episode)) == 8 + (ended & ~last).sum()
    np.testing.assert_array_equal(ended[:-1][~last[:-1]], ~inside[~last[:-1]])


def test_equal_arguments_give_equal_bits_and_seeds_differ(agent):
    one, same, other = (record(agent, tiny.CARTPOLE, 64, seed, num_worlds=8) for seed in (0, 0, 1))
    assert one.observations.tobytes() == same.observations.tobytes() != other.observations.tobytes()


def test_it_takes_a_step_at_least(agent):
    with pytest.raises(UserError, match="at least 1 step"):
        record(agent, tiny.CARTPOLE, 0, 0)
