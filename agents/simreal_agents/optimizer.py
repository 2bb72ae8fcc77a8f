"""Adam over one flat vector: every parameter is a view into it, so a step is a few vector operations.

Updates equal ``torch.optim.Adam`` (Kingma & Ba 2015) without weight decay. Each group has a name, a learning-rate
scale and a `frozen` switch; a frozen group is not touched at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from simreal_agents.networks import Policy, groups_of


class FlatAdam(torch.optim.Optimizer):
    """Adam for the named groups of a policy.

    After construction the policy's parameters and their gradients are views of ``self.parameters`` and
    ``self.gradients``, both ``(n,)`` float32, in the order of the groups. Group options: ``name``, ``lr``,
    ``lr_scale``, ``frozen``, ``step`` (updates since the group's moments were last reset), ``betas``, ``eps``.
    """

    def __init__(self, policy: Policy, lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-5):
        groups = [
            {"name": name, "params": [p for _, p in members], "lr_scale": 1.0, "frozen": False, "step": 0}
            for name, members in groups_of(policy).items()
        ]
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps})
        members = [p for group in self.param_groups for p in group["params"]]
        size = sum(p.numel() for p in members)
        self.parameters, self.gradients, self._scratch = (torch.zeros(size) for _ in range(3))
        self._moments = (torch.zeros(size), torch.zeros(size))
        self._slices: dict[str, slice] = {}
        start = 0
        for group in self.param_groups:
            begin = start
            for p in group["params"]:
                view = self.parameters[start : start + p.numel()].view_as(p)
                p.data = view.copy_(p.data)
                p.grad = self.gradients[start : start + p.numel()].view_as(p)
                self.state[p] = {
                    key: flat[start : start + p.numel()].view_as(p)
                    for key, flat in zip(("exp_avg", "exp_avg_sq"), self._moments, strict=True)
                }
                start += p.numel()
            self._slices[group["name"]] = slice(begin, start)

    @property
    def names(self) -> list[str]:
        """The names of the groups, in the order of the flat vectors."""
        return [group["name"] for group in self.param_groups]

    def group(self, name: str) -> dict[str, Any]:
        """The options of one group."""
        return next(group for group in self.param_groups if group["name"] == name)

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Zero the gradients in place; the views stay."""
        self.gradients.zero_()

    def reset_moments(self, name: str) -> None:
        """Forget a group's Adam state, as for parameters that never moved."""
        for moment in self._moments:
            moment[self._slices[name]] = 0.0
        self.group(name)["step"] = 0

    def step(self, closure: Callable[[], float] | None = None) -> None:
        """One Adam step with the gradients as they are."""
        self.clipped_step(math.inf)

    @torch.no_grad()
    def clipped_step(self, max_norm: float) -> float:
        """Scale the gradient to norm `max_norm` if it is longer, take one Adam step, return the norm before scaling.

        Frozen groups neither move nor count for the norm.

        Raises:
            FloatingPointError: when the norm is not finite; no parameter has been changed then.
        """
        for group in self.param_groups:
            if group["frozen"]:
                self.gradients[self._slices[group["name"]]] = 0.0
        norm = float(torch.linalg.vector_norm(self.gradients))
        if not math.isfinite(norm):
            raise FloatingPointError(f"the gradient norm is {norm}; the parameters were left as they were")
        if norm + 1e-6 > max_norm:
            self.gradients.mul_(max_norm / (norm + 1e-6))
        for part, lr, step, (beta1, beta2), eps in self._runs():
            p, g, tmp = self.parameters[part], self.gradients[part], self._scratch[part]
            m, v = (moment[part] for moment in self._moments)
            m.lerp_(g, 1 - beta1)
            v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
            torch.sqrt(v, out=tmp).div_(math.sqrt(1 - beta2**step)).add_(eps)
            p.addcdiv_(m, tmp, value=-lr / (1 - beta1**step))
        return norm

    def _runs(self) -> Iterator[tuple[slice, float, int, tuple[float, float], float]]:
        """Advance the step counts and yield maximal slices of neighbouring groups that share all their settings."""
        run: tuple[Any, ...] | None = None
        for group in self.param_groups:
            if group["frozen"]:
                continue
            group["step"] += 1
            part = self._slices[group["name"]]
            settings = (group["lr"], group["step"], tuple(group["betas"]), group["eps"])
            if run is not None and run[0].stop == part.start and run[1:] == settings:
                run = (slice(run[0].start, part.stop), *settings)
                continue
            if run is not None:
                yield run
            run = (part, *settings)
        if run is not None:
            yield run

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore options and moments into the flat vectors."""
        views = {p: dict(state) for p, state in self.state.items()}
        super().load_state_dict(state_dict)
        for p, own in views.items():
            for key, view in own.items():
                view.copy_(self.state[p][key])
            self.state[p] = own
