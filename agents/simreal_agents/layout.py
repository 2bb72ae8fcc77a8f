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

from simreal_envs.errors import Unsupported, UserError


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
        bytes: of a picture: whether the worlds show bytes (or true and false).
    """

    name: str
    start: int
    stop: int
    shape: tuple[int, ...]
    image: bool = False
    channels_first: bool = False
    scale: float = 1.0
    bytes: bool = False

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
            as_bytes = image and box.dtype in (np.uint8, bool)
            parts.append(Part(name, start, start + math.prod(shape), shape, image, first, scale, as_bytes))
        bytes_only = all(part.bytes for part in parts)
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
            given = [(part.stop - part.start, np.asarray(observations[part.name])) for part in self.parts]
            columns = [array.reshape(len(array), size) for size, array in given]
            return np.concatenate(columns, axis=1, dtype=self.dtype, casting="unsafe")
        if observations.ndim == 2 and observations.shape[1] == self.size:
            return observations
        return observations.reshape(len(observations), self.size).astype(self.dtype, copy=False)

    def rows(self, observations: Any) -> np.ndarray:
        """As `flatten`, of what somebody gives to an agent: nothing passes for what it is not.

        Raises:
            UserError: a part is missing or has another shape, holds what is no finite number, or is a picture of bytes and
                has numbers that are none.
        """
        if not isinstance(observations, Mapping):
            observations = np.asarray(observations)
            if observations.ndim == 2 and observations.shape[1] == self.size:
                require_numbers(observations)
                for part in self.parts:
                    _require_bytes(part, observations[:, part.columns])
                return self.flatten(observations)
        if isinstance(observations, Mapping) == (self.parts[0].name == ""):
            names = ", ".join(part.name for part in self.parts)
            wanted = f"a dictionary with {names}" if names else "one array"
            raise UserError(f"an agent that sees {wanted} was given {_shapes(observations)}")
        given = observations if isinstance(observations, Mapping) else {"": observations}
        if missing := [part.name for part in self.parts if part.name not in given]:
            raise UserError(f"observations lack {missing[0]!r}, got {_shapes(given)}")
        arrays = {part.name: np.asarray(given[part.name]) for part in self.parts}
        for part in self.parts:
            shape = arrays[part.name].shape
            # Vectors may have axes of one element; those of pictures are in this order.
            fits = part.shape in (shape[1:], (*shape[1:], 1)) if part.image else math.prod(shape[1:]) == part.shape[0]
            if not shape or not fits:
                raise UserError(
                    f"an agent is given a batch of observations of {' x '.join(map(str, part.shape))} numbers each, not "
                    f"{_shapes(given)}; of a single one, observation[None]"
                )
            require_numbers(arrays[part.name], part.name)
            _require_bytes(part, arrays[part.name])
        if len({len(array) for array in arrays.values()}) > 1:
            raise UserError(f"the parts of a batch must be of as many observations, got {_shapes(given)}")
        return self.flatten(arrays if isinstance(observations, Mapping) else arrays[""])

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
            boxes = self.space.spaces.items()  # type: ignore[attr-defined]
            if all(np.shape(observation.get(name)) == box.shape for name, box in boxes):
                return self.layout.rows({name: np.asarray(part)[None] for name, part in observation.items()})[0]
        elif np.shape(observation) == self.space.shape:
            return self.layout.rows(np.asarray(observation)[None])[0]
        return self.layout.rows(observation)


def require_numbers(array: np.ndarray, name: str = "") -> None:
    """Raise a UserError where observations, or a part of them, hold what is no finite number."""
    if array.dtype.kind in "bui" or (array.dtype.kind == "f" and np.isfinite(array).all()):
        return
    wrong = array[~np.isfinite(array)][0] if array.dtype.kind == "f" else f"an array of {array.dtype}"
    raise UserError(f"observations must be finite numbers{f' in {name!r}' if name else ''}, got {wrong}")


def _require_bytes(part: Part, array: np.ndarray) -> None:
    """Raise a UserError where a part that is shown as bytes is given numbers that are none."""
    if not part.bytes or array.dtype in (np.uint8, bool):
        return
    with np.errstate(invalid="ignore"):
        wrong = array[array.astype(np.uint8) != array]
    if wrong.size:
        raise UserError(
            f"{part.name or 'the observation'} is shown as bytes, whole numbers from 0 to 255, and was given {wrong[0]}: "
            "give pixels as the worlds do"
        )


def _shapes(observations: Any) -> str:
    if isinstance(observations, Mapping) and "" not in observations:
        return ", ".join(f"{name} of shape {np.shape(part)}" for name, part in observations.items())
    return f"an array of shape {np.shape(observations[''] if isinstance(observations, Mapping) else observations)}"
