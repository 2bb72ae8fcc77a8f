"""What games of every kind have in common: the parameters of actions, score and picture, and what is seen of a picture."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from simreal_envs.engines.base import Engine, Player
from simreal_envs.errors import Unsupported
from simreal_envs.imperfections.vocabulary import link_parameters
from simreal_envs.parameters import Draws, Parameter
from simreal_envs.tasks.base import Episode, State, Task

Values = Mapping[str, np.ndarray]  # parameter -> its value in each world, (n,)


def parameter(name: str, nominal: float, low: float, high: float, says: str, whole: bool = False) -> Parameter:
    """A parameter of a game; a whole one takes whole numbers only."""
    choices = tuple(map(float, range(round(low), round(high) + 1))) if whole else ()
    return Parameter(name, "1", nominal, low, high, says, "game", choices=choices)


def shared_parameters(channels: int) -> tuple[Parameter, ...]:
    """The parameters of every game that shows planes of 0 and 1, so many of them; see `seen`."""
    return (
        Parameter("reward/sign", "1", 1.0, -1.0, 1.0, "-1: what was good is bad", "game", choices=(-1.0, 1.0)),
        parameter("action/mirrored", 0, 0, 1, "1: left moves right and right moves left", whole=True),
        parameter("observation/mirrored", 0, 0, 1, "1: left and right are swapped in what is seen", whole=True),
        parameter("observation/upside_down", 0, 0, 1, "1: top and bottom are swapped in what is seen", whole=True),
        parameter(
            "observation/channels", 0, 0, channels - 1, "by how many places the channels are rotated", whole=True
        ),
        parameter("observation/flips", 0.0, 0.0, 0.5, "probability that a cell of a channel shows the opposite"),
    )


def seen(cells: np.ndarray, values: Values, draws: Draws, steps: np.ndarray) -> np.ndarray:
    """What is seen of cells, uint8 ``(n, rows, columns, channels)``: mirrored, turned, with channels rotated and cells flipped.

    Args:
        values: of the ``observation/*`` parameters.
        draws: of the episodes, n rows.
        steps: how many steps each has played, ``(n,)``.
    """
    picture, channels = cells.copy(), cells.shape[3]
    for name, axis in (("observation/mirrored", 2), ("observation/upside_down", 1)):
        chosen = values[name] > 0
        picture[chosen] = np.flip(picture[chosen], axis)
    turns = values["observation/channels"].astype(np.intp)
    if turns.any():
        source = (np.arange(channels) - turns[:, None]) % channels
        picture = np.take_along_axis(picture, source[:, None, None, :], axis=3)
    share = values["observation/flips"]
    if share.any():
        number = draws.uniform("observation/flips#step", picture[0].size, steps)
        picture ^= (number < share[:, None]).reshape(picture.shape)
    return picture


def keys(qpos: np.ndarray) -> np.ndarray:
    """Keys of the draws of episodes, uint64 ``(n,)``: the 53 bits of the number in (0, 1) that stands for each, ``(n, 1)``."""
    return (qpos[:, 0] * 2.0**53).astype(np.uint64)


def swapped(action: str) -> str:
    """The name of an action, whose words are parted by ``_``, with left and right in each other's place."""
    return "_".join(_OPPOSITE.get(word, word) for word in action.split("_"))


_OPPOSITE = {"left": "right", "right": "left"}


def signed(score: np.ndarray, values: Values) -> np.ndarray:
    """What ``reward/sign`` adds to the scores of a step, ``(n,)``."""
    return score * (values["reward/sign"] - 1.0)


class GameEngine(Engine):
    """What the engines of games have in common, see `Engine`: ``qpos`` holds the number that an episode's draws are made from;
    there is no velocity, nobody to push, and nothing diverges.

    Args:
        nominal: parameter -> its nominal value.
    """

    def __init__(self, player: Player, num_worlds: int, nominal: Mapping[str, float]):
        self.robot, self.num_worlds = player, num_worlds
        self.qpos, self.qvel = np.zeros((num_worlds, 1)), np.zeros((num_worlds, 0))
        self._values = {name: np.full(num_worlds, float(value)) for name, value in nominal.items()}
        self._everyone, self._whole = np.arange(num_worlds), np.zeros(num_worlds, dtype=bool)
        self._draws = Draws.of(np.zeros(num_worlds, dtype=np.uint64))
        self._steps = np.zeros(num_worlds, dtype=np.int64)

    def apply(self, ids: np.ndarray, values: Values) -> None:
        for name, value in values.items():
            self._values[name][ids] = value

    def read(self, parameter: str) -> np.ndarray:
        return self._values[parameter].copy()

    def push(self, force: np.ndarray) -> None:
        raise Unsupported(f"{self.robot.name} has nobody to push")

    def diverged(self) -> np.ndarray:
        return self._whole

    def close(self) -> None:
        pass


class Game(Task):
    """A game whose engine tells what is seen, scored and over: its readings ``observation``, ``score`` (the game's own), ``sign``
    (what ``reward/sign`` adds to it) and ``over``.

    Attributes:
        solved: return that counts as success.
        own: parameters that its engine knows.
    """

    presets = ("matched",)
    substeps = 1
    solved: float
    own: tuple[Parameter, ...]

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The game's own, and what may happen to actions and pictures on their way."""
        return (*self.own, *link_parameters(self.schema.control_period, self.schema))

    def initial_state(self, draws: Draws, n: int) -> tuple[np.ndarray, np.ndarray]:
        """A number in (0, 1) from which everything that happens in an episode is drawn."""
        return draws.uniform("task/initial_state"), np.zeros((n, 0))

    def control(self, action: np.ndarray) -> np.ndarray:
        return action

    def observe(self, state: State) -> np.ndarray:
        return state.readings["observation"]

    def reward(self, state: State) -> dict[str, np.ndarray]:
        return {name: state.readings[name] for name in ("score", "sign")}

    def terminated(self, state: State) -> np.ndarray:
        return state.readings["over"]

    def on_goal(self, state: State) -> np.ndarray:
        return ~self.terminated(state)

    def success(self, episode: Episode) -> np.ndarray:
        return np.asarray(episode.returns) >= self.solved
