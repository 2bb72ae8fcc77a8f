import gymnasium
import numpy as np
import pytest
import torch
from catch import Catch, score
from stable_baselines3.common.logger import configure

from simreal_agents.bundle import Agent
from simreal_agents.qrdqn import QRDQN
from simreal_agents.replay import Batch


def make(env=None, hidden=(16, 16), n_quantiles=5, **settings):
    settings = {"learning_rate": 1e-3, "buffer_size": 20_000, "batch_size": 32, "seed": 0} | settings
    return QRDQN(
        env=env or Catch("vector", 8), policy_kwargs={"hidden": hidden, "n_quantiles": n_quantiles}, **settings
    )


def test_the_loss_is_equation_10_of_the_paper():
    """Written out with loops: sum over quantiles, mean over targets and batch, of |tau - 1{u < 0}| L_1(u)."""
    rng = np.random.default_rng(0)
    outputs, targets = rng.normal(0, 1.5, (2, 4, 3)).astype(np.float32)
    variable = torch.tensor(outputs, requires_grad=True)
    expected = torch.zeros(())
    for b in range(4):
        for i in range(3):
            for j in range(3):
                u = torch.tensor(targets[b, j]) - variable[b, i]
                huber = 0.5 * u.square() if abs(u) <= 1 else abs(u) - 0.5
                expected = expected + abs((i + 0.5) / 3 - float(u < 0)) * huber / (4 * 3)
    expected.backward()
    loss, slope = make()._loss(outputs, targets)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(slope, variable.grad, atol=1e-6)


def test_it_learns_the_quantiles_of_a_random_reward(monkeypatch):
    """One state whose last reward is uniform in [0, 100]: quantile i of 5 is at 10, 30, 50, 70, 90."""
    learner = make(learning_rate=2e-2)
    learner.set_logger(configure(None, [""]))
    rng = np.random.default_rng(0)

    def draw(n):
        actions = rng.integers(3, size=n)
        rewards = np.where(actions == 1, rng.uniform(0, 100, n), 7.0).astype(np.float32)
        return Batch(np.ones((2 * n, 3), np.float32), actions, rewards, np.ones(n, bool))

    monkeypatch.setattr(
        learner.replay_buffer, "batches", lambda _, count, n: (Batch(*(a[None] for a in draw(n))) for _ in range(count))
    )
    learner.train(600, 256)
    learner.lr_schedule = lambda _: 2e-3
    learner.train(300, 256)
    with torch.no_grad():
        quantiles = learner.policy.outputs(torch.ones(1, 3))[0].numpy()
    np.testing.assert_allclose(quantiles[1], [10, 30, 50, 70, 90], atol=4.0)
    np.testing.assert_allclose(quantiles[[0, 2]], 7.0, atol=1.0)
    assert learner.policy.value(np.ones((1, 3), np.float32)) == pytest.approx([50.0], abs=3.0)


def test_defaults_are_those_of_the_paper():
    learner = QRDQN(env=gymnasium.make("CartPole-v1"))
    assert learner.policy.network["n_quantiles"] == 200
    assert learner.optimizer.param_groups[0]["eps"] == 0.01 / 32
    assert learner.hyperparameters["learning_rate"] == 5e-5 and learner.max_grad_norm is None
    assert (learner.exploration_fraction, learner.exploration_final_eps) == (0.005, 0.01)
    assert learner.hyperparameters["exploration_final_eps"] == 0.01


def test_it_learns_to_catch():
    settings = {"learning_starts": 500, "batch_size": 64, "train_freq": 2, "gradient_steps": 8, "gamma": 0.95}
    exploration = {"target_update_interval": 128, "exploration_fraction": 0.6, "exploration_final_eps": 0.05}
    learner = make(env=Catch("vector", 16, fall=4), hidden=(64, 64), n_quantiles=10, **settings, **exploration)
    assert score(Agent.of(learner), "vector", fall=4) < 0.0
    learner.learn(8000)
    assert score(Agent.of(learner), "vector", fall=4) > 0.5
