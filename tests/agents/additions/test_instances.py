from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces

from simreal_agents.additions import Experience
from simreal_agents.additions.instances import Classifiers, Correction, Importance, Mixing, transitions, weigh
from simreal_agents.networks import stream
from simreal_agents.replay import Batch

STD = 0.5  # of the next state around its mean


def batch(n, seed, push, mean=0.0):
    """Transitions of ``s' = s + a + push + noise`` in one dimension."""
    rng = np.random.default_rng(seed)
    states, actions = rng.normal(mean, 1.0, (n, 1)), rng.uniform(-1, 1, (n, 1))
    after = states + actions + push + STD * rng.normal(size=(n, 1))
    both = np.concatenate([states, after]).astype(np.float32)
    return Batch(both, actions.astype(np.float32), np.zeros(n, np.float32), np.zeros(n, bool))


def taught(push, mean=0.0, noise=0.0, rounds=20, seed=0):
    """Classifiers for a target (domain 0) that pushes, and a source that does not."""
    found = Classifiers(1, 1, 32, noise, stream(seed, "darc"))
    for i in range(rounds):
        found.learn(1, batch(1024, 2 * i, 0.0))
        found.learn(0, batch(1024, 2 * i + 1, push, mean))
    return found


@pytest.fixture(scope="module")
def pushed():
    return taught(0.5)


def test_the_correction_is_zero_before_anything_is_learned():
    assert not Classifiers(1, 1, 8, 0.1, stream(0, "darc")).correction(batch(32, 0, 0.0)).any()


def test_the_correction_is_zero_where_the_dynamics_are_equal():
    # Also where the states differ: that is what the classifier of state and action alone is for.
    for mean in (0.0, 1.0):
        found = taught(0.0, mean).correction(batch(2000, 999, 0.0))
        assert abs(found.mean()) < 0.05 and np.abs(found).mean() < 0.15


def test_the_correction_is_the_difference_of_the_log_densities(pushed):
    rows = batch(2000, 999, 0.0)
    error = (rows.next_observations - rows.observations - rows.actions)[:, 0]
    exact = (error**2 - (error - 0.5) ** 2) / (2 * STD**2)  # of Gaussians with means 0.5 and 0
    found = pushed.correction(rows)
    assert np.corrcoef(found, exact)[0, 1] > 0.95 and np.abs(found - exact).mean() < 0.35
    assert found.mean() < -0.2 and exact.mean() == pytest.approx(-0.5, abs=0.1)  # minus the KL divergence
    assert pushed.correction(batch(2000, 998, 0.5)).mean() > 0.2  # what the target does is rewarded


def test_noise_makes_the_correction_smaller(pushed):
    rows = batch(2000, 999, 0.0)
    assert np.abs(taught(0.5, noise=1.0).correction(rows)).mean() < 0.5 * np.abs(pushed.correction(rows)).mean()


def test_the_ratio_is_the_odds_of_the_states_too():
    # Source states around 0, target states around 1: log p(1, 1) / p(0, 1) = s - 1/2.
    rows = batch(2000, 999, 0.0)
    found = taught(0.0, mean=1.0).log_ratio(rows)
    exact = rows.observations[:, 0] - 0.5
    assert np.corrcoef(found, exact)[0, 1] > 0.95 and np.abs(found - exact).mean() < 0.25


class Learner(SimpleNamespace):
    """As much of a learner as additions of this kind look at."""

    def __init__(self, **more):
        applied = lambda actions: actions.clip(-1.0, 1.0)  # noqa: E731
        policy = SimpleNamespace(kernel=SimpleNamespace(applied=applied))
        super().__init__(action_space=spaces.Box(-1.0, 1.0, (1,)), policy=policy, **more)


def experience(steps=4, seed=0):
    """Two target worlds and three of the source."""
    rng = np.random.default_rng(seed)
    rows = [rng.normal(size=(steps, 5, 1)).astype(np.float32) for _ in range(3)]
    no = np.zeros((steps, 5), bool)
    return Experience(*rows, np.ones((steps, 5), np.float32), no, no, np.array([0, 0, 1, 1, 1]))


