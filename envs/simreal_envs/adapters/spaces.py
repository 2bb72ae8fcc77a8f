"""Gymnasium's spaces as fields of our schema, and its rewards and ends as a success criterion."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

import numpy as np
from gymnasium import spaces

from simreal_envs.errors import UserError, told
from simreal_envs.schema import STATE, Field
from simreal_envs.tasks.base import Episode

LARGEST = 4096  # numbers in a vector, which our networks read with dense layers
LARGEST_IMAGE = 512 * 512  # numbers in an image, as many as 512 x 512 pixels have in one channel
# Pixels across the smallest thing that is an image: MiniGrid's view; a table of floats must be larger to be taken for one.
_SMALLEST, _SMALLEST_TABLE = 7, 16


def action_field(name: str, labels: Sequence[str], low: np.ndarray, high: np.ndarray) -> Field:
    """Actions in [-1, 1]; each label ends with the bounds that -1 and 1 stand for, so that agents are not moved between
    environments that scale actions differently."""
    ranges = [f"{label} ({a:g} to {b:g})" for label, a, b in zip(labels, low, high, strict=True)]
    return Field(name, "1", tuple(ranges), -1.0, 1.0)


def box_action(name: str, space: spaces.Box) -> tuple[Field, np.ndarray, np.ndarray]:
    """Field, lower and upper bounds ``(a,)`` of a Box of actions. Raises UserError for what our agents cannot act in."""
    low, high = space.low.astype(np.float64).ravel(), space.high.astype(np.float64).ravel()
    if not (space.is_bounded() and (low < high).all()):
        raise UserError(
            f"gymnasium:{name} takes {space} actions; our agents need finite bounds to scale their actions to, the lower ones "
            "below the upper ones"
        )
    return action_field("action", [str(i) for i in range(len(low))], low, high), low, high


def discrete_action(space: spaces.Discrete, meanings: Sequence[str] = ()) -> Field:
    """One choice. Its labels are what the environment calls its actions, where it tells, else their numbers."""
    numbers = [str(int(space.start) + i) for i in range(int(space.n))]
    named = len(meanings) == len(set(meanings)) == len(numbers)
    labels = tuple(map(str, meanings if named else numbers))
    return Field("action", "1", labels, 0.0, float(len(labels) - 1), discrete=True)


class Image(NamedTuple):
    """An image in an observation space.

    Attributes:
        path: keys that lead to it through Dicts and Tuples; empty where it is the whole observation.
        box: its space.
    """

    path: tuple[Any, ...]
    box: spaces.Box

    @property
    def channels_first(self) -> bool:
        """``(channels, height, width)``, as PyTorch and stacks of frames have it."""
        shape = self.box.shape
        return len(shape) == 3 and shape[0] < min(shape[1:])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        first, second, third = (*self.box.shape, 1)[:3]
        return (second, third, first) if self.channels_first else (first, second, third)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def dtype(self) -> np.dtype:
        """Of its pixels with us: bytes stay bytes."""
        return np.dtype("uint8" if self.box.dtype == np.uint8 else "float32")

    def field(self) -> Field:
        """The field of our schema; a typical camera's noise is taken to be 1 % of the range of its pixels."""
        low, high = float(self.box.low.min()), float(self.box.high.max())
        name = "/".join(map(str, self.path)).replace(".", "/") or "image"  # dots part the names of weights
        height, width, channels = self.shape
        return Field(
            name if name != STATE else "image", "1", tuple(map(str, range(channels))), low, high, _noise(low, high),
            grid=(height, width), dtype=self.dtype.name,
        )  # fmt: skip

    def numbers(self, observation: Any) -> np.ndarray:
        """Its pixels in an observation, ``(size,)``, row by row, the channels of a pixel together.

        Raises:
            UserError: they are of another shape than the space says, and would be taken for other pixels.
        """
        for key in self.path:
            observation = observation[key]
        pixels = np.asarray(observation)
        if pixels.shape != self.box.shape:
            raise UserError(
                f"the environment shows an image of shape {pixels.shape}, and its space says {self.box.shape}"
            )
        return np.ravel(pixels.transpose(1, 2, 0) if self.channels_first else pixels)


class Flattening:
    """Observations of a Gymnasium space as rows of numbers: first what is a vector, as `gymnasium.spaces.flatten` has it (a
    choice is one-hot), then the images one by one. Text among others and empty boxes are left out.

    Attributes:
        images: those in the space, also inside of Dicts and Tuples.
        rest: the space without them; None where nothing is left.
        dtype: of the rows.
    """

    def __init__(self, space: spaces.Space):
        self.images, self.rest = _split(space)
        self.dtype = np.dtype("float64")
        if self.images:
            bytes_only = self.rest is None and all(image.dtype == np.uint8 for image in self.images)
            self.dtype = np.dtype("uint8" if bytes_only else "float32")
        self._vector = 0 if self.rest is None else spaces.flatdim(self.rest)
        self.size = self._vector + sum(image.size for image in self.images)

    def __call__(self, observation: Any) -> np.ndarray:
        """One observation as numbers, ``(size,)``.

        Raises:
            UserError: it is of another form or size than the space says.
        """
        try:
            return self._numbers(observation)
        except UserError:
            raise
        except Exception as error:  # of a space that finds something else than it expects
            raise UserError(
                f"the environment observes {reprlib.repr(observation)}, which is not in its space ({told(error)})"
            ) from error

    def _numbers(self, observation: Any) -> np.ndarray:
        parts = [image.numbers(observation) for image in self.images]
        if self.rest is not None:
            vector = np.asarray(spaces.flatten(self.rest, observation))
            if vector.size != self._vector:  # a single one would count for all of them
                raise UserError(
                    f"the environment observes {vector.size} numbers, and its space says {self._vector}: {self.rest}"
                )
            parts.insert(0, vector)
        return parts[0].astype(self.dtype) if len(parts) == 1 else np.concatenate(parts, dtype=self.dtype)


