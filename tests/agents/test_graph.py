import gymnasium
import numpy as np
import pytest
import torch
from catch import Catch, score
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_util import make_vec_env
from twins import collect, update_of_ppo_alike

from simreal_agents.bundle import Agent
from simreal_agents.graph import Graph, GraphSurrogate
from simreal_agents.kernels import Kernel, Surrogate
from simreal_agents.networks import Policy
from simreal_agents.optimizer import FlatAdam
from simreal_agents.ppo import PPO
from simreal_agents.vecenv import SB3Worlds

VECTOR, FORCES = spaces.Box(-np.inf, np.inf, (5,), np.float32), spaces.Box(-1, 1, (2,), np.float32)
QUICK = {"n_steps": 16, "batch_size": 64, "n_epochs": 2, "learning_rate": 1e-3, "seed": 0}
FORMS = ["picture", "mixed", "vector"]


def rows(n, width=5, seed=0):
    return np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)


def make(form="picture", hidden=(16, 16), env=None, network=None, **settings):
    return PPO(env=env or Catch(form), policy_kwargs={"hidden": hidden, **(network or {})}, **QUICK | settings)


@pytest.mark.parametrize("activation", ["tanh", "elu", "relu"])
def test_both_ways_to_compute_a_gaussian_policy_agree(activation):
    policy = Policy(VECTOR, FORCES, lambda _: 1e-3, hidden=(16, 12), activation=activation, log_std_init=-0.5)
    with torch.no_grad():
        policy.heads.actor.weight.mul_(50.0)
    policy.encoder.normalizer.update(torch.from_numpy(rows(100) * 3 + 1))
    policy.optimizer = FlatAdam(policy, lr=1e-3)
    kernel, graph, observations = Kernel(policy), Graph(policy), rows(64)
    normalized = kernel.ruler()(observations)
    assert graph.ruler()(observations) is not observations
    for name in ("mean", "value"):
        hand, auto = (getattr(way, name)(seen) for way, seen in ((kernel, normalized), (graph, observations)))
        np.testing.assert_allclose(hand, auto, atol=2e-6)
    noise = graph.noise(64, generator=torch.Generator().manual_seed(0))
    means, actions = kernel.look(normalized)[0], graph.drawn(graph.look(observations)[0], noise, observations)
    np.testing.assert_allclose(kernel.drawn(means, noise, normalized), actions, atol=2e-6)
    log_probs = kernel.log_probs(means, noise, actions, normalized)
    np.testing.assert_array_equal(log_probs, graph.log_probs(means, noise, actions, observations))
    advantages, old, returns = rows(3, 64, seed=2)
    old = 0.3 * old + log_probs
    settings = {"clip_range": 0.2, "ent_coef": 0.01, "vf_coef": 0.7, "normalize": True}
    results = []
    for surrogate, seen in (
        (Surrogate(kernel, **settings), normalized),
        (GraphSurrogate(policy, **settings), observations),
    ):
        losses = surrogate.forward(seen, actions, advantages, old, returns)
        surrogate.backward()
        results.append((losses, policy.optimizer.gradients.clone()))
    assert results[0][0] == pytest.approx(results[1][0], abs=2e-5)
    assert results[0][0]["clip_fraction"] > 0
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("form", FORMS)
def test_an_update_equals_stock_sb3_on_the_same_rollout_and_order(form, monkeypatch):
    ours = make(form, ent_coef=0.02)
    ours.learn(512)
    update_of_ppo_alike(ours, SB3Worlds(Catch(form), flat=True), monkeypatch, ent_coef=0.02, **QUICK)


@pytest.mark.parametrize("form", FORMS)
def test_an_update_starts_where_the_rollout_was_drawn(form):
    ppo = make(form, scale_rewards=False)
    ppo.learn(512)
    buffer = collect(ppo)
    observations, actions, old = (getattr(buffer, n).reshape(256, -1) for n in ("observations", "actions", "log_probs"))
    settings = {"clip_range": 1e-4, "ent_coef": 0.0, "vf_coef": 0.5, "normalize": True}
    surrogate = ppo.kernel.surrogate(**settings)
    others = buffer.advantages.ravel(), old[:, 0], buffer.returns.ravel()
    losses = surrogate.forward(ppo.kernel.ruler()(observations), actions, *others)
    assert losses["clip_fraction"] == 0.0 and abs(losses["approx_kl"]) < 1e-8
    with torch.no_grad():
        values, log_probs, _ = ppo.policy.evaluate_actions(
            torch.from_numpy(observations), torch.from_numpy(actions[:, 0])
        )
    np.testing.assert_allclose(buffer.values.ravel(), values[:, 0], atol=2e-5)
    np.testing.assert_allclose(old[:, 0], log_probs, atol=2e-5)


