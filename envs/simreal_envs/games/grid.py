"""Games on a grid of 10 x 10 cells, in numpy over all worlds at once: what every one of them has, and their engine.

All games show the same channels and take the same actions, so that an agent of one can be put into any other as it is.
Rules are our own. That each thing has a plane of its own follows Young & Tian (2019, MinAtar, arXiv 1903.03176), that
random events are rare enough to be learned around bsuite's catch (Osband et al. 2020, arXiv 1908.03568).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import ClassVar

import numpy as np

from simreal_envs.engines.base import Engine, Player
from simreal_envs.errors import Unsupported
from simreal_envs.games.common import Values, keys, parameter, seen, shared_parameters
from simreal_envs.games.drawing import picture
from simreal_envs.imperfections.ahead import StepDraws
from simreal_envs.imperfections.vocabulary import link_parameters
from simreal_envs.parameters import Draws, Parameter
from simreal_envs.schema import Field, Schema
from simreal_envs.tasks.base import Episode, State, Task

SIDE = 10  # cells
CHANNELS = ("player", "ball", "trail", "target", "hazard", "shot")
PLAYER, BALL, TRAIL, TARGET, HAZARD, SHOT = range(len(CHANNELS))
ROUND = (BALL, HAZARD)  # drawn as discs
ACTIONS = ("stay", "left", "right", "fire")
PERIOD = 0.1  # s
SCHEMA = Schema(
    (Field("grid", "1", CHANNELS, 0.0, 1.0, grid=(SIDE, SIDE), dtype="uint8"),),
    (Field("action", "1", ACTIONS, 0.0, len(ACTIONS) - 1.0, discrete=True),),
    PERIOD,
)
SIDEWAYS = np.array([0, -1, 1, 0])  # columns that the player moves by an action
FIRE = ACTIONS.index("fire")
_SWAPPED = np.array([0, 2, 1, 3])  # what actions do where left and right are swapped

WIND = "wind"
_EVERY_GAME = (
    parameter(WIND, 0.0, -1.0, 1.0, "probability per step that what flies is blown a column on; negative: to the left"),
    *shared_parameters(len(CHANNELS)),
)
_SEEN = tuple(p.name for p in _EVERY_GAME if p.name.startswith("observation/"))


class GridGame(Task):
    """A game. Its state is a namespace of arrays with one row per world, which the engine keeps.

    Attributes:
        own: its own parameters.
        start_draws, step_draws: how many random numbers the beginning of an episode and a step take.
        solved: return that counts as success.
        colours: channel -> red, green, blue.
    """

    engines = ("grid",)
    presets = ("matched",)
    substeps = 1
    schema = SCHEMA
    own: tuple[Parameter, ...]
    start_draws: ClassVar[int]
    step_draws: ClassVar[int]
    solved: ClassVar[float]
    colours: ClassVar[Mapping[int, tuple[int, int, int]]]

    def __init__(self) -> None:
        self.robot = Player(self.name, ("action",), PERIOD)
        self.goal = f"a return of at least {self.solved:g}"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The game's own, those of every game, and what may happen to actions and pictures on their way."""
        return (*self.own, *_EVERY_GAME, *link_parameters(PERIOD, SCHEMA))

    def make_engine(self, name: str, preset: str, num_worlds: int, num_threads: int, num_workers: int) -> GridEngine:
        return GridEngine(self, num_worlds)

    # -- the rules ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def start(self, values: Values, drawn: np.ndarray) -> dict[str, np.ndarray]:
        """States in which episodes begin: name -> ``(n, ...)``.

        Args:
            drawn: uniform random numbers, ``(n, start_draws)``.
        """

    @abstractmethod
    def advance(
        self, now: SimpleNamespace, values: Values, action: np.ndarray, draw: Callable[[], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Play one step in place; score float64 and whether the episode is over, bool, ``(n,)`` each.

        Args:
            now: the state.
            action: indices into `ACTIONS`, ``(n,)``.
            draw: gives this step's uniform random numbers, ``(n, step_draws)``; not to be called costs nothing.
        """

    @abstractmethod
    def paint(self, now: SimpleNamespace, values: Values, cells: np.ndarray) -> None:
        """Put ones into zeros, uint8 ``(n, SIDE, SIDE, channels)``, where things are."""

    # -- the task -----------------------------------------------------------------------------------------------------

    def initial_state(self, draws: Draws, n: int) -> tuple[np.ndarray, np.ndarray]:
        """A number in (0, 1) from which everything that happens in an episode is drawn."""
        return draws.uniform("task/initial_state"), np.zeros((n, 0))

    def control(self, action: np.ndarray) -> np.ndarray:
        return action

    def observe(self, state: State) -> np.ndarray:
        return state.readings["observation"]

    def reward(self, state: State) -> dict[str, np.ndarray]:
        return {"score": state.readings["score"]}

    def terminated(self, state: State) -> np.ndarray:
        return state.readings["over"]

    def on_goal(self, state: State) -> np.ndarray:
        return ~self.terminated(state)

    def success(self, episode: Episode) -> np.ndarray:
        return np.asarray(episode.returns) >= self.solved


class GridEngine(Engine):
    """See `Engine`. ``qpos`` holds the number that an episode's draws are made from; there is no velocity.

    Attributes:
        readings: ``observation`` uint8 ``(N, cells)``, as seen; ``score (N,)`` and ``over`` of the last step.
        cells: uint8 ``(N, SIDE, SIDE, channels)``, as it is.
    """

    name: ClassVar[str] = "grid"

    def __init__(self, game: GridGame, num_worlds: int):
        self.game, self.robot, self.num_worlds = game, game.robot, num_worlds
        self.qpos, self.qvel = np.zeros((num_worlds, 1)), np.zeros((num_worlds, 0))
        own = (*game.own, *_EVERY_GAME)
        self._values = {p.name: np.full(num_worlds, float(p.nominal)) for p in own}
        self._everyone = np.arange(num_worlds)
        self._draws = Draws(0, self._everyone, np.zeros(num_worlds, dtype=int))
        self._drawn = StepDraws(num_worlds, {"game/step": game.step_draws})
        self._steps = np.zeros(num_worlds, dtype=np.int64)
        self.now = SimpleNamespace(**game.start(self._values, np.full((num_worlds, game.start_draws), 0.5)))
        self.cells = np.zeros((num_worlds, SIDE, SIDE, len(CHANNELS)), dtype=np.uint8)
        self._plain = True  # whether what is seen is what there is, in all worlds
        self._whole = np.zeros(num_worlds, dtype=bool)  # that nothing diverges
        self.readings = {
            "observation": self.cells.reshape(num_worlds, -1), "score": np.zeros(num_worlds), "over": self._whole.copy(),
        }  # fmt: skip

    def apply(self, ids: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        for name, value in values.items():
            self._values[name][ids] = value
        self._plain = not any(self._values[name].any() for name in _SEEN)

    def read(self, parameter: str) -> np.ndarray:
        return self._values[parameter].copy()

    def reset(self, ids: np.ndarray, qpos: np.ndarray, qvel: np.ndarray) -> None:
        self.qpos[ids] = qpos
        self._draws.resume(ids, keys(qpos))
        self._drawn.forget(ids)
        self._steps[ids] = 0
        drawn = self._draws.take(ids).uniform("game/start", self.game.start_draws)
        for name, value in self.game.start(self._taken(ids), drawn).items():
            getattr(self.now, name)[ids] = value
        for name in ("score", "over"):
            self.readings[name][ids] = 0
        self._look(ids)

    def step(self, control: np.ndarray, substeps: int) -> None:
        action = control[:, 0].astype(np.intp)
        mirrored = self._values["action/mirrored"]
        if mirrored.any():
            action = np.where(mirrored > 0, _SWAPPED[action], action)
        self._drawn.advance()
        score, over = self.game.advance(self.now, self._values, action, self._draw)
        self._steps += 1
        self.readings["score"], self.readings["over"] = score * self._values["reward/sign"], over
        self._look(None)

    def _draw(self) -> np.ndarray:
        return self._drawn.at(self._draws, self._steps)["game/step"]

    def push(self, force: np.ndarray) -> None:
        raise Unsupported(f"{self.game.name} has nobody to push")

    def diverged(self) -> np.ndarray:
        return self._whole

    def snapshot(self) -> dict[str, np.ndarray]:
        arrays = {"qpos": self.qpos, "steps": self._steps}
        arrays |= {f"reading/{name}": value for name, value in self.readings.items() if name != "observation"}
        arrays |= {f"value/{name}": value for name, value in self._values.items()}
        arrays |= {f"now/{name}": value for name, value in vars(self.now).items()}
        return {name: value.copy() for name, value in arrays.items()}

    def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        self.qpos[:], self._steps[:] = snapshot["qpos"], snapshot["steps"]
        for name in ("score", "over"):
            self.readings[name] = snapshot[f"reading/{name}"].copy()
        self.apply(self._everyone, {name: snapshot[f"value/{name}"] for name in self._values})
        for name in vars(self.now):
            setattr(self.now, name, snapshot[f"now/{name}"].copy())
        self._draws.resume(self._everyone, keys(self.qpos))
        self._drawn.forget(self._everyone)
        self._look(None)

    def render(self, world: int, width: int, height: int) -> np.ndarray:
        return picture(self.cells[world], self.game.colours, width, height, ROUND)

    def close(self) -> None:
        pass

    # -- what is seen -------------------------------------------------------------------------------------------------

    def _taken(self, ids: np.ndarray) -> Values:
        return {name: value[ids] for name, value in self._values.items()}

    def _look(self, ids: np.ndarray | None) -> None:
        """Paint the cells and what is seen of them, of some worlds or (None) of all."""
        if ids is None:
            cells, now, values, rows = self.cells, self.now, self._values, slice(None)
            cells.fill(0)
        else:
            cells, rows = np.zeros((len(ids), *self.cells.shape[1:]), np.uint8), ids
            now = SimpleNamespace(**{name: value[ids] for name, value in vars(self.now).items()})
            values = self._taken(ids)
        self.game.paint(now, values, cells)
        if ids is not None:
            self.cells[ids] = cells
        if self._plain:
            self.readings["observation"] = self.cells.reshape(self.num_worlds, -1)
            return
        if np.shares_memory(self.readings["observation"], self.cells):
            self.readings["observation"] = self.cells.reshape(self.num_worlds, -1).copy()
        draws = self._draws if ids is None else self._draws.take(ids)
        shown = seen(cells, values, draws, self._steps[rows])
        self.readings["observation"][rows] = shown.reshape(len(cells), -1)


# -- what games share ----------------------------------------------------------------------------------------------------


def below(share: np.ndarray, count: int) -> np.ndarray:
    """Whole numbers from 0 to count - 1 from uniform ones in (0, 1)."""
    return (share * count).astype(np.intp)


def clipped(places: np.ndarray, highest: np.ndarray | int) -> np.ndarray:
    """Places from 0 to `highest`, like `np.clip` in half the time."""
    return np.minimum(np.maximum(places, 0), highest)


def outside(places: np.ndarray) -> np.ndarray:
    """Which places are on none of the columns or rows, bool ``(n,)``."""
    return places.view(np.uintp) >= SIDE  # those below 0 are very large


def blown(values: Values, draw: Callable[[], np.ndarray], column: int) -> np.ndarray | None:
    """Columns by which the wind blows what flies in this step, ``(n,)``: -1, 0 or 1; None where there is no wind at all.

    Args:
        column: of the random numbers, which decides.
    """
    wind = values[WIND]
    return (np.sign(wind) * (draw()[:, column] < np.abs(wind))).astype(np.intp) if wind.any() else None


def moves(clock: np.ndarray, speed: np.ndarray) -> np.ndarray:
    """How often something moves in this step, intp ``(n,)``: `clock` gathers the speed and is kept below 1, in place.

    A speed of 0.3 moves in 3 of 10 steps. Rounded so that ten times 0.1 is one.
    """
    clock += speed
    whole = np.floor(clock + 1e-9)
    clock -= whole
    return whole.astype(np.intp)


def covered(left: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Columns that paddles cover, bool ``(n, SIDE)``."""
    return _COVERED[width.astype(np.intp), left]


_FROM, _AT = np.arange(SIDE)[:, None], np.arange(SIDE)
_COVERED = np.array(
    [(_AT >= _FROM) & (_FROM + width > _AT) for width in range(SIDE + 1)]
)  # by width, then first column
