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

from simreal_envs.engines.base import Player
from simreal_envs.games.common import Game, GameEngine, Values, keys, parameter, seen, shared_parameters, signed
from simreal_envs.games.drawing import picture
from simreal_envs.imperfections.vocabulary import link_parameters
from simreal_envs.parameters import Draws, Parameter
from simreal_envs.schema import Field, Schema
from simreal_envs.tasks.base import Rows

SIDE = 10  # cells
CHANNELS = ("player", "ball", "trail", "target", "hazard", "shot")
PLAYER, BALL, TRAIL, TARGET, HAZARD, SHOT = range(len(CHANNELS))
ROUND = (BALL, HAZARD)  # drawn as discs
ACTIONS = ("stay", "left", "right", "fire")
PERIOD = 0.1  # s
AHEAD = 8  # steps whose random numbers are drawn at once
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


class GridGame(Game):
    """A game. Its state is a namespace of arrays with one row per world, which the engine keeps.

    Attributes:
        own: its own parameters.
        start_draws, step_draws: how many random numbers the beginning of an episode and a step take.
        draws_always: whether every step takes them.
        colours: channel -> red, green, blue.
    """

    engines = ("grid",)
    schema = SCHEMA
    start_draws: ClassVar[int]
    step_draws: ClassVar[int]
    draws_always: ClassVar[bool] = False
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
            draw: gives this step's uniform random numbers, ``(step_draws, n)``; not to be called costs nothing.
        """

    @abstractmethod
    def painted(self, now: SimpleNamespace, values: Values) -> np.ndarray:
        """Where things are: 0 and 1 in a new array, uint8 ``(n, SIDE, SIDE, channels)``."""


class GridEngine(GameEngine):
    """See `GameEngine`.

    Attributes:
        readings: ``observation`` uint8 ``(N, cells)``, as seen; ``score (N,)`` and ``over`` of the last step.
        cells: uint8 ``(N, SIDE, SIDE, channels)``, as it is.
    """

    name: ClassVar[str] = "grid"

    def __init__(self, game: GridGame, num_worlds: int):
        super().__init__(game.robot, num_worlds, {p.name: p.nominal for p in (*game.own, *_EVERY_GAME)})
        self.game = game
        # Numbers of AHEAD steps of each world, those of the coming step at `_place`; AHEAD: there are none.
        self._drawn, self._place = np.zeros((AHEAD, game.step_draws, num_worlds)), AHEAD
        self.now = SimpleNamespace(**game.start(self._values, np.full((num_worlds, game.start_draws), 0.5)))
        self.cells = nothing(num_worlds)
        # All that is different from world to world, and what has been prepared for the next reset.
        state = [(name, value.dtype, value.shape[1:]) for name, value in vars(self.now).items()]
        drawn = ("drawn", np.float64, self._drawn.shape[:2] if game.draws_always else (0, 0))
        self._record = np.dtype([*state, drawn, ("cells", np.uint8, self.cells.shape[1:])], align=True)
        self._coming: np.ndarray | None = None
        self._plain = True  # whether what is seen is what there is, in all worlds
        self._mirrored = False  # whether left and right are swapped, in any world
        self._flat = self.cells.reshape(num_worlds, -1)
        self.readings = {
            "observation": self._flat, "score": np.zeros(num_worlds), "sign": np.zeros(num_worlds),
            "over": self._whole.copy(),
        }  # fmt: skip

    def apply(self, ids: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        super().apply(ids, values)
        self._plain = not any(self._values[name].any() for name in _SEEN)
        self._mirrored = bool(self._values["action/mirrored"].any())

    def reset(self, ids: np.ndarray, qpos: np.ndarray, qvel: np.ndarray) -> None:
        self.qpos[ids] = qpos
        self._draws.resume(ids, keys(qpos))
        values, self._coming, begun = Rows(self._values, ids), None, self._coming
        if begun is None:
            begun = self._begun(values, self._draws.take(ids))
        for name, value in vars(self.now).items():
            value[ids] = begun[name]
        if (left := AHEAD - self._place) > 0:
            ready = self.game.draws_always
            numbers = begun["drawn"].transpose(1, 2, 0) if ready else self._numbers(self._draws.take(ids))
            self._drawn[self._place :, :, ids] = numbers[:left]
        for name in ("score", "sign", "over"):
            self.readings[name][ids] = 0
        self._steps[ids] = 0
        self.cells[ids] = begun["cells"]
        self._show(begun["cells"], values, ids)

    def _begun(self, values: Values, draws: Draws) -> np.ndarray:
        """What is different from world to world when episodes begin: records ``(n,)``."""
        n, game = len(draws.keys), self.game
        begun, state = np.zeros(n, self._record), game.start(values, draws.uniform("game/start", game.start_draws))
        for name, value in state.items():
            begun[name] = value
        begun["cells"] = game.painted(SimpleNamespace(**state), values)
        if game.draws_always:
            begun["drawn"] = self._numbers(draws).transpose(2, 0, 1)
        return begun

    def _numbers(self, draws: Draws, done: np.ndarray | int = 0) -> np.ndarray:
        """What is drawn for the next steps of n worlds where so many are done: ``(AHEAD, step_draws, n)``."""
        return draws.sequence("game/step", self.game.step_draws, done + np.arange(AHEAD)[:, None])

    def prepare_start(self, values: Mapping[str, np.ndarray], qpos: np.ndarray) -> np.ndarray:
        """What episodes begin with that have these values of varied parameters, each ``(m,)``, and ``qpos (m, 1)``.

        Returns:
            float64 ``(m, size)``, to be handed to `apply_prepared` just before the `reset` of those episodes.
        """
        nominal = {p.name: np.full(len(qpos), float(p.nominal)) for p in self.game.own}
        return self._begun(nominal | values, Draws.of(keys(qpos))).view(np.float64).reshape(len(qpos), -1)

    def apply_prepared(self, ids: np.ndarray, rows: np.ndarray) -> bool:
        """Keep what `prepare_start` made for the `reset` that follows; values are yet to be applied."""
        self._coming = np.ascontiguousarray(rows).view(self._record)[:, 0]
        return False

    def step(self, control: np.ndarray, substeps: int) -> None:
        action = control[:, 0].astype(np.intp)
        if self._mirrored:
            action = np.where(self._values["action/mirrored"] > 0, _SWAPPED[action], action)
        score, over = self.game.advance(self.now, self._values, action, self._draw)
        self._steps += 1
        self._place += 1
        self.readings["score"], self.readings["over"] = score, over
        self.readings["sign"] = signed(score, self._values)
        self._look()

    def _draw(self) -> np.ndarray:
        if self._place >= AHEAD:
            self._drawn, self._place = self._numbers(self._draws, self._steps), 0
        return self._drawn[self._place]

    def snapshot(self) -> dict[str, np.ndarray]:
        arrays = {"qpos": self.qpos, "steps": self._steps}
        arrays |= {f"reading/{name}": value for name, value in self.readings.items() if name != "observation"}
        arrays |= {f"value/{name}": value for name, value in self._values.items()}
        arrays |= {f"now/{name}": value for name, value in vars(self.now).items()}
        return {name: value.copy() for name, value in arrays.items()}

    def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        self.qpos[:], self._steps[:] = snapshot["qpos"], snapshot["steps"]
        for name in ("score", "sign", "over"):
            self.readings[name] = snapshot[f"reading/{name}"].copy()
        self.apply(self._everyone, {name: snapshot[f"value/{name}"] for name in self._values})
        for name, value in vars(self.now).items():
            value[:] = snapshot[f"now/{name}"]
        self._draws.resume(self._everyone, keys(self.qpos))
        self._place = AHEAD
        self._look()

    def render(self, world: int, width: int, height: int) -> np.ndarray:
        return picture(self.cells[world], self.game.colours, width, height, ROUND)

    # -- what is seen -------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Paint the cells of all worlds, and what is seen of them."""
        self.cells = self.game.painted(self.now, self._values)
        self._flat = self.cells.reshape(self.num_worlds, -1)
        self._show(self.cells, self._values, None)

    def _show(self, cells: np.ndarray, values: Values, ids: np.ndarray | None) -> None:
        """Let be seen what there is in the cells, of some worlds or (None) of all."""
        if self._plain:
            self.readings["observation"] = self._flat
            return
        if self.readings["observation"] is self._flat:
            self.readings["observation"] = self._flat.copy()
        rows = slice(None) if ids is None else ids
        shown = seen(cells, values, self._draws if ids is None else self._draws.take(ids), self._steps[rows])
        self.readings["observation"][rows] = shown.reshape(len(cells), -1)


