"""Observations as one flat array: where the parts of a picture or a mixed observation lie in it.

Worlds observe vectors, pictures or dictionaries of both. Buffers, normalizers and networks handle all of them as rows
``(n, size)``; the first layer of a network takes them apart again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from simreal_envs.errors import Unsupported


@dataclass(frozen=True)
class Part:
    """A run of columns that belong together.

    Attributes:
        name: its key in a dictionary, empty for an observation that is no dictionary.
        start, stop: its columns.
        shape: ``(d,)`` of a vector, ``(height, width, channels)`` or ``(channels, height, width)`` of a picture.
        image: whether it is a picture.
        channels_first: of a picture.
        scale: what pixels are multiplied with: the reciprocal of the brightest one where that is known and above 1.
    """

    name: str
    start: int
    stop: int
    shape: tuple[int, ...]
    image: bool = False
    channels_first: bool = False
    scale: float = 1.0

    @property
    def columns(self) -> slice:
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class Layout:
    """How observations of a space lie in rows ``(n, size)`` of `dtype`."""

    parts: tuple[Part, ...]
    dtype: np.dtype

    @classmethod
    def of(cls, space: spaces.Space) -> Layout:
        """The layout of a Box of at most three axes, or of a Dict of such boxes in the order of its keys.

        Raises:
            Unsupported: for other spaces.
        """
        if isinstance(space, Flattened):
            return space.layout
        boxes = space.spaces if isinstance(space, spaces.Dict) else {"": space}
        parts: list[Part] = []
        for name, box in boxes.items():
            if not isinstance(box, spaces.Box) or len(box.shape) > 3:
                where = f" under {name!r}" if name else ""
                raise Unsupported(
                    f"agents see vectors, pictures (Box of two or three axes) or a Dict of them, not {box}{where}; "
                    "gymnasium.wrappers.FlattenObservation makes vectors of many other spaces"
                )
            start = parts[-1].stop if parts else 0
            image = len(box.shape) >= 2
            shape = (*box.shape, 1) if len(box.shape) == 2 else tuple(box.shape) or (1,)
            # As many channels as pixels are no rarity in grids, so only a first axis that is far shorter is one.
            first = len(box.shape) == 3 and 2 * box.shape[0] <= min(box.shape[1:])
            brightest = float(box.high.max()) if image else 1.0
            scale = 1 / brightest if 1 < brightest < np.inf else 1.0
            parts.append(Part(name, start, start + math.prod(shape), shape, image, first, scale))
        bytes_only = all(part.image for part in parts) and all(box.dtype in (np.uint8, bool) for box in boxes.values())
        return cls(tuple(parts), np.dtype(np.uint8 if bytes_only else np.float32))

    @property
    def size(self) -> int:
        """Columns of a row."""
        return self.parts[-1].stop

    @property
    def is_vector(self) -> bool:
        """Whether there are no pictures and no names: the rows are the observations."""
        return len(self.parts) == 1 and not self.parts[0].image and not self.parts[0].name

    @property
    def images(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if part.image)

    @property
    def vector(self) -> np.ndarray:
        """The columns that are no pixels, in order."""
        columns = [np.arange(part.start, part.stop) for part in self.parts if not part.image]
        return np.concatenate(columns) if columns else np.zeros(0, dtype=np.int64)

    def flatten(self, observations: np.ndarray | Mapping[str, np.ndarray]) -> np.ndarray:
        """Rows ``(n, size)`` of a batch of observations; rows are given back as they are."""
        if isinstance(observations, Mapping):
            columns = [np.asarray(observations[part.name]) for part in self.parts]
            return np.concatenate([c.reshape(len(c), -1) for c in columns], axis=1, dtype=self.dtype, casting="unsafe")
        if observations.ndim == 2 and observations.shape[1] == self.size:
            return observations
        return observations.reshape(len(observations), -1).astype(self.dtype, copy=False)

    def row(self, observation: Any) -> np.ndarray:
        """One observation as a row ``(size,)``."""
        if isinstance(observation, Mapping):
            return self.flatten({name: np.asarray(part)[None] for name, part in observation.items()})[0]
        return self.flatten(np.asarray(observation)[None])[0]

    def flat_space(self, space: spaces.Space) -> spaces.Box:
        """The space of the rows; `space` itself where that is what it is."""
        return space if self.is_vector and isinstance(space, spaces.Box) else Flattened(space)


class Flattened(spaces.Box):
    """The rows of observations that are pictures or dictionaries.

    Attributes:
        space: what the worlds show.
        layout: where it lies in the rows.
    """

    def __init__(self, space: spaces.Space):
        self.space, self.layout = space, Layout.of(space)
        boxes: dict[str, Any] = dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}
        low, high = (np.concatenate([getattr(box, b).ravel() for box in boxes.values()]) for b in ("low", "high"))
        super().__init__(low.astype(self.layout.dtype), high.astype(self.layout.dtype), dtype=self.layout.dtype.type)

    def rows(self, observation: Any) -> np.ndarray:
        """Observations of `space` as rows ``(n, size)``, or one of them as ``(size,)``."""
        if isinstance(observation, Mapping):
            name, box = next(iter(self.space.spaces.items()))  # type: ignore[attr-defined]
            batch: Any = {key: np.asarray(part) for key, part in observation.items()}
            single = batch[name].shape == box.shape
        else:
            batch = np.asarray(observation)
            single = batch.shape == self.space.shape
        return self.layout.row(batch) if single else self.layout.flatten(batch)
