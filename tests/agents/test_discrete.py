import numpy as np
import pytest
import torch
from catch import SCHEMAS, Catch
from gymnasium import spaces

from simreal_agents.bundle import Agent
from simreal_agents.discrete import QPolicy, QuantilePolicy
from simreal_agents.networks import groups_of
from simreal_envs.errors import Unsupported, UserError

FORMS = ["picture", "mixed", "vector"]


def make(form="vector", kind=QPolicy, **network):
    schema = SCHEMAS[form]
    return kind(schema.observation_space, schema.action_space, None, hidden=(16, 12), **network)


def look(policy, form="vector"):
    worlds = Catch(form, 32)
    return policy.layout.flatten(worlds.reset(seed=0)[0])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", [QPolicy, QuantilePolicy])
def test_the_kernel_agrees_with_autograd_online_and_target(form, kind):
    policy = make(form, kind)
    policy.encoder.normalizer.update(torch.rand(50, len(policy.layout.vector)) * 3 + 1)
    rows = look(policy, form)
    for module in (policy.encoder, policy.trunk, policy.heads):  # away from the target
        for parameter in module.parameters():
            parameter.data.mul_(1.5)
    quantiles = 200 if kind is QuantilePolicy else 1
    seen = policy.kernel.ruler()(rows)
    outputs = []
    for target in (False, True):
        with torch.no_grad():
            expected = policy.outputs(torch.from_numpy(rows), target)
        assert expected.shape == (32, 3, quantiles)
        outputs.append(policy.kernel.outputs(seen, target))
        np.testing.assert_allclose(outputs[-1], expected, atol=2e-6)
    assert np.abs(outputs[0] - outputs[1]).max() > 0.01
    best = policy.forward(torch.from_numpy(rows)).detach().max(dim=1)
    np.testing.assert_array_equal(policy.act(rows), best.indices)
    np.testing.assert_allclose(policy.value(rows), best.values, atol=2e-6)


def test_parameters_have_the_names_that_everything_is_addressed_by():
    picture, vector = make("picture"), make("vector")
    assert list(groups_of(picture)) == ["encoder.shared", "trunk.critic", "heads.critic"]
    assert list(groups_of(vector)) == ["encoder.critic", "trunk.critic", "heads.critic"]
    for policy in (picture, vector):
        online = {name for name, _ in policy.named_parameters()}
        targets = {name for name in policy.state_dict() if name.startswith("target.")}
        assert targets == {f"target.{name}" for name in online}
        assert not any(name.startswith("target") for name in online)
    assert [layer.out_features for layer in vector.linears("critic")] == [16, 12, 3]
    assert vector.linears("actor") == []
    assert make(kind=QuantilePolicy, n_quantiles=5).linears("critic")[-1].out_features == 15


def test_targets_follow_by_a_share():
    policy = make()
    (_, target, online), *_ = policy.followed
    with torch.no_grad():
        target.zero_()
        online.fill_(2.0)
    policy.kernel.follow(0.25)
    assert (policy.target.encoder.critic[0].weight == 0.5).all()
    policy.kernel.follow(1.0)
    assert torch.equal(policy.target.encoder.critic[0].weight, policy.encoder.critic[0].weight)


def test_exploring_actions_are_uniform_and_as_many_as_the_rate_says():
    policy, n = make(), 30_000
    rows = np.repeat(look(policy)[:1], n, axis=0)
    best, policy.exploration_rate = policy.act(rows)[0], 0.3
    actions = policy.act(rows, False, torch.Generator().manual_seed(0))
    assert actions.dtype == np.int64 and actions.shape == (n,)
    found = np.bincount(actions, minlength=3) / n
    expected = np.full(3, 0.1)
    expected[best] += 0.7
    np.testing.assert_allclose(found, expected, atol=0.01)
    with pytest.raises(UserError, match=r"needs a torch\.Generator"):
        policy.act(rows, deterministic=False)


def test_the_divergence_of_two_policies_counts_where_they_differ():
    one, two = make(seed=0), make(seed=3)
    rows = np.random.default_rng(0).random((500, 3)).astype(np.float32)
    mine, other = one.distribution(rows), two.distribution(rows)
    np.testing.assert_allclose(np.exp(mine.log_probs).sum(axis=1), 1.0)
    differs = one.act(rows) != two.act(rows)
    assert 0 < differs.sum() < 500
    rare, often = 0.05 / 3, 0.95 + 0.05 / 3
    np.testing.assert_allclose(mine.kl(other), np.where(differs, (often - rare) * np.log(often / rare), 0.0))
    one.exploration_rate = 0.0
    assert np.isfinite(one.distribution(rows).log_probs).all()


def test_weights_are_drawn_as_by_torch_and_seeded():
    weights = [make("picture", seed=seed).encoder.shared.cnns["image"][0].weight for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    bound = 1 / np.sqrt(2 * 3 * 3)
    assert 0.9 * bound < weights[0].abs().max() <= bound


def test_other_actions_and_bad_settings_are_refused():
    box = spaces.Box(-1, 1, (3,), np.float32)
    with pytest.raises(Unsupported, match="acts in a Discrete"):
        QPolicy(box, box)
    with pytest.raises(Unsupported, match="count from 0"):
        QPolicy(box, spaces.Discrete(3, start=1))
    with pytest.raises(UserError, match="n_quantiles must be at least 1"):
        make(kind=QuantilePolicy, n_quantiles=0)
    with pytest.raises(UserError, match="did you mean 'hidden'"):
        Agent.new(SCHEMAS["vector"], {"hiden": [8]}, algorithm="dqn")
