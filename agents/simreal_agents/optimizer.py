"""Adam over one flat vector: every parameter is a view into it, so a step is one pass over memory.

Updates equal ``torch.optim.AdamW`` (Kingma & Ba 2015; Loshchilov & Hutter 2019), without weight decay those of
``torch.optim.Adam``. Each group has a name, a learning-rate scale, options of its own and a `frozen` switch; a frozen
group is not touched at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from simreal_agents.networks import groups_of
from simreal_agents.products import team, vector_loops


class FlatAdam(torch.optim.Optimizer):
    """Adam for the named groups of a policy.

    After construction the policy's parameters and their gradients are views of ``self.parameters`` and
    ``self.gradients``, both ``(n,)`` float32, in the order of the groups. Group options: ``name``, ``lr``,
    ``lr_scale``, ``frozen``, ``step`` (updates since the group's moments were last reset), ``betas``, ``eps``,
    ``weight_decay`` (decoupled, times the learning rate) and ``max_grad_norm`` (of this group alone; None: no bound).

    Args:
        order: names of all groups in the order of the flat vectors; those that are stepped together are best neighbours.
            By default that of the network.

    Attributes:
        before, after: called with this optimizer before every step, when gradients may be changed, and after it, when
            parameters may.
    """

    OPTIONS = ("weight_decay", "max_grad_norm", "betas", "eps")

    def __init__(
        self,
        policy: torch.nn.Module,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-5,
        order: Sequence[str] | None = None,
    ):
        if not lr >= 0:
            raise ValueError(f"Invalid learning rate: {lr}")
        self.before: list[Callable[[FlatAdam], None]] = []
        self.after: list[Callable[[FlatAdam], None]] = []
        members_of = groups_of(policy)
        groups = [
            {"name": name, "params": [p for _, p in members_of[name]], "lr_scale": 1.0, "frozen": False, "step": 0}
            for name in order or members_of
        ]
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0, "max_grad_norm": None})
        members = [p for group in self.param_groups for p in group["params"]]
        size = sum(p.numel() for p in members)
        # Loops go by addresses of float32, whatever torch's default is.
        self.parameters, self.gradients, *self._moments = (torch.zeros(size, dtype=torch.float32) for _ in range(4))
        self._slices: dict[str, slice] = {}
        self._views: dict[tuple[int, ...], tuple[np.ndarray, ...]] = {}
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

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take a group of the constructor's. Torch's own method imports its compiler: 0.7 s and 35 MB in every process."""
        for name, default in self.defaults.items():
            param_group.setdefault(name, default)
        self.param_groups.append(param_group)

    @property
    def names(self) -> list[str]:
        """The names of the groups, in the order of the flat vectors."""
        return [group["name"] for group in self.param_groups]

    def group(self, name: str) -> dict[str, Any]:
        """The options of one group."""
        return next(group for group in self.param_groups if group["name"] == name)

    def part(self, name: str) -> slice:
        """Where a group lies in the flat vectors."""
        return self._slices[name]

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Zero the gradients in place; the views stay."""
        self.gradients.zero_()

    def reset_moments(self, name: str) -> None:
        """Forget a group's Adam state, as for parameters that never moved."""
        for moment in self._moments:
            moment[self._slices[name]] = 0.0
        self.group(name)["step"] = 0

    def snapshot(self) -> dict[str, Any]:
        """Moments and the options of every group, as plain data."""
        options = [{k: v for k, v in group.items() if k != "params"} for group in self.param_groups]
        return {"moments": [moment.clone() for moment in self._moments], "groups": options}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from a snapshot of an optimizer for the same network."""
        for moment, saved in zip(self._moments, snapshot["moments"], strict=True):
            moment.copy_(saved)
        for group, options in zip(self.param_groups, snapshot["groups"], strict=True):
            group.update(options)

    def step(self, closure: Callable[[], float] | None = None) -> None:
        """One Adam step with the gradients as they are."""
        self.clipped_step(math.inf)

    def clipped_step(self, max_norm: float, names: Collection[str] | None = None) -> float:
        """Scale the gradient to norm `max_norm` if it is longer, take one Adam step, return the norm before scaling.

        Args:
            names: the groups that move, all by default. Frozen groups neither move nor count for the norm.

        Raises:
            FloatingPointError: when the norm is not finite; no parameter has been changed then.
        """
        moving = [
            group for group in self.param_groups if not group["frozen"] and (names is None or group["name"] in names)
        ]
        self._call(self.before)
        norm = self._norm(moving)
        if not math.isfinite(norm):
            raise FloatingPointError(f"the gradient norm is {norm}; the parameters were left as they were")
        bounded = [group for group in moving if group["max_grad_norm"] is not None]
        for group in bounded:
            self._shorten([group], self._norm([group]), group["max_grad_norm"])
        self._shorten(moving, self._norm(moving) if bounded else norm, max_norm)
        for part, lr, step, (beta1, beta2), eps, decay in self._runs(moving):
            corrected, root = lr / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step)
            settings = np.array([1 - lr * decay, corrected, root, eps, 1 - beta1, beta2, 1 - beta2], np.float32)
            vector_loops().adam(team().box, vector_loops().ADAM.address, *self._at(part), settings)
        self._call(self.after)
        return norm

    def _call(self, hooks: list[Callable[[FlatAdam], None]]) -> None:
        if hooks:  # the vectors need none; to say so takes a third of the time of Adam's pass over a small network
            with torch.no_grad():
                for hook in hooks:
                    hook(self)

    def _norm(self, groups: list[dict[str, Any]]) -> float:
        loops = vector_loops()
        return math.hypot(
            *(loops.norm(team().box, loops.NORM.address, self._at(part)[1]) for part in self._parts(groups))
        )

    def _shorten(self, groups: list[dict[str, Any]], norm: float, longest: float) -> None:
        if norm + 1e-6 > longest:
            for part in self._parts(groups):
                self.gradients[part].mul_(longest / (norm + 1e-6))

    def _at(self, part: slice) -> tuple[np.ndarray, ...]:
        """Parameters, gradients and both moments of a slice, on their memory; made once, as updates are short.

        Once for each place in memory: torch moves what is sent to another process to memory that both share.
        """
        vectors = (self.parameters, self.gradients, *self._moments)
        key = part.start, part.stop, *(vector.data_ptr() for vector in vectors)
        if key not in self._views:
            self._views[key] = tuple(vector.numpy()[part] for vector in vectors)
        return self._views[key]

    def _parts(self, groups: list[dict[str, Any]]) -> list[slice]:
        """Maximal slices of neighbouring groups."""
        parts: list[slice] = []
        for group in groups:
            part = self._slices[group["name"]]
            if parts and parts[-1].stop == part.start:
                part = slice(parts.pop().start, part.stop)
            parts.append(part)
        return parts

    def _runs(
        self, groups: list[dict[str, Any]]
    ) -> Iterator[tuple[slice, float, int, tuple[float, float], float, float]]:
        """Advance the step counts and yield maximal slices of neighbouring groups that share all their settings."""
        run: tuple[Any, ...] | None = None
        for group in groups:
            group["step"] += 1
            part = self._slices[group["name"]]
            settings = (group["lr"], group["step"], tuple(group["betas"]), group["eps"], group["weight_decay"])
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
