import numpy as np
import pytest
import stable_baselines3
import torch
import twins

from simreal_agents.algorithms import find_algorithm
from simreal_agents.bundle import Agent, load_into
from simreal_agents.sac import SAC
from simreal_envs.errors import UserError
from simreal_envs.variation import Domain
from simreal_envs.worlds import make


def learner(worlds, hidden=(16, 16), activation="relu", **settings):
    network = {"hidden": list(hidden), "activation": activation, "normalize_observations": False}
    settings = {"learning_starts": 100, "batch_size": 64, "learning_rate": 1e-3, "buffer_size": 5000, **settings}
    return SAC(env=worlds, seed=1, policy_kwargs=network, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"activation": "tanh", "hidden": (12,), "target_update_interval": 3, "tau": 0.1},
        {"ent_coef": 0.2, "gamma": 0.9, "hidden": (16, 16, 8), "activation": "elu"},
        {
            "hidden": (256, 256),
            "batch_size": 256,
            "learning_rate": 1e-4,
            "ent_coef": "auto_0.5",
            "target_entropy": -0.5,
        },
    ],
)
def test_updates_equal_those_of_stock_sb3_on_the_same_batches_and_noise(point_mass, settings, monkeypatch):
    ours = learner(point_mass(), **settings)
    ours.learn(320)
    rest = {key: value for key, value in settings.items() if key not in ("hidden", "activation")}
    keys = ("critic_loss", "actor_loss", "ent_coef", "ent_coef_loss")
    stock = twins.update_alike(
        ours, stable_baselines3.SAC, point_mass(), 4, keys, monkeypatch, **{"learning_rate": 1e-3, **rest}
    )
    if stock.log_ent_coef is not None:
        assert ours.policy.heads.temperature.item() == pytest.approx(stock.log_ent_coef.item(), abs=1e-6)


def test_it_starts_as_sb3_does(point_mass):
    ours = learner(point_mass(), hidden=(64, 64))
    stock = stable_baselines3.SAC("MlpPolicy", ours.env, policy_kwargs={"net_arch": [64, 64]}, seed=0)
    for theirs, tensor in twins.pairs(ours, stock):
        if theirs.numel() >= 64:
            bounds = [t.detach().abs().max().item() for t in (theirs, tensor)]
            assert bounds[0] == pytest.approx(bounds[1], rel=0.1)
    assert ours.target_entropy == stock.target_entropy == -1.0
    assert ours.policy.heads.temperature.item() == 0.0


def test_the_temperature_starts_where_it_is_told_to(point_mass):
    assert learner(point_mass(), ent_coef="auto_0.1").policy.heads.temperature.exp().item() == pytest.approx(0.1)
    fixed = learner(point_mass(), ent_coef=0.3)
    fixed.learn(200)
    assert fixed.policy.heads.temperature.exp().item() == pytest.approx(0.3)
    fixed.reinitialize(["heads"])
    assert fixed.policy.heads.temperature.exp().item() == pytest.approx(0.3)
    assert learner(point_mass(), ent_coef=0.0).learn(200)._n_updates > 0
    for wrong in ("auto_0", "automatic", -0.1):
        with pytest.raises(UserError, match="ent_coef must be a number from 0"):
            learner(point_mass(), ent_coef=wrong)


@pytest.mark.parametrize("algorithm", ["sac", "tqc", "crossq"])
@pytest.mark.parametrize(
    ("before", "now", "goes_on_from"),
    [("auto", 0.05, 0.05), ("auto", 0.0, 0.0), (0.3, 0.05, 0.05), (0.3, "auto", 0.3), (0.0, "auto_0.1", 0.1)],
)
def test_a_temperature_that_is_set_holds_whatever_agent_is_copied(point_mass, algorithm, before, now, goes_on_from):
    network = {"hidden": [8, 8]} | ({"critic_width": 8} if algorithm == "crossq" else {})
    settings = {"learning_starts": 8, "batch_size": 8, "gradient_steps": 1, "learning_rate": 1e-4, "seed": 0}

    def learner(ent_coef):
        return find_algorithm(algorithm)(env=point_mass(8), ent_coef=ent_coef, policy_kwargs=network, **settings)

    ours = learner(now)
    load_into(ours, Agent.of(learner(before).learn(32)))
    ours.learn(32)
    temperature, learned = ours.policy.heads.temperature.exp().item(), isinstance(now, str)
    assert temperature == pytest.approx(goes_on_from, rel=0.01 if learned else 1e-6)
    assert (ours.optimizer.group("heads.temperature")["step"] > 0) == learned


def test_its_distribution_is_that_of_its_actions(point_mass):
    ours = learner(point_mass()).learn(200)
    row = np.array([[0.3, -0.2, 0.5]], np.float32)
    distribution = ours.policy.distribution(row)
    drawn = ours.policy.act(np.repeat(row, 20_000, axis=0), False, torch.Generator().manual_seed(0))
    free = np.arctanh(drawn.astype(np.float64).clip(-0.9999999, 0.9999999))
    assert distribution.squashed
    np.testing.assert_allclose(free.mean(0), distribution.mean[0], atol=0.05)
    np.testing.assert_allclose(free.std(0), distribution.std[0], rtol=0.05)


def test_it_learns_to_reach_a_goal(point_mass):
    settings = {"batch_size": 64, "learning_rate": 5e-3, "gamma": 0.95, "learning_starts": 320, "gradient_steps": 8}
    network = {"hidden": [32, 32]}
    ours = SAC(env=point_mass(16), seed=1, buffer_size=20_000, policy_kwargs=network, ent_coef="auto_0.1", **settings)
    ours.learn(3360)
    # Zero force scores about -25; the best controller is about 1.2 s away from any goal.
    assert np.mean([episode["r"] for episode in list(ours.ep_info_buffer)[-30:]]) > -11.0


@pytest.mark.slow
def test_it_swings_up_a_pendulum():
    settings = {"batch_size": 256, "learning_rate": 1e-3, "gamma": 0.98, "learning_starts": 500, "tau": 0.01}
    ours = SAC(env=make(Domain("pendulum_swingup"), 4, seed=0), seed=0, policy_kwargs={"hidden": [64, 64]}, **settings)
    ours.learn(6000)
    returns = [episode["r"] for episode in ours.ep_info_buffer]
    assert np.mean(returns[:5]) < 50.0
    assert sorted(returns[-10:])[-3] > 200.0
