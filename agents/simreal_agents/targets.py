"""Networks with target copies: slow copies of their parameters, under ``target.*`` in the state dict and in no group."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Parts(nn.Module):
    """Modules under names of their own."""

    def __init__(self, **modules: nn.Module):
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)


def as_buffers(module: nn.Module) -> nn.Module:
    """Turn the parameters of `module` into buffers, so that nothing trains them."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            del part._parameters[name]
            part.register_buffer(name, parameter.detach())
    return module


class WithTargets(nn.Module):
    """Mixin of a policy whose ``target`` holds copies of some of its parameters, under their own names."""

    _kernel: Any = None

    def tensors_were_replaced(self) -> None:
        """To be called after parameters got new memory (changes in place are seen)."""
        object.__setattr__(self, "_kernel", None)

    def obs_to_tensor(self, observation: Any) -> tuple[Any, bool]:
        """SB3's, for what Gymnasium's MuJoCo shows: float64, which SB3 casts in its own features extractors."""
        tensor, vectorized = super().obs_to_tensor(observation)  # type: ignore[misc]
        return tensor.float() if tensor.dtype == torch.float64 else tensor, vectorized

    @torch.no_grad()
    def reset_targets(self) -> None:
        """Make the target copies equal to what they follow; for weights that came from elsewhere."""
        for _, target, online in self.followed:
            target.copy_(online)

    @property
    def followed(self) -> list[tuple[str, Tensor, Tensor]]:
        """The name of every parameter that has a target copy, the copy, and the parameter."""
        copies = {name.removeprefix("target."): b for name, b in self.named_buffers() if name.startswith("target.")}
        return [(name, copies[name], p.detach()) for name, p in self.named_parameters() if name in copies]
