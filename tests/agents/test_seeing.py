"""SAC, TD3 and TQC on pictures and on pictures with vectors beside them."""

import kinds
import numpy as np
import pytest
import torch
from aim import Aim, score
from torch.nn.functional import huber_loss, mse_loss

from simreal_agents.algorithms import find_algorithm
from simreal_agents.bundle import Agent
from simreal_agents.networks import groups_of
from simreal_agents.seeing import Seeing
from simreal_envs.errors import UserError

ALL = pytest.mark.parametrize("algorithm", ["sac", "td3", "tqc"])
FORMS = pytest.mark.parametrize("form", ["picture", "mixed"])
QUICK = {"learning_rate": 1e-3, "learning_starts": 40, "batch_size": 16, "buffer_size": 200, "gamma": 0.5}
ACTOR = ("trunk.actor", "heads.actor", "heads.log_std")
CRITIC = ("encoder.shared", "trunk.critic", "heads.critic")


def make(algorithm="sac", form="picture", seed=0, network=None, **settings):
    policy = {"hidden": [12, 8], **(network or {})}
    return find_algorithm(algorithm)(env=Aim(form), seed=seed, policy_kwargs=policy, **QUICK | settings)


# ---- the mathematics, written once more for autograd alone -------------------------------------------------------------


def seen(parts, policy, rows):
    return parts.encoder.shared(rows, policy.encoder.normalizer)


def judged(parts, policy, rows, actions):
    return parts.heads.critic(parts.trunk.critic(torch.cat([seen(parts, policy, rows), actions], dim=1)))


def drawn(policy, rows, noise):
    """Actions and their log-densities; the encoder learns nothing from them."""
    features = policy.trunk.actor(seen(policy, policy, rows).detach())
    mean, log_std = policy.heads.actor(features), policy.heads.log_std(features).clamp(-20, 2)
    gaussian = torch.distributions.Normal(mean, log_std.exp())
    before = mean + log_std.exp() * noise
    actions = before.tanh()
    return actions, (gaussian.log_prob(before) - (1 - actions**2 + 1e-6).log()).sum(1, keepdim=True)


def losses(learner, batch, noise):
    """The losses of critics and actor at the weights of this moment."""
    policy, n = learner.policy, len(batch.rewards)
    both, actions = torch.from_numpy(batch.both), torch.from_numpy(batch.actions)
    rewards, going = torch.from_numpy(batch.rewards)[:, None], 1 - torch.from_numpy(batch.terminated).float()[:, None]
    rows, following = both[:n], both[n:]
    if learner.algorithm == "td3":
        with torch.no_grad():
            features = seen(policy.target, policy, following)
            best = policy.target.heads.actor(policy.target.trunk.actor(features)).tanh()
            smooth = (noise * learner.target_policy_noise).clamp(-0.5, 0.5)
            after = judged(policy.target, policy, following, (best + smooth).clamp(-1, 1)).amin(0)
        target = rewards + going * learner.gamma * after
        critic = sum(mse_loss(q, target) for q in judged(policy, policy, rows, actions))
        acting = policy.heads.actor(policy.trunk.actor(seen(policy, policy, rows).detach())).tanh()
        return critic, -judged(policy, policy, rows, acting)[0].mean()
    alpha = policy.heads.temperature.detach().exp()
    with torch.no_grad():
        other, log_prob = drawn(policy, following, noise[n:])
        after = judged(policy.target, policy, following, other)
    if learner.algorithm == "sac":
        target = rewards + going * learner.gamma * (after.amin(0) - alpha * log_prob)
        critic = 0.5 * sum(mse_loss(q, target) for q in judged(policy, policy, rows, actions))
    else:
        atoms = after.movedim(0, 1).flatten(1).sort(dim=1).values[:, :-4]
        target = (rewards + going * learner.gamma * (atoms - alpha * log_prob))[None, :, None, :]
        found = judged(policy, policy, rows, actions)[..., None]
        levels = (torch.arange(found.shape[2]) + 0.5)[:, None] / found.shape[2]
        weight = (levels - (target < found).float()).abs()
        target, found = torch.broadcast_tensors(target, found)
        critic = (weight * huber_loss(found, target, reduction="none")).mean()
    acting, log_prob = drawn(policy, rows, noise[:n])
    values = judged(policy, policy, rows, acting)
    value = values.amin(0) if learner.algorithm == "sac" else values.mean((0, 2))[:, None]
    return critic, (alpha * log_prob - value).mean()


