"""Encoders for what is no plain vector: pictures, and dictionaries of pictures and vectors; and dropout with a seed.

Large pictures are seen by the convolutions of Mnih et al. (2015, Nature 518, table 1 of the extended data), small grids
by one 3x3 convolution of 16 channels as in Young & Tian (2019, MinAtar). What comes out of them stands beside the
normalized vector elements and goes through one linear layer.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from simreal_agents.layout import Layout, Part
from simreal_agents.normalizer import Normalizer
from simreal_agents.products import Linear
from simreal_envs.errors import Unsupported

NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))  # channels, kernel, stride
GRID = ((16, 3, 1),)
SMALLEST = 36  # pixels that Nature's three kernels need


class Perception(nn.Module):
    """Rows ``(n, size)`` of a `Layout` with pictures -> features ``(n, width)``.

    Attributes:
        cnns: one stack of convolutions per picture, under ``image`` or its name; rectified whatever `activation` is.
        adapters: before them, where `channels` says so, a 1x1 convolution per picture, without bias.
        linear: from all their outputs and the vector elements to the features.

    Args:
        channels: into how many channels those of a picture are turned before its convolutions see them, by name.

    Raises:
        Unsupported: for a picture that is too small for the kernels.
    """

    _columns: torch.Tensor

    def __init__(
        self, layout: Layout, width: int, activation: type[nn.Module], channels: Mapping[str, int] | None = None
    ):
        super().__init__()
        self.layout, self.activation = layout, activation()
        seen = {part.name or "image": channels_of(part) for part in layout.images} | dict(channels or {})
        self.cnns = nn.ModuleDict(
            {name: _convolutions(part, seen[name]) for part in layout.images if (name := part.name or "image")}
        )
        self.adapters = nn.ModuleDict(
            {
                name: nn.utils.skip_init(nn.Conv2d, channels_of(part), seen[name], 1, bias=False)
                for part in layout.images
                if (name := part.name or "image") in (channels or {})
            }
        )
        outputs = sum(convolved(part) for part in layout.images)
        self.linear = nn.utils.skip_init(Linear, outputs + len(layout.vector), width)
        self.register_buffer("_columns", torch.from_numpy(layout.vector), persistent=False)

    def forward(self, rows: torch.Tensor, normalizer: Normalizer) -> torch.Tensor:
        features = [self._see(rows, part) for part in self.layout.images]
        if len(self._columns):
            features.append(normalizer(rows[:, self._columns].float()))
        return self.activation(self.linear(torch.cat(features, dim=1) if len(features) > 1 else features[0]))

    def _see(self, rows: torch.Tensor, part: Part) -> torch.Tensor:
        picture = rows[:, part.columns].reshape(-1, *part.shape).float()
        if not part.channels_first:
            picture = picture.movedim(-1, 1)
        name, picture = part.name or "image", picture * part.scale
        if name in self.adapters:
            picture = self.adapters[name](picture)
        return self.cnns[name](picture).flatten(1)


class Dropout(nn.Module):
    """Inverted dropout (Srivastava et al. 2014) that draws from a generator of its own, in training mode only.

    Attributes:
        generator: a torch.Generator; the learner seeds it.
    """

    def __init__(self, share: float):
        super().__init__()
        self.share, self.generator = share, torch.Generator()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return features
        kept = torch.rand(features.shape, generator=self.generator) >= self.share
        return features * kept / (1 - self.share)


def layers(widths: Sequence[int], activation: type[nn.Module], dropout: float = 0.0) -> nn.Sequential:
    """Linear layers of these widths, each with its activation (and dropout) behind it; weights are not initialized."""
    # skip_init: the default initialization would draw from torch's global generator.
    modules: list[nn.Module] = []
    for i, o in itertools.pairwise(widths):
        modules += [nn.utils.skip_init(nn.Linear, i, o), activation()] + ([Dropout(dropout)] if dropout else [])
    return nn.Sequential(*modules)


def _kind(part: Part) -> tuple[tuple[int, int, int], ...]:
    return NATURE if min(_extent(part)) >= SMALLEST else GRID


def _extent(part: Part) -> tuple[int, int]:
    return part.shape[1:] if part.channels_first else part.shape[:2]  # type: ignore[return-value]


def channels_of(part: Part) -> int:
    """How many channels a picture has."""
    return part.shape[0] if part.channels_first else part.shape[2]


def _convolutions(part: Part, channels: int) -> nn.Sequential:
    if min(_extent(part)) < GRID[0][1]:
        height, width = _extent(part)
        raise Unsupported(
            f"a picture needs at least 3 x 3 pixels, got {height} x {width}; gymnasium.wrappers.FlattenObservation makes "
            "a vector of a matrix that is no picture"
        )
    modules: list[nn.Module] = []
    for out, kernel, stride in _kind(part):
        modules += [nn.utils.skip_init(nn.Conv2d, channels, out, kernel, stride), nn.ReLU()]
        channels = out
    return nn.Sequential(*modules)


def convolved(part: Part) -> int:
    """How many numbers the convolutions of a picture give."""
    extent = _extent(part)
    channels = 0
    for channels, kernel, stride in _kind(part):  # noqa: B007 - the last one counts
        extent = tuple((pixels - kernel) // stride + 1 for pixels in extent)
    return channels * math.prod(extent)
