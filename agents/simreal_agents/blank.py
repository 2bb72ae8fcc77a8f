"""Modules whose weights are still to be drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

M = TypeVar("M")


def blank(kind: Callable[..., M], *args: Any, **kwargs: Any) -> M:
    """What ``torch.nn.utils.skip_init`` gives: a module, without a draw from torch's global generator.

    That one goes by way of the meta device, which imports sympy: 0.3 s and 35 MB in every process.
    """
    with torch.random.fork_rng(devices=()):
        return kind(*args, **kwargs)