def test_dropout_learns_with_units_left_out_and_acts_with_all_of_them():
    network = {"dropout": 0.3}
    runs = [make("vector", network=network, seed=seed).learn(512) for seed in (0, 0, 1)]
    weights = [run.policy.trunk.actor[0].weight for run in runs]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    policy, seen = runs[0].policy, rows(8, 3)
    assert np.array_equal(policy.value(seen), policy.value(seen))
    plain = make("vector").learn(512)
    assert not torch.equal(plain.policy.trunk.actor[0].weight, weights[0])
    states = runs[0].policy.trunk.actor[-1].generator.get_state(), runs[0].policy.trunk.critic[-1].generator.get_state()
    assert not torch.equal(*states)
    assert runs[0].policy.network["dropout"] == 0.3


def test_predict_takes_pictures_one_by_one_and_in_batches():
    ppo = make("mixed")
    observations, _ = ppo.env.worlds.reset(seed=3)
    batch, _ = ppo.predict(observations, deterministic=True)
    single, _ = ppo.predict({name: part[2] for name, part in observations.items()}, deterministic=True)
    assert batch.shape == (16,) and single == batch[2]
    assert np.array_equal(batch, Agent.of(ppo).act(observations))


def test_pictures_of_a_single_environment_keep_their_axes():
    class Noise(gymnasium.Env):
        observation_space, action_space = spaces.Box(0, 255, (12, 14, 3), np.uint8), spaces.Discrete(3)

        def reset(self, *, seed=None, options=None):
            return np.random.default_rng(0).integers(0, 255, (12, 14, 3), np.uint8), {}

        def step(self, action):
            return self.reset()[0], 0.0, False, False, {}

    ppo = PPO("CnnPolicy", Noise(), policy_kwargs={"hidden": (8,)}, **QUICK | {"batch_size": 16})
    assert ppo.policy.layout.parts[0].shape == (12, 14, 3)
    ppo.learn(16)
    for i in range(5):
        picture = np.random.default_rng(i).integers(0, 255, (12, 14, 3), np.uint8)
        assert ppo.predict(picture, deterministic=True)[0] == ppo.policy.act(picture.reshape(1, -1))[0]


@pytest.mark.parametrize("form", ["picture", "mixed"])
def test_it_learns_to_catch_from_pictures(form):
    settings = {"n_steps": 32, "batch_size": 256, "n_epochs": 4, "learning_rate": 2e-3, "gamma": 0.95}
    ppo = make(env=Catch(form, 32, fall=4), hidden=(64, 64), **settings)
    assert score(Agent.of(ppo), form, fall=4) < 0.0
    ppo.learn(24_000)
    assert score(Agent.of(ppo), form, fall=4) > 0.5


def test_it_balances_a_cartpole():
    worlds = gymnasium.make_vec(
        "CartPole-v1", 8, vectorization_mode="sync", vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP}
    )
    rates = {"learning_rate": lambda left: 2e-3 * left, "clip_range": lambda left: 0.2 * left}
    settings = {"n_steps": 64, "batch_size": 128, "gamma": 0.99, "gae_lambda": 0.95, "seed": 0, **rates}
    ppo = PPO(env=worlds, policy_kwargs={"hidden": (64, 64)}, **settings).learn(32_000)
    assert np.mean([episode["r"] for episode in list(ppo.ep_info_buffer)[-20:]]) > 400


def test_stock_environments_with_pictures_and_discrete_actions_train():
    ppo = PPO(env=make_vec_env("CartPole-v1", 2), n_steps=32, batch_size=32, n_epochs=1, seed=0).learn(64)
    action, _ = ppo.predict(np.zeros(4, np.float32), deterministic=True)
    assert action in (0, 1)
