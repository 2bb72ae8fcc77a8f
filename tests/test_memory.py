import contextlib

import numpy as np
import pytest
import tiny

import simreal as sr
from simreal.evaluation import Evaluator, Trace
from simreal.memory import Transitions, record
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
    for steps in (0, 10.5):
        with pytest.raises(UserError, match=f"the steps to record must be a whole number of at least 1, not {steps}"):
            record(agent, tiny.CARTPOLE, steps, 0)
    with pytest.raises(UserError, match="a seed must be a whole number"):
        record(agent, tiny.CARTPOLE, 8, "0")


def test_the_steps_of_a_traces_episodes_follow_each_other(agent):
    with contextlib.closing(Evaluator(tiny.CARTPOLE, 3)) as evaluator:
        _, trace = evaluator.trace(agent)
    seen, lengths = Transitions.of(trace), trace.alive.sum(axis=0)
    assert len(seen) == lengths.sum() > 300 and seen.actions.shape == (len(seen), 1)
    inside, ends = seen.episode[1:] == seen.episode[:-1], np.cumsum(lengths) - 1
    np.testing.assert_array_equal(seen.observations[1:][inside], seen.next_observations[:-1][inside])
    np.testing.assert_array_equal(seen.next_observations[ends], trace.last_observations)
    np.testing.assert_array_equal(np.flatnonzero(seen.terminated | seen.truncated), ends)
    np.testing.assert_array_equal(seen.episode, np.repeat([0, 1, 2], lengths))


def test_episodes_that_end_early_are_told_apart_by_hand():
    # Two worlds over three steps: the first falls at its second step, the second goes on.
    alive = np.array([[True, True], [True, True], [False, True]])
    seen = np.arange(6.0, dtype=np.float32).reshape(3, 2, 1)
    terminated = np.array([[False, False], [True, False], [False, False]])
    trace = Trace(seen, 10 * seen, seen[..., 0], alive, terminated, np.array([[70.0], [80.0]], np.float32))
    found = Transitions.of(trace)
    assert found.observations[:, 0].tolist() == [0, 2, 1, 3, 5]
    assert found.next_observations[:, 0].tolist() == [2, 70, 3, 5, 80]
    assert found.actions[:, 0].tolist() == [0, 20, 10, 30, 50] and found.rewards.tolist() == [0, 2, 1, 3, 5]
    assert found.terminated.tolist() == [False, True, False, False, False]
    assert found.truncated.tolist() == [False, False, False, False, True]
    assert found.episode.tolist() == [0, 0, 1, 1, 1]
    assert len(Transitions.of(trace, 4)) == 2 and len(Transitions.of(trace, 1)) == 2  # whole episodes, at least one


def test_an_agent_carries_what_it_did_at_the_end_of_its_training(agent, tmp_path):
    carried = Transitions(**agent.experience)
    assert 0 < len(carried) <= 2048 and (carried.truncated | carried.terminated).sum() == 1
    agent.save(tmp_path / "bundle")
    again = sr.load(tmp_path / "bundle")
    for name, column in agent.experience.items():
        assert again.experience[name].tobytes() == np.ascontiguousarray(column).tobytes(), name
    (tmp_path / "bundle/experience.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"experience\.safetensors does not match its sha256"):
        sr.load(tmp_path / "bundle")