def texts(space: spaces.Space, path: str = "") -> list[str]:
    """Names of the text among the parts of a space, such as MiniGrid's ``mission``, which tells no agent of ours anything."""
    if (parts := _parts(space)) is not None:
        return [name for key, part in parts.items() for name in texts(part, f"{path}/{key}".lstrip("/"))]
    return [path] if path and _is_text(space) else []


def _parts(space: spaces.Space) -> Mapping[Any, spaces.Space] | None:
    """What a Dict or a Tuple is made of, by the keys that observations have it under; None for other spaces."""
    if isinstance(space, spaces.Tuple):
        return dict(enumerate(space.spaces))
    return space.spaces if isinstance(space, spaces.Dict) else None


def _is_text(space: spaces.Space) -> bool:
    return isinstance(space, spaces.Text) or (space.dtype is not None and space.dtype.kind == "U")


def _split(space: spaces.Space, path: tuple[Any, ...] = ()) -> tuple[list[Image], spaces.Space | None]:
    """The images in a space, and the space without them and without what has no numbers."""
    if (parts := _parts(space)) is not None:
        halves = {key: _split(part, (*path, key)) for key, part in parts.items()}
        images = [image for found, _ in halves.values() for image in found]
        rest = {key: part for key, (_, part) in halves.items() if part is not None}
        if isinstance(space, spaces.Tuple) and tuple(rest.values()) == space.spaces:
            return [], space  # as it is: it refuses observations of more parts
        return images, spaces.Dict(rest) if rest else None
    if (path and _is_text(space)) or 0 in (space.shape or ()):
        return [], None
    return ([Image(path, space)], None) if _is_image(space) else ([], space)


def _is_image(space: spaces.Space) -> TypeGuard[spaces.Box]:
    if not isinstance(space, spaces.Box) or len(space.shape) not in (2, 3):
        return False
    table = len(space.shape) == 2 and space.dtype != np.uint8
    return min(Image((), space).shape[:2]) >= (_SMALLEST_TABLE if table else _SMALLEST)


def observation_fields(name: str, space: spaces.Space) -> tuple[Field, ...]:
    """Fields of an observation space in the order of its `Flattening`: of vectors one per run of equal bounds, then the images.

    The typical sensor is taken to be 1 % of the range where there are bounds, 0.01 of the unknown unit elsewhere.
    """
    images, rest = _split(space)
    if not images and rest is None:
        raise UserError(f"gymnasium:{name} observes {space}: no numbers, which are what our agents read")
    if too_large := [image for image in images if image.size > LARGEST_IMAGE]:
        raise UserError(
            f"gymnasium:{name} observes images of {too_large[0].size} numbers; up to {LARGEST_IMAGE} can be read, so wrap "
            "it in gymnasium.wrappers.ResizeObservation where it is registered"
        )
    shown = [image.field() for image in images]
    called = STATE if any(field.name.startswith("observation") for field in shown) else "observation"
    return (*(() if rest is None else _vector_fields(name, rest, called)), *shown)


def _vector_fields(name: str, space: spaces.Space, called: str) -> tuple[Field, ...]:
    try:
        box = spaces.flatten_space(space)
    except NotImplementedError:
        box = None
    if not isinstance(box, spaces.Box):
        raise UserError(f"gymnasium:{name} observes {space}, which is no vector of fixed size")
    if box.shape[0] > LARGEST:
        raise UserError(
            f"gymnasium:{name} observes {space}, {box.shape[0]} numbers; our networks read vectors of up to {LARGEST}"
        )
    low, high = box.low.astype(np.float64), box.high.astype(np.float64)
    starts = [i for i in range(len(low)) if i == 0 or (low[i], high[i]) != (low[i - 1], high[i - 1])]
    fields = []
    for start, stop in zip(starts, [*starts[1:], len(low)], strict=True):
        a, b = float(low[start]), float(high[start])
        labels = tuple(str(i) for i in range(start, stop))
        fields.append(Field(called if len(starts) == 1 else f"{called}_{start}", "1", labels, a, b, _noise(a, b)))
    return tuple(fields)


def _noise(low: float, high: float) -> float:
    return 0.01 * (high - low) if 0 < high - low < 1e6 else 0.01


def success(threshold: float | None) -> tuple[str, Callable[[Episode], np.ndarray]]:
    """What counts as success, in words and as a function: the environment's own reward threshold, if it states one, else
    not to fail, as is right for robots that fall."""
    if threshold is None:
        return "no failure: the environment states no return that solves it", lambda episode: ~episode.terminated
    words = f"a return of at least {threshold:g}, the environment's own threshold"
    return words, lambda episode: np.asarray(episode.returns) >= threshold


AIMED = "to be where the goal is at the end: the environment's own `is_success`"


def aims(space: spaces.Space) -> bool:
    """Whether observations show a goal, as goal-conditioned environments do (Plappert et al. 2018, arXiv:1802.09464)."""
    return isinstance(space, spaces.Dict) and {"achieved_goal", "desired_goal"} <= space.keys()


PAID_END = "an end that pays, or a positive return where time runs out: the environment states no return that solves it"


def paid_end(episode: Episode) -> np.ndarray:
    """Success, bool ``(n,)``, where nothing is known but rewards and ends, and `on_goal` is a step that pays: whether the
    step that ended it paid, as at a goal and not at a defeat; of what is cut off, whether the return is positive."""
    return np.where(episode.terminated, episode.goal_streak > 0, np.asarray(episode.returns) > 0)
