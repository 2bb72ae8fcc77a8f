"""Both ways to multiply give what autograd gives, and so does the linear layer of encoders, small and large."""

import numpy as np
import pytest
import torch
from torch import nn

from simreal_agents import products
from simreal_agents.continuous import Stacked
from simreal_agents.passes import KINDS
from simreal_agents.products import LARGE, Linear, Products, at_work, loops, team
from simreal_envs.errors import UserError


@pytest.fixture(autouse=True, params=[False, True], ids=["intel", "amd"])
def processor(request, monkeypatch):
    """What is chosen on either, whatever this one is."""
    monkeypatch.setattr(products, "_AMD", request.param)
    monkeypatch.setattr(products, "_FASTER", request.param and products._ONEDNN is not None)


def do(layer, what, *given, **more):
    """What a method of a layer writes to its second argument, by the way that is chosen."""
    if products._AMD:
        loops().perform(team().box, getattr(layer, f"{what}_job")(*given, **more)[None])
    else:
        getattr(layer, what)(*given, **more)
    return given[1]


def drawn(layer):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
            parameter.grad = torch.full_like(parameter, 7.0)
    return layer


def layer_and(n, width, out):
    generator = torch.Generator().manual_seed(1)
    layer = drawn(nn.utils.skip_init(Linear, width, out))
    return layer, torch.randn(n, width, generator=generator), torch.randn(n, out, generator=generator)


def by_autograd(layer, rows, delta):
    rows = rows.clone().requires_grad_()
    output = nn.functional.linear(rows, layer.weight, layer.bias)
    gradients = torch.autograd.grad(output, (rows, layer.weight, layer.bias), delta)
    return output.detach(), *gradients


