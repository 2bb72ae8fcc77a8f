import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from catch import SCHEMAS, Catch, score
from kinds import differing, tensors
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import nn

from simreal_agents.bundle import Agent
from simreal_agents.dqn import DQN
from simreal_agents.qrdqn import QRDQN
from simreal_agents.replay import Batch
from simreal_envs.errors import Unsupported

QUICK = {
    "learning_rate": 1e-3, "buffer_size": 2000, "learning_starts": 100, "batch_size": 32, "train_freq": 2,
    "gradient_steps": 4, "target_update_interval": 128,
}  # fmt: skip
FORMS = ["picture", "mixed", "vector"]


def make(form="vector", kind=DQN, hidden=(16, 16), num_envs=8, seed=0, network=None, env=None, **settings):
    worlds = Catch(form, num_envs) if env is None else env
    return kind(env=worlds, seed=seed, policy_kwargs={"hidden": hidden, **(network or {})}, **QUICK | settings)


def stock_for(ours):
    """SB3's DQN with our weights and the same target."""
    env = make_vec_env("CartPole-v1", 1)
    settings = {"net_arch": ours.policy.network["hidden"], "activation_fn": nn.ReLU}
    stock = stable_baselines3.DQN("MlpPolicy", env, policy_kwargs=settings, learning_rate=1e-3, device="cpu")
    stock.set_logger(configure(None, [""]))
    mine = ours.policy
    for network, parts in ((stock.q_net, mine), (stock.q_net_target, mine.target)):
        tensors_ = [*parts.encoder.critic.state_dict().values(), *parts.trunk.critic.state_dict().values()]
        tensors_ += [*parts.heads.critic.state_dict().values()]
        with torch.no_grad():
            for theirs, tensor in zip(network.parameters(), tensors_, strict=True):
                theirs.copy_(tensor)
    return stock


