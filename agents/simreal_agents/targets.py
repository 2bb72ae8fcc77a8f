"""Networks with target copies: slow copies of their parameters, under ``target.*`` in the state dict and in no group."""

from __future__ import annotations

import math
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
    """Mixin of a policy whose ``target`` holds copies of some of its parameters, under their own names.

    The policy has ``encoder``, ``trunk`` and ``heads``, its settings as ``network``, and what computes with it as ``kernel``,
    a cached property.
    """

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Draw all weights anew as torch and SB3 do: uniform within ``1 / sqrt(in)``; targets equal their originals."""
        for module in (self.encoder, self.trunk, self.heads):
            for layer in module.modules():
                if hasattr(layer, "weight"):  # of a convolution ``(out, channels, ..)``, else ``(.., out, in)``
                    inputs = layer.weight[0].numel() if isinstance(layer, nn.Conv2d) else layer.weight.shape[-1]
                    for tensor in (layer.weight, layer.bias):
                        if tensor is not None:
                            tensor.uniform_(-1 / math.sqrt(inputs), 1 / math.sqrt(inputs), generator=generator)
        self.reset_targets()

    def linears(self, tower: str) -> list[nn.Module]:
        """The layers of ``"actor"`` or ``"critic"``, stacked ones too, from observation to output."""
        parts = (getattr(module, tower, nn.Identity()) for module in (self.encoder, self.trunk, self.heads))
        return [layer for part in parts for layer in part.modules() if hasattr(layer, "weight")]

    def tensors_were_replaced(self) -> None:
        """To be called after parameters got new memory (changes in place are seen)."""
        vars(self).pop("kernel", None)

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Zero the gradients in place: learners' optimizers have views of them."""
        super().zero_grad(set_to_none=False)

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and deepcopy, without the kernel, which would go on computing with the memory of the original."""
        return {name: value for name, value in vars(self).items() if name != "kernel"}

    def _get_constructor_parameters(self) -> dict[str, Any]:
        spaces = {"observation_space": self.observation_space, "action_space": self.action_space}
        return {**spaces, **self.network, "seed": self._seed}

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
