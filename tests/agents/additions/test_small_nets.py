import torch

from simreal_agents.additions.small import Mlp


def generator():
    return torch.Generator().manual_seed(3)


def fitted(steps, net=None, rows=None):
    net = net or Mlp((2, 16, 1), generator(), lr=1e-2)
    rows = torch.randn(64, 2, generator=generator())
    for _ in range(steps):
        loss = net.step((net(rows)[:, 0] - rows.prod(dim=1)).square().mean())
    return net, loss


def test_it_learns_and_equal_generators_give_equal_bits():
    (one, first), (_, last), (other, _) = fitted(1), fitted(200), fitted(1)
    assert last < 0.2 * first
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_state_continues_to_the_same_bits():
    whole, _ = fitted(20)
    half, _ = fitted(10)
    again = Mlp((2, 16, 1), torch.Generator().manual_seed(9), lr=1e-2)
    again.restore_training_state(half.training_state())
    fitted(10, again)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_a_net_that_never_learned_has_a_state_too():
    net = Mlp((2, 4, 1), generator())
    other = Mlp((2, 4, 1), torch.Generator().manual_seed(1))
    other.restore_training_state(net.training_state())
    assert torch.equal(net.layers[0].weight, other.layers[0].weight)
