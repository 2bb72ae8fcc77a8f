"""The diagonal of a policy's Fisher information: how much each weight matters for what the policy does.

``F_i = E_s E_{a ~ pi(s)} [(d log pi(a|s) / d w_i)^2]``. The inner mean is exact, no action is drawn (van de Ven 2025,
arXiv:2502.11756, compares the ways to compute it). For a normal distribution with independent
components it is ``sum_k (d mean_k)^2 / std_k^2 + 2 (d log std_k)^2``, for a choice ``sum_a p_a (d log p_a)^2``. Both are
sums of squared derivatives of what `roots` returns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from simreal_agents.additions import acting_tower
from simreal_agents.additions.differentiable import Categorical, Gaussian, distribution
from simreal_agents.networks import groups_of, matching_groups
from simreal_agents.products import Linear

NUMBERS = 16_000_000  # derivatives that are held at a time


def roots(policy: Any, rows: Tensor) -> Tensor:
    """``(n, k)`` for raw rows ``(n, size)``: the sum over k of its squared derivatives is the Fisher information.

    Values of actions (means over their quantiles), where a policy has nothing else, count as means of normal distributions
    of variance 1, which is what their squared error takes them for.
    """
    if hasattr(policy, "outputs"):
        outputs = policy.outputs(rows)
        return (outputs if policy.absent is None else outputs[:, policy.choices]).mean(2)
    found = distribution(policy, rows)
    if isinstance(found, Categorical):
        return (0.5 * found.log_probs.detach()).exp() * found.log_probs
    if isinstance(found, Gaussian):
        mean = found.mean * (-found.log_std.detach()).exp()
        return torch.cat([mean, math.sqrt(2) * found.log_std], dim=1)
    return found.actions / found.noise


class _Roots(nn.Module):
    def __init__(self, policy: Any):
        super().__init__()
        self.policy = policy

    def forward(self, rows: Tensor) -> Tensor:
        return roots(self.policy, rows)


def diagonal(policy: Any, rows: np.ndarray) -> dict[str, Tensor]:
    """The Fisher information of every parameter that has a say in the actions, meant over raw rows ``(n, size)``."""
    deciding = matching_groups([acting_tower(policy), "encoder.shared"])
    weights = {
        name: parameter
        for group, members in groups_of(policy).items()
        if group in deciding
        for name, parameter in members
    }
    seen = torch.from_numpy(np.array(rows, dtype=policy.layout.dtype))
    found = _of_linears(policy, seen, weights)
    rest = {name: weight.detach() for name, weight in weights.items() if name not in found}
    total = {**found, **_of_others(policy, seen, rest)}
    return {name: total[name] / len(seen) for name in weights}


def _of_linears(policy: Any, rows: Tensor, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sums over rows, for linear layers that are passed once: what a row adds to a weight's derivative is the product of
    what goes in and of the derivative by what comes out, and so are their squares."""
    passed: dict[str, list[tuple[Tensor, Tensor]]] = {}
    hooks = []
    for name, module in policy.named_modules():
        if type(module) in (nn.Linear, Linear) and f"{name}.weight" in weights:  # not what is made of several

            def keep(_: Any, inputs: tuple[Tensor, ...], output: Tensor, name: str = name) -> None:
                passed.setdefault(name, []).append((inputs[0].detach(), output))

            hooks.append(module.register_forward_hook(keep))
    sums: dict[str, Tensor] = {}
    try:
        outputs = roots(policy, rows)
    finally:
        for hook in hooks:
            hook.remove()
    once = {n: calls[0] for n, calls in passed.items() if len(calls) == 1 and calls[0][0].shape[:-1] == (len(rows),)}
    for column in outputs.sum(0):
        slopes = torch.autograd.grad(column, [out for _, out in once.values()], retain_graph=True, allow_unused=True)
        for (name, (inputs, output)), slope in zip(once.items(), slopes, strict=True):
            squares = torch.zeros_like(output) if slope is None else slope.square()
            for part, more in (("weight", squares.T @ inputs.square()), ("bias", squares.sum(0))):
                sums[f"{name}.{part}"] = sums.get(f"{name}.{part}", 0.0) + more
    return sums


def _of_others(policy: Any, rows: Tensor, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sums over rows, for parameters of any kind: from all derivatives of every row."""
    if not weights:
        return {}
    module = _Roots(policy)

    def of_one(parameters: dict[str, Tensor], row: Tensor) -> Tensor:
        named = {f"policy.{name}": tensor for name, tensor in parameters.items()}
        return torch.func.functional_call(module, named, (row[None],))[0]

    derivatives = torch.func.vmap(torch.func.jacrev(of_one), in_dims=(None, 0))
    with torch.no_grad():
        outputs = module(rows[:1]).shape[1]
    numbers = outputs * sum(weight.numel() for weight in weights.values())
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for part in rows.split(max(1, NUMBERS // numbers)):
        for name, derivative in derivatives(dict(weights), part).items():
            total[name] += derivative.detach().square().sum((0, 1))
    return total
