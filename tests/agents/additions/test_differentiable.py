import kinds
import numpy as np
import pytest
import torch
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Normal, TransformedDistribution, kl_divergence
from torch.distributions.transforms import TanhTransform

from simreal_agents.additions.differentiable import (
    Categorical,
    Gaussian,
    Point,
    distribution,
    divergence,
    join,
    take,
    values,
)
from simreal_envs.errors import Unsupported

N = 40


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rows_of(agent, count=N):
    return torch.from_numpy(agent.policy.layout.flatten(kinds.observed(agent.schema, count)))


def gaussians():
    return [Gaussian(draw(N, 3, seed=2 * i), 0.5 * draw(N, 3, seed=2 * i + 1)) for i in (0, 1)]


def test_gaussian_kl_is_that_of_torch():
    one, other = gaussians()
    expected = kl_divergence(*(Normal(d.mean, d.log_std.exp()) for d in (one, other))).sum(1)
    torch.testing.assert_close(one.kl(other), expected)
    one, other = (Gaussian(torch.tensor([[m]]), torch.tensor([[s]]).log()) for m, s in ((1.0, 1.0), (0.0, 2.0)))
    assert one.kl(other).item() == pytest.approx(np.log(2) + (1 + 1) / 8 - 0.5)


def test_squashing_leaves_the_kl_as_it_is():
    one, other = (Normal(torch.tensor(m), torch.tensor(s)) for m, s in ((0.3, 0.5), (-0.2, 0.8)))
    squashed = [TransformedDistribution(d, [TanhTransform()]) for d in (one, other)]
    actions = torch.tanh(0.3 + 0.5 * draw(200_000))
    sampled = (squashed[0].log_prob(actions) - squashed[1].log_prob(actions)).mean().item()
    ours = [Gaussian(d.mean.reshape(1, 1), d.stddev.log().reshape(1, 1), squashed=True) for d in (one, other)]
    assert ours[0].kl(ours[1]).item() == pytest.approx(sampled, abs=0.01)


def test_categorical_kl_is_that_of_torch():
    one, other = (draw(N, 4, seed=s).log_softmax(1) for s in (0, 1))
    expected = kl_divergence(TorchCategorical(logits=one), TorchCategorical(logits=other))
    torch.testing.assert_close(Categorical(one).kl(Categorical(other)), expected)


def test_the_kl_of_points_is_that_of_gaussians_with_the_noise_of_the_student():
    one, other = (Point(draw(N, 2, seed=s), torch.full((N, 1), 0.3)) for s in (0, 1))
    expected = kl_divergence(*(Normal(d.actions, 0.3) for d in (one, other))).sum(1)
    torch.testing.assert_close(one.kl(other), expected)


@pytest.mark.parametrize(("algorithm", "observation", "action"), kinds.KINDS)
def test_it_is_what_the_policy_itself_says(algorithm, observation, action):
    agent = kinds.agent_of(algorithm, observation, action)
    rows = rows_of(agent)
    found, said = distribution(agent.policy, rows), agent.policy.distribution(rows.numpy())
    if isinstance(found, Gaussian):
        np.testing.assert_allclose(found.mean.detach(), said.mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.log_std.exp().detach(), np.broadcast_to(said.std, found.mean.shape), rtol=1e-4)
        assert found.squashed == said.squashed
    elif isinstance(found, Point):
        np.testing.assert_allclose(found.actions.detach(), said.actions, rtol=1e-4, atol=1e-5)
        assert found.noise.unique().tolist() == [np.float32(0.1)]
    elif algorithm == "ppo":
        np.testing.assert_allclose(found.log_probs.detach(), said.log_probs, rtol=1e-4, atol=1e-4)
    else:  # the numbers of a value-based agent are epsilon-greedy, its cloning soft: both have the same best actions
        np.testing.assert_array_equal(found.log_probs.argmax(1), agent.policy.act(rows.numpy()))


@pytest.mark.parametrize(("algorithm", "observation", "action"), kinds.KINDS)
def test_values_are_those_of_the_agent_in_units_of_the_action_space(algorithm, observation, action):
    agent = kinds.agent_of(algorithm, observation, action)
    rows = rows_of(agent)
    best = torch.from_numpy(agent.policy.act(rows.numpy()))
    found = values(agent.policy, rows, best).detach()
    if algorithm == "ppo":
        said = found[:, 0]
    elif action == "choice":
        said = found.view(N, 3, -1).mean(2).amax(1)
    else:
        said = found.view(N, agent.policy.network["n_critics"], -1).mean(2).amin(1)
    np.testing.assert_allclose(said, agent.policy.value(rows.numpy()), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("algorithm", "observation", "action"), kinds.KINDS)
def test_a_student_that_equals_its_teacher_has_nothing_to_learn(algorithm, observation, action):
    agent = kinds.agent_of(algorithm, observation, action)
    rows = rows_of(agent)
    with torch.no_grad():
        teachers = [kinds.agent_of(algorithm, observation, action, seed).policy for seed in (0, 1)]
        wanted, other = (distribution(teacher, rows, 0.01) for teacher in teachers)
    same, different = (divergence(d, distribution(agent.policy, rows, 0.01)) for d in (wanted, other))
    weights = list(agent.policy.parameters())
    gradients = torch.autograd.grad(same, weights, allow_unused=True, retain_graph=True)
    assert abs(same.item()) < 1e-6 and all(g.abs().max() < 1e-5 for g in gradients if g is not None)
    gradients = torch.autograd.grad(different, weights, allow_unused=True)
    assert different.item() > 1e-3 and max(g.abs().max() for g in gradients if g is not None) > 1e-3


def test_temperature_softens_the_values_of_agents_without_an_actor():
    agent = kinds.agent_of("dqn", "vector", "choice")
    rows = rows_of(agent)
    q_values = agent.policy(rows).detach()
    torch.testing.assert_close(distribution(agent.policy, rows, 0.2).log_probs, (5 * q_values).log_softmax(1))


def test_rows_of_a_distribution_are_taken_and_joined():
    one = gaussians()[0]
    again = join([take(one, slice(0, 10)), take(one, slice(10, None))])
    assert all(torch.equal(a, b) for a, b in zip(again[:2], one[:2], strict=True)) and again.squashed is False
    assert torch.equal(take(one, torch.tensor([3, 1])).mean, one.mean[[3, 1]])


def test_policies_of_two_kinds_cannot_be_compared():
    one, _ = gaussians()
    with pytest.raises(Unsupported, match="a gaussian policy cannot learn from a squashed gaussian one"):
        divergence(one._replace(squashed=True), one)
    with pytest.raises(Unsupported, match="a gaussian policy cannot learn from a categorical one"):
        divergence(Categorical(draw(N, 3).log_softmax(1)), one)