# Widths that are and are not multiples of the four rows that are multiplied at a time.
@pytest.mark.parametrize(("i", "o"), [(1, 1), (3, 4), (4, 3), (5, 64), (46, 128), (7, 9)])
@pytest.mark.parametrize(("members", "apart", "n"), [(1, False, 9), (3, True, 33), (2, False, 300)])
def test_products_on_columns_equal_autograd(members, apart, n, i, o):
    layer = drawn(Stacked(members, i, o))
    draws = np.random.default_rng(0)
    h = draws.standard_normal((members if apart else 1, i, n)).astype(np.float32)
    delta = draws.standard_normal((members, o, n)).astype(np.float32)
    rows = torch.from_numpy(h).mT.expand(members, -1, -1).clone().requires_grad_()
    output = layer(rows)
    parts = (rows, layer.weight, layer.bias)
    by_rows, by_weight, by_bias = torch.autograd.grad(output, parts, torch.from_numpy(delta).mT)
    ours, close = Products(layer), {"rtol": 1e-4, "atol": 1e-4}

    def room(width):
        return np.full((members, width, n), np.nan, np.float32)

    np.testing.assert_allclose(do(ours, "forward", h, room(o)), output.detach().mT, **close)
    np.testing.assert_allclose(do(ours, "forward", h, room(o), KINDS.index("relu")), output.detach().mT.relu(), **close)
    np.testing.assert_allclose(do(ours, "back", delta, room(i)), by_rows.mT, **close)
    np.testing.assert_allclose(do(ours, "back", delta, room(i - i // 2), i // 2), by_rows.mT[:, i // 2 :], **close)
    do(ours, "learn", delta, h)
    torch.testing.assert_close(layer.weight.grad, by_weight, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(layer.bias.grad, by_bias, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("threads", [1, 2])
def test_products_have_the_same_bits_however_many_threads_share_them(threads):
    layer, torchs = Products(drawn(Stacked(2, 130, 70))), torch.get_num_threads()
    draws = np.random.default_rng(0)
    h, delta = (draws.standard_normal((2, width, 300)).astype(np.float32) for width in (130, 70))

    def results():
        seen = np.tanh(h)
        found = [do(layer, "forward", h, np.empty((2, 70, 300), np.float32), KINDS.index("relu"))]
        found.append(do(layer, "back", delta, np.empty((2, 130, 300), np.float32), slope=(seen, KINDS.index("tanh"))))
        do(layer, "learn", delta, h)
        return [*found, *(gradient.copy() for gradient in layer.gradients)]

    alone = results()
    with at_work(threads):
        for _ in range(20):
            for one, other in zip(alone, results(), strict=True):
                np.testing.assert_array_equal(one, other)
    assert torch.get_num_threads() == torchs


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_is_multiplied_by_the_slope_of_the_activation_before(kind):
    layer, draws = Products(drawn(Stacked(2, 9, 5))), np.random.default_rng(0)
    before = torch.from_numpy(draws.standard_normal((2, 9, 33)).astype(np.float32)).requires_grad_()
    after = {"relu": torch.relu, "tanh": torch.tanh, "elu": nn.functional.elu}[kind](before)
    delta = draws.standard_normal((2, 5, 33)).astype(np.float32)
    plain = do(layer, "back", delta, np.empty((2, 9, 33), np.float32))
    (expected,) = torch.autograd.grad(after, before, torch.from_numpy(plain))
    found = do(layer, "back", delta, np.empty_like(plain), slope=(after.detach().numpy(), KINDS.index(kind)))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_torch_waits_while_others_share_products(processor):
    torch.set_num_threads(2)
    try:
        with at_work(2):
            assert torch.get_num_threads() == 1 + (not products._AMD)
        with at_work(1):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_networks_of_other_numbers_are_refused():
    with pytest.raises(UserError, match="networks compute with float32, got float64"):
        Products(Stacked(1, 4, 8).double())


def test_weights_that_are_others_transposed_are_read_as_they_are():
    plain, turned = drawn(Stacked(2, 5, 4)), drawn(Stacked(2, 5, 4))
    turned.weight.data, turned.bias.data = plain.weight.data.mT.contiguous().mT, plain.bias.data
    h = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    expected, found = (do(Products(layer), "forward", h, np.empty((2, 4, 3), np.float32)) for layer in (plain, turned))
    np.testing.assert_array_equal(found, expected)


def test_a_view_of_one_layer_of_several_leaves_the_others_alone():
    layer = drawn(Stacked(3, 5, 4))
    second = Products(layer, slice(1, 2))
    h, delta = np.ones((1, 5, 8), np.float32), np.ones((1, 4, 8), np.float32)
    expected = layer.weight[1].sum(1) + layer.bias[1]
    np.testing.assert_allclose(
        do(second, "forward", h, np.empty((1, 4, 8), np.float32))[0, :, 0], expected.detach(), rtol=1e-5
    )
    do(second, "learn", delta, h)
    assert (layer.weight.grad[1] == 8).all() and (layer.weight.grad[[0, 2]] == 7).all()
    assert (layer.bias.grad[1] == 8).all() and (layer.bias.grad[[0, 2]] == 7).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_goes_through(bad):
    layer, h = Products(drawn(Stacked(1, 4, 8))), np.ones((1, 4, 8), np.float32)
    h[0, 2, 3] = bad
    found = do(layer, "forward", h, np.empty((1, 8, 8), np.float32), KINDS.index("relu"))
    assert not np.isfinite(found[0, :, 3]).all() and np.isfinite(np.delete(found, 3, axis=2)).all()
    do(layer, "learn", np.ones((1, 8, 8), np.float32), h)
    assert not np.isfinite(layer.gradients[0][0, :, 2]).any()


@pytest.mark.parametrize("n", [4, 300])
def test_a_linear_layer_of_either_library_has_the_gradients_of_torchs(n):
    layer, rows, delta = layer_and(n, 256, 64)
    assert (n * 256 * 64 >= LARGE) == (n == 300)
    expected = by_autograd(layer, rows, delta)
    rows.requires_grad_()
    output = layer(rows)
    found = output.detach(), *torch.autograd.grad(output, (rows, layer.weight, layer.bias), delta)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-3)


def test_what_is_frozen_gets_no_gradient_from_a_large_linear_layer():
    layer, rows, delta = layer_and(300, 256, 64)
    _, by_rows, *_ = by_autograd(layer, rows, delta)
    layer.requires_grad_(False)
    rows.requires_grad_()
    layer(rows).backward(delta)
    torch.testing.assert_close(rows.grad, by_rows, rtol=1e-5, atol=1e-4)
    assert torch.equal(layer.weight.grad, torch.full_like(layer.weight, 7.0))