def test_transitions_of_a_domain_keep_their_order():
    given = experience()
    rows = transitions(Learner(), given, 1)
    assert np.array_equal(rows.observations.reshape(4, 3, 1), given.observations[:, 2:])
    assert np.array_equal(rows.next_observations.reshape(4, 3, 1), given.next_observations[:, 2:])
    assert np.array_equal(rows.actions.reshape(4, 3, 1), given.actions[:, 2:].clip(-1, 1))


def test_choices_are_one_hot():
    given, learner = experience(), Learner()
    given.actions, learner.action_space = np.tile([0, 1, 2, 1, 0], (4, 1)), spaces.Discrete(3)
    assert transitions(learner, given, 1).actions[:3].tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]


def test_only_source_rewards_are_corrected_and_clipped(pushed):
    given = experience()
    exact = pushed.correction(transitions(Learner(), given, 1)).reshape(4, 3)
    pushed.learn = lambda domain, rows: None
    addition = Correction(pushed, scale=2.0, clip=1.0, wait=0.5, learn_target=False)
    addition.collected(Learner(), given)
    assert np.array_equal(given.rewards, np.ones((4, 5)))  # progress 0: not yet
    addition.progress = 0.5
    addition.collected(Learner(), given)
    assert np.allclose(given.rewards[:, 2:], 1 + 2 * exact.clip(-1, 1), atol=1e-6)
    assert np.abs(given.rewards[:, 2:] - 1).max() == pytest.approx(2.0)
    assert np.array_equal(given.rewards[:, :2], np.ones((4, 2)))
    assert not given.weights[:, :2].any() and given.weights[:, 2:].all()
    del pushed.learn


def test_source_transitions_weigh_what_the_ratio_says(pushed):
    given = experience()
    ratio = np.exp(pushed.log_ratio(transitions(Learner(), given, 1))).reshape(4, 3)
    pushed.learn = lambda domain, rows: None
    addition = Importance(pushed, clip=1.5, wait=0.1)
    addition.collected(Learner(), given)
    assert given.weights[:, :2].all() and not given.weights[:, 2:].any()  # progress 0: nothing of the source yet
    given, addition.progress = experience(), 0.1
    addition.collected(Learner(), given)
    assert np.allclose(given.weights[:, 2:], np.minimum(ratio, 1.5), rtol=1e-5)
    del pushed.learn


def test_source_experience_fades():
    weights = []
    for progress in (0.0, 0.25, 0.5, 0.9):
        given, addition = experience(), Mixing(0.5, stream(0, "mix"))
        addition.progress = progress
        addition.collected(Learner(), given)
        assert (given.weights[:, :2] == 1.0).all()
        weights.append(float(given.weights[0, 2]))
    assert weights == [1.0, 0.5, 0.0, 0.0]


def test_a_learner_that_remembers_keeps_a_share():
    given, learner = experience(steps=2000), Learner(replay_buffer=None)
    weigh(learner, given, 1, 0.3, stream(0, "mix"))
    assert set(np.unique(given.weights)) == {0.0, 1.0} and given.weights[:, :2].all()
    assert given.weights[:, 2:].mean() == pytest.approx(0.3, abs=0.02)


def test_restored_classifiers_go_on_to_the_same_bits():
    one, other = (Classifiers(1, 1, 8, 0.1, stream(0, "darc"), memory=500) for _ in range(2))
    for i in range(3):
        one.learn(1, batch(300, i, 0.0))
        one.learn(0, batch(300, 10 + i, 0.5))
    other.restore_training_state(one.training_state())
    for found in (one, other):
        found.generator = torch.Generator().manual_seed(7)
        found.learn(0, batch(300, 20, 0.5))
    rows = batch(100, 30, 0.0)
    assert one.correction(rows).tobytes() == other.correction(rows).tobytes()
