"""Shoot what comes down before it arrives."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from simreal_envs.games.boards import BITS, CELL, blank, board, columns, count, fallen, risen, rolled, shown
from simreal_envs.games.grid import (
    FIRE,
    HAZARD,
    PLAYER,
    SHOT,
    SIDE,
    SIDEWAYS,
    TARGET,
    TRAIL,
    GridGame,
    Values,
    below,
    blown,
    moves,
    parameter,
)  # fmt: skip
from simreal_envs.tasks.base import clipped

STAYING = 2  # a course of aliens, besides 0 (to the left) and 1
COLUMNS, MOST = 6, 4  # of aliens: in a row, rows at most
BOTTOM = SIDE - 1


class GridInvaders(GridGame):
    """A block of aliens marches to and fro, a row lower at every edge, and drops bombs; the cannon shoots them.

    +1 for an alien; over when a bomb hits the cannon or an alien is in its row, or after 300 steps. The next wave comes
    when the last alien is hit. Cells that aliens have just left show where they march.
    """

    name = "grid_invaders"
    says = "shoot marching aliens and keep away from their bombs"
    episode_steps = 300
    start_draws, step_draws, solved = 2, 3, 36.0
    draws_always = True
    random_return, reference_return = 8.4, 60.5
    own = (
        parameter("aliens/speed", 0.2, 0.05, 1.0, "cells that aliens march per step"),
        parameter("aliens/rows", 3, 1, MOST, "rows of aliens in a wave", whole=True),
        parameter("bombs/rate", 0.1, 0.0, 0.5, "probability per step that an alien drops a bomb"),
        parameter("cannon/cooldown", 3, 1, 9, "steps from one shot to the next", whole=True),
    )
    colours = {
        TRAIL: (40, 58, 52), TARGET: (150, 122, 246), HAZARD: (255, 110, 92), SHOT: (255, 240, 170), PLAYER: (122, 226, 140),
    }  # fmt: skip

    def start(self, values: Values, drawn: np.ndarray) -> dict[str, np.ndarray]:
        n = len(drawn)
        return {
            "x": below(drawn[:, 0], SIDE), "aliens": _wave(values), "trail": blank(n), "shots": blank(n), "bombs": blank(n),
            "way": np.where(drawn[:, 1] < 0.5, -1, 1), "clock": np.zeros(n), "wait": np.zeros(n, np.intp),
        }  # fmt: skip

    def advance(
        self, now: SimpleNamespace, values: Values, action: np.ndarray, draw: Callable[[], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        drawn = draw()
        now.x = clipped(now.x + SIDEWAYS[action], 0, SIDE - 1)
        now.shots = risen(now.shots)
        wait = np.maximum(now.wait - 1, 0)
        firing = (action == FIRE) & (wait == 0)
        now.shots[:, BOTTOM - 1] |= BITS[TARGET][np.where(firing, now.x, SIDE)]
        now.wait = np.where(firing, values["cannon/cooldown"].astype(np.intp), wait)
        hit = _hit(now)
        marching = moves(now.clock, values["aliens/speed"]) > 0
        if marching.any():
            self._march(now, marching)
            hit |= _hit(now)  # other cells than before: what was there is gone
        now.bombs = fallen(now.bombs)
        if (wind := blown(values, draw, 2)) is not None:
            for way in (-1, 1):
                now.bombs[wind == way] = rolled(now.bombs[wind == way], way)
        (bombing,) = (drawn[0] < values["bombs/rate"]).nonzero()
        self._bomb(now, bombing, drawn[1, bombing])
        over = (now.bombs[:, BOTTOM] & BITS[HAZARD][now.x] | now.aliens[:, BOTTOM]) != 0
        if (cleared := columns(now.aliens) == 0).any():
            now.aliens[cleared], now.trail[cleared] = _wave(values)[cleared], 0
        return count(hit), over

    def _march(self, now: SimpleNamespace, marching: np.ndarray) -> None:
        """Let the aliens of some worlds, bool ``(n,)``, go a cell on, or a row down and turn where they are at the edge."""
        right = (now.way > 0).view(np.int8)
        edge = marching & (columns(now.aliens) & _EDGES[right] != 0)
        now.trail = np.where(marching[:, None], now.aliens, now.trail)
        back = _BACK[np.where(marching & ~edge, right, STAYING)]
        now.aliens = now.aliens << CELL >> back[:, None]  # for a moment there is a column beyond the last
        (turning,) = edge.nonzero()
        now.aliens[turning] = fallen(now.aliens[turning])  # what leaves at the bottom is over anyway
        now.way[turning] *= -1

    def _bomb(self, now: SimpleNamespace, ids: np.ndarray, which: np.ndarray) -> None:
        """Let the lowest alien of a random column drop a bomb in some worlds; `which` is uniform in (0, 1)."""
        aliens = now.aliens[ids]
        number = np.bitwise_count(columns(aliens)[:, None] & _UP_TO)  # how many columns have aliens up to each
        column = (number > np.floor(which * number[:, -1])[:, None]).argmax(axis=1)
        there = aliens & _ALIENS[column][:, None] != 0
        row = np.minimum(SIDE - there[:, ::-1].argmax(axis=1), BOTTOM)  # below the lowest
        now.bombs[ids, row] |= BITS[HAZARD][np.where(number[:, -1], column, SIDE)]  # if there is one

    def painted(self, now: SimpleNamespace, values: Values) -> np.ndarray:
        boards = now.trail >> _TO_TRAIL
        boards |= now.shots << _TO_SHOT
        boards |= now.aliens
        boards |= now.bombs
        boards[:, BOTTOM] |= BITS[PLAYER][now.x]
        return shown(boards)


def _hit(now: SimpleNamespace) -> np.ndarray:
    """Take away aliens and shots that are in the same cells; these cells, as boards."""
    hit = now.shots & now.aliens
    now.shots ^= hit
    now.aliens ^= hit
    return hit


def _wave(values: Values) -> np.ndarray:
    """Aliens of fresh waves, boards."""
    return np.asfortranarray(_WAVES[values["aliens/rows"].astype(np.intp)])


_ROW, _COLUMN = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
_MIDDLE = (_COLUMN >= (SIDE - COLUMNS) // 2) & (_COLUMN < (SIDE + COLUMNS) // 2)
_WAVES = board(np.array([(rows > _ROW) & _MIDDLE for rows in range(MOST + 1)]), TARGET)
_ALIENS = BITS[TARGET][:SIDE]
_UP_TO = np.bitwise_or.accumulate(_ALIENS)
# By course: the column at whose end aliens turn; by how many bits those come back that went a cell to the right.
_EDGES, _BACK = _ALIENS[[0, -1]], np.array([2 * CELL, 0, CELL], np.uint64)
# Trails and shots are kept where aliens are, in bits of the channel TARGET.
_TO_TRAIL, _TO_SHOT = np.uint64(TARGET - TRAIL), np.uint64(SHOT - TARGET)
