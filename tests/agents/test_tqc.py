import numpy as np
import pytest
import torch
import twins

from simreal_agents.tqc import TQC


def learner(worlds, hidden=(16, 16), quantiles=25, **settings):
    network = {"hidden": list(hidden), "n_quantiles": quantiles, "normalize_observations": False}
    settings = {"learning_starts": 100, "batch_size": 64, "learning_rate": 1e-3, "buffer_size": 5000, **settings}
    return TQC(env=worlds, seed=1, policy_kwargs=network, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"quantiles": 5, "top_quantiles_to_drop_per_net": 0, "gamma": 0.9},
        {"hidden": (256, 256), "batch_size": 128, "top_quantiles_to_drop_per_net": 5, "ent_coef": 0.1},
    ],
)
def test_updates_equal_those_of_sb3_contrib_on_the_same_batches_and_noise(point_mass, settings, monkeypatch):
    contrib = pytest.importorskip("sb3_contrib")
    ours = learner(point_mass(), **settings)
    ours.learn(240)
    rest = {key: value for key, value in settings.items() if key not in ("hidden", "quantiles")}
    keys = ("critic_loss", "actor_loss", "ent_coef")
    twins.update_alike(ours, contrib.TQC, point_mass(), 4, keys, monkeypatch, **{"learning_rate": 1e-3, **rest})


def test_gradients_of_the_quantile_loss_equal_autograd(point_mass):
    ours = learner(point_mass(), quantiles=4, batch_size=8)
    rows, actions, target = (torch.randn(8, k, generator=torch.Generator().manual_seed(k)) for k in (3, 1, 6))
    current = ours.policy.q_values(rows, actions)
    levels = ((torch.arange(4) + 0.5) / 4).view(1, 1, 4, 1)
    error = target[None, :, None, :] - current.unsqueeze(3)
    huber = torch.nn.functional.huber_loss(error, torch.zeros_like(error), reduction="none")
    loss = ((levels - (error < 0).float()).abs() * huber).mean()
    head = ours.policy.heads.critic
    expected = torch.autograd.grad(loss, [head.weight, head.bias])
    with torch.no_grad():
        assert ours._judge(torch.cat([rows, actions], dim=1).numpy(), target.numpy()) == pytest.approx(
            loss.item(), rel=1e-5
        )
    torch.testing.assert_close(head.weight.grad, expected[0], rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(head.bias.grad, expected[1], rtol=1e-4, atol=1e-7)


def test_it_learns_to_reach_a_goal(point_mass):
    settings = {"batch_size": 64, "learning_rate": 5e-3, "gamma": 0.95, "learning_starts": 320, "seed": 1}
    network = {"hidden": [32, 32], "n_quantiles": 7}
    ours = TQC(env=point_mass(16), buffer_size=20_000, policy_kwargs=network, gradient_steps=8, **settings)
    ours.learn(3360)
    # Zero force scores about -25; the best controller is about 1.2 s away from any goal.
    assert np.mean([episode["r"] for episode in list(ours.ep_info_buffer)[-30:]]) > -12.0
