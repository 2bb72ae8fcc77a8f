"""Both libraries give what autograd gives: products on columns and the linear layer of encoders, small and large."""

import pytest
import torch
from torch import nn

from simreal_agents import products
from simreal_agents.products import LARGE, LARGE_COLUMNS, Columns, Linear


@pytest.fixture(autouse=True, params=[False, True], ids=["intel", "amd"])
def processor(request, monkeypatch):
    """What is chosen on either, whatever this one is."""
    monkeypatch.setattr(products, "_AMD", request.param)
    monkeypatch.setattr(products, "_FASTER", request.param and products._ONEDNN is not None)


def layer_and(n, width, out):
    generator = torch.Generator().manual_seed(0)
    layer = nn.utils.skip_init(Linear, width, out)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
            parameter.grad = torch.full_like(parameter, 7.0)
    return layer, torch.randn(n, width, generator=generator), torch.randn(n, out, generator=generator)


def by_autograd(layer, rows, delta):
    rows = rows.clone().requires_grad_()
    output = nn.functional.linear(rows, layer.weight, layer.bias)
    gradients = torch.autograd.grad(output, (rows, layer.weight, layer.bias), delta)
    return output.detach(), *gradients


SHAPES = [(9, 3, 4), (9, 4, 3), (300, 5, 64), (512, 46, 128), (512, 128, 64)]
assert min(n * i * o for n, i, o in SHAPES) < LARGE_COLUMNS < max(n * i * o for n, i, o in SHAPES)


@pytest.mark.parametrize("shape", SHAPES)
def test_products_on_columns_equal_autograd(shape):
    layer, rows, delta = layer_and(*shape)
    output, by_rows, by_weight, by_bias = by_autograd(layer, rows, delta)
    columns, turned = Columns(layer), delta.t().contiguous()
    for given in (rows.t(), rows.t().contiguous()):
        torch.testing.assert_close(columns.forward(given).t(), output, rtol=1e-5, atol=1e-4)
        columns.learn(turned, given)
        torch.testing.assert_close(layer.weight.grad, by_weight, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(layer.bias.grad, by_bias, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(columns.back(turned).t(), by_rows, rtol=1e-5, atol=1e-4)


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