@ALL
@FORMS
def test_an_update_follows_the_gradients_that_autograd_finds(algorithm, form):
    delay = {"policy_delay": 1} if algorithm == "td3" else {}
    learner = make(algorithm, form, learning_rate=0.0, max_grad_norm=None, **delay)
    learner.learn(64)
    with torch.no_grad():  # targets that differ from what they follow
        for _, target, _ in learner.policy.followed:
            target.mul_(0.9)
    followed, steps = [target.clone() for _, target, _ in learner.policy.followed], []
    learner.optimizer.before.append(lambda optimizer: steps.append(optimizer.gradients.clone()))
    order, noise = torch.Generator(), torch.Generator()
    order.set_state(learner._order.get_state()), noise.set_state(learner._noise.get_state())
    batch = learner.replay_buffer.sample(order, 16)
    draws = torch.randn((16 if algorithm == "td3" else 32, 1), generator=noise)
    learner.train(1, 16)
    with torch.no_grad():
        for (_, target, _), before in zip(learner.policy.followed, followed, strict=True):
            target.copy_(before)
    for loss, found, names in zip(losses(learner, batch, draws), steps, (CRITIC, ACTOR), strict=True):
        members = [(g, p) for g, ps in groups_of(learner.policy).items() if g in names for _, p in ps]
        expected = torch.autograd.grad(loss, [p for _, p in members])
        for group in {group for group, _ in members}:
            wanted = torch.cat([g.flatten() for g, (name, _) in zip(expected, members, strict=True) if name == group])
            assert wanted.abs().max() > 1e-5
            torch.testing.assert_close(found[learner.optimizer.part(group)], wanted, rtol=1e-4, atol=1e-6, msg=group)


@ALL
@FORMS
def test_passes_give_what_the_policy_gives(algorithm, form):
    agent = kinds.agent_of(algorithm, {"picture": "camera"}.get(form, form), "box")
    policy, rows = agent.policy, agent.policy.layout.flatten(kinds.observed(agent.schema, 20))
    assert isinstance(policy.kernel.actor, Seeing) and policy.layout.dtype == rows.dtype
    with torch.no_grad():
        actions = policy(torch.from_numpy(rows))
        values = policy.q_values(torch.from_numpy(rows), actions).mean(2)
    np.testing.assert_allclose(policy.kernel.actions(rows), actions, atol=1e-6)
    np.testing.assert_allclose(policy.kernel.q_values(rows, actions.numpy()), values, atol=1e-5)
    np.testing.assert_allclose(policy.value(rows), values.amin(0), atol=1e-5)


# ---- learning ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("algorithm", "form"), [("sac", "picture"), ("td3", "mixed")])
def test_it_learns_to_aim(algorithm, form):
    settings = {"learning_starts": 200, "batch_size": 32, "buffer_size": 2000, "train_freq": 2}
    learner = make(algorithm, form, network={"hidden": [32, 32]}, **settings)
    learner.learn(900)
    assert score(Agent.of(learner), form) > -0.25
    assert learner.replay_buffer.state().columns["observations"].dtype == learner.policy.layout.dtype


def test_pixels_are_remembered_as_bytes():
    learner = make("sac", "picture").learn(48)
    shown = learner.replay_buffer.state().columns["observations"][:48]
    assert shown.dtype == np.uint8 and (shown.sum(axis=1) == 1).all()


def test_actions_need_a_layer_behind_the_encoder():
    with pytest.raises(UserError, match=r"hidden needs two widths or more there, got \[12\]"):
        make(network={"hidden": [12]})
