"""Catch what falls."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from simreal_envs.games.grid import (
    BALL,
    PLAYER,
    SIDE,
    SIDEWAYS,
    TRAIL,
    GridGame,
    Values,
    below,
    blown,
    covered,
    moves,
    nothing,
    outside,
    parameter,
)  # fmt: skip
from simreal_envs.tasks.base import clipped


class GridCatch(GridGame):
    """Balls fall from the top, straight or slanting; the paddle at the bottom catches them.

    +1 for a ball that is caught, -1 for one that is missed; 100 steps, 11 balls at nominal speed. A ball is reflected by
    the walls; the cell in which it was a step before shows where it goes.
    """

    name = "grid_catch"
    says = "catch falling balls with a paddle"
    episode_steps = 100
    start_draws, step_draws, solved = 2, 3, 8.0
    random_return, reference_return = -4.9, 10.8
    own = (
        parameter("paddle/width", 3, 1, 6, "cells that the paddle covers", whole=True),
        parameter("ball/speed", 1.0, 0.25, 2.0, "cells that the ball moves per step"),
        parameter("ball/slant", 0.5, 0.0, 1.0, "share of balls that fall slanting"),
    )
    colours = {PLAYER: (94, 196, 255), BALL: (255, 209, 84), TRAIL: (112, 96, 60)}

    def start(self, values: Values, drawn: np.ndarray) -> dict[str, np.ndarray]:
        n = len(drawn)
        left = below(drawn[:, 0], SIDE) - values["paddle/width"].astype(np.intp) // 2
        x, slant = _dropped(values, drawn[:, 1], drawn[:, 0])
        state = {"left": self._inside(left, values), "x": x, "y": np.zeros(n, np.intp), "slant": slant}
        return state | {"before": np.stack([x, np.zeros(n, np.intp)], axis=1), "clock": np.zeros(n)}

    def _inside(self, left: np.ndarray, values: Values) -> np.ndarray:
        return clipped(left, 0, SIDE - values["paddle/width"].astype(np.intp))

    def advance(
        self, now: SimpleNamespace, values: Values, action: np.ndarray, draw: Callable[[], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        now.left = self._inside(now.left + SIDEWAYS[action], values)
        now.before[:, 0], now.before[:, 1] = now.x, now.y
        rows = moves(now.clock, values["ball/speed"])
        now.y += rows
        now.x += now.slant * (rows > 0)
        if (wind := blown(values, draw, 2)) is not None:
            now.x += wind
        if (out := outside(now.x)).any():  # reflected by the walls: -1 becomes 1, and the ball turns
            now.slant[out] *= -1
            now.x = SIDE - 1 - np.abs(SIDE - 1 - np.abs(now.x))
        down = now.y >= SIDE - 1
        if not down.any():
            return np.zeros(len(down)), np.zeros(len(down), dtype=bool)
        caught = down & (now.x >= now.left) & (now.x < now.left + values["paddle/width"])
        drawn = draw()
        x, slant = _dropped(values, drawn[0], drawn[1])
        now.x, now.slant, now.y = np.where(down, x, now.x), np.where(down, slant, now.slant), np.where(down, 0, now.y)
        now.before[down] = np.stack([now.x, now.y], axis=1)[down]
        return 2.0 * caught - down, np.zeros(len(down), dtype=bool)

    def painted(self, now: SimpleNamespace, values: Values) -> np.ndarray:
        cells, everyone = nothing(len(now.x)), np.arange(len(now.x))
        cells[:, SIDE - 1, :, PLAYER] = covered(now.left, values["paddle/width"])
        cells[everyone, now.before[:, 1], now.before[:, 0], TRAIL] = 1
        cells[everyone, now.y, now.x, BALL] = 1
        return cells


def _dropped(values: Values, where: np.ndarray, how: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns and slants (-1, 0, 1) of new balls, from numbers in (0, 1)."""
    share = values["ball/slant"]
    return below(where, SIDE), np.where(how < share / 2, -1, np.where(how < share, 1, 0))
