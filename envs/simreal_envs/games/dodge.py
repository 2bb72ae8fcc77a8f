"""Get out of the way of what falls."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from simreal_envs.games.boards import BITS, blank, board, fallen, rolled, shown
from simreal_envs.games.grid import (
    COVERED,
    HAZARD,
    PLAYER,
    SIDE,
    SIDEWAYS,
    GridGame,
    Values,
    below,
    blown,
    moves,
    parameter,
)  # fmt: skip
from simreal_envs.tasks.base import clipped


class GridDodge(GridGame):
    """Rocks fall; the figure at the bottom steps aside.

    +1 for every row of rocks that has passed; over at the first hit, or after 200 steps.
    """

    name = "grid_dodge"
    says = "step aside of falling rocks"
    episode_steps = 200
    start_draws, step_draws, solved = 1, 3, 100.0
    draws_always = True
    random_return, reference_return = 9.2, 147.7
    own = (
        parameter("player/speed", 1, 1, 3, "columns that the figure steps aside", whole=True),
        parameter("rocks/rate", 0.8, 0.1, 1.0, "probability that there are rocks in a new row"),
        parameter("rocks/width", 1, 1, 7, "cells that are side by side in such a row", whole=True),
        parameter("rocks/speed", 1.0, 0.25, 1.0, "rows that rocks fall per step"),
    )
    colours = {HAZARD: (201, 141, 96), PLAYER: (122, 226, 140)}

    def start(self, values: Values, drawn: np.ndarray) -> dict[str, np.ndarray]:
        return {"x": below(drawn[:, 0], SIDE), "rocks": blank(len(drawn)), "clock": np.zeros(len(drawn))}

    def advance(
        self, now: SimpleNamespace, values: Values, action: np.ndarray, draw: Callable[[], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        now.x = clipped(now.x + SIDEWAYS[action] * values["player/speed"].astype(np.intp), 0, SIDE - 1)
        falling, drawn = moves(now.clock, values["rocks/speed"]) > 0, draw()
        passed = falling & (now.rocks[:, BOTTOM] != 0)
        if (wind := blown(values, draw, 2)) is not None:
            for way in (-1, 1):
                now.rocks[wind == way] = rolled(now.rocks[wind == way], way)
        width = values["rocks/width"].astype(np.intp)
        first = (drawn[1] * (SIDE + 1 - width)).astype(np.intp)
        rocks = fallen(now.rocks)
        rocks[:, 0] = _FRESH[np.where(drawn[0] < values["rocks/rate"], width, 0), first]
        now.rocks = rocks if falling.all() else np.where(falling[:, None], rocks, now.rocks)
        return passed.astype(np.float64), now.rocks[:, BOTTOM] & BITS[HAZARD][now.x] != 0

    def painted(self, now: SimpleNamespace, values: Values) -> np.ndarray:
        boards = now.rocks.copy(order="K")
        boards[:, BOTTOM] |= BITS[PLAYER][now.x]
        return shown(boards)


BOTTOM = SIDE - 1
_FRESH = board(COVERED, HAZARD)  # rocks of a new row, by how many and the column of the first one
