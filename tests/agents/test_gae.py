import numpy as np

from simreal_agents.gae import advantages


def column(*numbers):
    return np.array(numbers, dtype=np.float32)[:, None]


def test_gae_bootstraps_a_truncated_episode_and_not_a_terminated_one():
    # One world, three steps, gamma 0.5, lambda 0.5, rewards 1, V = 2, 4, 6.
    # Step 1 is truncated; its final observation is worth 10. Step 2 terminates.
    #   delta_0 = 1 + 0.5 * 4  - 2 =  1
    #   delta_1 = 1 + 0.5 * 10 - 4 =  2   (truncated: value of the final observation)
    #   delta_2 = 1 + 0.5 * 0  - 6 = -5   (terminated: nothing follows)
    #   A_1 = 2 and A_2 = -5: both traces are cut;  A_0 = 1 + 0.25 * 2 = 1.5
    result = advantages(column(1, 1, 1), column(2, 4, 6), column(4, 10, 0), column(0, 1, 1).astype(bool), 0.5, 0.5)
    np.testing.assert_array_equal(result, column(1.5, 2, -5))


def test_gae_treats_worlds_independently_and_leaves_its_inputs_alone():
    rng = np.random.default_rng(0)
    rewards, values, nexts = rng.standard_normal((3, 8, 5)).astype(np.float32)
    done = rng.random((8, 5)) < 0.3
    inputs = [array.copy() for array in (rewards, values, nexts)]
    together = advantages(rewards, values, nexts, done, 0.99, 0.95)
    apart = [advantages(*(a[:, [i]] for a in (rewards, values, nexts, done)), 0.99, 0.95) for i in range(5)]
    np.testing.assert_array_equal(together, np.concatenate(apart, axis=1))
    for before, after in zip(inputs, (rewards, values, nexts), strict=True):
        np.testing.assert_array_equal(before, after)
    assert together.dtype == np.float32
