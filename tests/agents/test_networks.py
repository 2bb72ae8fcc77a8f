import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces

from simreal_agents.networks import GROUPS, Policy, groups_of, matching_groups, stream
from simreal_envs.errors import UserError

OBSERVATIONS, ACTIONS = spaces.Box(-np.inf, np.inf, (3,), np.float32), spaces.Box(-1, 1, (2,), np.float32)


def make(**network):
    return Policy(OBSERVATIONS, ACTIONS, lambda _: 3e-4, **network)


@pytest.mark.parametrize("hidden", [[8], [8, 7], [8, 7, 6]])
def test_every_parameter_is_under_exactly_one_group(hidden):
    policy = make(hidden=hidden)
    names = sorted(name for name, _ in policy.named_parameters())
    assert sorted(name for members in groups_of(policy).values() for name, _ in members) == names
    elsewhere = {"encoder.shared", "heads.temperature"}  # of pictures, of SAC
    missing = elsewhere | ({"trunk.actor", "trunk.critic"} if len(hidden) == 1 else set())
    assert set(groups_of(policy)) == set(GROUPS) - missing
    assert policy.encoder.actor[0].weight.shape == (8, 3)


def test_parts_are_addressed_by_module_group_or_tower():
    found = matching_groups(["heads.actor", "encoder"])
    assert found == ["encoder.shared", "encoder.actor", "encoder.critic", "heads.actor"]
    assert matching_groups(["actor"]) == ["encoder.actor", "trunk.actor", "heads.actor", "heads.log_std"]
    assert matching_groups(["critic"]) == ["encoder.critic", "trunk.critic", "heads.critic"]
    with pytest.raises(UserError, match="unknown module 'enocder'; did you mean 'encoder'"):
        matching_groups(["enocder"])


def test_initial_weights_are_orthogonal_and_leave_global_random_state_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    policy, same, other = make(hidden=[4, 4], seed=3), make(hidden=[4, 4], seed=3), make(hidden=[4, 4], seed=4)
    assert torch.equal(before, torch.get_rng_state())
    weight = policy.trunk.actor[0].weight.detach()
    torch.testing.assert_close(weight @ weight.T, 2 * torch.eye(4))
    assert torch.equal(weight, same.trunk.actor[0].weight)
    assert not torch.equal(weight, other.trunk.actor[0].weight)
    assert float(policy.heads.actor.weight.detach().norm(dim=1).max()) == pytest.approx(0.01)


def test_streams_of_one_seed_differ_by_purpose():
    draws = [torch.randn(3, generator=stream(0, purpose)) for purpose in ("noise", "noise", "order")]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_stock_sb3_predicts_learns_saves_and_loads_with_the_policy(tmp_path):
    model = stable_baselines3.PPO(
        Policy, "Pendulum-v1", n_steps=32, batch_size=32, n_epochs=1, policy_kwargs={"hidden": [8, 8]}
    )
    model.learn(64).save(tmp_path / "model.zip")
    observation = np.zeros(3, np.float32)
    action, _ = stable_baselines3.PPO.load(tmp_path / "model.zip").predict(observation, deterministic=True)
    np.testing.assert_array_equal(action, model.predict(observation, deterministic=True)[0])


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"activation": "than"}, "did you mean 'tanh'"), ({"hidden": []}, "at least one"), ({"hidden": [0]}, "positive")],
)
def test_a_wrong_network_setting_is_one_sentence(settings, says):
    with pytest.raises(UserError, match=says):
        make(**settings)
