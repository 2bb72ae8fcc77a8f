import numpy as np
import pytest
import stable_baselines3
import torch
import twins

from simreal_agents.td3 import TD3
from simreal_envs.errors import UserError


def learner(worlds, hidden=(16, 16), activation="relu", **settings):
    network = {"hidden": list(hidden), "activation": activation, "normalize_observations": False}
    settings = {"learning_starts": 100, "batch_size": 64, "buffer_size": 5000, **settings}
    return TD3(env=worlds, seed=1, policy_kwargs=network, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"activation": "tanh", "hidden": (12,), "policy_delay": 3, "tau": 0.1},
        {"target_policy_noise": 0.5, "target_noise_clip": 0.3, "gamma": 0.9, "hidden": (16, 16, 8)},
        {"hidden": (256, 256), "batch_size": 256, "learning_rate": 1e-4},
    ],
)
def test_updates_equal_those_of_stock_sb3_on_the_same_batches_and_noise(point_mass, settings, monkeypatch):
    ours = learner(point_mass(), **settings)
    ours.learn(320)
    rest = {key: value for key, value in settings.items() if key not in ("hidden", "activation")}
    keys = ("critic_loss", "actor_loss")
    twins.update_alike(ours, stable_baselines3.TD3, point_mass(), 6, keys, monkeypatch, **rest)


def test_it_explores_with_the_noise_of_its_policy(point_mass):
    ours = learner(point_mass()).learn(200)
    with torch.no_grad():
        ours.policy.heads.actor.weight.zero_()  # far from the bounds, where noise is clipped
    rows = np.repeat(np.array([[0.3, -0.2, 0.1]], np.float32), 5000, axis=0)
    spread = ours.policy.act(rows, False, torch.Generator().manual_seed(0)) - ours.policy.act(rows)
    assert np.abs(ours.policy.act(rows)).max() < 0.5 and spread.std() == pytest.approx(0.1, rel=0.05)
    assert ours.policy.distribution(rows).noise == 0.1
    with pytest.raises(UserError, match="exploration_noise must not be negative"):
        TD3(env=point_mass(), policy_kwargs={"exploration_noise": -0.1})


def test_it_learns_to_reach_a_goal(point_mass):
    settings = {"batch_size": 64, "learning_rate": 5e-3, "gamma": 0.95, "learning_starts": 320, "gradient_steps": 8}
    network = {"hidden": [32, 32], "exploration_noise": 0.3}
    ours = TD3(env=point_mass(16), buffer_size=20_000, policy_kwargs=network, seed=1, **settings)
    ours.learn(3360)
    # Zero force scores about -25; the best controller is about 1.2 s away from any goal.
    assert np.mean([episode["r"] for episode in list(ours.ep_info_buffer)[-30:]]) > -12.0


def test_an_actor_that_would_never_move_is_refused(point_mass):
    with pytest.raises(UserError, match="policy_delay must be at least 1, got 0"):
        learner(point_mass(), policy_delay=0)