# -- what games share ----------------------------------------------------------------------------------------------------


def nothing(n: int) -> np.ndarray:
    """Cells in which there is nothing, uint8 ``(n, SIDE, SIDE, channels)``."""
    return np.zeros((n, SIDE, SIDE, len(CHANNELS)), dtype=np.uint8)


def below(share: np.ndarray, count: int) -> np.ndarray:
    """Whole numbers from 0 to count - 1 from uniform ones in (0, 1)."""
    return (share * count).astype(np.intp)


def outside(places: np.ndarray) -> np.ndarray:
    """Which places are on none of the columns or rows, bool ``(n,)``."""
    return places.view(np.uintp) >= SIDE  # those below 0 are very large


def blown(values: Values, draw: Callable[[], np.ndarray], row: int) -> np.ndarray | None:
    """Columns by which the wind blows what flies in this step, ``(n,)``: -1, 0 or 1; None where there is no wind at all.

    Args:
        row: of the random numbers, which decides.
    """
    wind = values[WIND]
    return (np.sign(wind) * (draw()[row] < np.abs(wind))).astype(np.intp) if wind.any() else None


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
    return COVERED[width.astype(np.intp), left]


_FROM, _AT = np.arange(SIDE)[:, None], np.arange(SIDE)
# By width, then first column.
COVERED = np.array([(_AT >= _FROM) & (_FROM + width > _AT) for width in range(SIDE + 1)])
