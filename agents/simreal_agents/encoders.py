"""Encoders for what is no plain vector: pictures, and dictionaries of pictures and vectors; and dropout with a seed.

Large pictures are seen by the convolutions of Mnih et al. (2015, Nature 518, table 1 of the extended data), small ones by
those of Pathak et al. (2017, arXiv:1705.05363, section 3), grids by one 3x3 convolution of 16 channels as in Young & Tian
(2019, MinAtar). What comes out of them stands beside the normalized vector elements and goes through one linear layer.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from simreal_agents.blank import blank
from simreal_agents.layout import Layout, Part
from simreal_agents.normalizer import Normalizer
from simreal_agents.products import Linear
from simreal_envs.errors import Unsupported, require_known


class Convolution(NamedTuple):
    """Rectified behind."""

    channels: int
    kernel: int
    stride: int
    padding: int = 0

    def extent(self, pixels: int) -> int:
        """How many numbers there are along an axis of so many."""
        return (pixels + 2 * self.padding - self.kernel) // self.stride + 1


NATURE = (Convolution(32, 8, 4), Convolution(64, 4, 2), Convolution(64, 3, 1))
# Of 42 x 42 pixels Nature's kernels leave one place, where nothing is left of where things are; these leave 3 x 3.
SMALL = (Convolution(32, 3, 2, 1),) * 4
GRID = (Convolution(16, 3, 1),)
CNNS = {"nature": NATURE, "small": SMALL, "grid": GRID}
FROM = {"nature": 64, "small": 16, "grid": 0}  # pixels from which on a picture is seen so unless it is said
SMALLEST = {"nature": 36, "small": 1, "grid": 3}  # pixels that the kernels need


class Perception(nn.Module):
    """Rows ``(n, size)`` of a `Layout` with pictures -> features ``(n, width)``.

    Attributes:
        cnns: one stack of convolutions per picture, under ``image`` or its name; rectified whatever `activation` is.
        adapters: before them, where `channels` says so, a 1x1 convolution per picture, without bias.
        linear: from all their outputs and the vector elements to the features.
        outputs: how many numbers the convolutions of each picture give.

    Args:
        channels: into how many channels those of a picture are turned before its convolutions see them, by name.
        cnn: the convolutions, one of `CNNS`; None: by the size of each picture.

    Raises:
        Unsupported: for a picture that is too small for the kernels.
    """

    _columns: torch.Tensor

    def __init__(
        self,
        layout: Layout,
        width: int,
        activation: type[nn.Module],
        channels: Mapping[str, int] | None = None,
        cnn: str | None = None,
    ):
        super().__init__()
        self.layout, self.activation = layout, activation()
        self.cnns, self.adapters = nn.ModuleDict(), nn.ModuleDict()
        for part in layout.images:
            name, count = part.name or "image", channels_of(part)
            if channels and name in channels:
                self.adapters[name] = blank(nn.Conv2d, count, channels[name], 1, bias=False)
                count = channels[name]
            self.cnns[name] = _convolutions(part, count, cnn)
        self.outputs = [convolved(part, cnn) for part in layout.images]
        self.linear = blank(Linear, sum(self.outputs) + len(layout.vector), width)
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


def sight(channels: Mapping[str, int] | None, cnn: str | None) -> dict[str, Any]:
    """The settings of a network that are about pictures, as JSON data; only those that are used.

    Raises:
        UserError: for an unknown `cnn`.
    """
    if cnn is not None:
        require_known(cnn, CNNS, "cnn")
    settings = {"channels": channels and {name: int(count) for name, count in channels.items()}, "cnn": cnn}
    return {name: value for name, value in settings.items() if value}


def layers(widths: Sequence[int], activation: type[nn.Module], dropout: float = 0.0) -> nn.Sequential:
    """Linear layers of these widths, each with its activation (and dropout) behind it; weights are not initialized."""
    modules: list[nn.Module] = []
    for i, o in itertools.pairwise(widths):
        modules += [blank(nn.Linear, i, o), activation()] + ([Dropout(dropout)] if dropout else [])
    return nn.Sequential(*modules)


def cnn_of(part: Part, cnn: str | None) -> str:
    """By which of `CNNS` a picture is seen."""
    return cnn or next(name for name, pixels in FROM.items() if min(extent_of(part)) >= pixels)


def extent_of(part: Part) -> tuple[int, int]:
    """Height and width of a picture."""
    return part.shape[1:] if part.channels_first else part.shape[:2]  # type: ignore[return-value]


def channels_of(part: Part) -> int:
    """How many channels a picture has."""
    return part.shape[0] if part.channels_first else part.shape[2]


def _convolutions(part: Part, channels: int, cnn: str | None) -> nn.Sequential:
    kind = cnn_of(part, cnn)
    if min(extent_of(part)) < SMALLEST[kind]:
        height, width = extent_of(part)
        small = f"a picture needs at least {SMALLEST[kind]} x {SMALLEST[kind]} pixels"
        if cnn:
            raise Unsupported(f"{small} for cnn {cnn!r}, got {height} x {width}")
        raise Unsupported(
            f"{small}, got {height} x {width}; gymnasium.wrappers.FlattenObservation makes a vector of a matrix that is "
            "no picture"
        )
    modules: list[nn.Module] = []
    for layer in CNNS[kind]:
        modules += [blank(nn.Conv2d, channels, *layer), nn.ReLU()]
        channels = layer.channels
    return nn.Sequential(*modules)


def convolved(part: Part, cnn: str | None = None) -> int:
    """How many numbers the convolutions of a picture give."""
    layers, extent = CNNS[cnn_of(part, cnn)], extent_of(part)
    for layer in layers:
        extent = tuple(layer.extent(pixels) for pixels in extent)
    return layers[-1].channels * math.prod(extent)
