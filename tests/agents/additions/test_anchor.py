import gymnasium
import numpy as np
import pytest
import torch

from simreal_agents.additions.anchor import Anchor
from simreal_agents.networks import Policy
from simreal_agents.optimizer import FlatAdam


def test_it_adds_the_gradient_of_its_penalty():
    space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    optimizer = FlatAdam(Policy(space, space, lambda _: 0.0, hidden=[1]), lr=1e-3)
    size = len(optimizer.parameters)
    optimizer.parameters.fill_(2.0)
    optimizer.gradients.fill_(0.5)
    home, strength = torch.zeros(size), torch.zeros(size)
    home[0], strength[0], strength[1] = 1.5, 4.0, 0.1
    anchor = Anchor(home, strength)
    anchor.gradient(optimizer)
    # 0.5 + 4 (2 - 1.5), 0.5 + 0.1 (2 - 0), and nothing where the strength is 0
    torch.testing.assert_close(optimizer.gradients[:3], torch.tensor([2.5, 0.7, 0.5]))
    assert anchor.penalty(optimizer) == pytest.approx(0.5 * (4 * 0.25 + 0.1 * 4))
