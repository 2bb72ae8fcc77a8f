import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from simreal_agents.additions.alignment import (
    Confusion,
    Covariances,
    MeanDiscrepancy,
    confusion_strength,
    coral,
    mmd,
    reversed_gradient,
)
from simreal_agents.networks import stream


def normal(n, seed, mean=0.0, std=1.0, width=2):
    return mean + std * torch.randn((n, width), generator=stream(seed, "rows"))


class Identity(nn.Module):
    """An encoder of one linear layer that shows its input, until it learns something else."""

    def __init__(self, width=2):
        super().__init__()
        self.linear = nn.utils.skip_init(nn.Linear, width, width)
        with torch.no_grad():
            self.linear.weight.copy_(torch.eye(width))
            self.linear.bias.zero_()

    def features(self, rows, tower):
        return self.linear(rows)


def policy():
    return SimpleNamespace(encoder=Identity())


def test_coral_is_zero_for_equal_covariances_and_right_by_hand():
    source = normal(50, 0)
    assert coral(source, source + 3.0) == pytest.approx(0.0, abs=1e-12)
    # Covariances diag(2, 0) and diag(0, 2): squared distance 8, over 4 * 2^2.
    ours, theirs = torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 2.0]])
    assert coral(ours, theirs).item() == pytest.approx(0.5)


def test_mmd_by_hand():
    # Squared distances of 0, 1, 2, 3: 1 1 1 4 4 9, median 1, so the kernel is exp(-r^2 / 2).
    ours, theirs = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [3.0]])
    e = math.exp
    expected = e(-0.5) + e(-0.5) - 2 * (e(-2) + e(-4.5) + e(-0.5) + e(-2)) / 4
    assert mmd(ours, theirs, widths=(1.0,)).item() == pytest.approx(expected, rel=1e-6)
    assert mmd(ours * 100, theirs * 100).item() == pytest.approx(mmd(ours, theirs).item(), rel=1e-5)  # in medians


def test_mmd_is_unbiased_and_sees_a_shift():
    alike = np.array([mmd(normal(20, i), normal(20, 1000 + i)).item() for i in range(200)])
    assert abs(alike.mean()) < 3 * alike.std() / math.sqrt(len(alike)) and alike.min() < 0 < alike.max()
    assert mmd(normal(200, 0), normal(200, 1, mean=1.0)) > 5 * alike.std()


def test_the_reversed_gradient_has_the_opposite_sign():
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    y = reversed_gradient(x, 0.5)
    assert torch.equal(y, x)
    (y * torch.tensor([3.0, 4.0])).sum().backward()
    assert torch.equal(x.grad, torch.tensor([-1.5, -2.0]))


def test_the_strength_follows_the_paper():
    assert confusion_strength(0.0) == 0.0
    assert confusion_strength(0.1) == pytest.approx(2 / (1 + math.exp(-1)) - 1)
    assert confusion_strength(1.0) == pytest.approx(1.0, abs=1e-4)


def accuracy(confusion, agent, source, target):
    with torch.no_grad():
        told = [confusion.discriminator(agent.encoder.features(rows, "")) > 0 for rows in (source, target)]
    return 0.5 * ((~told[0]).float().mean() + told[1].float().mean()).item()


def test_the_discriminator_falls_to_chance_once_its_gradient_reaches_the_features():
    source, target, agent = normal(512, 0), normal(512, 1, mean=2.0), policy()
    confusion = Confusion(source.numpy(), 1.0, "encoder", stream(0, "dann"), width=2, units=16, steepness=10.0)
    learning = torch.optim.SGD(agent.encoder.parameters(), lr=0.03)

    def learn(progress, steps):
        confusion.progress = progress
        told = []
        for i in range(steps):
            rows = target[torch.randint(512, (64,), generator=stream(i, "batch"))]
            learning.zero_grad()
            confusion.loss(agent, {"observations": rows}).backward()
            learning.step()
            if steps - i <= 100:
                told.append(accuracy(confusion, agent, source, target))
        return np.mean(told)

    assert learn(0.0, 400) > 0.85  # strength 0: only the discriminator learns
    assert torch.equal(agent.encoder.linear.weight, torch.eye(2))
    assert abs(learn(1.0, 800) - 0.5) < 0.1
    seen = [agent.encoder.features(rows, "").mean(0) for rows in (source, target)]
    assert (seen[0] - seen[1]).norm() < 0.5  # at first 2 sqrt 2


@pytest.mark.parametrize("kind", [Covariances, MeanDiscrepancy])
def test_features_leave_out_what_differs(kind):
    source, agent = normal(512, 0), policy()
    target = normal(512, 1) * torch.tensor([3.0, 1.0]) + torch.tensor([2.0, 0.0])  # the first column is another one
    addition = kind(source.numpy(), 1.0, "encoder", stream(0, "draws"))
    learning = torch.optim.Adam(agent.encoder.parameters(), lr=0.02)
    losses = []
    for _ in range(150):
        learning.zero_grad()
        loss = addition.loss(agent, {"observations": target[:128]})
        loss.backward()
        learning.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.2 * np.mean(losses[:10])
    first, second = agent.encoder.linear.weight.norm(dim=0)
    assert first < 0.5 * second


def test_only_target_rows_are_compared_where_there_are_others():
    addition = Covariances(normal(64, 0).numpy(), 2.0, "encoder", stream(0, "draws"))
    rows, which = normal(10, 1), torch.tensor([0] * 6 + [1] * 4)
    state = addition.training_state()
    mixed = addition.loss(policy(), {"observations": rows, "which": which})
    addition.restore_training_state(state)
    assert mixed == addition.loss(policy(), {"observations": rows[:6]})
    assert addition.loss(policy(), {"observations": rows[:1]}) is None  # one row has no covariance


def test_a_restored_discriminator_goes_on_to_the_same_bits():
    def fresh():
        return Confusion(normal(64, 0).numpy(), 1.0, "encoder", stream(0, "dann"), width=2, units=4, steepness=10.0)

    one, other, batch = fresh(), fresh(), {"observations": normal(16, 1)}
    one.progress = 0.5
    for _ in range(3):
        one.loss(policy(), batch)
    other.restore_training_state(one.training_state())
    assert [one.loss(policy(), batch).item() for _ in range(3)] == [
        other.loss(policy(), batch).item() for _ in range(3)
    ]
