"""Break a wall with a ball."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from simreal_envs.games.grid import (
    BALL,
    PLAYER,
    SIDE,
    SIDEWAYS,
    TARGET,
    TRAIL,
    GridGame,
    Values,
    below,
    blown,
    covered,
    moves,
    nothing,
    parameter,
)  # fmt: skip
from simreal_envs.tasks.base import clipped

TOP, BOTTOM = 1, SIDE - 1  # first row of the wall; the paddle's row
MOST = 5  # rows of bricks


class GridBreaker(GridGame):
    """A ball flies diagonally between the walls and a paddle; every brick that it hits is broken and throws it back.

    +1 for a brick; over when the ball gets past the paddle, or after 300 steps. The paddle's outer cells send the ball to
    their own side. The wall is built anew when the last brick is broken and the ball is back at the paddle.
    """

    name = "grid_breaker"
    says = "break bricks with a ball that must not get past the paddle"
    episode_steps = 300
    start_draws, step_draws, solved = 2, 1, 20.0
    random_return, reference_return = 0.4, 12.6
    own = (
        parameter("paddle/width", 3, 1, 6, "cells that the paddle covers", whole=True),
        parameter("ball/speed", 1.0, 0.25, 1.0, "cells that the ball moves per step"),
        parameter("bricks/rows", 3, 1, MOST, "rows of bricks in the wall", whole=True),
    )
    colours = {TARGET: (232, 93, 84), PLAYER: (94, 196, 255), TRAIL: (112, 96, 60), BALL: (255, 209, 84)}

    def start(self, values: Values, drawn: np.ndarray) -> dict[str, np.ndarray]:
        n = len(drawn)
        x, y = below(drawn[:, 0], SIDE), TOP + values["bricks/rows"].astype(np.intp)
        slant = np.where(drawn[:, 1] < 0.5, -1, 1)
        left = np.minimum((SIDE - 1) // 2, SIDE - values["paddle/width"].astype(np.intp))
        state = {"left": left, "x": x, "y": y, "slant": slant, "fall": np.ones(n, np.intp), "clock": np.zeros(n)}
        return state | {"before": np.stack([x, y], axis=1), "bricks": _wall(values)}

    def advance(
        self, now: SimpleNamespace, values: Values, action: np.ndarray, draw: Callable[[], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        width = values["paddle/width"].astype(np.intp)
        now.left = clipped(now.left + SIDEWAYS[action], 0, SIDE - width)
        going = moves(now.clock, values["ball/speed"])
        x, y = now.x + now.slant * going, np.minimum(now.y + now.fall * going, BOTTOM)  # a lost ball stays where it is
        if (wind := blown(values, draw, 0)) is not None:
            x += wind * going
        now.slant = now.slant * _TURNED[x]
        x = _REFLECTED[x]
        if (high := y < 0).any():
            now.fall[high] = 1
            y = np.abs(y)
        everyone = np.arange(len(x))
        hit = now.bricks[everyone, y, x]
        now.bricks[everyone, y, x] = False
        now.before[:, 0], now.before[:, 1] = now.x, now.y
        # A brick throws the ball back before the ball gets to its cell.
        now.fall = np.where(hit, -now.fall, now.fall)
        now.x, now.y = np.where(hit, now.x, x), np.where(hit, now.y, y)
        over = np.zeros(len(x), dtype=bool)
        (low,) = (now.y == BOTTOM).nonzero()
        if len(low):
            self._meet(now, values, low, width[low], over)
        return hit.astype(np.float64), over

    def _meet(self, now: SimpleNamespace, values: Values, low: np.ndarray, width: np.ndarray, over: np.ndarray) -> None:
        """Balls of the worlds `low` meet the paddle or are lost."""
        place = now.x[low] - now.left[low]
        met = (place >= 0) & (place < width)
        over[low] = ~met
        low, place, width = low[met], place[met], width[met]
        now.fall[low], now.y[low] = -1, BOTTOM - 1
        sent = _SENT[width, place]
        now.slant[low] = np.where(sent, sent, now.slant[low])
        if len(cleared := low[~now.bricks.reshape(-1, SIDE * SIDE)[low].any(axis=1)]):
            now.bricks[cleared] = _wall(values)[cleared]

    def painted(self, now: SimpleNamespace, values: Values) -> np.ndarray:
        cells, everyone = nothing(len(now.x)), np.arange(len(now.x))
        wall = slice(TOP, TOP + MOST)
        cells[:, wall, :, TARGET] = now.bricks[:, wall].view(np.uint8)
        cells[:, BOTTOM, :, PLAYER] = covered(now.left, values["paddle/width"])
        cells[everyone, now.before[:, 1], now.before[:, 0], TRAIL] = 1
        cells[everyone, now.y, now.x, BALL] = 1
        return cells


def _wall(values: Values) -> np.ndarray:
    """Bricks of whole walls, bool ``(n, SIDE, SIDE)``."""
    return _WALLS[values["bricks/rows"].astype(np.intp)]


# Columns by those that the ball would be in without walls: up to 2 beyond, where -1 counts from the end as in all of numpy;
# and whether it goes on (1) or turns (-1).
_REFLECTED = np.array([*range(SIDE), SIDE - 2, SIDE - 3, 2, 1])
_TURNED = np.array([1] * SIDE + [-1] * 4)
# By width of the paddle and its cell: to which side it sends the ball; 0: on as it flies.
_SENT = np.zeros((7, SIDE), np.intp)
_SENT[2:, 0] = -1
_SENT[range(2, 7), range(1, 6)] = 1
_ROWS = np.arange(SIDE)[:, None] + np.zeros((1, SIDE), int)
_WALLS = np.array([(_ROWS >= TOP) & (TOP + rows > _ROWS) for rows in range(MOST + 1)])