@pytest.mark.parametrize("max_grad_norm", [10.0, 0.05])
def test_updates_equal_stock_sb3_on_the_same_batches(max_grad_norm, monkeypatch):
    network = {"hidden": (64, 64), "normalize_observations": False}
    settings = {"policy_kwargs": network, "max_grad_norm": max_grad_norm, "learning_rate": 1e-3, "seed": 0}
    ours = DQN(env=gymnasium.make("CartPole-v1"), **settings)
    ours.set_logger(configure(None, [""]))
    assert ours.max_grad_norm == max_grad_norm
    stock = stock_for(ours)
    stock.max_grad_norm = max_grad_norm
    rng = np.random.default_rng(0)
    batches = []
    for _ in range(5):
        both = rng.normal(size=(128, 4)).astype(np.float32)
        rewards, terminated = rng.normal(0, 3, 64).astype(np.float32), rng.random(64) < 0.3
        batches.append(Batch(both, rng.integers(2, size=64), rewards, terminated))
    mine, others = iter(batches), iter(batches)
    monkeypatch.setattr(
        ours.replay_buffer, "batches", lambda _, count, n: (Batch(*(a[None] for a in next(mine))) for _ in range(count))
    )

    def theirs(n, env=None):
        b = next(others)
        columns = (b.observations, b.actions[:, None], b.next_observations, b.terminated[:, None], b.rewards[:, None])
        o, a, following, done, r = map(torch.from_numpy, columns)
        return ReplayBufferSamples(o, a, following, done.float(), r)

    monkeypatch.setattr(stock.replay_buffer, "sample", theirs)
    before = tensors(ours)
    ours.train(5, 64)
    stock.train(5, 64)
    assert "encoder.critic.0.weight" in differing(before, tensors(ours))
    assert not any(name.startswith("target") for name in differing(before, tensors(ours)))
    for (name, a), b in zip(ours.policy.named_parameters(), stock.q_net.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-6, msg=name)
    losses = [model.logger.name_to_value["train/loss"] for model in (ours, stock)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", [DQN, QRDQN])
def test_gradients_are_those_of_the_loss(form, kind):
    """The slope of the summed loss of 8 transitions, by finite differences in float64."""
    learner = make(form, kind, network={"n_quantiles": 4} if kind is QRDQN else {}, batch_size=8)
    rng = np.random.default_rng(0)
    outputs, targets = (rng.normal(0, 1.5, (8, 4 if kind is QRDQN else 1)) for _ in range(2))
    _, slope = learner._loss(outputs, targets)
    for place in np.ndindex(outputs.shape):
        step = np.zeros_like(outputs)
        step[place] = 1e-5
        difference = learner._loss(outputs + step, targets)[0] - learner._loss(outputs - step, targets)[0]
        assert slope[place] == pytest.approx(difference / 2e-5, abs=1e-6)


def test_target_and_exploration_are_scheduled_as_in_sb3():
    ours = make(num_envs=4, target_update_interval=50, train_freq=1, exploration_fraction=0.5, gradient_steps=1)
    seen = []

    def watch(learner, progress):
        _, target, online = learner.policy.followed[0]
        seen.append((learner.num_timesteps, torch.equal(target, online), learner.exploration_rate))

    ours.progress_hooks.append(watch)
    ours.learn(400)
    # Every 50 // 4 = 12 steps of 4 worlds the target follows, before the updates of that step; learning starts beyond 100.
    # So both are equal up to 100, where no update has been done, and differ later.
    assert [steps for steps, _, _ in seen] == list(range(0, 400, 4))
    assert [steps for steps, equal, _ in seen if not equal] == list(range(104, 400, 4))
    rates = {steps: rate for steps, _, rate in seen}
    assert rates[100] == pytest.approx(1 - 0.95 * 0.25 / 0.5)
    assert rates[200] == pytest.approx(0.05) == rates[396]
    assert ours._n_updates == (400 - 100) // 4
    assert ours.rollout_size == 4


def test_as_many_updates_as_transitions():
    ours = make(num_envs=4, train_freq=5, gradient_steps=-1, learning_starts=0)
    ours.learn(40)
    assert ours._n_updates == 40


def test_truncation_is_not_termination_and_actions_before_learning_are_random():
    ours = make(env=Catch("vector", 8, limit=4), learning_starts=10_000)
    ours.learn(800)
    columns = ours.replay_buffer.state().columns
    before, after = (columns[name][:800] for name in ("observations", "next_observations"))
    terminated = columns["terminated"][:800]
    truncated = after[:, 1] == np.float32(4 / 9)
    assert truncated.sum() > 100 and not terminated[truncated].any()
    assert terminated.sum() < 20  # those that began below the limit
    np.testing.assert_allclose(after[:, 1] - before[:, 1], 1 / 9, atol=1e-6)
    assert np.bincount(columns["actions"][:800], minlength=3).min() > 200
    assert ours._n_updates == 0


def test_a_value_that_is_not_finite_stops_training():
    learner = make(loss_terms=[lambda policy, batch: policy.heads.critic.bias.sum() * float("nan")])
    before = tensors(learner)
    with pytest.raises(FloatingPointError, match="gradient norm is nan"):
        learner.learn(400)
    assert not any(
        name.startswith(("encoder.critic", "trunk", "heads")) for name in differing(before, tensors(learner))
    )


def test_what_is_not_supported_says_so():
    with pytest.raises(Unsupported, match="optimize_memory_usage"):
        make(optimize_memory_usage=True)
    with pytest.raises(Unsupported, match="learns from single steps"):
        make(n_steps=3)
    with pytest.raises(Unsupported, match="steps of all worlds"):
        make(env=gymnasium.make("CartPole-v1"), train_freq=(1, "episode"))
    assert Agent.new(SCHEMAS["vector"], {"n_quantiles": 3}, algorithm="qrdqn").policy.network["n_quantiles"] == 3


@pytest.mark.parametrize(
    ("form", "fall", "settings", "least"),
    [
        ("vector", 9, {"batch_size": 64, "target_update_interval": 500, "hidden": (64, 64)}, 0.8),
        ("picture", 4, {"batch_size": 32, "target_update_interval": 128, "hidden": (32,)}, 0.5),
    ],
)
def test_it_learns_to_catch(form, fall, settings, least):
    exploration = {"learning_starts": 500, "exploration_fraction": 0.6, "buffer_size": 20_000, "gradient_steps": 8}
    learner = make(env=Catch(form, 16, fall), gamma=0.95, **exploration, **settings)
    assert score(Agent.of(learner), form, fall=fall) < 0.0
    learner.learn(12_000 if form == "vector" else 10_000)
    assert score(Agent.of(learner), form, fall=fall) > least
